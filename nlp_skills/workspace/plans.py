"""Written plans: plans/YYYY-MM-DD-goal.md in a task, small steps that a person may edit while they are worked off.

In: a goal, and where the task stands. Out: the file, its progress, the next step. Reading writes nothing.
"""

from __future__ import annotations

import datetime as dt
import difflib
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.workspace import locate, lock, plan_steps, plan_text
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.plan_text import EVERY, Status, Step, Text, Wanted

_NAMED = re.compile(r"(\d{4}-\d\d-\d\d)-.+\.md\Z")
_SLUG_CHARACTERS = 40


@dataclass(frozen=True)
class Plan:
    """A plan as its file says it is."""

    path: Path
    name: str
    text: Text

    @property
    def goal(self) -> str:
        return self.text.goal

    @property
    def steps(self) -> list[Step]:
        return self.text.steps

    def count(self, status: Status) -> int:
        """How many steps have this status."""
        return sum(step.status == status for step in self.steps)

    @property
    def finished(self) -> bool:
        """Whether nothing is left: every step is completed or skipped."""
        return all(step.status in ("completed", "skipped") for step in self.steps)

    @property
    def following(self) -> Step | None:
        """The step to work on: one that was begun, else the first that is pending."""
        return next((s for wanted in ("in-progress", "pending") for s in self.steps if s.status == wanted), None)

    @property
    def checkpoint(self) -> str | None:
        """What to look at now, before anything is begun: due when three more steps are completed."""
        done = self.count("completed")
        if done == 0 or done % EVERY or self.count("in-progress"):
            return None
        written = self.text.checkpoints
        return written[done // EVERY - 1] if done // EVERY <= len(written) else plan_steps.checkpoints()[-1]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        counts = {status: self.count(status) for status in plan_text.STATUSES}
        return {
            "plan": self.name,
            "path": str(self.path),
            "goal": self.goal,
            "total": len(self.steps),
            **{status.replace("-", "_"): count for status, count in counts.items()},
            "finished": self.finished,
            "checkpoint": self.checkpoint,
            "steps": [step_as_dict(step) for step in self.steps],
        }


def step_as_dict(step: Step) -> dict[str, Any]:
    """For `--json`: what is written of the step, and its line."""
    keys = ("number", "title", "status", "command", "expected", "verify", "notes", "line")
    return {key: value for key in keys if (value := getattr(step, key)) not in (None, [])}


def new(folder: TaskFolder, goal: str, titles: Sequence[str] = ()) -> Plan:
    """Write a plan with these steps, or without any with those that lead on from where the task stands.

    A title may end in its command: "Train longer: `nlp-skills train`".

    Raises:
        Usage: the goal is empty; a path that leaves the task.
    """
    goal = plan_text.shown(goal)
    if not goal:
        raise Usage(_("a plan needs a goal"), mend=_('say it in a sentence: nlp-skills plan new "85% on every class"'))
    with lock.writing(folder):
        stand = plan_steps.standing(folder)
        wanted = [_given(title) for title in titles] or plan_steps.steps(stand)
        now = files.now()
        path = _free(_home(folder), f"{now:%Y-%m-%d}-{slug(goal)}")
        about = plan_steps.about(stand)
        content = plan_text.written(goal, about, wanted, plan_steps.checkpoints(), now.isoformat())
        files.write_text(path, content)
    return load(folder, path)


def titles_of(path: Path) -> list[str]:
    """The steps listed in a file, one a line; marks of lists and boxes before them are left out.

    Raises:
        Usage: there is no such file, or it lists nothing.
        Invalid: it is not UTF-8.
    """
    try:
        text = plan_text.decoded(path.read_bytes(), path).removeprefix("\ufeff")
    except OSError as error:
        mend = _("look at the path and its permissions, then run the command again")
        raise Usage(_("the file cannot be read"), file=path, cause=error.strerror, mend=mend) from error
    bare = (re.sub(r"^\s*(?:[-*+]|\d{1,9}[.)])?\s*(?:\[.\])?\s*", "", line) for line in text.splitlines())
    found = [title for line in bare if (title := plan_text.shown(line)) and not title.startswith("#")]
    if not found:
        raise Usage(_("the file lists no steps"), file=path, mend=_("write one step a line"))
    return found


def _given(title: str) -> Wanted:
    title = plan_text.shown(title)
    if not title:
        raise Usage(_("a step needs a title"), mend=_('say what is done in it: --step "Look at 50 rows"'))
    found = re.fullmatch(r"(.*?\S)\s*[:：]?\s*`([^`]+)`", title)
    return Wanted(found[1].rstrip(":： "), found[2]) if found else Wanted(title)


def slug(goal: str) -> str:
    """A goal as part of a file name: letters of any script and digits, the rest hyphens, cut."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFKC", goal).casefold()).strip("-")
    if len(words) > _SLUG_CHARACTERS and "-" in (short := words[: _SLUG_CHARACTERS + 1]) and words.isascii():
        words = short.rpartition("-")[0]
    return words[:_SLUG_CHARACTERS].strip("-") or "plan"


def _home(folder: TaskFolder) -> Path:
    """The folder of plans; one that is a link out of the task is refused."""
    return files.inside(folder.root, "plans")


def _free(home: Path, name: str) -> Path:
    number, path = 2, home / f"{name}.md"
    while path.exists() or path.is_symlink():
        number, path = number + 1, home / f"{name}-{number}.md"
    return path


def load(folder: TaskFolder, path: Path) -> Plan:
    """Read a plan's file.

    Raises:
        Invalid: a status that is none of the five, with file and line; not UTF-8.
    """
    try:
        content = plan_text.decoded(path.read_bytes(), path)
    except OSError as error:
        raise Invalid(_("the file cannot be read"), file=path, cause=error.strerror) from error
    name = path.relative_to(_home(folder)).as_posix() if path.is_relative_to(_home(folder)) else path.name
    return Plan(path, name.removesuffix(".md"), plan_text.parse(content, path))


def find(folder: TaskFolder, name: str | None = None) -> Plan:
    """The plan called `name` (with or without .md, or as a path); without one the newest that is not finished.

    Raises:
        Usage: there is none, or it is outside the task.
    """
    if name:
        return load(folder, _named(folder, name))
    paths = _newest_first(folder)
    if not paths:
        raise Usage(_("this task has no plan"), mend=_('write one: nlp-skills plan new "GOAL"'))
    newest = load(folder, paths[0])
    candidates = itertools.chain([newest], (load(folder, path) for path in paths[1:]))
    return next((plan for plan in candidates if not plan.finished), newest)


def others(folder: TaskFolder, but: Plan) -> list[Plan | Problem]:
    """The task's other plans, newest first; one that cannot be read as its problem."""
    found: list[Plan | Problem] = []
    for path in _newest_first(folder):
        if path == but.path:
            continue
        try:
            found.append(load(folder, path))
        except Problem as problem:
            found.append(problem)
    return found


def _named(folder: TaskFolder, name: str) -> Path:
    home = _home(folder)
    file_name = name if name.endswith(".md") else f"{name}.md"
    for base in (home, folder.root, Path.cwd()):
        if (base / file_name).exists():
            return files.inside(folder.root, base / file_name)
    files.inside(folder.root, home / file_name)
    known = [path.stem for path in _newest_first(folder)]
    near = difflib.get_close_matches(name.removesuffix(".md"), known, n=1)
    mend = _("did you mean {name}?", name=near[0]) if near else _("plans here: {names}", names=", ".join(known) or "–")
    raise Usage(_("no plan called {name}, and no task", name=name), file=home, mend=mend)


def _newest_first(folder: TaskFolder) -> list[Path]:
    home = _home(folder)
    found = [path for path in home.glob("*.md") if _NAMED.match(path.name) and not path.is_symlink()]
    return sorted(found, key=_made, reverse=True)


def _made(path: Path) -> tuple[str, float, str]:
    """The day in its name, then the moment in its text, where a person left that."""
    found = _NAMED.match(path.name)
    day = found[1] if found else ""
    moment = 0.0
    try:
        said = plan_text.made(path.read_text(encoding="utf-8", errors="replace"))
        moment = dt.datetime.fromisoformat(said).timestamp() if said else 0.0
    except (OSError, ValueError):
        pass
    return day, moment, path.stem


def begin_next(folder: TaskFolder, name: str | None = None) -> tuple[Plan, Step | None, str | None]:
    """The plan, its next step, which is in progress from now on, and the checkpoint that is due before it.

    The step is None where every step is completed, skipped or blocked.
    """
    with lock.writing(folder):
        plan = find(folder, name)
        due, step = plan.checkpoint, plan.following
        if step and step.status == "pending":
            plan = _change(folder, plan, step, "in-progress")
            step = plan.steps[step.number - 1]
    return plan, step, due


def mark(
    folder: TaskFolder, number: int | None, status: Status, *, name: str | None = None, note: str | None = None
) -> tuple[Plan, Step]:
    """Give a step a status, the one in progress when no number is given; the rest of the file stays as it is.

    Raises:
        Usage: no such step; none or several are in progress.
    """
    with lock.writing(folder):
        plan = find(folder, name)
        step = _chosen(plan, number)
        said = f"{files.now().isoformat()} {plan_text.shown(note)}" if note and plan_text.shown(note) else None
        if step.status != status or said:
            plan = _change(folder, plan, step, status, said)
    return plan, plan.steps[step.number - 1]


def _chosen(plan: Plan, number: int | None) -> Step:
    begun = [step for step in plan.steps if step.status == "in-progress"]
    if number is None and len(begun) == 1:
        return begun[0]
    if number is None:
        known = ", ".join(str(step.number) for step in begun)
        said = _("several steps are in progress: {numbers}", numbers=known) if begun else _("no step is in progress")
        raise Usage(
            said, file=plan.path, mend=_("say which: nlp-skills plan done N, or begin with nlp-skills plan next")
        )
    if not 1 <= number <= len(plan.steps):
        raise Usage(
            _("there is no step {number}", number=number),
            file=plan.path,
            mend=_("steps are counted from the top: 1 to {last}", last=len(plan.steps)),
        )
    return plan.steps[number - 1]


def _change(folder: TaskFolder, plan: Plan, step: Step, status: Status, note: str | None = None) -> Plan:
    """Read, change and replace the file in one go; what was read before the change is what the person left."""
    content = plan_text.decoded(plan.path.read_bytes(), plan.path)
    files.write_bytes(plan.path, plan_text.with_status(content, step, status, note).encode("utf-8"))
    return load(folder, plan.path)


def task_and_plan(names: Sequence[str]) -> tuple[TaskFolder, str | None]:
    """`[TASK] [PLAN]` told apart: a single name is a task's, where there is a task of that name.

    Raises:
        Usage: neither a task nor a plan of the current task is called so.
    """
    if len(names) > 2:
        raise Usage(_("too many names: {names}", names=" ".join(names)))
    if len(names) == 2:
        return locate.task(names[0]), names[1]
    if not names:
        return locate.task(), None
    if names[0].endswith(".md") or not _is_task(names[0]):
        return _current_or_unknown(names[0]), names[0]
    return locate.task(names[0]), None


def _current_or_unknown(name: str) -> TaskFolder:
    """The task whose plan `name` may be; where none is current, the name was meant as a task's."""
    try:
        return locate.task()
    except Usage:
        return locate.task(name)


def task_and_goal(words: Sequence[str]) -> tuple[TaskFolder, str]:
    """`[TASK] GOAL` told apart; the goal is one argument.

    Raises:
        Usage: no goal, or one whose quotation marks are missing.
    """
    quoted = _('the goal is one argument: nlp-skills plan new "85% on every class"')
    if len(words) > 2:
        raise Usage(_("too many names: {names}", names=" ".join(words)), mend=quoted)
    if len(words) == 2:
        return locate.task(words[0]), words[1]
    if not words or _is_task(words[0]):
        raise Usage(_("a plan needs a goal"), mend=quoted)
    return locate.task(), words[0]


def _is_task(name: str) -> bool:
    try:
        locate.task(name)
    except (Usage, OSError):  # a goal may be longer than any path
        return False
    return True


def numbered(names: Sequence[str]) -> tuple[list[str], int | None]:
    """`[TASK] [PLAN] [N]`: the names, and the number at their end."""
    if names and re.fullmatch(r"[0-9]+", names[-1]):
        return list(names[:-1]), int(names[-1])
    return list(names), None
