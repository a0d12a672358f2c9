"""The sources of a task: listed, looked at, and added to data_source.yaml without losing its comments."""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data import sources
from nlp_skills.data.merge import preview
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.workspace import digest
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lock import writing

PREVIEW_ROWS = 3


@dataclass(frozen=True)
class Added:
    """A source that is now in data_source.yaml; `rows`: its first ones as the task sees them, when looked at."""

    source: Source
    rows: list[dict[str, Any]]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": True, "source": unexpanded(self.source), "rows": self.rows, "warnings": self.warnings}


def add(folder: TaskFolder, settings: dict[str, Any], *, check: bool = True) -> Added:
    """Append a source. `settings` are its keys as in data_source.yaml; a `path` may also be one from here.

    Raises:
        Usage: the name is taken, or a mapping names no field of the task.
        Invalid: wrong settings; with `check`, also a missing file, a failing query or a missing column.
        Unavailable: with `check`, a database that cannot be reached.
    """
    with writing(folder):
        data, position = _existing(folder, settings.get("name"))
        entry = {key: value for key, value in settings.items() if value not in (None, {})}
        if "path" in entry:
            entry["path"] = _from_task(folder, entry["path"])
        _check_mapping(folder, entry.get("mapping", {}))
        whole = {**data, "sources": [*(data.get("sources") or []), entry]}
        source = DataSource.check(whole, folder.sources_path, {}).sources[-1]
        rows = first_rows(folder, source, PREVIEW_ROWS) if check else []
        _append(folder, position, {"name": source.name, **entry})
        digest.write(folder)
    return Added(source, rows, sources.warnings(source))


def first_rows(folder: TaskFolder, source: Source, count: int) -> list[dict[str, Any]]:
    """The first rows of a source under the task's field names, straight from where it comes from.

    Raises:
        Invalid, Unavailable: as `sources.fetch`.
    """
    stream = sources.fetch(source, sources.Fetching(folder, preview=True))
    with contextlib.closing(stream):
        return preview(source, folder.task(), islice(stream, count))


def named(folder: TaskFolder, name: str | None) -> Source:
    """A source by name, or the only one there is.

    Raises:
        Usage: no such source, or several and none named.
        Invalid: there are none.
    """
    found = {str(source.name): source for source in folder.sources().sources}
    if not found:
        raise Invalid(_("the task has no data source"), file=folder.sources_path, mend="nlp-skills data-source add")
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None or name not in found:
        message = _("which source?") if name is None else _("no source is called {name}", name=name)
        raise Usage(message, mend=_("sources here: {names}", names=", ".join(found)))
    return found[name]


def entries(folder: TaskFolder) -> list[dict[str, Any]]:
    """Each source with its type, where it comes from, and what was last fetched of it."""
    return [_entry(folder, source) for source in folder.sources().sources]


def _entry(folder: TaskFolder, source: Source) -> dict[str, Any]:
    settings = unexpanded(source)
    places = (settings.get(key) for key in ("path", "connection", "host", "database", "endpoint", "model"))
    record = _record(folder, source)
    return {
        "name": source.name,
        "type": source.type,
        "from": next((str(place) for place in places if place), ", ".join(settings.get("urls", []))),
        "rows": record.get("rows"),
        "fetched": record.get("fetched"),
    }


def _record(folder: TaskFolder, source: Source) -> dict[str, Any]:
    with contextlib.suppress(Invalid):
        record = files.read_json(folder.raw / f"{source.name}.source.json")
        if isinstance(record, dict):
            return record
    return {}


def shown_row(row: dict[str, Any]) -> dict[str, str]:
    """A row for people: every value on one line, escaped and cut."""
    return {lines.shown_name(name): lines.shown(value) for name, value in row.items() if name != "_source"}


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
            mend=_("give another --name, or edit the file"),
        )
    return data, len(config.sources)


def _from_task(folder: TaskFolder, path: str) -> str:
    """The path as data_source.yaml wants it: a file that is only there seen from here is named from the task."""
    given = Path(path)
    if given.is_absolute() or (folder.root / given).exists() or not given.exists():
        return path
    found = given.resolve()
    return str(found.relative_to(folder.root) if found.is_relative_to(folder.root) else found)


def _check_mapping(folder: TaskFolder, mapping: dict[str, str]) -> None:
    task = folder.task()
    fields = [*task.input_fields, *task.output_fields]
    wrong = next((name for name in mapping if name not in fields), None)
    if wrong is not None:
        near = difflib.get_close_matches(wrong, fields, n=1)
        known = _("fields: {names}", names=", ".join(fields))
        mend = _("did you mean {name}?", name=near[0]) if near else _("write --mapping FIELD=COLUMN")
        raise Usage(_("the task has no field {name}", name=wrong), cause=known, mend=mend)


def _append(folder: TaskFolder, position: int, entry: dict[str, Any]) -> None:
    ordered = {"type": entry.pop("type"), **entry}
    # An empty list is replaced as a whole: written as [], it would take the new entry in brackets too.
    change: dict[tuple[str | int, ...], Any] = {("sources", position): ordered}
    yaml.change(folder.sources_path, change if position else {("sources",): [ordered]})
