"""Which metric decides, where task.yaml names one and where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_skills.schema.task import Task

LABEL = {"label": {"type": "string", "enum": ["a", "b"]}}
ENTITIES = {"entities": {"type": "array", "items": {"properties": {"text": {}, "type": {}}}}}
RELATIONS = {"relations": {"type": "array", "items": {"properties": {"head": {}, "type": {}, "tail": {}}}}}
FIELDS = {"name": {"type": "string"}, "sum": {"type": "number"}}


@pytest.mark.parametrize(
    ("task_type", "schema", "left_out", "macro"),
    [
        ("classification", LABEL, "macro_f1", "macro_f1"),
        ("extraction", ENTITIES, "entity_f1", "macro_f1"),
        ("extraction", RELATIONS, "relation_f1", "relation_f1"),
        ("extraction", FIELDS, "field_f1", "field_f1"),
        ("generation", {"reply": {"type": "string"}}, "chrf", "chrf"),
    ],
)
def test_a_task_is_judged_by_what_its_kind_has(task_type: str, schema: Any, left_out: str, macro: str) -> None:
    def metric(criteria: dict[str, str]) -> str:
        output = {"type": "json", "schema": schema}
        said = {"task_name": "t", "task_type": task_type, "input_template": "{text}", "output_format": output}
        return Task.model_validate({**said, "success_criteria": criteria}).metric

    assert metric({}) == left_out
    assert metric({"primary_metric": "macro_f1"}) == macro
    assert metric({"primary_metric": "bleu"}) == "bleu"
