"""Answers against output_format.schema, where the check of the rows does not see everything it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nlp_skills.data.rows import brief, cut, shown_name
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputField, OutputFormat

Fault = tuple[str, str]

_SEEN = {"type", "enum", "title", "description", "default", "examples"}


def covered(field: OutputField) -> bool:
    """Whether `rows.check` checks all that this property's schema says."""
    said = set(field.model_dump(exclude_none=True)) - {"items"}
    if field.items is None:
        return said <= _SEEN
    return said <= _SEEN and set(field.items) <= _SEEN and bool(field.choices) and not _untyped(field.items)


def checker(output: OutputFormat) -> Callable[[dict[str, Any]], list[Fault]] | None:
    """What is wrong with a row's answer by JSON Schema, the place as a JSON pointer; None where rows.check says it.

    Raises:
        Invalid: the schema itself is none.
    """
    if all(covered(field) for field in output.schema_.values()):
        return None
    from jsonschema import Draft202012Validator, SchemaError

    schema = output.json_schema()
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise Invalid(
            _("output_format.schema is not a JSON Schema"),
            cause=cut(f"{_pointer(list(error.absolute_path)[1:])}: {error.message}", 200),
            mend=_("correct the property; the keywords are those of JSON Schema 2020-12"),
        ) from error
    validator = Draft202012Validator(schema)
    names = list(output.schema_)

    def faults(row: dict[str, Any]) -> list[Fault]:
        answer = {name: row[name] for name in names}
        return [("off_schema", _detail(error)) for error in validator.iter_errors(answer)]

    return faults


def _untyped(items: dict[str, Any]) -> bool:
    return items.get("type", "string") != "string" or not all(isinstance(label, str) for label in items["enum"])


def _detail(error: Any) -> str:
    """Where, by which rule and what stands there; texts of the row only in brief."""
    pointer = _pointer(error.absolute_path)
    rule = str(error.validator)
    if rule == "required":
        missing = next((name for name in error.validator_value if name not in error.instance), "")
        return cut(f"{pointer}: required {shown_name(str(missing))}", 120)
    wanted = error.validator_value
    if isinstance(wanted, (str, int, float)):
        rule = f"{rule} {wanted}"
    return cut(f"{pointer} = {brief(error.instance)}: {rule}", 120)


def _pointer(path: Iterable[str | int]) -> str:
    return "".join("/" + shown_name(str(step)).replace("~", "~0").replace("/", "~1") for step in path)
