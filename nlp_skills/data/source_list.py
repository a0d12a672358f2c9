"""The sources of a task: listed, looked at, added and changed in data_source.yaml without losing its comments."""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data import sources
from nlp_skills.data.merge import output_shape, preview
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource, HuggingFace, Source
from nlp_skills.workspace import digest
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lock import writing

PREVIEW_ROWS = 3
# Enough to meet most labels and still the first page of anything.
CHECKED_ROWS = 20

Row = dict[str, Any]
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Look:
    """The first raw rows of a source, straight from where it comes from; nothing was written."""

    source: Source
    raw: list[Row]
    record: dict[str, Any]
    warnings: list[str]
    seconds: float

    @property
    def columns(self) -> list[str]:
        """Every column of these rows, in order of appearance."""
        return list(dict.fromkeys(name for row in self.raw for name in row))


@dataclass(frozen=True)
class Added:
    """A source that is now in data_source.yaml; `rows`: its first ones as the task sees them, when looked at."""

    source: Source
    rows: list[Row]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": True, "source": unexpanded(self.source), "rows": self.rows, "warnings": self.warnings}


@dataclass(frozen=True)
class Checked:
    """What a source gave when it was tried. `problem` is None when its rows can be used as they are."""

    source: Source
    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    problem: Problem | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.source.name,
            "type": self.source.type,
            "ok": self.problem is None,
            "columns": self.columns,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "warnings": self.warnings,
            "error": self.problem.as_dict() if self.problem else None,
        }


def add(folder: TaskFolder, settings: Mapping[str, Any], *, check: bool = True) -> Added:
    """Append a source. `settings` are its keys as in data_source.yaml; a `path` may also be one from here.

    Raises:
        Usage: the name is taken, or a mapping names no field of the task.
        Invalid: wrong settings; with `check`, also a missing file, a failing query or a missing column.
        Unavailable: with `check`, a server or package that is not there.
    """
    with writing(folder):
        data, position = _existing(folder, settings.get("name"))
        entry = _entry_of(folder, settings)
        source = _validated(folder, data, position, entry)
        rows, warnings = [], []
        if check:
            seen = look(folder, source, PREVIEW_ROWS)
            entry.update(_pinned(source, seen))
            rows, warnings = preview(source, folder.task(), seen.raw, folder), seen.warnings
        _append(folder, position, {"name": source.name, **entry})
        digest.write(folder)
    return Added(source, rows, [*sources.warnings(source), *warnings])


def edit(folder: TaskFolder, name: str, changes: Mapping[KeyPath, Any], *, check: bool = True) -> Added:
    """Change settings of a source by their key paths; None removes one. Comments and order stay.

    Raises:
        Usage: no source of that name, or a mapping names no field of the task.
        Invalid, Unavailable: as `add`; data_source.yaml is left as it was.
    """
    with writing(folder):
        named(folder, name)
        data = yaml.read(folder.sources_path).data
        position = [str(entry.name) for entry in folder.sources().sources].index(name)
        at = {_place(data["sources"][position], position, path): value for path, value in changes.items()}
        text = yaml.changed(folder.sources_path, at)
        found = yaml.loads(text, folder.sources_path)
        source = DataSource.check(found.data, folder.sources_path, found.lines).sources[position]
        _check_mapping(folder, source.mapping)
        seen = look(folder, source, PREVIEW_ROWS) if check else None
        rows = preview(source, folder.task(), seen.raw, folder) if seen else []
        files.write_text(folder.sources_path, text)
        digest.write(folder)
    return Added(source, rows, [*sources.warnings(source), *(seen.warnings if seen else [])])


def candidate(folder: TaskFolder, settings: Mapping[str, Any]) -> Source:
    """The source these settings would make, validated; data_source.yaml is not touched.

    Raises:
        Usage: the name is taken. Invalid: wrong settings.
    """
    data, position = _existing(folder, settings.get("name"))
    return _validated(folder, data, position, _entry_of(folder, settings))


