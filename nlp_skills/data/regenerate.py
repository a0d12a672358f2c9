"""From data_source.yaml to data/{train,valid,test}.jsonl: what is stale is fetched, merged, split and put in place.

Same sources, same bytes. Each file is replaced whole; a marker stands in `.nlp-skills/` while the splits do not
belong together, so that nothing trains on a mixture. Killed anywhere, the next run goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nlp_skills import files, progress
from nlp_skills.data import install, lock_file, raw, sources, staleness
from nlp_skills.data.install import interrupted
from nlp_skills.data.raw import raw_path
from nlp_skills.data.snapshot import pinned_keys
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_lock import DataLock, LockedOutput, LockedPipeline, LockedSource
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace import digest, lifecycle
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lock import writing

if TYPE_CHECKING:
    from nlp_skills.data.rebuild import Built

__all__ = ["Fetched", "Regenerated", "interrupted", "pinned_keys", "raw_path", "regenerate"]

WAIT_SECONDS = 60.0
_BUILD_STEPS = 3


@dataclass(frozen=True)
class Fetched:
    """One source's rows; `reused`: its earlier raw file was taken. `waiting`: rows a person has yet to review.

    `reasons` say why it was fetched, in words; none where it was told to be.
    """

    name: str
    type: str
    rows: int
    reused: bool
    waiting: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Regenerated:
    """What a regeneration did. `pinned`: rows that stay in test because another version was tested on them.

    `rebuilt`: the splits were made anew; `changed`: with other bytes than before.
    """

    task: str
    sources: list[Fetched]
    duplicates_dropped: int
    near_dropped: int
    near_kept: int
    pinned: int
    pinned_gone: int
    augmented: int
    rebuilt: bool
    changed: bool
    splits: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": True, **asdict(self)}


def _silent(text: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class _Wish:
    """What the caller wants to be fetched, whether stale or not."""

    names: Sequence[str] | None
    everything: bool
    refresh: bool
    tell: Callable[[str], None]

    def named(self, state: staleness.SourceState) -> bool:
        return self.names is None or state.name in self.names

    def fetches(self, state: staleness.SourceState) -> bool:
        """A source that was not named is fetched only where it has no rows that could stand for it."""
        if self.names is not None:
            return state.name in self.names or not state.usable
        return self.everything or self.refresh or bool(state.reasons)


def regenerate(
    folder: TaskFolder,
    names: list[str] | None = None,
    *,
    everything: bool = False,
    refresh: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Regenerated:
    """Fetch what is stale (only `names`, where given, stale or not) and make the splits anew where they are.

    `everything` takes every step again; what pages and models answered is replayed. `refresh` asks the origins
    again. `tell` hears what must be seen at once: that another command is waited for, what a model will cost.

    Raises:
        Usage: no source is called that.
        Invalid: no sources, wrong rows, a class too small to split; earlier splits are left as they were.
        Unavailable: a source cannot be reached, or the disk is full.
    """
    with writing(folder, wait_seconds=WAIT_SECONDS, tell=tell):
        install.sweep(folder)
        task, config = folder.task(), folder.sources()
        _check_names(config, names, folder)
        warnings = [_renamed(*pair) for pair in raw.adopt(folder, config)]
        try:
            with progress.bar(_("regenerate"), len(config.sources) + _BUILD_STEPS) as bar:
                result = _regenerated(folder, task, config, _Wish(names, everything, refresh, tell or _silent), bar)
        finally:
            # On a full disk its room is what the next command needs.
            shutil.rmtree(install.work(folder), ignore_errors=True)
    result.warnings[:0] = warnings
    return result


def _regenerated(folder: TaskFolder, task: Task, config: DataSource, wish: _Wish, bar: progress.Bar) -> Regenerated:
    before = staleness.stale(folder)
    pairs = zip(config.sources, before.sources, strict=True)
    fetched = [_fetched(source, state, folder, wish, bar) for source, state in pairs]
    after = staleness.stale(folder)
    built = _rebuilt(folder, task, config, bar, wish.tell) if wish.everything or _to_build(after) else None
    if built is None:
        bar.advance(_BUILD_STEPS, note="")
    return _finished(folder, task, config, fetched, after, built)


def _check_names(config: DataSource, names: list[str] | None, folder: TaskFolder) -> None:
    if not config.sources:
        raise Invalid(
            _("the task has no data source"),
            file=folder.sources_path,
            mend="nlp-skills data-source add --type file_import --path FILE",
        )
    known = [str(source.name) for source in config.sources]
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise Usage(
            _("no source is called {name}", name=unknown[0]), mend=_("sources here: {names}", names=", ".join(known))
        )


def _renamed(old: str, new: str) -> str:
    return _("source {old} is now called {new}: its rows were kept", old=old, new=new)


def _fetched(
    source: Source, state: staleness.SourceState, folder: TaskFolder, wish: _Wish, bar: progress.Bar
) -> Fetched:
    name = state.name
    if not wish.fetches(state):
        bar.advance()
        return Fetched(name, source.type, state.rows or 0, reused=True, waiting=state.waiting)

    def note(text: str) -> None:
        bar.advance(0, note=f"{name}: {text}")

    def tell(text: str) -> None:
        wish.tell(f"{name}: {text}")

    record = raw.fetch(source, folder, refresh=wish.refresh and wish.named(state), note=note, tell=tell)
    bar.advance(note=_("{name}: rows {rows}", name=name, rows=record.rows))
    reasons = [reason.words for reason in state.reasons]
    return Fetched(name, source.type, record.rows, reused=False, waiting=record.waiting, reasons=reasons)


def _to_build(status: staleness.Status) -> bool:
    """A source that stays stale because it was not named is no reason: its rows are the same as before."""
    return status.lock is None or any(reason.code != "source" for output in status.outputs for reason in output.reasons)


def _rebuilt(
    folder: TaskFolder, task: Task, config: DataSource, bar: progress.Bar, tell: Callable[[str], None]
) -> tuple[Built, bool]:
    """Make the splits and put those in place that differ; whether any did."""
    from nlp_skills.data import rebuild

    _refuse_only_waiting(folder, config)
    pairs = [(source, raw_path(folder, source)) for source in config.sources]
    work = install.work(folder)
    work.mkdir(parents=True, exist_ok=True)
    try:
        built = rebuild.build(folder, task, config, pairs, pinned_keys(folder), work, bar, tell)
    except Invalid as problem:
        _tell_the_way_back(problem, folder, config)
        raise
    changed = install.replace(folder, {folder.split(name): path for name, path in built.files.items()})
    return built, bool(changed)


def _tell_the_way_back(problem: Invalid, folder: TaskFolder, config: DataSource) -> None:
    """Where a source's rows are wrong: once corrected they must be fetched anew, and only a file tells by itself."""
    for source in config.sources:
        if problem.file == str(raw_path(folder, source)):
            command = f"nlp-skills regenerate --source {source.name} --refresh"
            after = _("once they are corrected: {command}", command=command)
            problem.mend = f"{problem.mend}; {after}" if problem.mend else after


