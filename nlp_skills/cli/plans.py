"""Written plans: make one, look at it, work it off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.plan_text import Step
    from nlp_skills.workspace.plans import Plan


@click.group(
    "plan",
    cls=frame.LazyGroup,
    lazy={name: f"{__name__}:{name}_plan" for name in ("new", "show", "next", "done")},
    help=N_("Keep a written plan in the task: small steps, each with its command and how to see that it worked."),
)
def plan() -> None:
    """The group; its text is in `help`, where it can be translated."""


@frame.command(
    "new",
    help=N_(
        "Write plans/DATE-GOAL.md. Its steps lead on from where the task stands, or are those you name; a title may "
        "end in its command, in backticks. The file is yours to edit."
    ),
    examples=[
        'nlp-skills plan new "85% Macro-F1"',
        'nlp-skills plan new sentiment "中立類別的 F1 超過 80%"',
        'nlp-skills plan new "Fewer wrong labels" --step "Look at 50 rows" --step "Train: `nlp-skills train`"',
        'nlp-skills plan new "Ship v2" --from steps.txt',
    ],
)
@click.argument("words", metavar="[TASK] GOAL", nargs=-1)
@frame.option("--step", "titles", multiple=True, metavar="TITLE", help=N_("A step of your own; repeatable."))
@frame.option(
    "--from", "source", type=click.Path(path_type=Path), metavar="FILE", help=N_("Steps of your own, one a line.")
)
@frame.json_option
def new_plan(words: tuple[str, ...], titles: tuple[str, ...], source: Path | None, as_json: bool) -> None:
    from nlp_skills.workspace import plans

    folder, goal = plans.task_and_goal(words)
    listed = plans.titles_of(source) if source else []
    made = plans.new(folder, goal, [*listed, *titles])
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, **made.as_dict()})
        return
    _table(made)
    frame.say(_("written: {path}", path=frame.shown(made.path)))
    frame.say(_("next: {command}", command="nlp-skills plan next"))


@frame.command(
    "show",
    help=N_("Show a plan and how far it is; without a name, the newest that is not finished."),
    examples=["nlp-skills plan show", "nlp-skills plan show sentiment 2026-01-06-85-macro-f1 --json"],
)
@click.argument("names", metavar="[TASK] [PLAN]", nargs=-1)
@frame.json_option
def show_plan(names: tuple[str, ...], as_json: bool) -> None:
    from nlp_skills.workspace import plans

    folder, name = plans.task_and_plan(names)
    found = plans.find(folder, name)
    beside = plans.others(folder, found)
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, **found.as_dict(), "others": [_other(x) for x in beside]})
        return
    frame.say(found.goal)
    _table(found)
    frame.say(_progress(found))
    if found.checkpoint:
        _say_checkpoint(found.checkpoint)
    frame.say(frame.shown(found.path))
    for entry in beside:
        frame.say(_("another plan: {about}", about=_about(entry)))


@frame.command(
    "next",
    help=N_(
        "Say which step is next, and mark it in-progress. After each three completed steps it says what to look at "
        "first."
    ),
    examples=["nlp-skills plan next", "nlp-skills plan next sentiment --json"],
)
@click.argument("names", metavar="[TASK] [PLAN]", nargs=-1)
@frame.json_option
def next_plan(names: tuple[str, ...], as_json: bool) -> int:
    from nlp_skills.workspace import plans

    folder, name = plans.task_and_plan(names)
    found, step, due = plans.begin_next(folder, name)
    blocked = found.count("blocked") if step is None else 0
    if as_json:
        next_step = plans.step_as_dict(step) if step else None
        about = {**found.as_dict(), "checkpoint": due, "next": next_step}
        frame.emit({"ok": not blocked, "task": folder.root.name, **about})
        return 1 if blocked else 0
    if due:
        _say_checkpoint(due)
    if step:
        _say_step(step)
    else:
        _say_end(found)
    frame.say(frame.shown(found.path))
    return 1 if blocked else 0


@frame.command(
    "done",
    help=N_(
        "Mark a step, the one in progress when N is left out. Steps are counted from the top of the file; nothing "
        "else in it changes."
    ),
    examples=[
        "nlp-skills plan done",
        'nlp-skills plan done 3 --note "612 rows, 40 of them neutral"',
        'nlp-skills plan done sentiment 4 --status blocked --note "no GPU before Friday"',
    ],
)
@click.argument("names", metavar="[TASK] [PLAN] [N]", nargs=-1)
@frame.option(
    "--status",
    type=click.Choice(["completed", "blocked", "skipped"]),
    default="completed",
    show_default=True,
    help=N_("What became of it."),
)
@frame.option("--note", help=N_("What to remember of it, written under the step with the time."))
@frame.json_option
def done_plan(names: tuple[str, ...], status: Any, note: str | None, as_json: bool) -> None:
    from nlp_skills.workspace import plans

    others, number = plans.numbered(names)
    folder, name = plans.task_and_plan(others)
    found, step = plans.mark(folder, number, status, name=name, note=note)
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, **found.as_dict(), "step": plans.step_as_dict(step)})
        return
    frame.say(_("step {number} is {status}: {title}", number=step.number, status=step.status, title=step.title))
    frame.say(_progress(found))
    if found.checkpoint and status == "completed":
        _say_checkpoint(found.checkpoint)
    if found.following:
        frame.say(_("next: {command}", command="nlp-skills plan next"))
    else:
        _say_end(found)


def _table(found: Plan) -> None:
    rows = [[str(step.number), step.title, step.status, step.command or "-"] for step in found.steps]
    frame.table(("#", _("what to do"), _("status"), _("command")), rows, right=[0])


def _progress(found: Plan) -> str:
    parts = [_("completed: {done} of {total}", done=found.count("completed"), total=len(found.steps))]
    if skipped := found.count("skipped"):
        parts.append(_("skipped: {count}", count=skipped))
    if blocked := found.count("blocked"):
        parts.append(_("blocked: {count}", count=blocked))
    return frame.listed(parts)


def _say_checkpoint(text: str) -> None:
    frame.say(_("checkpoint: {text}", text=text))


def _say_step(step: Step) -> None:
    from nlp_skills.workspace import plan_text

    frame.say(_("step {number} is {status}: {title}", number=step.number, status=step.status, title=step.title))
    said = ((_("command:"), step.command), (_("expected:"), step.expected), (_("verify:"), step.verify))
    for title, text in said:
        for index, line in enumerate((text or "").splitlines()):
            frame.say(f"  {title if index == 0 else ''} {line}")
    for note in step.notes:
        frame.say(f"  {_('note:')} {plan_text.local(note)}")


def _say_end(found: Plan) -> None:
    from nlp_skills.workspace import plan_text

    blocked = [step for step in found.steps if step.status == "blocked"]
    if not found.steps:
        frame.say(_("the plan has no steps; a step is a line such as: {line}", line="- [ ] Train v2"))
    elif not blocked:
        frame.say(_("the plan is finished"))
    for step in blocked:
        because = plan_text.local(step.notes[-1]) if step.notes else "-"
        frame.say(_("step {number} is blocked: {title} ({note})", number=step.number, title=step.title, note=because))


def _about(entry: Any) -> str:
    return str(entry) if isinstance(entry, Exception) else f"{entry.name} ({_progress(entry)})"


def _other(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Exception):
        return {"error": entry.as_dict()}  # type: ignore[attr-defined]
    return {key: value for key, value in entry.as_dict().items() if key not in ("steps", "checkpoint")}
