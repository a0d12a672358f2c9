"""From data_source.yaml to data/{train,valid,test}.jsonl: fetch, merge, drop duplicates, split, write.

Same sources, same bytes. Each file is replaced whole; a marker stands in `.nlp-skills/` while the three
splits do not belong together, so that nothing trains on a mixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.data import near, sources, split
from nlp_skills.data import rows as lines
from nlp_skills.data.merge import Row, merge
from nlp_skills.data.snapshot import source_hash
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace import digest, lifecycle
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lock import writing


@dataclass(frozen=True)
class Fetched:
    """One source's rows; `reused`: its earlier raw file still stands for the same settings and was taken."""

    name: str
    type: str
    rows: int
    reused: bool


@dataclass(frozen=True)
class Regenerated:
    """What a regeneration did. `pinned`: rows that stay in test because another version was tested on them."""

    task: str
    sources: list[Fetched]
    duplicates_dropped: int
    near_identical: int
    pinned: int
    pinned_gone: int
    changed: bool
    splits: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": True, **asdict(self)}


def regenerate(folder: TaskFolder, names: list[str] | None = None) -> Regenerated:
    """Fetch the sources (only `names`, where given; the others' raw files are kept) and write the splits.

    Raises:
        Usage: no source is called that.
        Invalid: no sources, wrong rows, a class too small to split; earlier splits are left as they were.
        Unavailable: a source cannot be reached, or the disk is full.
    """
    with writing(folder):
        _sweep(folder)
        task, config = folder.task(), folder.sources()
        _check_names(config, names, folder)
        with progress.bar(_("regenerate"), len(config.sources) + 3) as bar:
            fetched = []
            for source in config.sources:
                fetched.append(_fetched(source, folder, names))
                bar.advance(note=_("{name}: rows {rows}", name=str(source.name), rows=fetched[-1].rows))
            result = _rebuild(folder, task, config, fetched, bar)
        _finish(folder)
    return result


def interrupted(folder: TaskFolder) -> bool:
    """Whether a regeneration stopped between writing the first and the last split."""
    return _marker(folder).exists()


def pinned_keys(folder: TaskFolder) -> set[str]:
    """The keys of every row that a version other than the current one was tested on."""
    current = folder.task().version
    others = [folder.version(name).snapshot() for name in folder.version_names() if name != current]
    return {key for snapshot in others if snapshot for key in snapshot.test_keys}


def _marker(folder: TaskFolder) -> Path:
    return folder.state / "regenerating.json"


def _sweep(folder: TaskFolder) -> None:
    """Remove what a killed run left half written; these files are written under the lock only."""
    for parent, pattern in ((folder.raw, ".*"), (folder.raw.parent, ".*"), (folder.root, ".data_source.yaml.*")):
        for path in parent.glob(f"{pattern}.tmp"):
            path.unlink(missing_ok=True)


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


def raw_path(folder: TaskFolder, source: Source) -> Path:
    """data/raw/NAME.jsonl: the source's rows as it gave them."""
    return folder.raw / f"{source.name}.jsonl"


def _record_path(folder: TaskFolder, source: Source) -> Path:
    return folder.raw / f"{source.name}.source.json"


def _fetched(source: Source, folder: TaskFolder, names: list[str] | None) -> Fetched:
    settings = files.sha256_bytes(lines.canonical(unexpanded(source)))
    record = _record(folder, source)
    name = str(source.name)
    if names is not None and name not in names and record.get("settings_hash") == settings:
        return Fetched(name, source.type, record["rows"], reused=True)
    count = _store(source, folder)
    found = {
        "name": name,
        "type": source.type,
        "settings": unexpanded(source),
        "settings_hash": settings,
        "rows": count,
        "sha256": files.sha256_file(raw_path(folder, source)),
    }
    if {key: value for key, value in record.items() if key != "fetched"} != found:
        files.write_json(_record_path(folder, source), {**found, "fetched": files.now().isoformat()})
    return Fetched(name, source.type, count, reused=False)


def _record(folder: TaskFolder, source: Source) -> dict[str, Any]:
    """What is noted of the raw file; nothing where the note is missing, damaged or of another file."""
    path = raw_path(folder, source)
    try:
        record = files.read_json(_record_path(folder, source))
    except Invalid:
        return {}
    current = isinstance(record, dict) and path.is_file() and record.get("sha256") == files.sha256_file(path)
    return record if current else {}


