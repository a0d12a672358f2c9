"""Rows of Parquet files and of Excel workbooks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.sources import cells, opened
from nlp_skills.data.sources.formats import File, check_header
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

_BATCH = 1000
_Numbered = tuple[int, list[Any]]


def parquet(file: File) -> Iterator[dict[str, Any]]:
    """The rows, a batch at a time.

    Raises:
        Invalid: not a Parquet file, or a value that JSON cannot hold.
        Unavailable: the extra is not installed.
    """
    _not_packed(file)
    extras.need("files", "pyarrow")
    import pyarrow
    from pyarrow import parquet as pq

    try:
        with pq.ParquetFile(str(file.path)) as table:
            check_header(table.schema_arrow.names, file, 1)
            number = 0
            for batch in table.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield _plain_row(values, number, file)
    except pyarrow.ArrowException as error:
        raise _not_of_format(file, str(error)) from error


def xlsx(file: File) -> Iterator[dict[str, Any]]:
    """The rows of one sheet under the names in its first row that is not blank; blank rows are passed over.

    Raises:
        Invalid: not a workbook, no such sheet, a header with a gap or a name twice.
        Unavailable: the extra is not installed.
    """
    _not_packed(file)
    extras.need("files", "python_calamine")
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError

    try:
        with CalamineWorkbook.from_path(str(file.path)) as book:
            yield from _sheet_rows(_sheet(book, file), file)
    except PasswordError as error:
        raise _not_of_format(file, _("it is protected by a password; save it without")) from error
    except CalamineError as error:
        raise _not_of_format(file, str(error)) from error


def _sheet(book: CalamineWorkbook, file: File) -> CalamineSheet:
    wanted, names = file.source.sheet, book.sheet_names
    name = names[wanted - 1] if isinstance(wanted, int) and 1 <= wanted <= len(names) else wanted
    if isinstance(wanted, str) and wanted not in names and wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        name = names[int(wanted) - 1]
    if wanted is None:
        name = _only_sheet(names, file)
    if not isinstance(name, str) or name not in names:
        raise file.wrong_setting(
            "sheet",
            _("{path} has no sheet {name}", path=file.name, name=str(wanted)),
            cause=_("its sheets: {names}", names=lines.cut(", ".join(names), 200)),
            mend=_("name one of them, or give its number, from 1"),
        )
    file.record["sheet"] = name
    return book.get_sheet_by_name(name)


def _only_sheet(names: list[str], file: File) -> str | None:
    if len(names) > 1:
        shown = lines.cut(", ".join(names), 200)
        file.warnings.append(
            _("{path} has several sheets ({names}); the first was read; say sheet:", path=file.name, names=shown)
        )
    return names[0] if names else None


def _sheet_rows(sheet: CalamineSheet, file: File) -> Iterator[dict[str, Any]]:
    rows: Iterator[_Numbered] = dropwhile(lambda entry: _blank(entry[1]), enumerate(sheet.iter_rows(), 1))
    at, first = next(rows, (1, []))
    header = ["" if value == "" else str(cells.plain(_whole(value))) for value in first]
    check_header([name for name in header if name], file, at)
    for number, values in rows:
        if _blank(values):
            continue
        if extra := [value for name, value in zip(header, values, strict=True) if not name and value != ""]:
            cause = _("{value} stands under no column name", value=lines.shown(extra[0]))
            raise Invalid(
                _("the row does not fit the header"),
                file=file.path,
                line=number,
                cause=cause,
                mend=_("give every column a name in row {number} of the sheet", number=at),
            )
        row = {name: _whole(value) for name, value in zip(header, values, strict=True) if name}
        yield _plain_row({name: None if value == "" else value for name, value in row.items()}, number, file)


def _blank(values: list[Any]) -> bool:
    return all(value == "" or (isinstance(value, str) and value.isspace()) for value in values)


def _whole(value: Any) -> Any:
    """A workbook knows floating-point numbers only; people see 3, not 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _plain_row(values: dict[str, Any], number: int, file: File) -> dict[str, Any]:
    try:
        return {name: cells.plain(value) for name, value in values.items()}
    except ValueError as error:
        raise Invalid(
            _("the row cannot be written as JSON"),
            file=file.path,
            line=number,
            cause=str(error),
            mend=_("correct this row, or the column's type, in the file"),
        ) from error


def _not_packed(file: File) -> None:
    if opened.packed(file.path):
        raise _not_of_format(file, _("this format is compressed by itself; unpack the file first"))


def _not_of_format(file: File, cause: str) -> Invalid:
    return Invalid(
        _("this is no {format} file", format=file.format),
        file=file.path,
        cause=lines.cut(cause.strip().split("\n", 1)[0], 200),
        mend=_("give the format: that it has, or replace the file"),
    )
