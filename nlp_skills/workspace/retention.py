"""Which versions are kept, by which rules, and why the others may go: `versioning.retention` of task.yaml.

Deciding reads and writes nothing. What cannot be read is kept.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import Lineage
from nlp_skills.workspace import artefacts, deployments, listing, naming, runs
from nlp_skills.workspace.artefacts import Artefact
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Rule = Literal[
    "active", "running", "deployed", "linked", "needed", "was_deployed", "best", "recent", "experiment", "unreadable"
]


class Reason(NamedTuple):
    """Why a version is kept: the rule's name, and the same in words."""

    rule: Rule
    words: str


@dataclass(frozen=True)
class Decision:
    """What becomes of one version: kept by every rule in `keeps`, or, where there is none, it goes because `why`.

    `goes` are the artefacts that go; of a kept version only checkpoints, once its training is complete.
    """

    version: str
    keeps: list[Reason] = field(default_factory=list)
    why: str | None = None
    has: list[Artefact] = field(default_factory=list)
    goes: list[Artefact] = field(default_factory=list)
    elsewhere: list[Path] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return bool(self.keeps)

    @property
    def bytes(self) -> dict[artefacts.Kind, int]:
        """What the version weighs, by kind."""
        return _by_kind(self.has)

    @property
    def freed(self) -> dict[artefacts.Kind, int]:
        """What comes back, by kind."""
        return _by_kind(self.goes)


def _by_kind(found: list[Artefact]) -> dict[artefacts.Kind, int]:
    kinds = dict.fromkeys(artefact.kind for artefact in found)
    return {kind: sum(artefact.bytes for artefact in found if artefact.kind == kind) for kind in kinds}


@dataclass
class _Version:
    """What the rules look at. `problem` says what could not be read; the rest is then as much as could be.

    `needs` are the paths in models/ that its records name, its own left out; `begins_with` is the model it goes on
    from, until it is trained: it then holds all the weights itself.
    """

    place: VersionFolder
    artefacts: list[Artefact]
    created: dt.datetime
    touched: dt.datetime
    needs: list[Path] = field(default_factory=list)
    begins_with: list[Path] = field(default_factory=list)
    value: float | None = None
    running: bool = False
    complete: bool = False
    was_deployed: bool = False
    problem: str | None = None
    keeps: list[Reason] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def age_key(self) -> tuple[dt.datetime, tuple[int, ...]]:
        return self.created, naming.sort_key(self.name)

    @cached_property
    def places(self) -> list[Path]:
        """Where its artefacts are, links resolved."""
        return [_resolved(artefact.path) for artefact in self.artefacts]

    def touches(self, paths: Iterable[Path]) -> bool:
        """Whether one of the paths leads to an artefact of it."""
        return any(_meet(place, path) for path in paths for place in self.places)

    def keep(self, rule: Rule, words: str) -> None:
        if all(reason.rule != rule for reason in self.keeps):
            self.keeps.append(Reason(rule, words))


def decide(folder: TaskFolder) -> list[Decision]:
    """What becomes of every version, oldest first.

    Raises:
        Invalid: task.yaml or deployments.json cannot be read; then nobody knows what is needed.
    """
    task = folder.task()
    versions = [_look(folder, task, name) for name in folder.version_names()]
    _keep_what_is_in_use(folder, task, versions)
    _keep_by_retention(task, versions)
    needed = _keep_what_others_need(folder, task, versions)
    return [_decision(folder, task, version, needed) for version in versions]


def _decision(folder: TaskFolder, task: Task, version: _Version, needed: list[Path]) -> Decision:
    goes: list[Artefact] = []
    if not version.keeps:
        goes = version.artefacts
    elif version.complete and not version.running and not version.problem:
        free = [a for a in version.artefacts if not any(_meet(_resolved(a.path), path) for path in needed)]
        goes = [a for a in free if a.kind == "checkpoints"]
    return Decision(
        version=version.name,
        keeps=version.keeps,
        why=None if version.keeps else _why_it_goes(task, version),
        has=version.artefacts,
        goes=[Artefact(a.version, a.kind, a.path, artefacts.freed(a.path)) for a in goes],
        elsewhere=artefacts.elsewhere(folder, task, version.name),
    )


