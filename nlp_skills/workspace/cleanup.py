"""Clearing away what no rule keeps: planned first, then moved to the trash as a whole.

Models go; records stay, unless the versions are purged. What the store keeps for nobody goes too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.workspace import artefacts, lock, retention, trash
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.retention import Decision
from nlp_skills.workspace.trash import Batch, Entry


@dataclass(frozen=True)
class Plan:
    """What a cleanup would take: `entries` in the order they go, `expired` batches for good."""

    decisions: list[Decision]
    entries: list[Entry]
    expired: list[Batch]
    elsewhere: list[Path]
    purge: bool = False

    @property
    def purged(self) -> list[str]:
        """The versions of which nothing stays."""
        return [str(entry.version) for entry in self.entries if entry.kind == "version"]

    @property
    def bytes(self) -> int:
        """What comes back: once the trash is emptied, and at once for what has been in it long enough."""
        return sum(entry.bytes for entry in self.entries) + sum(batch.bytes for batch in self.expired)

    def of(self, kind: trash.Kind) -> list[Entry]:
        """The things of one kind."""
        return [entry for entry in self.entries if entry.kind == kind]


@dataclass(frozen=True)
class Cleaned:
    """What a cleanup did: the batch that can be brought back (None: nothing went), and the batches that are gone."""

    batch: Batch | None
    deleted: list[Batch]


def plan(folder: TaskFolder, *, purge: bool = False) -> Plan:
    """What a cleanup would take now. Reads only.

    Raises:
        Invalid: task.yaml or deployments.json cannot be read.
    """
    decisions = retention.decide(folder)
    models = [
        Entry(path=_inner(folder, a.path), kind=a.kind, version=a.version, bytes=a.bytes, why=_why(decision))
        for decision in decisions
        for a in decision.goes
    ]
    versions = list(_purged(folder, decisions)) if purge else []
    gone = {str(entry.version) for entry in versions}
    return Plan(
        decisions=decisions,
        entries=[*models, *versions, *_blobs(folder, gone)],
        expired=[batch for batch in trash.batches(folder) if batch.expired],
        elsewhere=[path for decision in decisions if not decision.kept for path in decision.elsewhere],
        purge=purge,
    )


def carry_out(folder: TaskFolder, planned: Plan) -> Cleaned:
    """Do what was planned; what is needed again by now stays.

    Raises:
        Invalid: as `plan`.
        Unavailable: the disk is full or read-only; what was moved until then is in the trash.
    """
    with lock.writing(folder):
        wanted = {entry.path for entry in planned.entries}
        entries = [entry for entry in plan(folder, purge=planned.purge).entries if entry.path in wanted]
        trash.delete(folder, [batch.id for batch in planned.expired])
        return Cleaned(trash.put(folder, entries) if entries else None, planned.expired)


def undo(folder: TaskFolder, batch: str | None = None) -> Batch:
    """Bring back what a cleanup took, by default the last one; see `trash.undo`."""
    with lock.writing(folder):
        return trash.undo(folder, batch)


def empty(folder: TaskFolder) -> list[Batch]:
    """Delete for good what is in the trash; returns what that was.

    Raises:
        Unavailable: something cannot be deleted.
    """
    with lock.writing(folder):
        found = trash.batches(folder)
        trash.delete(folder)
        return found


def _inner(folder: TaskFolder, path: Path) -> str:
    return path.relative_to(folder.root).as_posix()


def _why(decision: Decision) -> str:
    return decision.why or _("its training is complete")


def _purged(folder: TaskFolder, decisions: Sequence[Decision]) -> Iterator[Entry]:
    """The versions that go and that none that stays descends from, children before their parents."""
    parents = {decision.version: _parents(folder, decision.version) for decision in decisions}
    children = Counter(parent for names in parents.values() for parent in names)
    going = {decision.version: decision for decision in decisions if _may_be_purged(folder, decision)}
    ready = [name for name in reversed(going) if not children[name]]
    while ready:
        name = ready.pop(0)
        place = folder.version(name).root
        size, why = artefacts.freed(place), _why(going[name])
        yield Entry(path=_inner(folder, place), kind="version", version=name, bytes=size, why=why)
        children.subtract(parents[name])
        ready += [parent for parent in parents[name] if parent in going and not children[parent]]


def _may_be_purged(folder: TaskFolder, decision: Decision) -> bool:
    """A version whose model is elsewhere keeps the records that say so."""
    return not (decision.kept or decision.elsewhere or artefacts.beyond(folder, folder.version(decision.version).root))


def _parents(folder: TaskFolder, name: str) -> set[str]:
    """The versions whose records this one's refer to."""
    try:
        lineage = folder.version(name).lineage()
    except (Problem, OSError):
        # Whoever its parent is, it must not go.
        return set(folder.version_names())
    return {other for other in (lineage.parent, lineage.promoted_from) if other} if lineage else set()


_HASH = re.compile(rb"[0-9a-f]{64}")


def _blobs(folder: TaskFolder, purged: set[str]) -> Iterator[Entry]:
    """What the store has and no record mentions: neither of a version that stays nor of one in the trash."""
    store = folder.state / "store" / "sha256"
    if artefacts.beyond(folder, store):
        return
    blobs = [path for path in sorted(store.glob("??/*")) if _HASH.fullmatch(path.name.encode()) and path.is_file()]
    if not blobs:
        return
    records = [folder.version(name).root for name in folder.version_names() if name not in purged]
    mentioned = {name for place in [*records, *trash.version_folders(folder)] for name in _hashes(place)}
    for path in blobs:
        if path.name.encode() not in mentioned and not path.is_symlink():
            why = _("no version refers to it")
            yield Entry(path=_inner(folder, path), kind="store", bytes=artefacts.freed(path), why=why)


def _hashes(place: Path) -> Iterator[bytes]:
    """Every hash in a version's documents, whatever key it stands under and whether they can be parsed or not."""
    for path in place.rglob("*"):
        if path.suffix in (".json", ".yaml", ".yml") and path.is_file():
            yield from _HASH.findall(path.read_bytes())
