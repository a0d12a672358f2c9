"""What of the data is no longer what its settings would give, and why. Quick, and never on the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills.data import install, lock_file, raw, review, sources
from nlp_skills.data.snapshot import pinned_keys
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_lock import DataLock
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace import digests, mirror, runs
from nlp_skills.workspace.compare import flat
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Reason:
    """Why something is stale: a code for programs, words for people."""

    code: str
    words: str


@dataclass(frozen=True)
class SourceState:
    """A source's raw file. `usable`: it holds what these settings once gave, so splits may be made of it."""

    name: str
    type: str
    rows: int | None = None
    fetched: str | None = None
    sha256: str | None = None
    waiting: int = 0
    usable: bool = False
    reasons: list[Reason] = field(default_factory=list)


@dataclass(frozen=True)
class OutputState:
    """A file made of the raw files, such as train."""

    name: str
    rows: int | None = None
    reasons: list[Reason] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """What is stale. `leftovers`: names that sources had once and whose raw files are still there."""

    sources: list[SourceState]
    outputs: list[OutputState]
    lock: DataLock | None
    leftovers: list[str]

    @property
    def stale(self) -> bool:
        """Whether anything is."""
        return any(state.reasons for state in self.sources) or any(output.reasons for output in self.outputs)


def stale(folder: TaskFolder) -> Status:
    """Compare the task's data with its settings, the files it reads, and what other versions were tested on.

    Raises:
        Invalid: task.yaml or data_source.yaml is wrong.
    """
    task, config = folder.task(), folder.sources()
    lock, reasons = _lock(folder)
    names = list(dict.fromkeys([*SPLITS, *(lock.outputs if lock else ())]))
    paths = {name: folder.split(name) for name in names}
    found = digests.of(folder, [*(raw.raw_path(folder, source) for source in config.sources), *paths.values()])
    states = [_source(source, folder, found.get(raw.raw_path(folder, source))) for source in config.sources]
    if lock:
        reasons += [*_pipeline(lock, task, config), *_pinned(lock, folder), *_rows(lock, states)]
    reasons += [Reason("source", _("source {name} is stale", name=state.name)) for state in states if state.reasons]
    outputs = [_output(name, lock, found.get(paths[name]), paths[name], reasons) for name in names]
    return Status(states, outputs, lock, [name for name, _record in raw.leftovers(folder, config)])


def against_snapshot(folder: TaskFolder) -> dict[str, Any] | None:
    """Whether the splits are those the current version was made with, and which are not; None where nothing says."""
    taken = folder.version().snapshot()
    if taken is None:
        return None
    paths = {name: folder.split(name) for name in taken.splits}
    here = digests.of(folder, paths.values())
    differing = [name for name, split in taken.splits.items() if here.get(paths[name]) != split.sha256]
    return {"version": folder.version().name, "same": not differing, "differing": differing}


def next_command(folder: TaskFolder, status: Status) -> str:
    """What to do next with the task, as it is typed."""
    version = folder.version()
    run = runs.of(folder, version.name)
    steps = (
        (not status.sources, "nlp-skills data-source add"),
        (any(state.waiting for state in status.sources), "nlp-skills review"),
        (status.stale, "nlp-skills regenerate"),
        (not version.config_path.is_file(), "nlp-skills generate"),
        (run is not None and run.alive, "nlp-skills status --watch"),
        (run is not None and run.stopped, "nlp-skills resume"),
        (version.model_info() is None, "nlp-skills train"),
        (version.results() is None, "nlp-skills evaluate"),
    )
    return next((command for due, command in steps if due), "nlp-skills report")


def pipeline_version() -> int:
    """The version of the code that makes the splits; a newer one makes older splits stale."""
    from nlp_skills.data import rebuild

    return int(rebuild.VERSION)


def _lock(folder: TaskFolder) -> tuple[DataLock | None, list[Reason]]:
    reasons = []
    if install.interrupted(folder):
        reasons.append(Reason("interrupted", _("a regeneration was interrupted")))
    try:
        lock = lock_file.load(folder)
    except Problem as problem:
        return None, [*reasons, Reason("lock_damaged", _("data.lock.yaml cannot be read: {why}", why=str(problem)))]
    if lock is None and any(folder.split(name).is_file() for name in SPLITS):
        reasons.append(Reason("never_locked", _("never locked: made before there was a data.lock.yaml")))
    return lock, reasons


