"""What an answer is, by a task's type and schema: one label, several, spans of the text, fields, or a text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from nlp_skills.schema.task import OutputFormat, TaskType

Kind = Literal["label", "labels", "spans", "fields", "text"]

_RELATION_ENDS = ({"head", "tail"}, {"subject", "object"})
_RELATION_NAMES = {"type", "relation", "predicate"}


def of(task_type: TaskType, output: OutputFormat) -> Kind:
    """The kind of a task's answers."""
    if task_type == "classification":
        return "labels" if output.multi_label else "label"
    parts = {name: part.model_dump() for name, part in output.schema_.items()}
    if task_type == "extraction":
        return "spans" if entity_field(parts) or relation_field(parts) else "fields"
    (first, *others) = parts.values()
    return "text" if not others and first["type"] == "string" else "fields"


def usual_metric(task_type: TaskType, output: OutputFormat) -> str:
    """What a task of this kind is judged by that chose nothing."""
    kind = of(task_type, output)
    if kind == "spans":
        parts = {name: part.model_dump() for name, part in output.schema_.items()}
        return "entity_f1" if entity_field(parts) else "relation_f1"
    return {"fields": "field_f1", "text": "chrf"}.get(kind, "macro_f1")


def entity_field(output: Mapping[str, Any]) -> str | None:
    """The property that lists entities, an array of objects with a `text`; as `data.entities`, which hooks read."""
    return next((name for name, part in output.items() if "text" in _listed(part)), None)


def relation_field(output: Mapping[str, Any]) -> str | None:
    """The property that lists relations: an array of objects with a head, a tail and a type, however they call them."""
    for name, part in output.items():
        known = _listed(part)
        if known & _RELATION_NAMES and any(ends <= known for ends in _RELATION_ENDS):
            return name
    return None


def _listed(part: Mapping[str, Any]) -> set[str]:
    """The properties of the objects in an array; none of anything else."""
    items = part.get("items") if part.get("type") == "array" else None
    return set((items or {}).get("properties") or {})
