"""Going back to a version, clearing away those nobody needs, and what they weigh."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.active import Switched
    from nlp_skills.workspace.cleanup import Cleaned, Plan
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.retention import Decision
    from nlp_skills.workspace.trash import Batch
    from nlp_skills.workspace.usage import Usage


@frame.command(
    "rollback",
    help=N_(
        "Make an earlier version the active one, with models/current and every deployment that follows; "
        "without V, the one that was active before, so that running it twice changes nothing."
    ),
    examples=[
        "nlp-skills rollback v1",
        'nlp-skills rollback reviews v2 --reason "v3 is too slow"',
        "nlp-skills rollback",
    ],
)
@click.argument("names", nargs=-1, metavar="[TASK] [V]")
@frame.option("--reason", metavar="TEXT", help=N_("Why, for the task's history and both lineages."))
@frame.json_option
def rollback(names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    from nlp_skills.deployment import following
    from nlp_skills.workspace import rollback as room

    folder, versions = frame.task_and_versions(names, most=1)
    done = following.carry_on(folder, room.rollback(folder, *versions, reason=reason))
    if as_json:
        frame.emit(_switched_as_dict(folder, done))
    else:
        _show_switched(folder, done)


def _switched_as_dict(folder: TaskFolder, done: Switched) -> dict[str, Any]:
    model = folder.version(done.after).model
    return {
        "ok": True,
        "task": folder.root.name,
        "changed": done.before != done.after,
        "before": done.before,
        "version": done.after,
        "model": None if model is None else model.relative_to(folder.root).as_posix(),
        "moved": [{"target": entry.target, "name": entry.name} for entry in done.moved],
        "left": [
            {"target": e.target, "name": e.name, "version": e.version, "mend": _what_to_do(e.target, done.after)}
            for e in done.left
        ],
    }


def _show_switched(folder: TaskFolder, done: Switched) -> None:
    version = folder.version(done.after)
    if done.before == done.after:
        frame.say(_("{version} is the active version already", version=done.after))
    else:
        frame.say(_("{version} is the active version now; it was {before}", version=done.after, before=done.before))
        if version.model is None:
            frame.say(_("it has no model yet; models/current stays where it is"))
        else:
            frame.say(_("models/current leads to {path}", path=version.model.relative_to(folder.root).as_posix()))
    for entry in done.moved:
        frame.say(_("{name} ({target}) answers with it", name=entry.name, target=entry.target))
    for entry in done.left:
        at = {"name": entry.name, "target": entry.target, "version": entry.version}
        still = _("{name} ({target}) still answers with {version}", **at)
        frame.note(frame.listed([still, _what_to_do(entry.target, done.after)]))


def _what_to_do(target: str, version: str) -> str:
    return _("deploy {version} to {target} again", version=version, target=target)


@frame.command(
    "cleanup",
    help=N_(
        "Move the models of versions that no rule keeps to the trash, and checkpoints of finished trainings; records "
        "stay. The rules are versioning.retention in task.yaml. For 7 days --undo brings everything back."
    ),
    examples=[
        "nlp-skills cleanup --dry-run",
        "nlp-skills cleanup reviews --yes",
        "nlp-skills cleanup --undo",
        "nlp-skills cleanup --undo 20260106-093011-123456",
        "nlp-skills cleanup --empty-trash",
    ],
)
@click.argument("name", metavar="[TASK]", required=False)
@frame.option("--dry-run", is_flag=True, help=N_("Only say what would go, and why the rest stays."))
@frame.option("--yes", is_flag=True, help=N_("Do not ask."))
@frame.option(
    "--purge", is_flag=True, help=N_("Take the records of these versions too, unless others descend from them.")
)
@frame.option(
    "--undo",
    metavar="[ID]",
    is_flag=False,
    flag_value="",
    help=N_("Bring back what a cleanup took, the last by default."),
)
@frame.option("--empty-trash", is_flag=True, help=N_("Delete for good what is in the trash."))
@frame.json_option
def cleanup(
    name: str | None, dry_run: bool, yes: bool, purge: bool, undo: str | None, empty_trash: bool, as_json: bool
) -> None:
    from nlp_skills.workspace import locate, trash

    if sum((undo is not None, empty_trash, dry_run or purge)) > 1:
        raise click.UsageError(_("--undo and --empty-trash stand alone"))
    if name is None and undo and not trash.is_id(undo):
        # `--undo TASK`
        name, undo = undo, ""
    folder = locate.task(name)
    if undo is not None:
        _undo(folder, undo or None, as_json)
    elif empty_trash:
        _empty(folder, yes, as_json)
    else:
        _clean(folder, purge, yes, dry_run, as_json)


def _clean(folder: TaskFolder, purge: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    from nlp_skills.workspace import cleanup as room
    from nlp_skills.workspace import trash

    if not (dry_run or yes):
        _refuse_in_a_script(as_json)
    plan = room.plan(folder, purge=purge)
    if not as_json:
        _show_plan(folder, plan)
    if dry_run:
        if as_json:
            frame.emit(_plan_as_dict(folder, plan, trash.batches(folder)))
        else:
            _show_batches([batch for batch in trash.batches(folder) if not batch.expired])
        return
    if plan.entries or plan.expired:
        _ask(_("Move this to the trash?") if plan.entries else _("Delete what is expired?"), yes)
    done = room.carry_out(folder, plan)
    if as_json:
        frame.emit({**_plan_as_dict(folder, plan, trash.batches(folder)), **_cleaned_as_dict(done)})
    else:
        _show_cleaned(folder, done)


def _refuse_in_a_script(as_json: bool) -> None:
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        from nlp_skills.errors import Usage

        mend = _("look first with --dry-run, then repeat the command with --yes")
        raise Usage(_("nobody can be asked here"), mend=mend)


def _ask(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True)


def _show_plan(folder: TaskFolder, plan: Plan) -> None:
    from nlp_skills.workspace.usage import human

    kinds = [kind for kind in _KINDS if any(kind in decision.bytes for decision in plan.decisions)]
    purged = {entry.version: entry.bytes for entry in plan.of("version")}
    rows = []
    for decision in plan.decisions:
        sizes = [decision.bytes.get(kind, 0) for kind in kinds] + ([purged.get(decision.version, 0)] if purged else [])
        back = sum(decision.freed.values()) + purged.get(decision.version, 0)
        rows.append([decision.version, *(human(size) if size else "" for size in (*sizes, back))])
    columns = [_("Version"), *(_(_KINDS[kind]) for kind in kinds), *([_("records")] if purged else []), _("Comes back")]
    if rows:
        frame.table(columns, rows, right=range(1, len(columns)))
    for decision in plan.decisions:
        frame.say(f"  {decision.version}: {_why(decision, decision.version in purged)}")
    for path in plan.elsewhere:
        at = path.relative_to(folder.root).as_posix()
        frame.note(_("{path} leads out of the task folder; it is left as it is", path=at))
    if blobs := plan.of("store"):
        size = human(sum(entry.bytes for entry in blobs))
        frame.say(_("files of the store that no version refers to: {count} ({size})", count=len(blobs), size=size))
    if plan.expired:
        size = human(sum(batch.bytes for batch in plan.expired))
        frame.say(_("in the trash for longer than 7 days, deleted for good: {size}", size=size))
    frame.say(_("comes back: {size}", size=human(plan.bytes)) if plan.bytes or plan.entries else _("nothing goes"))


_KINDS: dict[Any, str] = {
    "checkpoints": N_("checkpoints"),
    "merged": N_("merged"),
    "gguf": N_("gguf"),
    "adapter": N_("adapter"),
}
_OTHER_KINDS: dict[Any, str] = {
    "records": N_("records"),
    "data": N_("data"),
    "store": N_("store"),
    "trash": N_("trash"),
    "scratch": N_("scratch"),
    "environment": N_("environment"),
    "other": N_("other"),
}


def _why(decision: Decision, purged: bool) -> str:
    if not decision.kept and not decision.has and not purged:
        return _("its model is gone, its records stay: {why}", why=decision.why)
    if not decision.kept:
        why = _("goes: {why}", why=decision.why)
        return frame.listed([why, _("with its records")]) if purged else why
    kept = _("kept: {rules}", rules=", ".join(reason.words for reason in decision.keeps))
    return frame.listed([kept, _("checkpoints go, its training is complete")]) if decision.goes else kept


def _show_cleaned(folder: TaskFolder, done: Cleaned) -> None:
    from nlp_skills.workspace.usage import human

    if done.deleted:
        frame.say(_("deleted for good: {size}", size=human(sum(batch.bytes for batch in done.deleted))))
    if done.batch:
        frame.say(_("moved to the trash: {size}", size=human(done.batch.bytes)))
        task = folder.root.name
        frame.say(
            _("have it back within 7 days: {command}", command=f"nlp-skills cleanup {task} --undo {done.batch.id}")
        )
        frame.say(_("free the space now: {command}", command=f"nlp-skills cleanup {task} --empty-trash"))


def _show_batches(batches: Sequence[Batch]) -> None:
    from nlp_skills.workspace.usage import human

    if not batches:
        return
    rows = [[b.id, _held(b), human(b.bytes), f"{b.until.astimezone():%Y-%m-%d %H:%M}"] for b in batches]
    frame.table([_("In the trash"), _("What"), _("Size"), _("Until")], rows, right=[2])


def _held(batch: Batch) -> str:
    from nlp_skills.workspace import naming

    versions = sorted({entry.version for entry in batch.entries if entry.version}, key=naming.sort_key)
    return ", ".join([*versions, *([_("store")] if any(entry.kind == "store" for entry in batch.entries) else [])])


def _undo(folder: TaskFolder, batch_id: str | None, as_json: bool) -> None:
    from nlp_skills.workspace import cleanup as room
    from nlp_skills.workspace.usage import human

    batch = room.undo(folder, batch_id)
    if as_json:
        frame.emit({"ok": True, "task": folder.root.name, "restored": _batch_as_dict(batch)})
        return
    for entry in batch.entries:
        if entry.kind != "store":
            frame.say(_("back: {path} ({size})", path=entry.path, size=human(entry.bytes)))
    if blobs := [entry for entry in batch.entries if entry.kind == "store"]:
        frame.say(_("back: files of the store: {count}", count=len(blobs)))


def _empty(folder: TaskFolder, yes: bool, as_json: bool) -> None:
    from nlp_skills.workspace import cleanup as room
    from nlp_skills.workspace import trash
    from nlp_skills.workspace.usage import human

    if not yes:
        _refuse_in_a_script(as_json)
        found = trash.batches(folder)
        _show_batches(found)
        if found:
            _ask(_("Delete this for good?"), yes)
    deleted = room.empty(folder)
    size = sum(batch.bytes for batch in deleted)
    if as_json:
        frame.emit(
            {
                "ok": True,
                "task": folder.root.name,
                "deleted": [_batch_as_dict(batch) for batch in deleted],
                "bytes": size,
            }
        )
    else:
        frame.say(_("deleted for good: {size}", size=human(size)) if deleted else _("there is nothing in the trash"))


def _plan_as_dict(folder: TaskFolder, plan: Plan, batches: Sequence[Batch]) -> dict[str, Any]:
    return {
        "ok": True,
        "task": folder.root.name,
        "versions": [_decision_as_dict(folder, decision, plan) for decision in plan.decisions],
        "store": {"files": len(plan.of("store")), "bytes": sum(entry.bytes for entry in plan.of("store"))},
        "left": [path.relative_to(folder.root).as_posix() for path in plan.elsewhere],
        "expired": [_batch_as_dict(batch) for batch in plan.expired],
        "bytes": plan.bytes,
        "trash": [_batch_as_dict(batch) for batch in batches],
    }


def _decision_as_dict(folder: TaskFolder, decision: Decision, plan: Plan) -> dict[str, Any]:
    return {
        "version": decision.version,
        "kept": decision.kept,
        "rules": [{"rule": reason.rule, "words": reason.words} for reason in decision.keeps],
        "why": decision.why,
        "bytes": decision.bytes,
        "goes": [
            {"kind": a.kind, "path": a.path.relative_to(folder.root).as_posix(), "bytes": a.bytes}
            for a in decision.goes
        ],
        "purged": decision.version in plan.purged,
    }


def _cleaned_as_dict(done: Cleaned) -> dict[str, Any]:
    return {
        "moved": _batch_as_dict(done.batch) if done.batch else None,
        "deleted": [_batch_as_dict(batch) for batch in done.deleted],
    }


def _batch_as_dict(batch: Batch) -> dict[str, Any]:
    entries = [entry.model_dump(exclude_none=True) for entry in batch.entries]
    return {"id": batch.id, "time": batch.time, "until": batch.until, "bytes": batch.bytes, "entries": entries}


@frame.command(
    "du",
    help=N_("What tasks take on the disk, by kind: every task of the project, or the versions of TASK."),
    examples=["nlp-skills du", "nlp-skills du reviews", "nlp-skills du --json"],
)
@click.argument("name", metavar="[TASK]", required=False)
@frame.json_option
def du(name: str | None, as_json: bool) -> None:
    from nlp_skills.workspace import locate, usage
    from nlp_skills.workspace.folder import TaskFolder

    if name is not None:
        found = usage.of(locate.task(name))
        frame.emit(_usage_as_dict(found)) if as_json else _show_versions(found)
        return
    root = locate.project_root()
    tasks = [usage.of(TaskFolder.at(path)) for path in sorted(locate.find(root))]
    if as_json:
        total, allocated = sum(task.total for task in tasks), sum(task.allocated for task in tasks)
        rows = [_usage_as_dict(task) for task in tasks]
        frame.emit({"ok": True, "root": str(root), "tasks": rows, "bytes": total, "allocated": allocated})
    elif tasks:
        _show_tasks(tasks)
    else:
        frame.say(_("no tasks under {root}", root=str(root)))


def _show_tasks(tasks: Sequence[Usage]) -> None:
    rows: list[tuple[str, Mapping[Any, int]]] = [(task.folder.root.name, task.bytes) for task in tasks]
    _show_sizes(_("Task"), sorted(rows, key=lambda row: -sum(row[1].values())), tasks)


def _show_versions(task: Usage) -> None:
    rows: list[tuple[str, Mapping[Any, int]]] = list(task.versions.items())
    left = {
        kind: count - sum(version.get(kind, 0) for version in task.versions.values())
        for kind, count in task.bytes.items()
    }
    _show_sizes(_("Version"), [*rows, (_("of no version"), left)], [task])


def _show_sizes(title: str, rows: Sequence[tuple[str, Mapping[Any, int]]], tasks: Sequence[Usage]) -> None:
    from nlp_skills.workspace.usage import human

    words = {**_KINDS, **_OTHER_KINDS}
    kinds = [kind for kind in words if any(row.get(kind) for _name, row in rows)]
    sums = {kind: sum(row.get(kind, 0) for _name, row in rows) for kind in kinds}
    body = [
        [name, *(human(row[kind]) if row.get(kind) else "" for kind in kinds), human(sum(row.values()))]
        for name, row in (*rows, (_("together"), sums))
    ]
    frame.table([title, *(_(words[kind]) for kind in kinds), _("Together")], body, right=range(1, len(kinds) + 2))
    allocated = human(sum(task.allocated for task in tasks))
    frame.say(_("these are the sizes of the files; the blocks they take on the disk: {size}", size=allocated))
    for path in (path for task in tasks for path in task.unread):
        frame.note(_("cannot be looked into: {path}", path=frame.shown(path)))


def _usage_as_dict(task: Usage) -> dict[str, Any]:
    return {
        "ok": True,
        "task": task.folder.root.name,
        "path": str(task.folder.root),
        "bytes": task.total,
        "allocated": task.allocated,
        "files": task.files,
        "kinds": task.bytes,
        "versions": task.versions,
        "unread": [str(path) for path in task.unread],
    }