def _why_it_goes(task: Task, version: _Version) -> str:
    retention = task.versioning.retention
    if naming.is_experiment(version.name):
        return _("an experiment that nobody touched for {time}", time=retention.cleanup_exp_after)
    return _("not one of the newest {count}", count=retention.keep_recent)


def _keep_what_is_in_use(folder: TaskFolder, task: Task, versions: list[_Version]) -> None:
    running = deployments.load(folder)
    for version in versions:
        if version.problem:
            version.keep("unreadable", _("its records cannot be read: {problem}", problem=version.problem))
        if version.name == task.version:
            version.keep("active", _("active"))
        if version.running:
            version.keep("running", _("a run of it goes on"))
        if places := [f"{entry.name} ({entry.target})" for entry in running if entry.version == version.name]:
            version.keep("deployed", _("deployed: {places}", places=", ".join(places)))
    links = {*_links(folder), *(folder.root / entry.link for entry in running if entry.link)}
    for link in sorted(path for path in links if path.is_symlink()):
        words = _("{link} leads to it", link=os.path.relpath(link, folder.root))
        _keep_touched(versions, [_resolved(link)], "linked", words)


def _keep_touched(versions: list[_Version], paths: list[Path], rule: Rule, words: str) -> list[_Version]:
    """Keep the versions that one of the paths leads to; returns those that nothing else kept."""
    found = [version for version in versions if paths and version.touches(paths)]
    new = [version for version in found if not version.keeps]
    for version in found:
        version.keep(rule, words)
    return new


def _links(folder: TaskFolder) -> list[Path]:
    """models/current, and whatever other names people gave to a model beside it."""
    try:
        found = [Path(entry.path) for entry in os.scandir(folder.root / "models") if entry.is_symlink()]
    except OSError:
        return []
    return [path for path in found if not path.name.startswith(".")]


def _keep_by_retention(task: Task, versions: list[_Version]) -> None:
    retention, now = task.versioning.retention, files.now()
    newest = sorted(versions, key=lambda version: version.age_key, reverse=True)
    counted = 0
    for version in newest:
        if naming.is_experiment(version.name):
            if now - version.touched < retention.exp_lifetime:
                words = _("an experiment touched in the last {time}", time=retention.cleanup_exp_after)
                version.keep("experiment", words)
        elif counted < retention.keep_recent and not version.problem:
            version.keep("recent", _("one of the newest {count}", count=retention.keep_recent))
            counted += version.place.model is not None
        if retention.keep_deployed and version.was_deployed:
            version.keep("was_deployed", _("was deployed"))
    if retention.keep_best and (best := _best(newest)):
        metric = task.metric
        shown = f"{best.value:.3f}" if metric == "mcc" else f"{best.value:.1%}"
        best.keep("best", _("best by {metric}: {value}", metric=metric, value=shown))


def _best(newest_first: list[_Version]) -> _Version | None:
    """The best of those that have a model; the newest of several."""
    rated = [version for version in newest_first if version.value is not None and version.place.model]
    return max(rated, key=lambda version: version.value or 0.0, default=None)


def _keep_what_others_need(folder: TaskFolder, task: Task, versions: list[_Version]) -> list[Path]:
    """Keep what kept versions were trained on, and what that was trained on; every path into models that counts."""
    needed = _paths([task.training.base_model] if task.training else [], folder)
    _keep_touched(versions, needed, "needed", _("task.yaml trains on it"))
    for name, paths in _needed_by_neighbours(folder):
        needed += paths
        _keep_touched(versions, paths, "needed", _("the task {name} trains on it", name=name))
    waiting = [version for version in versions if version.keeps]
    while waiting:
        user = waiting.pop()
        needed += [*user.needs, *user.begins_with]
        waiting += _keep_touched(versions, user.needs, "needed", _("{name} was trained on it", name=user.name))
        waiting += _keep_touched(versions, user.begins_with, "needed", _("{name} is to go on from it", name=user.name))
    return [*needed, *(_resolved(link) for link in _links(folder))]


