"""Rows of files: one, or as many as a glob finds; text, Parquet or workbooks, packed or not."""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from nlp_skills.data.sources import Fetching, opened, table_files, text_files
from nlp_skills.data.sources.formats import File
from nlp_skills.data.sources.settings import filled, line_of
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.source import FileImport
from nlp_skills.workspace import digests
from nlp_skills.workspace.folder import TaskFolder

VERSION = 2

_READERS: dict[str, Callable[[File], Iterator[dict[str, Any]]]] = {
    "csv": text_files.separated,
    "tsv": text_files.separated,
    "json": text_files.json_rows,
    "jsonl": text_files.jsonl,
    "parquet": table_files.parquet,
    "xlsx": table_files.xlsx,
}


def fetch(source: FileImport, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The files' rows, file by file in the order of their names. All wrong lines of one (up to 20) are one problem.

    A file is read as a stream, but for JSON, which is held in memory.

    Raises:
        Invalid: a file is missing, empty, not of its format or not in its encoding; a glob finds none.
        Usage: a file's format is not known.
        Unavailable: the extra for this format is not installed.
    """
    found, _secrets = filled(source, fetching.folder)
    paths = _paths(found, fetching.folder)
    done = fetching.record.setdefault("files", [])
    total = 0
    for name, path in paths:
        file = File(path, name, found, fetching.folder, whole=not fetching.preview)
        count = 0
        for row in _rows(file):
            if not count:
                # What is known by the first row, a preview that stops there knows too.
                _tell(file, fetching)
            count += 1
            yield row
        if not count:
            _tell(file, fetching)
            if len(paths) > 1:
                fetching.warnings.append(_("{path} has no rows", path=name))
        done.append({"path": name, "format": file.format, **file.record, "rows": count})
        total += count
        if len(paths) > 1:
            fetching.note(_("files {done} of {total}", done=len(done), total=len(paths)))
    if not total:
        raise Invalid(
            _("the file has no rows") if len(paths) == 1 else _("none of the files has rows"),
            file=paths[0][1],
            mend=_("fill it, or remove the source"),
        )


def inputs(source: FileImport, folder: TaskFolder) -> dict[str, str]:
    """Every file the source reads, by its path from the task folder; those that are not there are left out.

    Raises:
        Invalid: a variable in the path is not set.
    """
    found, _secrets = filled(source, folder)
    paths = {name: path for name, path in _matches(found, folder) if path.is_file()}
    hashes = digests.of(folder, paths.values())
    return {name: hashes[path] for name, path in paths.items() if path in hashes}


def _tell(file: File, fetching: Fetching) -> None:
    fetching.warnings += file.warnings
    file.warnings = []


def _rows(file: File) -> Iterator[dict[str, Any]]:
    try:
        yield from _READERS[file.format](file)
    except UnicodeError as error:
        raise file.undecodable(error) from error
    except opened.DAMAGED as error:
        raise _unreadable(file.path, _("the compressed file is damaged or was cut off")) from error
    except OSError as error:
        raise _unreadable(file.path, error.strerror or str(error)) from error


def _unreadable(path: Path, cause: str) -> Invalid:
    return Invalid(
        _("the file cannot be read"),
        file=path,
        cause=cause,
        mend=_("fetch or copy it again, and look at its permissions and its name"),
    )


def _matches(source: FileImport, folder: TaskFolder) -> list[tuple[str, Path]]:
    """Names and paths, in the order of the names; a file that has `*` in its very name is one file."""
    if not glob.has_magic(source.path) or (folder.root / source.path).exists():
        return [(source.path, folder.root / source.path)]
    # Path.glob takes no absolute pattern.
    names = glob.glob(source.path, root_dir=folder.root, recursive=True)  # noqa: PTH207
    return [(name, folder.root / name) for name in sorted(set(names)) if not (folder.root / name).is_dir()]


def _paths(source: FileImport, folder: TaskFolder) -> list[tuple[str, Path]]:
    found = _matches(source, folder)
    if not found:
        raise Invalid(
            _("no file matches {pattern}", pattern=source.path),
            file=folder.sources_path,
            line=line_of(source, folder, "path"),
            cause=_("a relative path starts at the task folder"),
            mend=_("put the files there, or correct path: in data_source.yaml"),
        )
    _check(found[0][1], source)
    return found


def _check(path: Path, source: FileImport) -> None:
    if path.is_dir():
        raise Invalid(
            _("this is a folder, not a file"),
            file=path,
            cause=_("source {name} reads this file", name=str(source.name)),
            mend=_("name its files, such as path: {pattern}", pattern=f"{source.path.rstrip('/')}/*.csv"),
        )
    if not path.is_file():
        raise Invalid(
            _("file not found"),
            file=path,
            cause=_("source {name} reads this file", name=str(source.name)),
            mend=_("put the file there, or correct path: in data_source.yaml"),
        )
