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
    """What the rules look at. `problem` says what could not be read; the rest is then as much as could be."""

    place: VersionFolder
    artefacts: list[Artefact]
    created: dt.datetime
    touched: dt.datetime
    needs: list[Path]
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
        goes = [a for a in version.artefacts if a.kind == "checkpoints" and not _touches(a, needed)]
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
            version.keep("running", _("being trained"))
        if places := [f"{entry.name} ({entry.target})" for entry in running if entry.version == version.name]:
            version.keep("deployed", _("deployed: {places}", places=", ".join(places)))
    links = {*_links(folder), *(folder.root / entry.link for entry in running if entry.link)}
    for link in sorted(links):
        for version in versions:
            if link.is_symlink() and any(_touches(a, [_resolved(link)]) for a in version.artefacts):
                version.keep("linked", _("{link} leads to it", link=os.path.relpath(link, folder.root)))


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
        elif counted < retention.keep_recent:
            version.keep("recent", _("one of the newest {count}", count=retention.keep_recent))
            counted += version.place.model is not None
        if retention.keep_deployed and version.was_deployed:
            version.keep("was_deployed", _("once deployed"))
    if retention.keep_best and (best := _best(newest)):
        metric = task.success_criteria.primary_metric
        best.keep("best", _("best by {metric}: {value}", metric=metric, value=f"{best.value:.1%}"))


def _best(newest_first: list[_Version]) -> _Version | None:
    """The best of those that have a model; the newest of several."""
    rated = [version for version in newest_first if version.value is not None and version.place.model]
    return max(rated, key=lambda version: version.value or 0.0, default=None)


def _keep_what_others_need(folder: TaskFolder, task: Task, versions: list[_Version]) -> list[Path]:
    """Keep what kept versions were trained on, and what that was trained on; every path into models that counts."""
    needed = _paths(folder, [task.training.base_model] if task.training else [])
    for version in versions:
        if any(_touches(artefact, needed) for artefact in version.artefacts):
            version.keep("needed", _("task.yaml trains on it"))
    waiting = [version for version in versions if version.keeps]
    while waiting:
        user = waiting.pop()
        needed += user.needs
        for version in versions:
            if version is not user and any(_touches(artefact, user.needs) for artefact in version.artefacts):
                if not version.keeps:
                    waiting.append(version)
                version.keep("needed", _("{name} was trained on it", name=user.name))
    return [*needed, *(_resolved(link) for link in _links(folder))]


def _touches(artefact: Artefact, paths: list[Path]) -> bool:
    """Whether one of the paths is the artefact, in it, or around it."""
    place = _resolved(artefact.path)
    return any(path.is_relative_to(place) or place.is_relative_to(path) for path in paths)


def _look(folder: TaskFolder, task: Task, name: str) -> _Version:
    place = folder.version(name)
    found = _Version(
        place, artefacts.of(folder, task, name), created=_file_time(place), touched=_file_time(place), needs=[]
    )
    try:
        _read(found, task)
    except Problem as problem:
        found.problem = str(problem.message)
    except OSError as error:
        found.problem = error.strerror or str(error)
    found.needs = _paths(folder, _named_in(place))
    return found


def _read(found: _Version, task: Task) -> None:
    place = found.place
    config, status, lineage = place.config(), place.status(), place.lineage()
    info, results = place.model_info(), place.results()
    assert config
    found.created = _aware(lineage.created) if lineage else found.created
    found.running = runs.alive(status)
    found.complete = status is not None and status.state == "completed" and place.model is not None
    times = [results and results.created, info and info.created, status and (status.ended or status.updated)]
    found.touched = max([found.created, *(_aware(time) for time in times if time)])
    value = listing.metric_value(place, task.success_criteria.primary_metric)
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


def _named_in(place: VersionFolder) -> Iterator[str]:
    """Every text in the configuration and the model's description; what cannot be parsed is searched for paths."""
    for path in (place.config_path, place.model_info_path):
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


def _paths(folder: TaskFolder, texts: Iterable[str]) -> list[Path]:
    """The texts that are a path to something in models/, resolved; a base model is looked for from two places."""
    models = _resolved(folder.root / "models")
    likely = [text for text in texts if "/" in text and "\n" not in text and len(text) < _LONGEST_PATH]
    found = [_resolved(start, text) for text in likely for start in (folder.root, Path.cwd())]
    return [path for path in found if path.is_relative_to(models) and path != models]


def _resolved(path: Path, inner: str = "") -> Path:
    try:
        return (path / Path(inner).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError):
        return path
