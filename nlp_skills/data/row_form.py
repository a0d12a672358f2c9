"""What one row of a task looks like, for whoever writes rows by hand or by model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task

Row = dict[str, Any]


class RowForm:
    """A task's row: its input fields, which are text, and the answer's properties.

    `fixed` names fields that must have a certain value, such as the label that a variation asks for.
    """

    def __init__(self, task: Task, fixed: Mapping[str, Any] | None = None) -> None:
        own = {name: {"type": "string", "minLength": 1} for name in task.input_fields}
        answer = {name: part.model_dump(exclude_none=True) for name, part in task.output_format.schema_.items()}
        self.inputs = list(own)
        self.properties: dict[str, dict[str, Any]] = {**own, **answer}
        for name, value in (fixed or {}).items():
            if name in self.properties:
                self.properties[name] = {**self.properties[name], "enum": [value]}

    @property
    def names(self) -> list[str]:
        """The fields of a row, in order."""
        return list(self.properties)

    def list_schema(self, count: int) -> dict[str, Any]:
        """The JSON Schema of `{"rows": [ … ]}` with `count` rows, closed as constrained decoding wants it."""
        row = _closed({"type": "object", "properties": self.properties})
        rows = {"type": "array", "items": row, "minItems": count, "maxItems": count}
        closed: dict[str, Any] = _closed({"type": "object", "properties": {"rows": rows}})
        return closed

    def clean(self, found: Mapping[str, Any]) -> Row:
        """The row's own fields, input without space around it; what else was written is left out."""
        row = {name: found[name] for name in self.properties if name in found}
        stripped = {name: row[name].strip() for name in self.inputs if isinstance(row.get(name), str)}
        return {**row, **stripped}

    def fault(self, row: Mapping[str, Any]) -> tuple[str, str] | None:
        """What is wrong with a row first of all: `unknown_label` or `wrong_shape`, and the detail; None: nothing."""
        from jsonschema.exceptions import best_match

        error = best_match(self._validator.iter_errors(dict(row)))
        if error is not None:
            unknown = error.validator == "enum" and len(error.path) == 1
            where = ".".join(str(step) for step in error.path)
            return "unknown_label" if unknown else "wrong_shape", lines.cut(
                f"{where}: {error.message}".strip(": "), 200
            )
        blank = next((name for name in self.inputs if row[name].isspace()), None)
        return ("wrong_shape", f"{lines.shown_name(blank)}: ''") if blank is not None else None

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        schema = {"type": "object", "properties": self.properties, "required": list(self.properties)}
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            where = ".".join(str(step) for step in list(error.path)[1:])
            raise Invalid(
                _("output_format.schema is not a JSON Schema"),
                cause=lines.cut(f"{where}: {error.message}", 200),
                mend=_("correct it in task.yaml"),
            ) from error
        return Draft202012Validator(schema)


def _closed(part: Any) -> Any:
    """A schema whose objects have their own properties only, all of them: strict servers want that said."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: value if key in ("enum", "const") else _closed(value) for key, value in part.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("required", list(closed["properties"]))
        closed.setdefault("additionalProperties", False)
    return closed