def _source(source: Source, folder: TaskFolder, digest: str | None) -> SourceState:
    record = raw.record(folder, source)
    if record is None:
        words = _("never fetched") if digest is None else _("nothing is noted of its raw file")
        return SourceState(str(source.name), source.type, reasons=[Reason("never_fetched", words)])
    lost = [*_raw_file(record, digest), *_settings(record, source)]
    return SourceState(
        name=str(source.name),
        type=source.type,
        rows=record.rows,
        fetched=record.fetched,
        sha256=record.sha256,
        waiting=_waiting(record, source, folder),
        usable=not lost,
        reasons=[*lost, *_code(record, source), *_inputs(record, source, folder)],
    )


def _waiting(record: raw.Record, source: Source, folder: TaskFolder) -> int:
    """Rows to be reviewed as of now: decisions may have come since the fetch."""
    if source.type == "llm_generated" and source.validation.require_review:
        with contextlib.suppress(Problem):
            return review.state(folder, source).waiting
    return record.waiting


def _raw_file(record: raw.Record, digest: str | None) -> Iterator[Reason]:
    if digest is None:
        yield Reason("raw_missing", _("its raw file is missing"))
    elif digest != record.sha256:
        yield Reason("raw_edited", _("its raw file is not as it was fetched"))


def _settings(record: raw.Record, source: Source) -> Iterator[Reason]:
    names = changed(lock_file.fetch_settings(record.settings), lock_file.fetch_settings(source))
    if names:
        yield Reason("settings", _("settings changed: {names}", names=", ".join(names)))


def _code(record: raw.Record, source: Source) -> Iterator[Reason]:
    if sources.version(source) != record.code_version:
        yield Reason("code", _("the code that fetches it has changed"))


def _inputs(record: raw.Record, source: Source, folder: TaskFolder) -> Iterator[Reason]:
    try:
        now = sources.inputs(source, folder)
    except Problem as problem:
        # What another machine reads need not be here.
        if mirror.runs_here(folder):
            yield Reason("input", str(problem))
        return
    if record.inputs is None and now:
        yield Reason("never_locked", _("never locked: which files it read was not noted"))
    elif names := changed(record.inputs or {}, now):
        yield Reason("input", _("files it reads changed: {names}", names=", ".join(names)))


def _pipeline(lock: DataLock, task: Task, config: DataSource) -> Iterator[Reason]:
    names = changed(lock.pipeline.settings, lock_file.pipeline_settings(task, config))
    if names:
        yield Reason("settings", _("settings changed: {names}", names=", ".join(names)))
    if lock.pipeline.code_version != pipeline_version():
        yield Reason("code", _("the code that makes the splits has changed"))


def _pinned(lock: DataLock, folder: TaskFolder) -> Iterator[Reason]:
    pinned = pinned_keys(folder)
    if lock_file.pinned_hash(pinned) != lock.pipeline.pinned_hash and not _tested_before(folder, pinned):
        yield Reason("pinned", _("the rows that other versions were tested on changed"))


def _tested_before(folder: TaskFolder, pinned: set[str]) -> bool:
    """Whether today's test rows are exactly those that another version was tested on: a new version changes nothing."""
    path = folder.split("test")
    digest = digests.of(folder, [path]).get(path)
    taken = [folder.version(name).snapshot() for name in folder.version_names()]
    same = (one for one in taken if one and one.splits["test"].sha256 == digest)
    return any(set(one.test_keys) == pinned for one in same)


def _rows(lock: DataLock, states: list[SourceState]) -> Iterator[Reason]:
    """Raw files that came after the splits; a source that is new or gone shows among the settings."""
    for state in states:
        locked = lock.sources.get(state.name)
        if locked and state.sha256 and locked.sha256 != state.sha256:
            yield Reason("rows", _("source {name} was fetched after the splits were made", name=state.name))


def _output(name: str, lock: DataLock | None, digest: str | None, path: Path, shared: list[Reason]) -> OutputState:
    locked = lock.outputs.get(name) if lock else None
    own = []
    if digest is None:
        own.append(Reason("output_missing", _("the file is missing") if lock else _("never made")))
    elif locked and locked.sha256 != digest:
        own.append(Reason("output_edited", _("the file was changed by hand")))
    return OutputState(name, locked.rows if locked else None, [*own, *shared])


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The dotted keys in which two mappings differ."""
    old, new = dict(flat(dict(before))), dict(flat(dict(after)))
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name, _ABSENT) != new.get(name, _ABSENT)]


_ABSENT = object()
