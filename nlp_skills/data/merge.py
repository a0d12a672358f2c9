"""Rows of all sources under the task's own field names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.sources.settings import line_of
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import Source
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]
_MOST_PROBLEMS = 20
_RESERVED = ("_source", "_augmented")


class Merged(NamedTuple):
    """A good row as the task sees it: the number of its source, its line in the raw file, and itself as a line."""

    source: int
    line: int
    row: Row
    body: bytes


def merged(folder: TaskFolder, task: Task, raw: Sequence[tuple[Source, Path]]) -> Iterator[Merged]:
    """The rows of the raw files, renamed and checked, `_source` added; other columns come along.

    The files are read to their ends even when rows are wrong, so that the refusal names many of them.

    Raises:
        Invalid: a column is missing, a mapping is no expression, or rows do not fit the task; up to 20 of them
            are named by raw file and line.
    """
    shape = lines.Shape(task.input_fields, output_shape(task))
    problems: list[Problem] = []
    wrong = 0
    for place, (source, path) in enumerate(raw):
        mapping = _Mapping(source, task, folder)
        with open(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                row = mapping.row(_parsed(line, path, number), path, number)
                faults = [fault for fault in shape.faults(row) if fault[0] not in lines.REMARKS]
                body = b"" if faults else lines.dump(row)
                if len(body) - 1 > lines.MAX_LINE_BYTES:
                    faults = [("too_long_line", f"> {lines.MAX_LINE_BYTES} bytes")]
                if faults:
                    wrong += 1
                    problems += [_problem(fault, path, number) for fault in faults[: _MOST_PROBLEMS - len(problems)]]
                elif not wrong:
                    yield Merged(place, number, row, body)
    if problems:
        raise _refusal(problems, wrong)


def output_shape(task: Task) -> dict[str, dict[str, Any]]:
    """The answer's properties as `rows.check` takes them."""
    return {name: field.model_dump(exclude_none=True) for name, field in task.output_format.schema_.items()}


def preview(source: Source, task: Task, raw: Iterable[Row], folder: TaskFolder | None = None) -> list[Row]:
    """Raw rows of a source as the task will see them; with the `folder`, errors name lines of data_source.yaml.

    Raises:
        Invalid: a column the task needs is missing, or a mapping is no expression.
    """
    mapping = _Mapping(source, task, folder)
    return [mapping.row(row, None, number) for number, row in enumerate(raw, 1)]


class _Mapping:
    """One source's columns for the task's fields: exact names first, then JMESPath, compiled when first needed."""

    def __init__(self, source: Source, task: Task, folder: TaskFolder | None) -> None:
        self.source, self.task, self.folder = source, task, folder
        self.names = [*task.input_fields, *task.output_fields]
        self.paths: dict[str, Any] = {}

    def row(self, raw: Row, file: Path | None, number: int) -> Row:
        """A raw row renamed; `file` and `number` say where it stands.

        Raises:
            Invalid: a column is missing, or a mapping is no expression.
        """
        row: Row = {}
        taken = set(_RESERVED)
        for name in self.names:
            column = self._column(name, raw)
            if column in raw:
                value = raw[column]
                taken.add(column)
            else:
                value = self._found(name, column, raw)
                if value is None:
                    raise _missing(column, raw, self.source, file, number)
            row[name] = _typed(value, name, self.task)
        row.update({name: value for name, value in raw.items() if name not in taken and name not in row})
        row["_source"] = self.source.name
        return row

    def _column(self, name: str, raw: Row) -> str:
        if name in self.source.mapping:
            return self.source.mapping[name]
        only = [name] == self.task.output_fields and "label" not in self.task.input_fields
        return "label" if only and name not in raw and "label" in raw else name

    def _found(self, name: str, column: str, raw: Row) -> Any:
        """What the mapping's expression finds in a row; None where it finds nothing or there is no mapping."""
        if name not in self.source.mapping:
            return None
        import jmespath

        try:
            if name not in self.paths:
                self.paths[name] = jmespath.compile(column)
            return self.paths[name].search(raw)
        except jmespath.exceptions.JMESPathError as error:
            raise self._bad_path(name, column, raw, error) from error

    def _bad_path(self, name: str, column: str, raw: Row, error: Exception) -> Invalid:
        known = self.folder is not None and self.folder.sources_path.is_file()
        return Invalid(
            _("the mapping of {name} is neither a column nor a JMESPath: {path}", name=name, path=lines.shown(column)),
            file=self.folder.sources_path if self.folder and known else None,
            line=line_of(self.source, self.folder, "mapping") if self.folder and known else None,
            cause=_("{reason}; columns: {columns}", reason=_first_line(error), columns=_columns(raw)),
            mend=_(
                'write a column, or a path such as content.body or tags[0]; unusual names in quotes: "user name".text'
            ),
        )


def _first_line(error: Exception) -> str:
    return lines.cut(str(error).splitlines()[0].removesuffix(", for expression:"), 160)


def _parsed(line: bytes, path: Path, number: int) -> Row:
    """One row of a raw file; these are written by us, but hands reach everywhere."""
    try:
        row = lines.parse(line)
    except (ValueError, RecursionError) as error:
        code, detail = lines.parse_fault(error)
        raise _damaged(fault_words(code), detail, path, number) from error
    if not isinstance(row, dict):
        raise _damaged(fault_words("not_object"), lines.shown(row), path, number)
    return row


def _damaged(what: str, detail: str, path: Path, number: int) -> Invalid:
    return Invalid(what, file=path, line=number, cause=detail, mend="nlp-skills regenerate --refresh")


def _typed(value: Any, name: str, task: Task) -> Any:
    """CSV and many databases know only text: where the answer is a number, a list or so, text is read as JSON."""
    prop = task.output_format.schema_.get(name)
    if prop is None or prop.type == "string" or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _columns(raw: Row) -> str:
    return lines.cut(", ".join(lines.shown_name(name) for name in raw), 200)


def _missing(column: str, raw: Row, source: Source, path: Path | None, number: int) -> Invalid:
    return Invalid(
        _("source {name} has no column {column}", name=str(source.name), column=column),
        file=path,
        line=number if path else None,
        cause=_("its columns: {columns}", columns=_columns(raw)),
        mend=_("name the column in the source's mapping, such as mapping: {{{column}: COLUMN}}", column=column),
    )


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
