"""data/raw/NAME.jsonl, a source's rows as it gave them, and NAME.source.json, what is known of them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import lock_file, sources
from nlp_skills.data import rows as lines
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.workspace.folder import TaskFolder

_NOTE_ROWS = 1000


@dataclass(frozen=True)
class Record:
    """What was noted when a source was fetched. `inputs` is None in a record of the first release, which knew none.

    `settings` are as written; `did` is the source's own account; `fetched` is ISO 8601.
    """

    settings: dict[str, Any]
    rows: int
    sha256: str
    fetched: str
    code_version: int = 1
    inputs: dict[str, str] | None = None
    did: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """Rows that a person has yet to look at."""
        return int(self.did.get("waiting") or 0)

    def as_dict(self, name: str) -> dict[str, Any]:
        """As the file has it."""
        return {
            "name": name,
            "type": self.settings["type"],
            "settings": self.settings,
            "settings_hash": lock_file.hashed(lock_file.fetch_settings(self.settings)),
            "code_version": self.code_version,
            "inputs": self.inputs or {},
            "rows": self.rows,
            "sha256": self.sha256,
            "fetched": self.fetched,
            "record": self.did,
            "warnings": self.warnings,
        }


def raw_path(folder: TaskFolder, source: Source | str) -> Path:
    """data/raw/NAME.jsonl: the source's rows as it gave them."""
    return folder.raw / f"{_name(source)}.jsonl"


def record_path(folder: TaskFolder, source: Source | str) -> Path:
    """data/raw/NAME.source.json."""
    return folder.raw / f"{_name(source)}.source.json"


def record(folder: TaskFolder, source: Source | str) -> Record | None:
    """What is noted of a source; None where nothing is, or nothing that can be read."""
    try:
        found = files.read_json(record_path(folder, source))
        return Record(
            settings={**found["settings"], "type": found["settings"].get("type", found["type"])},
            rows=int(found["rows"]),
            sha256=str(found["sha256"]),
            fetched=str(found["fetched"]),
            code_version=int(found.get("code_version", 1)),
            inputs=dict(found["inputs"]) if "inputs" in found else None,
            did=dict(found.get("record") or {}),
            warnings=[str(text) for text in found.get("warnings") or []],
        )
    except (Invalid, KeyError, TypeError, ValueError, AttributeError):
        return None


def fetch(
    source: Source,
    folder: TaskFolder,
    *,
    refresh: bool,
    note: Callable[[str], None],
    tell: Callable[[str], None],
) -> Record:
    """Fetch a source into its raw file, streamed, and note what was done.

    A fetch that gave what was there already keeps the earlier note, unless the origin was asked anew.

    Raises:
        Invalid: the source's content is wrong, or it gave no rows; its earlier raw file is left as it was.
        Unavailable: a server, a package or the disk fails.
    """
    fetching = sources.Fetching(folder, refresh=refresh, note=note, tell=tell)
    inputs = _inputs(source, folder)
    try:
        count, digest = _stream(source, fetching)
    except Problem as problem:
        raise _named(problem, str(source.name)) from problem.__cause__
    made = Record(
        settings=unexpanded(source),
        rows=count,
        sha256=digest,
        fetched=files.now().isoformat(),
        code_version=sources.version(source),
        inputs=inputs,
        did=fetching.record,
        warnings=fetching.warnings,
    )
    earlier = record(folder, source)
    if earlier and not refresh and _same(earlier, made):
        return earlier
    files.write_json(record_path(folder, source), made.as_dict(str(source.name)))
    return made


def adopt(folder: TaskFolder, config: DataSource) -> list[tuple[str, str]]:
    """Give a renamed source the rows it had under its old name; (old, new) for each.

    A source counts as renamed when its own name has nothing yet and a name that is no longer used has the same
    settings. The record moves last, so that a kill in between leaves it to be found again.
    """
    renamed = []
    for source in config.sources:
        old = _old_name(folder, config, source)
        if old is None or record_path(folder, source).exists():
            continue
        name = str(source.name)
        for path in _files_of(folder, old):
            target = path.with_name(name + path.name.removeprefix(old))
            if path.is_file() and not target.exists():
                path.replace(target)
        renamed.append((old, name))
    return renamed


def _old_name(folder: TaskFolder, config: DataSource, source: Source) -> str | None:
    wanted = lock_file.fetch_settings(source)
    same = (old for old, found in leftovers(folder, config) if lock_file.fetch_settings(found.settings) == wanted)
    return next(same, None)


def leftovers(folder: TaskFolder, config: DataSource) -> Iterator[tuple[str, Record]]:
    """Sources that were fetched once and are no longer in data_source.yaml, by name."""
    names = {str(source.name) for source in config.sources}
    for path in sorted(folder.raw.glob("*.source.json")):
        name = path.name.removesuffix(".source.json")
        found = record(folder, name) if name not in names else None
        if found is not None:
            yield name, found


def _name(source: Source | str) -> str:
    return source if isinstance(source, str) else str(source.name)


def _inputs(source: Source, folder: TaskFolder) -> dict[str, str]:
    """What the source reads, before it is read: a file that changes meanwhile then counts as changed."""
    with contextlib.suppress(Problem):  # the fetch will say it better
        return sources.inputs(source, folder)
    return {}


def _stream(source: Source, fetching: sources.Fetching) -> tuple[int, str]:
    count, digest = 0, hashlib.sha256()
    with files.atomic_writer(raw_path(fetching.folder, source)) as stream:
        for count, row in enumerate(sources.fetch(source, fetching), 1):
            line = _line(row, count)
            digest.update(line)
            stream.write(line)
            if count % _NOTE_ROWS == 0:
                fetching.note(_("rows {rows}", rows=count))
        if not count and not fetching.record.get("waiting"):
            raise Invalid(_("source {name} gave no rows", name=str(source.name)))
    return count, f"sha256:{digest.hexdigest()}"


def _line(row: dict[str, Any], number: int) -> bytes:
    try:
        return lines.dump(row)
    except (ValueError, TypeError, RecursionError) as error:
        raise Invalid(
            _("a row cannot be written as JSON"),
            cause=_("row {number}: {reason}", number=number, reason=lines.cut(str(error), 200)),
            mend=_("leave the value out where the rows come from"),
        ) from error


def _named(problem: Problem, name: str) -> Problem:
    """The problem, saying which source has it."""
    if name not in f"{problem.message} {problem.cause}":
        source = _("source {name}", name=name)
        problem.cause = f"{source}: {problem.cause}" if problem.cause else source
    return problem


def _same(one: Record, other: Record) -> bool:
    """Whether two fetches gave the same rows by the same settings, code and files."""
    settings = lock_file.fetch_settings(one.settings) == lock_file.fetch_settings(other.settings)
    parts = ("code_version", "inputs", "rows", "sha256", "waiting")
    return settings and all(getattr(one, part) == getattr(other, part) for part in parts)


def _files_of(folder: TaskFolder, name: str) -> list[Path]:
    """Everything kept under a source's name, its record last."""
    review = folder.root / "data" / "review"
    kept = [*sorted(review.glob(f"{name}.*")), folder.raw / "recorded" / f"{name}.jsonl", raw_path(folder, name)]
    return [*kept, record_path(folder, name)]
