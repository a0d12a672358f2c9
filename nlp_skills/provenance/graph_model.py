"""What a drawing of a task shows: versions and where they came from, the data they were made with, where they run."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.schema.version import SPLITS, Lineage, LineageData
from nlp_skills.workspace import deployments, lineage_file, listing, naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

EdgeKind = Literal["parent", "promoted", "data", "deployment"]
_SHORT = 8


@dataclass(frozen=True)
class Version:
    """A version; one that is `gone` is known only because others name it. `value` is the primary metric."""

    name: str
    active: bool = False
    parent: str | None = None
    promoted_from: str | None = None
    created: dt.datetime | None = None
    value: float | None = None
    changes: list[str] = field(default_factory=list)
    data: str | None = None
    gone: bool = False
    problems: list[Problem] = field(default_factory=list)

    @property
    def experiment(self) -> bool:
        return naming.is_experiment(self.name)


@dataclass(frozen=True)
class Data:
    """The splits that versions were made with; `known` is false where only their source's hash is."""

    id: str
    short: str
    rows: dict[str, int]
    hashes: dict[str, str]
    known: bool = True


@dataclass(frozen=True)
class Edge:
    """From what was first to what came of it: a parent to its child, data to a version, a version to where it runs."""

    kind: EdgeKind
    start: str
    end: str


@dataclass(frozen=True)
class Graph:
    """All of it; `versions` by their order, oldest first."""

    task: str
    active: str
    metric: str
    versions: dict[str, Version]
    data: dict[str, Data]
    deployments: dict[str, Deployment]
    edges: list[Edge]
    problems: list[Problem]
    root: Path

    def words(self, problem: Problem) -> str:
        """A problem in one line, with its file as it is called in the task."""
        return clean(str(problem).replace(f"{self.root}/", ""))

    def of(self, kind: EdgeKind) -> list[Edge]:
        return [edge for edge in self.edges if edge.kind == kind]


@dataclass(frozen=True)
class Row:
    """A version's place when one stands under the other: `lane` is how far it is indented.

    `starts`: a branch begins with it, off the lane to its left, or, in lane 0, a tree of its own. `goes_on[n]`: lane n
    has something further down that hangs on what is above.
    """

    name: str
    lane: int
    starts: bool
    goes_on: tuple[bool, ...] = ()