def _needed_by_neighbours(folder: TaskFolder) -> Iterator[tuple[str, list[Path]]]:
    """What the tasks beside this one take from its models; only documents that mention it are parsed."""
    mention = f"{folder.root.name}/models/".encode()
    for task_path in sorted(folder.root.parent.glob("*/task.yaml")):
        other = task_path.parent
        if other.resolve() == folder.root:
            continue
        for path in (task_path, *other.glob("versions/*/config.yaml")):
            try:
                mentioned = mention in path.read_bytes()
            except OSError:
                continue
            if mentioned and (found := _paths(_texts_in(path), folder, other)):
                yield other.name, found


def _meet(place: Path, path: Path) -> bool:
    """Whether a path is a place, in it, or around it."""
    return path.is_relative_to(place) or place.is_relative_to(path)


def _look(folder: TaskFolder, task: Task, name: str) -> _Version:
    place = folder.version(name)
    made = _file_time(place)
    found = _Version(place, artefacts.of(folder, task, name), created=made, touched=made)
    try:
        _read(found, task)
    except Problem as problem:
        found.problem = f"{Path(problem.file or place.root).name}: {problem.message}"
    except OSError as error:
        found.problem = error.strerror or str(error)
    named = _paths([*_texts_in(place.config_path), *_texts_in(place.model_info_path)], folder)
    found.needs = [path for path in named if not found.touches([path])]
    return found


def _read(found: _Version, task: Task) -> None:
    place = found.place
    start = place.config().init_from
    status, lineage, info, results = place.status(), place.lineage(), place.model_info(), place.results()
    found.created = _aware(lineage.created) if lineage else found.created
    found.running = runs.alive(status)
    found.complete = status is not None and status.state == "completed" and place.model is not None
    if start and naming.is_version(start) and not found.complete:
        begun = VersionFolder(place.task_root, start)
        found.begins_with = [_resolved(path) for path in (begun.adapter, begun.merged) if path.is_dir()]
    times = [results and results.created, info and info.created, status and (status.ended or status.updated)]
    found.touched = max([found.created, *(_aware(time) for time in times if time)])
    value = listing.metric_value(place, task.metric)
    found.value = value if value is not None and math.isfinite(value) else None
    found.was_deployed = _was_deployed(task, place.name, lineage)


def _was_deployed(task: Task, name: str, lineage: Lineage | None) -> bool:
    told = lineage is not None and any(event.event == "deployed" for event in lineage.events)
    return told or any(entry.to == "deployed" and entry.version == name for entry in task.history)


def _file_time(place: VersionFolder) -> dt.datetime:
    """When config.yaml was last written: all that is known of a version without a lineage."""
    for path in (place.config_path, place.root):
        try:
            return dt.datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        except OSError:
            continue
    return files.now()


def _aware(time: dt.datetime) -> dt.datetime:
    """A time written by hand may lack its offset: it is then local."""
    return time if time.tzinfo else time.astimezone()


_LONGEST_PATH = 4096
_MODEL_PATH = re.compile(r"""[^\s"']*models/[^\s"']+""")


def _texts_in(path: Path) -> Iterator[str]:
    """Every text in a document; one that cannot be parsed is searched for paths."""
    try:
        yield from _texts(yaml.read(path).data)
    except Problem:
        if path.is_file():
            yield from _MODEL_PATH.findall(path.read_text(encoding="utf-8", errors="replace"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _paths(texts: Iterable[str], folder: TaskFolder, start: Path | None = None) -> list[Path]:
    """The texts that are a path to something in models/, resolved.

    A base model is looked for from its task's folder (`start`: another one's) and from the working directory.
    """
    models = _resolved(folder.root / "models")
    likely = [text for text in texts if "/" in text and "\n" not in text and len(text) < _LONGEST_PATH]
    places = [start] if start else [folder.root, Path.cwd()]
    found = [_resolved(place, text) for text in likely for place in places]
    return [path for path in found if path.is_relative_to(models) and path != models]


def _resolved(path: Path, inner: str = "") -> Path:
    try:
        return (path / Path(inner).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):
        return path
