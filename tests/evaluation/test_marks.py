"""Which metrics a task can be judged by, and what is said of a name that nobody computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import marks
from nlp_skills.schema.task import Task

ONE = {"label": {"type": "string", "enum": ["a", "b", "c"]}}
TWO = {"label": {"type": "string", "enum": ["a", "b"]}}
SEVERAL = {"label": {"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}}}
ENTITIES = {"entities": {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}}}
RELATIONS = {
    "links": {
        "type": "array",
        "items": {"type": "object", "properties": {"head": {}, "relation": {}, "tail": {}}},
    }
}
FIELDS = {"who": {"type": "string"}, "age": {"type": "integer"}}
TEXT = {"title": {"type": "string"}}


def task(kind: str, schema: dict[str, Any], **criteria: Any) -> Task:
    return Task.model_validate(
        {
            "task_name": "t",
            "task_type": kind,
            "input_template": "{text}",
            "output_format": {"type": "json", "schema": schema},
            "success_criteria": criteria,
        }
    )


@pytest.mark.parametrize(
    ("of", "schema", "kind", "judged_by"),
    [
        ("classification", ONE, "label", "macro_f1"),
        ("classification", SEVERAL, "labels", "macro_f1"),
        ("extraction", ENTITIES, "spans", "entity_f1"),
        ("extraction", RELATIONS, "spans", "relation_f1"),
        ("extraction", ENTITIES | RELATIONS, "spans", "entity_f1"),
        ("extraction", FIELDS, "fields", "field_f1"),
        ("generation", TEXT, "text", "chrf"),
        ("generation", FIELDS, "fields", "field_f1"),
    ],
)
def test_a_task_that_chose_nothing_is_judged_by_its_kinds_own_metric(
    of: str, schema: dict[str, Any], kind: str, judged_by: str, tmp_path: Path
) -> None:
    made = task(of, schema)
    assert (marks.kind(made), marks.primary(made)) == (kind, judged_by)
    assert marks.criteria(made).primary_metric == marks.selecting(made, tmp_path) == judged_by


@pytest.mark.parametrize(
    ("of", "schema", "name", "near"),
    [
        ("classification", ONE, "macro-f1", "macro_f1"),
        ("classification", ONE, "roc_auc", ""),
        ("classification", ONE, "ece", ""),
        ("generation", TEXT, "blue", "bleu"),
        ("extraction", ENTITIES, "entity_fl", "entity_f1"),
        ("extraction", ENTITIES, "relation_f1", ""),
        ("extraction", FIELDS, "fieldf1", "field_f1"),
    ],
)
def test_a_metric_that_such_a_task_does_not_have_is_refused_with_the_nearest(
    of: str, schema: dict[str, Any], name: str, near: str, tmp_path: Path
) -> None:
    for criteria in ({"primary_metric": name}, {"metrics": {name: 0.5}}):
        with pytest.raises(Invalid, match=f"the metric {name} is not one we compute") as refused:
            marks.criteria(task(of, schema, **criteria), tmp_path)
        assert f"{near} perhaps" in str(refused.value.mend) and next(iter(criteria)) in str(refused.value.mend)
        assert refused.value.file == str(tmp_path / "task.yaml")


def test_two_labels_have_areas_which_choose_no_epoch(tmp_path: Path) -> None:
    made = task("classification", TWO, primary_metric="roc_auc")
    assert marks.primary(made) == "roc_auc" and marks.selecting(made, tmp_path) == "macro_f1"


def test_a_metric_of_the_tasks_own_decides_but_chooses_no_epoch(tmp_path: Path) -> None:
    made = task("generation", TEXT, primary_metric="length", metrics={"parse_rate": 0.9})
    with pytest.raises(Invalid, match="length"):
        marks.primary(made, tmp_path)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "length.py").write_text("raise SystemExit('not to be run for its name alone')")
    assert marks.criteria(made, tmp_path).primary_metric == "length"
    assert marks.selecting(made, tmp_path) == "chrf"


def test_a_baseline_that_says_no_figure_is_refused() -> None:
    for named in ("rule_based_0.65", "65%", 0.65, "rules.yaml", None):
        assert marks.criteria(task("classification", ONE, baseline=named)).baseline == named
    with pytest.raises(Invalid, match="the baseline rules_v2 says no figure") as refused:
        marks.criteria(task("classification", ONE, baseline="rules_v2"))
    assert "rule_based_0.65" in str(refused.value.mend)


def test_a_class_that_is_none_may_not_lose_anything() -> None:
    assert marks.criteria(task("classification", ONE, max_regression={"a": 0.1, "*": 0.2}))
    with pytest.raises(Invalid, match="the class aa is none of the task") as refused:
        marks.criteria(task("classification", ONE, max_regression={"aa": 0.1}))
    assert "a perhaps" in str(refused.value.mend)