def clean(text: str) -> str:
    """Text on one line, without characters that steer a terminal or that XML refuses."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def read(folder: TaskFolder) -> Graph:
    """Everything there is to draw; what cannot be read is named in `problems`, of a version or of the whole.

    Raises:
        Invalid: task.yaml is wrong.
    """
    task, problems = folder.task(), list[Problem]()
    metric = task.metric
    known: dict[str, Version] = {}
    data: dict[str, Data] = {}
    for name in folder.version_names():
        known[name] = _version(folder.version(name), task.version, metric, data)
    try:
        running = {f"deployment:{n}": _named(entry) for n, entry in enumerate(deployments.load(folder))}
    except Problem as problem:
        running, problems = {}, [problem]
    known = _without_circles(_with_gone(known, running.values()))
    edges = list(_edges(known, running))
    return Graph(task.task_name, task.version, metric, known, data, running, edges, problems, folder.root)


def _named(entry: Deployment) -> Deployment:
    return entry.model_copy(update={"name": clean(entry.name), "version": clean(entry.version)})


def _version(version: VersionFolder, active: str, metric: str, data: dict[str, Data]) -> Version:
    lineage, problems = lineage_file.read(version)
    value = _value(version, metric, lineage, problems)
    snapshot = _data(version, lineage, problems)
    if snapshot:
        data.setdefault(snapshot.id, snapshot)
    data_id = snapshot.id if snapshot else None
    known = Version(version.name, version.name == active, value=value, data=data_id, problems=problems)
    if lineage is None:
        return known
    parent, promoted_from = (clean(name or "") or None for name in (lineage.parent, lineage.promoted_from))
    if parent == version.name:
        problems.append(Invalid(_("the version is named as its own parent"), file=version.lineage_path))
        parent = None
    return replace(known, parent=parent, promoted_from=promoted_from, created=lineage.created, changes=lineage.changes)


def _value(version: VersionFolder, metric: str, lineage: Lineage | None, problems: list[Problem]) -> float | None:
    try:
        if results := version.results():
            return results.metrics.get(metric)
    except Problem as problem:
        problems.append(problem)
    return listing.lineage_metrics(lineage).get(metric) if lineage else None


def _data(version: VersionFolder, lineage: Lineage | None, problems: list[Problem]) -> Data | None:
    """By the lineage, or by the snapshot where that was written before lineages had hashes."""
    section = (lineage.data if lineage else None) or LineageData()
    hashes = {name: section.hashes[name] for name in SPLITS if name in section.hashes}
    rows = {name: count for name in SPLITS if (count := getattr(section, f"{name}_count")) is not None}
    if not hashes:
        try:
            if snapshot := version.snapshot():
                hashes = {name: snapshot.splits[name].sha256 for name in SPLITS if name in snapshot.splits}
                rows = {name: snapshot.splits[name].rows for name in SPLITS if name in snapshot.splits}
        except Problem as problem:
            problems.append(problem)
    if hashes:
        return Data(_id("data", hashes), _short(_digest(hashes)), rows, hashes)
    if section.source_hash and rows:
        return Data(
            _id("source", {"source": section.source_hash, **rows}), _short(section.source_hash), rows, {}, False
        )
    return None


def _digest(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in parts.items()).encode()).hexdigest()


def _id(kind: str, parts: Mapping[str, Any]) -> str:
    return f"{kind}:{_digest(parts)}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_SHORT]


def _with_gone(known: Mapping[str, Version], running: Iterable[Deployment]) -> dict[str, Version]:
    """With those that are only named: a parent that was purged, an experiment that is no more."""
    named = [name for version in known.values() for name in (version.parent, version.promoted_from) if name]
    named += [entry.version for entry in running]
    gone = {name: Version(name, gone=True) for name in named if name not in known}
    both = {**known, **gone}
    return {name: both[name] for name in sorted(both, key=lambda name: (naming.sort_key(name), name))}


def _without_circles(known: dict[str, Version]) -> dict[str, Version]:
    """Parents that a hand made go round in a circle: each has a beginning that nothing came before, and says so."""
    for name, version in known.items():
        seen, at = {name}, version.parent
        while at is not None and at not in seen:
            seen.add(at)
            at = known[at].parent
        if at == name:
            words = _("its parents go round in a circle: {name}", name=str(version.parent))
            known[name] = replace(version, parent=None, problems=[*version.problems, Invalid(words)])
    return known


def _edges(known: Mapping[str, Version], running: Mapping[str, Deployment]) -> Iterable[Edge]:
    for name, version in known.items():
        if version.parent:
            yield Edge("parent", version.parent, name)
        if version.promoted_from and version.promoted_from != name:
            yield Edge("promoted", version.promoted_from, name)
        if version.data:
            yield Edge("data", version.data, name)
    for key, entry in running.items():
        yield Edge("deployment", entry.version, key)


def rows(graph: Graph) -> list[Row]:
    """Every version once, parents above children: the main line straight down, what branches off indented."""
    children: dict[str, list[str]] = {}
    for edge in graph.of("parent"):
        children.setdefault(edge.start, []).append(edge.end)
    leading = _ancestry(graph)
    main = {name: _main(below, graph.versions, leading) for name, below in children.items()}
    placed: list[Row] = []
    for name, version in graph.versions.items():
        if version.parent is None:
            _place(placed, name, children, main)
    return [Row(row.name, row.lane, row.starts, _goes_on(placed, index)) for index, row in enumerate(placed)]


def _ancestry(graph: Graph) -> set[str]:
    """The active version and all it came from."""
    found: set[str] = set()
    at = graph.versions.get(graph.active)
    while at is not None:
        found.add(at.name)
        at = graph.versions[at.parent] if at.parent else None
    return found


def _main(below: Sequence[str], known: Mapping[str, Version], leading: set[str]) -> str | None:
    """The child that goes straight on: the one that leads to the active version, else the last; no experiment."""
    lasting = [child for child in below if not known[child].experiment]
    return next((child for child in lasting if child in leading), lasting[-1] if lasting else None)


def _place(placed: list[Row], root: str, children: Mapping[str, list[str]], main: Mapping[str, str | None]) -> None:
    todo = [(root, 0, True)]
    while todo:
        at, lane, starts = todo.pop()
        placed.append(Row(at, lane, starts))
        straight = main.get(at)
        if straight:
            todo.append((straight, lane, False))
        todo += [(child, lane + 1, True) for child in reversed(children.get(at, [])) if child != straight]


def _goes_on(placed: Sequence[Row], index: int) -> tuple[bool, ...]:
    found = []
    for lane in range(placed[index].lane + 1):
        later = next((row for row in placed[index + 1 :] if _touches(row, lane)), None)
        found.append(later is not None and (later.lane == lane + 1 or (later.lane == lane and not later.starts)))
    return tuple(found)


def _touches(row: Row, lane: int) -> bool:
    """Whether a row says if this lane goes on: it is in it, branches off it, or is further out."""
    return row.lane <= lane or (row.lane == lane + 1 and row.starts)
