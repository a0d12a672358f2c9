"""created → configuring → training → evaluating → deployed, back to evaluating or configuring, and archived."""

from __future__ import annotations

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.document import short
from nlp_skills.schema.task import Status, Task
from nlp_skills.workspace.folder import TaskFolder

LEGAL: dict[Status, frozenset[Status]] = {
    "created": frozenset({"configuring", "archived"}),
    "configuring": frozenset({"training", "archived"}),
    "training": frozenset({"evaluating", "configuring", "archived"}),
    "evaluating": frozenset({"deployed", "configuring", "archived"}),
    "deployed": frozenset({"evaluating", "configuring", "archived"}),
    "archived": frozenset({"configuring"}),
}


# Where a task may stand when another of its versions becomes the active one: where that version stands.
OF_A_VERSION: frozenset[Status] = frozenset({"configuring", "evaluating", "deployed"})


def move(folder: TaskFolder, to: Status, reason: str, *, version: str | None = None) -> None:
    """Move the task's state, with time and reason, and make `version` the active one in the same write.

    Staying in a state with the same version only touches `updated`. A step that starts over (training again
    after an evaluation) passes through configuring by itself. With another version the task takes that version's
    state, without passing through the states between: the version has passed them before.

    Raises:
        Invalid: the move is not legal, such as training an archived task.
    """
    task = folder.task()
    if to != "archived":
        refuse_archived(folder, task)
    _move(folder, task, to, reason, version)


def reopen(folder: TaskFolder, reason: str) -> None:
    """Take an archived task up again; the only way out of that state."""
    _move(folder, folder.task(), "configuring", reason, None)


def refuse_archived(folder: TaskFolder, task: Task) -> None:
    """Refuse to work on a task that was put away.

    Raises:
        Invalid: with the reason it was archived for, and the command that takes it up again.
    """
    if task.status != "archived":
        return
    moves = [entry for entry in task.history if entry.to == "archived"]
    cause = None
    if moves:
        day = moves[-1].time.astimezone().strftime("%Y-%m-%d")
        cause = _("archived on {day}: {reason}", day=day, reason=short(moves[-1].reason, 120))
    raise Invalid(
        _("the task {name} is archived", name=folder.root.name),
        file=folder.task_path,
        cause=cause,
        mend=_("take it up again with: nlp-skills unarchive {name}", name=folder.root.name),
    )


def _move(folder: TaskFolder, task: Task, to: Status, reason: str, version: str | None) -> None:
    time = files.now().isoformat()
    changes: dict[tuple[str | int, ...], object] = {("updated",): time}
    state, index = task.status, len(task.history)
    version = version or task.version
    switched = version != task.version and (to == state or {state, to} <= OF_A_VERSION | {"training"})
    way: list[Status] = [to] if switched else _way(state, to)
    for following in way:
        entry = {"time": time, "from": state, "to": following, "version": version, "reason": reason}
        changes[("history", index)] = entry
        state, index = following, index + 1
    changes[("status",)] = to
    if version != task.version:
        changes[("version",)] = version
    yaml.change(folder.task_path, changes)


def _way(state: Status, to: Status) -> list[Status]:
    if state == to:
        return []
    if to in LEGAL[state]:
        return [to]
    if state != "archived" and "configuring" in LEGAL[state] and to in LEGAL["configuring"]:
        return ["configuring", to]
    raise Invalid(
        _("the task is {state} and cannot become {to}", state=state, to=to),
        cause=_("from {state} it may become: {allowed}", state=state, allowed=", ".join(sorted(LEGAL[state]))),
        mend=_("bring it to one of these first"),
    )