def _refuse_only_waiting(folder: TaskFolder, config: DataSource) -> None:
    records = [raw.record(folder, source) for source in config.sources]
    if not any(record.rows for record in records if record):
        raise Invalid(
            _("no source has a row yet"),
            file=folder.sources_path,
            cause=_("rows that wait for review: {count}", count=sum(record.waiting for record in records if record)),
            mend="nlp-skills review",
        )


def _finished(
    folder: TaskFolder,
    task: Task,
    config: DataSource,
    fetched: list[Fetched],
    status: staleness.Status,
    built: tuple[Built, bool] | None,
) -> Regenerated:
    """Note what was done. The lock comes last, and only then does the marker go."""
    if built or not all(source.reused for source in fetched):
        yaml.change(folder.sources_path, {("regeneration", "last_run"): files.now().isoformat()})
    if folder.task().status == "created":
        lifecycle.move(folder, "configuring", "data regenerated")
    lock = _lock(folder, task, config, status, built[0] if built else None)
    lock_file.save(folder, lock)
    install.end(folder)
    digest.write(folder)
    counts = {name: lock.pipeline.counts.get(name, 0) for name in _COUNTS}
    return Regenerated(
        task=task.task_name,
        sources=fetched,
        duplicates_dropped=counts.pop("duplicates"),
        **counts,
        rebuilt=built is not None,
        changed=built is not None and built[1],
        splits={
            name: {"rows": lock.outputs[name].rows, "distribution": lock.outputs[name].class_distribution}
            for name in SPLITS
        },
        warnings=list(dict.fromkeys(_warnings(folder, config, status, built[0] if built else None))),
    )


_COUNTS = ("duplicates", "near_dropped", "near_kept", "pinned", "pinned_gone", "augmented")


def _lock(
    folder: TaskFolder, task: Task, config: DataSource, status: staleness.Status, built: Built | None
) -> DataLock:
    locked = {str(source.name): _locked_source(folder, source) for source in config.sources}
    if built is None:
        assert status.lock is not None
        return status.lock.model_copy(update={"made": files.now(), "sources": locked})
    settings = lock_file.pipeline_settings(task, config)
    pipeline = LockedPipeline(
        config_hash=lock_file.hashed(settings),
        code_version=staleness.pipeline_version(),
        pinned_hash=lock_file.pinned_hash(pinned_keys(folder)),
        settings=settings,
        counts={name: getattr(built, name) for name in _COUNTS},
    )
    outputs = {name: _locked_output(folder, name, built) for name in built.files}
    return DataLock(made=files.now(), sources=locked, pipeline=pipeline, outputs=outputs)


def _locked_source(folder: TaskFolder, source: Source) -> LockedSource:
    record = raw.record(folder, source)
    assert record is not None, "a source is fetched before it is locked"
    return LockedSource.model_validate(
        {
            "type": source.type,
            "config_hash": lock_file.hashed(lock_file.fetch_settings(record.settings)),
            "code_version": record.code_version,
            "inputs": record.inputs or {},
            "fetched": record.fetched,
            "rows": record.rows,
            "sha256": record.sha256,
        }
    )


def _locked_output(folder: TaskFolder, name: str, built: Built) -> LockedOutput:
    path, part = folder.split(name), built.splits.get(name)
    if part is None:
        with open(path, "rb") as stream:
            return LockedOutput(rows=sum(1 for _line in stream), sha256=files.sha256_file(path))
    return LockedOutput(
        rows=part["rows"], sha256=files.sha256_file(path), class_distribution=part.get("distribution", {})
    )


def _warnings(folder: TaskFolder, config: DataSource, status: staleness.Status, built: Built | None) -> Iterator[str]:
    for source in config.sources:
        yield from sources.warnings(source)
        record = raw.record(folder, source)
        yield from record.warnings if record else ()
    for state in status.sources:
        for reason in state.reasons:
            yield _("source {name} was not fetched and is stale: {why}", name=state.name, why=reason.words)
    for name in status.leftovers:
        yield _leftover(folder, name)
    yield from built.warnings if built else ()


def _leftover(folder: TaskFolder, name: str) -> str:
    found = [path for path in (raw_path(folder, name), raw.record_path(folder, name)) if path.is_file()]
    paths = " ".join(str(path.relative_to(folder.root)) for path in found)
    return _(
        "no source is called {name} any more and its rows are not used; rename the source back, or remove: {paths}",
        name=name,
        paths=paths,
    )
