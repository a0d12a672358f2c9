"""Rows of all sources under the task's own field names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import Source
from nlp_skills.schema.task import Task

Row = dict[str, Any]
_MOST_PROBLEMS = 20


def merge(task: Task, sources: list[tuple[Source, Path]]) -> list[Row]:
    """The rows of the raw files, renamed and checked, `_source` added; other columns come along.

    Raises:
        Invalid: a column is missing, or rows do not fit the task; up to 20 of them are named by raw file and line.
    """
    shape = lines.Shape(task.input_fields, output_shape(task))
    merged: list[Row] = []
    problems: list[Problem] = []
    wrong = 0
    for source, path in sources:
        for number, raw in enumerate(lines.read(path), 1):
            row = _renamed(raw, source, task, path, number)
            faults = shape.faults(row) + _too_long(row)
            wrong += bool(faults)
            problems += [_problem(fault, path, number) for fault in faults[: _MOST_PROBLEMS - len(problems)]]
            merged.append(row)
    if problems:
        raise _refusal(problems, wrong)
    return merged


def output_shape(task: Task) -> dict[str, dict[str, Any]]:
    """The answer's properties as `rows.check` takes them."""
    return {name: field.model_dump(exclude_none=True) for name, field in task.output_format.schema_.items()}


def preview(source: Source, task: Task, raw: Iterable[Row]) -> list[Row]:
    """Raw rows of a source as the task will see them.

    Raises:
        Invalid: a column the task needs is missing.
    """
    return [_renamed(row, source, task, None, number) for number, row in enumerate(raw, 1)]


def _renamed(raw: Row, source: Source, task: Task, path: Path | None, number: int) -> Row:
    names = [*task.input_fields, *task.output_fields]
    columns = {name: _column(name, raw, source, task) for name in names}
    missing = [column for column in columns.values() if column not in raw]
    if missing:
        raise _missing(missing[0], raw, source, path, number)
    taken = set(columns.values())
    row = {name: _typed(raw[column], name, task) for name, column in columns.items()}
    row.update({name: value for name, value in raw.items() if name not in taken and name not in row})
    return {**row, "_source": source.name}


def _column(name: str, raw: Row, source: Source, task: Task) -> str:
    if name in source.mapping:
        return source.mapping[name]
    if name not in raw and [name] == task.output_fields and "label" in raw and "label" not in task.input_fields:
        return "label"
    return name


def _typed(value: Any, name: str, task: Task) -> Any:
    """CSV and many databases know only text: where the answer is a number, a list or so, text is read as JSON."""
    prop = task.output_format.schema_.get(name)
    if prop is None or prop.type == "string" or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _missing(column: str, raw: Row, source: Source, path: Path | None, number: int) -> Invalid:
    return Invalid(
        _("source {name} has no column {column}", name=str(source.name), column=column),
        file=path,
        line=number if path else None,
        cause=_("its columns: {columns}", columns=lines.cut(", ".join(lines.shown_name(name) for name in raw), 200)),
        mend=_("name the column in the source's mapping, such as mapping: {{{column}: COLUMN}}", column=column),
    )


def _too_long(row: Row) -> list[lines.Fault]:
    if sum(len(value) for value in row.values() if isinstance(value, str)) * 4 <= lines.MAX_LINE_BYTES:
        return []
    size = len(lines.dump(row))
    return [("too_long_line", f"> {lines.MAX_LINE_BYTES} bytes")] if size > lines.MAX_LINE_BYTES else []


def _problem(fault: lines.Fault, path: Path, number: int) -> Invalid:
    code, detail = fault
    return Invalid(fault_words(code), file=path, line=number, cause=detail)


def _refusal(problems: list[Problem], wrong: int) -> Problem:
    first, *others = problems
    first.mend = _(
        "correct these rows where they come from, or leave them out in the query; wrong rows: {count}", count=wrong
    )
    first.also = others
    return first