def _store(source: Source, folder: TaskFolder) -> int:
    count = 0
    with files.atomic_writer(raw_path(folder, source)) as stream:
        for row in sources.fetch(source, sources.Fetching(folder)):
            stream.write(lines.dump(row))
            count += 1
    return count


def _rebuild(
    folder: TaskFolder, task: Task, config: DataSource, fetched: list[Fetched], bar: progress.Bar
) -> Regenerated:
    merged = merge(task, [(source, raw_path(folder, source)) for source in config.sources])
    bar.advance(note=_("rows {rows}", rows=len(merged)))
    rows = _distinct(merged, task)
    keys = [near.row_key(row, task.input_fields) for row in rows]
    clusters = near.clusters([near.normalised(row, task.input_fields) for row in rows], config.dedup.near)
    pinned = pinned_keys(folder)
    items = [
        split.Item(key, str(row.get(task.label_field or "", "")), cluster)
        for key, row, cluster in zip(keys, rows, clusters, strict=True)
    ]
    chosen = split.assign(items, config.split, pinned)
    bar.advance(note=_("split"))
    changed = _write(folder, rows, keys, chosen, config)
    bar.advance(note="")
    return Regenerated(
        task=task.task_name,
        sources=fetched,
        duplicates_dropped=len(merged) - len(rows),
        near_identical=len(rows) - len(set(clusters)),
        pinned=sum(key in pinned for key in keys),
        pinned_gone=len(pinned - set(keys)),
        changed=changed,
        splits=_counts(rows, chosen, task),
        warnings=_warnings(config, pinned - set(keys)),
    )


def _distinct(merged: Sequence[Row], task: Task) -> list[Row]:
    """One row for each input and answer, in key order; which of several twins stays does not depend on theirs."""
    seen: dict[tuple[str, bytes], Row] = {}
    keyed = [(near.row_key(row, task.input_fields), lines.canonical(row), row) for row in merged]
    for key, _whole, row in sorted(keyed, key=lambda entry: entry[:2]):
        answer = lines.canonical({name: row[name] for name in task.output_fields})
        seen.setdefault((key, answer), row)
    return list(seen.values())


def _write(folder: TaskFolder, rows: list[Row], keys: list[str], chosen: list[str], config: DataSource) -> bool:
    """Write the splits that differ; True when any did.

    All are on the disk under other names before the first takes its place: a full disk changes none of them,
    and the marker stands for the few microseconds of the replacements only.
    """
    order = sorted(range(len(rows)), key=lambda index: (split.keyed_hash(config.split.seed, keys[index]), index))
    contents = {name: b"".join(lines.dump(rows[i]) for i in order if chosen[i] == name) for name in SPLITS}
    stale = [name for name in SPLITS if _bytes(folder.split(name)) != contents[name]]
    with contextlib.ExitStack() as replacements:
        for name in stale:
            stream = replacements.enter_context(files.atomic_writer(folder.split(name)))
            stream.write(contents[name])
            stream.flush()
        if stale:
            files.write_json(_marker(folder), {"source_hash": source_hash(config), "splits": stale})
    return bool(stale)


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _finish(folder: TaskFolder) -> None:
    yaml.change(folder.sources_path, {("regeneration", "last_run"): files.now().isoformat()})
    if folder.task().status == "created":
        lifecycle.move(folder, "configuring", "data regenerated")
    with contextlib.suppress(FileNotFoundError):
        _marker(folder).unlink()
    digest.write(folder)


def _counts(rows: list[Row], chosen: list[str], task: Task) -> dict[str, dict[str, Any]]:
    counts: dict[str, dict[str, Any]] = {
        name: {"rows": chosen.count(name), "distribution": {lines.label_key(label): 0 for label in task.labels}}
        for name in SPLITS
    }
    for row, name in zip(rows, chosen, strict=True):
        if task.label_field:
            counts[name]["distribution"][lines.label_key(row[task.label_field])] += 1
    return counts


def _warnings(config: DataSource, gone: set[str]) -> list[str]:
    found = [warning for source in config.sources for warning in sources.warnings(source)]
    if config.dedup.near < 1 and not near.available():
        found.append(f"{near.missing_words()}; {extras.install_command('data')}")
    if gone:
        found.append(_("test rows of other versions that no source has any more: {count}", count=len(gone)))
    return found
