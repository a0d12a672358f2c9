"""How answers of each kind are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlp_skills.data.rows import label_key
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import OutputFormat


def of(kind: Kind, output: OutputFormat, values: Mapping[str, Any]) -> Any:
    """An answer's properties in its kind's form: a label, a sorted list of labels, the properties, or a text.

    `values` may be a row of data: it has every property of the schema, and what else it has is left out.
    """
    if kind in ("spans", "fields"):
        return {name: values[name] for name in output.schema_}
    if kind == "text":
        return values[next(iter(output.schema_))]
    value = values[str(output.label_field)]
    return label_key(value) if kind == "label" else sorted({label_key(one) for one in value})