def look(folder: TaskFolder, source: Source, count: int) -> Look:
    """The first raw rows of a source, straight from where it comes from.

    Raises:
        Invalid, Unavailable: as `sources.fetch`.
    """
    started = time.monotonic()
    fetching = sources.Fetching(folder, preview=True)
    stream = sources.fetch(source, fetching)
    with contextlib.closing(stream):
        raw = list(islice(stream, count))
    return Look(source, raw, fetching.record, fetching.warnings, time.monotonic() - started)


def check(folder: TaskFolder, name: str | None = None, count: int = PREVIEW_ROWS) -> list[Checked]:
    """Try a source, or all of them: connect, fetch the first rows, map them. Nothing is written.

    Raises:
        Usage: no source of that name. Invalid: there are none.
    """
    chosen = [named(folder, name)] if name else all_of(folder)
    return [_checked(folder, source, count) for source in chosen]


def all_of(folder: TaskFolder) -> list[Source]:
    """Every source.

    Raises:
        Invalid: there are none.
    """
    found = folder.sources().sources
    if not found:
        raise Invalid(_("the task has no data source"), file=folder.sources_path, mend="nlp-skills data-source add")
    return found


def named(folder: TaskFolder, name: str | None) -> Source:
    """A source by name, or the only one there is.

    Raises:
        Usage: no such source, or several and none named.
        Invalid: there are none.
    """
    found = {str(source.name): source for source in all_of(folder)}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None or name not in found:
        near = difflib.get_close_matches(name or "", sorted(found), n=1)
        message = _("which source?") if name is None else _("no source is called {name}", name=name)
        mend = _("did you mean {name}?", name=near[0]) if near else None
        raise Usage(message, mend=mend or _("sources here: {names}", names=", ".join(found)))
    return found[name]


def entries(folder: TaskFolder) -> list[dict[str, Any]]:
    """Each source with its type, where it comes from, and what was last fetched of it."""
    return [_entry(folder, source) for source in folder.sources().sources]


def record(folder: TaskFolder, source: Source) -> dict[str, Any]:
    """What the last fetch of a source noted; nothing where there was none."""
    with contextlib.suppress(Invalid):
        found = files.read_json(folder.raw / f"{source.name}.source.json")
        if isinstance(found, dict):
            return found
    return {}


def fetched_rows(folder: TaskFolder, source: Source, count: int) -> list[Row]:
    """The first rows as they were last fetched; none where nothing was."""
    path = folder.raw / f"{source.name}.jsonl"
    try:
        return list(islice(lines.read(path), count)) if path.is_file() else []
    except ValueError as error:
        raise Invalid(_("not valid JSON"), file=path, cause=str(error), mend="nlp-skills regenerate") from error


def shown_row(row: Row) -> dict[str, str]:
    """A row for people: every value on one line, escaped and cut."""
    return {lines.shown_name(name): lines.shown(value) for name, value in row.items() if name != "_source"}


def _entry(folder: TaskFolder, source: Source) -> dict[str, Any]:
    settings = unexpanded(source)
    keys = ("path", "connection", "host", "database", "endpoint", "dataset", "model")
    noted = record(folder, source)
    return {
        "name": source.name,
        "type": source.type,
        "from": next((str(settings[key]) for key in keys if settings.get(key)), ", ".join(settings.get("urls", []))),
        "rows": noted.get("rows"),
        "fetched": noted.get("fetched"),
    }


def _checked(folder: TaskFolder, source: Source, count: int) -> Checked:
    try:
        seen = look(folder, source, max(count, CHECKED_ROWS))
    except Problem as problem:
        return Checked(source, problem=problem, warnings=sources.warnings(source))
    warnings = [*sources.warnings(source), *seen.warnings]
    try:
        rows = preview(source, folder.task(), seen.raw, folder)
    except Problem as problem:
        return Checked(source, seen.columns, [], seen.seconds, warnings, problem)
    return Checked(source, seen.columns, rows[:count], seen.seconds, [*warnings, *_row_warnings(folder, rows)])


