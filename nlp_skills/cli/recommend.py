"""recommend: a proposal from the agreed goal, the data and the machine, with its reasons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.coach.choosing import Plan
    from nlp_skills.coach.reasons import Reason
    from nlp_skills.coach.recommendation import Recommendation
    from nlp_skills.schema.task import TaskType
    from nlp_skills.workspace.folder import TaskFolder

_PATH = click.Path(path_type=Path)


@frame.command(
    "recommend",
    help=N_(
        "Propose a base model, method, settings and version strategy, with memory, time and cost, two alternatives and "
        "the reason for each. SUMMARY is task_summary.yaml here when left out; a file of labelled rows alone will do. "
        "Exit 1: something else comes first, or the answers contradict each other."
    ),
    examples=[
        "nlp-skills recommend",
        "nlp-skills recommend --data labelled.csv --gpu A10G",
        "nlp-skills recommend task_summary.yaml --data rows.jsonl --language zh-TW --json",
        "nlp-skills recommend --write",
    ],
)
@click.argument("summary", required=False, type=_PATH, metavar="[SUMMARY]")
@frame.option("--data", "data", multiple=True, type=_PATH, metavar="FILE", help=N_("Labelled rows; repeatable."))
@frame.option(
    "--type",
    "task_type",
    type=click.Choice(["classification", "extraction", "generation"]),
    help=N_("What kind of answer it gives; left out, as the summary or the data say."),
)
@frame.option("--labels", metavar="A,B,C", help=N_("The classes, or types of entities, separated by commas."))
@frame.option("--label-field", metavar="COLUMN", help=N_("The column that holds the class."))
@frame.option("--language", metavar="TAG", help=N_("Language of the texts, such as zh-TW."))
@frame.option("--gpu", metavar="NAME", help=N_("A GPU instead of this machine, such as A10G or 'RTX 4090'."))
@frame.option("--base", "base_model", metavar="MODEL", help=N_("Another base model: a folder or a Hub id."))
@frame.option("--rules", type=_PATH, metavar="FILE", help=N_("Rules of your own; see coach/rules.yaml for the form."))
@frame.option("--write", is_flag=True, help=N_("Make the task: task.yaml, data_source.yaml, versions/v1/config.yaml."))
@frame.option("--force", is_flag=True, help=N_("With --write: also where it is not advised, or a task is there."))
@frame.json_option
def recommend(
    summary: Path | None,
    data: tuple[Path, ...],
    labels: str | None,
    label_field: str | None,
    task_type: TaskType | None,
    language: str | None,
    gpu: str | None,
    base_model: str | None,
    rules: Path | None,
    write: bool,
    force: bool,
    as_json: bool,
) -> int:
    from nlp_skills.coach import recommendation, writing
    from nlp_skills.coach.wish import SUMMARY, Asked
    from nlp_skills.workspace import locate

    if force and not write:
        raise click.UsageError(_("--force goes with --write"))
    if summary is None and Path(SUMMARY).is_file():
        summary = Path(SUMMARY)
    asked = Asked(
        summary=summary,
        data=data,
        gpu=gpu,
        language=language,
        labels=[label.strip() for label in re.split("[,,、]", labels or "") if label.strip()],
        label_field=label_field,
        task_type=task_type,
        base_model=base_model,
        rules=rules,
    )
    found = recommendation.recommend(asked, root=locate.project_root())
    if not write:
        frame.emit(found.as_dict()) if as_json else _show(found)
        return 0 if found.ok else 1
    if not as_json:
        _show(found)
    folder, files = writing.write(found, Path.cwd(), force=force)
    locate.use(folder)
    if as_json:
        written = {"path": str(folder.root), "files": files, "next": writing.next_command(found, folder)}
        frame.emit({**found.as_dict(), "ok": True, **written})
    else:
        _show_written(folder, files, writing.next_command(found, folder))
    return 0


def _show(found: Recommendation) -> None:
    _show_facts(found)
    for doubt in found.doubts:
        frame.say(f"{click.style('!' if doubt.stops else '-', bold=True)} {doubt.says}")
        frame.say(f"  {_('mend:')} {doubt.mend}")
    frame.say()
    frame.say(click.style(found.advice, bold=True))
    if found.plan is None:
        return
    if not found.ok:
        frame.say(_("with the answers as they are, fine-tuning would be this:"))
    _show_proposal(found, found.plan)
    if found.alternatives:
        frame.say()
        frame.table(
            [_("alternative"), _("method"), _("machine"), "GB", _("time"), _("dollars")],
            [_cells(plan) for plan in found.alternatives],
            right=[3],
        )
    frame.say()
    frame.say(_("why:"))
    for reason in found.reasons:
        frame.say(f"  {reason.says}{_origin(reason)}")


def _show_facts(found: Recommendation) -> None:
    wish = found.wish
    said = [_("task {name}", name=wish.name), _(_TYPES[wish.task_type])]
    said += [_("language {language}", language=wish.language)] if wish.language else []
    said += [_("labelled rows: {rows}", rows=wish.rows)] if wish.rows is not None else []
    frame.say(frame.listed(said))
    if wish.data and wish.data.classes:
        counts = ", ".join(f"{label[:30]} {count}" for label, count in list(wish.data.classes.items())[:12])
        frame.say(_("{field}: {counts}", field=str(wish.data.label_field), counts=counts))
    if wish.threshold is not None:
        tested = found.as_dict()["test_rows"]
        frame.say(
            _("goal: {metric} of {threshold}; test rows at the usual split: {planned}, which can show at most {most}",
              metric=wish.metric, threshold=f"{wish.threshold:.2f}", planned=tested["planned"],
              most=f"{tested['show_at_most']:.2f}")
        )  # fmt: skip
        if needed := tested["needed_5_points_above"]:
            frame.say(_("to show it when the model is 5 points better: about {rows} test rows", rows=needed))


_TYPES = {
    "classification": N_("classification"),
    "extraction": N_("extraction"),
    "generation": N_("generation"),
}


def _show_proposal(found: Recommendation, plan: Plan) -> None:
    from nlp_skills.knowledge import tables

    expected = found.performance
    score = _("not known")
    if expected.low is not None and expected.high is not None:
        score = f"{expected.low:.3f}–{expected.high:.3f}"
    target = found.wish.deploy_target
    rows = [
        [_("base model"), f"{plan.config.base_model} ({tables.short(plan.candidate.size)})"],
        [_("method"), _method(plan)],
        [_("settings"), f"epochs {plan.config.epochs:g}, learning_rate {plan.config.learning_rate:g}"],
        [_("data augmentation"), _("yes") if found.chosen.size.augment else _("no")],
        [_("version strategy"), f"{found.strategy} ({found.chosen.naming.form}), {target}"],
        [_("expected {metric}", metric=expected.metric), score],
        [_("machine"), _machine(plan)],
        [_("training time"), _time(plan)],
        [_("cost"), _money(plan)],
    ]
    frame.table([_("proposal"), ""], rows)
    frame.say(_("the expectation rests on: {basis}", basis=expected.says))


def _method(plan: Plan) -> str:
    config = plan.config
    shape = f" r={config.lora.r} alpha={config.lora.alpha:g}" if config.lora else ""
    return f"{config.method.upper()}, {_ADAPTERS[config.adapter]}{shape}"


_ADAPTERS = {"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}


def _machine(plan: Plan) -> str:
    if plan.estimate is None:
        return _("not known")
    words = {"fits": _("fits"), "tight": _("may not fit"), "too big": _("does not fit"), "unknown": "?"}
    return f"{plan.estimate.machine.name}: {plan.estimate.gb:.1f} GB, {words[plan.estimate.verdict]}"


def _time(plan: Plan) -> str:
    if plan.estimate is None or plan.estimate.seconds is None:
        return _("not known")
    low, high = plan.estimate.seconds
    if high < 180:
        return _("{low:.0f} to {high:.0f} s", low=low, high=high)
    if high < 5400:
        return _("{low:.0f} to {high:.0f} min", low=low / 60, high=high / 60)
    return _("{low:.1f} to {high:.1f} h", low=low / 3600, high=high / 3600)


def _money(plan: Plan) -> str:
    cost = plan.estimate.cost if plan.estimate else None
    if cost is None:
        return _("not known")
    if 0 < cost[1] < 0.01:
        return "< 0.01 USD"
    return f"{cost[0]:.2f}–{cost[1]:.2f} USD" if cost[1] else "0"


def _cells(plan: Plan) -> list[str]:
    needed = f"{plan.estimate.gb:.1f}" if plan.estimate else "-"
    where = plan.estimate.machine.name if plan.estimate else "-"
    return [plan.config.base_model, _method(plan), where, needed, _time(plan), _money(plan)]


def _origin(reason: Reason) -> str:
    parts = [reason.rule, reason.source, reason.as_of.isoformat() if reason.as_of else ""]
    shown = ", ".join(part for part in parts if part)
    return f" ({shown})" if shown else ""


def _show_written(folder: TaskFolder, files: list[str], following: str) -> None:
    frame.say()
    if not files:
        frame.say(_("{path} says so already; nothing was changed", path=frame.shown(folder.root)))
    else:
        frame.say(_("written to {path}: {files}", path=frame.shown(folder.root), files=", ".join(files)))
    frame.say(_("next: {command}", command=following))
