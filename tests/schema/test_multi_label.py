"""Classification with several labels a row: the labels stand in the items of an array."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nlp_skills.data.merge import output_shape
from nlp_skills.data.render import Renderer
from nlp_skills.data.rows import Shape
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Training

TOPICS = {"type": "array", "items": {"type": "string", "enum": ["外觀", "價格", "物流"]}}


def task(**topics: Any) -> Task:
    return Task.model_validate(
        {
            "task_name": "aspects",
            "task_type": "classification",
            "input_template": "{text}",
            "output_format": {"type": "json", "schema": {"topics": topics or TOPICS}},
        }
    )


def test_the_labels_are_those_of_the_items() -> None:
    found = task()
    assert (found.label_field, found.labels, found.multi_label) == ("topics", ["外觀", "價格", "物流"], True)


def test_one_label_a_row_is_not_multi_label() -> None:
    found = task(type="string", enum=["a", "b"])
    assert (found.labels, found.multi_label) == (["a", "b"], False)


@pytest.mark.parametrize(
    ("topics", "words"),
    [
        ({"type": "array", "enum": ["a", "b"]}, "items"),
        ({"type": "array", "items": {"enum": ["a", "a"]}}, "a label stands twice"),
        ({"type": "array", "items": {"enum": []}}, "the list of labels is empty"),
        ({"type": "array", "items": {"enum": "a"}}, "enum is a list"),
        ({"type": "array", "items": {"enum": ["a", 3]}}, "labels are text"),
        ({"type": "array", "items": {"enum": ["a"]}}, "at least two labels"),
        ({"type": "array", "items": {"type": "string"}}, "needs a property with an enum"),
    ],
)
def test_what_cannot_be_a_list_of_labels_is_refused(topics: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        task(**topics)


def test_each_label_of_a_row_is_counted_and_checked() -> None:
    shape = Shape(["text"], output_shape(task()))
    for labels in (["外觀", "價格"], ["價格"], []):
        row = {"text": "好", "topics": labels}
        assert shape.faults(row) == []
        shape.count(row)
    assert shape.counts == {"外觀": 1, "價格": 2, "物流": 0}
    wrong: list[tuple[Any, str, str]] = [
        ("外觀", "wrong_type", "topics = '外觀'"),
        ([["外觀"]], "unknown_label", "topics = array (1)"),
        (["外觀", "服務"], "unknown_label", "topics = '服務'"),
        (["外觀", "外觀"], "repeated_label", "topics"),
        (["外觀"] * 300_000, "repeated_label", "topics"),
    ]
    for labels, code, detail in wrong:
        assert shape.faults({"text": "好", "topics": labels}) == [(code, detail)]


def test_a_list_of_labels_is_an_answer_like_any_other() -> None:
    renderer = Renderer.of(task(), Training(base_model="none/none"))
    row = {"text": "好", "topics": ["外觀", "物流"]}
    assert renderer.answer(row) == '{"topics": ["外觀", "物流"]}'
    assert renderer.parse(renderer.answer(row)) == {"topics": ["外觀", "物流"]}
    assert renderer.parse('{"topics": ["服務"]}') is None
