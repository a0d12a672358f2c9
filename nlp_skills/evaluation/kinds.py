"""What an answer is: one label, several, spans of the text, fields, or a text; and how answers of each are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlp_skills.data import entities
from nlp_skills.data.rows import label_key
from nlp_skills.schema.task import OutputFormat, TaskType
from nlp_skills.schema.version import Kind

_RELATION_ENDS = ({"head", "tail"}, {"subject", "object"})
_RELATION_NAMES = {"type", "relation", "predicate"}


def of(task_type: TaskType, output: OutputFormat) -> Kind:
    """The kind of a task's answers."""
    if task_type == "classification":
        return "labels" if output.multi_label else "label"
    parts = {name: part.model_dump() for name, part in output.schema_.items()}
    if task_type == "extraction":
        return "spans" if entities.field_of(parts) or relation_field(parts) else "fields"
    (first, *others) = parts.values()
    return "text" if not others and first["type"] == "string" else "fields"


def relation_field(output: Mapping[str, Any]) -> str | None:
    """The property that lists relations: an array of objects with a head, a tail and a type, however they call them."""
    for name, part in output.items():
        items = part.get("items") if part.get("type") == "array" else None
        known = set((items or {}).get("properties") or {})
        if known & _RELATION_NAMES and any(ends <= known for ends in _RELATION_ENDS):
            return name
    return None


def form(kind: Kind, output: OutputFormat, values: Mapping[str, Any]) -> Any:
    """An answer's properties in its kind's form: a label, a sorted list of labels, the properties, or a text.

    `values` may be a row of data: it has every property of the schema, and what else it has is left out.
    """
    if kind in ("spans", "fields"):
        return {name: values[name] for name in output.schema_}
    if kind == "text":
        return values[next(iter(output.schema_))]
    value = values[str(output.label_field)]
    return label_key(value) if kind == "label" else sorted({label_key(one) for one in value})