def _row_warnings(folder: TaskFolder, rows: Sequence[Row]) -> Iterator[str]:
    """What regenerating would refuse of these rows."""
    from nlp_skills.data.faults import fault_words

    shape = lines.Shape(folder.task().input_fields, output_shape(folder.task()))
    for number, row in enumerate(rows, 1):
        for code, detail in shape.faults(row):
            yield _("row {number}: {fault}: {detail}", number=number, fault=fault_words(code), detail=detail)


def _pinned(source: Source, seen: Look) -> dict[str, Any]:
    """A Hub data set is written down by its commit: a branch moves, and the rows with it."""
    commit = seen.record.get("commit")
    return {"revision": commit} if isinstance(source, HuggingFace) and not source.pinned and commit else {}


def _existing(folder: TaskFolder, name: str | None) -> tuple[dict[str, Any], int]:
    """data_source.yaml as data, and how many sources it has.

    Raises:
        Invalid: the file is wrong as it is.
        Usage: `name` is taken.
    """
    if not folder.sources_path.exists():
        files.write_text(folder.sources_path, yaml.dumps({"sources": []}))
    data, found = yaml.read(folder.sources_path)
    config = DataSource.check(data, folder.sources_path, found)
    if name in [source.name for source in config.sources]:
        raise Usage(
            _("a source called {name} is there already", name=str(name)),
            file=folder.sources_path,
            mend=_("give another --name, or change it: nlp-skills data-source edit {name}", name=str(name)),
        )
    return data, len(config.sources)


def _entry_of(folder: TaskFolder, settings: Mapping[str, Any]) -> dict[str, Any]:
    entry = {key: value for key, value in settings.items() if value not in (None, {}, [])}
    if "path" in entry:
        entry["path"] = _from_task(folder, entry["path"])
    _check_mapping(folder, entry.get("mapping", {}))
    return entry


def _validated(folder: TaskFolder, data: dict[str, Any], position: int, entry: dict[str, Any]) -> Source:
    whole = {**data, "sources": [*(data.get("sources") or []), entry]}
    return DataSource.check(whole, folder.sources_path, {}).sources[position]


def _from_task(folder: TaskFolder, path: str) -> str:
    """The path as data_source.yaml wants it: a file that is only there seen from here is named from the task."""
    given = Path(path)
    if given.is_absolute() or (folder.root / given).exists() or not given.exists():
        return path
    found = given.resolve()
    return str(found.relative_to(folder.root) if found.is_relative_to(folder.root) else found)


def _check_mapping(folder: TaskFolder, mapping: Mapping[str, str]) -> None:
    task = folder.task()
    fields = [*task.input_fields, *task.output_fields]
    wrong = next((name for name in mapping if name not in fields), None)
    if wrong is not None:
        near = difflib.get_close_matches(wrong, fields, n=1)
        known = _("fields: {names}", names=", ".join(fields))
        mend = _("did you mean {name}?", name=near[0]) if near else _("write --mapping FIELD=COLUMN")
        raise Usage(_("the task has no field {name}", name=wrong), cause=known, mend=mend)


def _place(entry: Mapping[str, Any], position: int, path: KeyPath) -> KeyPath:
    """Where a setting stands in the file: the long form keeps it under `config:`."""
    long_form = isinstance(entry.get("config"), dict) and path[0] not in ("name", "type") and path[0] not in entry
    return ("sources", position, *(("config",) if long_form else ()), *path)


def _append(folder: TaskFolder, position: int, entry: dict[str, Any]) -> None:
    ordered = {"type": entry.pop("type"), **entry}
    # An empty list is replaced as a whole: written as [], it would take the new entry in brackets too.
    change: dict[KeyPath, Any] = {("sources", position): ordered}
    yaml.change(folder.sources_path, change if position else {("sources",): [ordered]})
