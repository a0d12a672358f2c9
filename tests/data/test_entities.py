"""Entities must stand in the text, where they say they stand, and once."""

from __future__ import annotations

from typing import Any

import pytest

from nlp_skills.data import answers, entities
from nlp_skills.data.rows import Shape
from nlp_skills.errors import Invalid
from nlp_skills.schema.task import Task

TEXT = "王小明去台北，又回台北。"
ITEM = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "type": {"enum": ["PER", "LOC"]},
        "start": {"type": "integer"},
        "end": {"type": "integer"},
    },
    "required": ["text", "type"],
}


def task(**items: Any) -> Task:
    return Task.model_validate(
        {
            "task_name": "ner",
            "task_type": "extraction",
            "input_template": "{title}\n{text}",
            "output_format": {"schema": {"note": {}, "entities": {"type": "array", "items": items or ITEM}}},
        }
    )


def found(*listed: Any) -> list[tuple[str, str]]:
    row = {"title": "行程", "text": TEXT, "note": "", "entities": list(listed)}
    return entities.misplaced(row, task())


def entity(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "type": "LOC", **more}


def test_the_property_that_lists_entities() -> None:
    assert entities.entity_field(task()) == "entities"
    assert entities.entity_field(task(type="string")) is None
    assert entities.misplaced({"title": "", "text": "", "note": "", "entities": ["x"]}, task(type="string")) == []


def test_right_entities_are_right_with_offsets_and_without() -> None:
    assert found(entity("台北", start=4, end=6), entity("台北", start=9, end=11), entity("行程", start=0)) == []
    assert found(entity("台北"), entity("台北"), entity("王小明", type="PER", end=3)) == []
    assert found(entity("台北", start=None, end=None)) == []


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        (entity("高雄"), ("entity_missing", "'高雄'")),
        (entity("台北", start=3, end=5), ("entity_offset", "'台北': start 3, end 5 → start 4, end 6")),
        (entity("台北", start=8, end=10), ("entity_offset", "'台北': start 8, end 10 → start 9, end 11")),
        (entity("台北", start=4, end=5), ("entity_offset", "'台北': start 4, end 5 → start 4, end 6")),
        (entity("台北", end=99), ("entity_offset", "'台北': end 99 → start 4, end 6")),
        (entity("台北", start=-8), ("entity_offset", "'台北': start -8 → start 4, end 6")),
        (entity("台北", start=True), ("entity_offset", "'台北': start true → start 4, end 6")),
        (entity("台北", start="4"), ("entity_offset", "'台北': start '4' → start 4, end 6")),
        (entity(" "), ("entity_shape", "object (2)")),
        ({"type": "LOC"}, ("entity_shape", "object (1)")),
        ("台北", ("entity_shape", "'台北'")),
    ],
)
def test_each_way_to_be_wrong(listed: Any, fault: tuple[str, str]) -> None:
    assert found(listed) == [fault]


def test_entities_listed_again_or_overlapping_are_remarks() -> None:
    twice = entity("台北", start=4, end=6)
    assert found(twice, twice) == [("entity_repeated", "'台北': start 4")]
    assert found(entity("台北"), entity("台北"), entity("台北")) == [("entity_repeated", "'台北'")]
    assert found(entity("去台北", start=3, end=6), twice) == [("entity_repeated", "'台北': start 4")]
    assert found(entity("去台北", type="PER", start=3, end=6), twice) == []


def test_a_row_is_bad_by_its_faults_and_not_by_its_remarks(tmp_path: Any) -> None:
    import json

    from nlp_skills.data import rows
    from nlp_skills.data.merge import output_shape

    twice = entity("台北", start=4, end=6)
    lists = [[twice], [twice, twice], [entity("高雄")]]
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"title": "行程", "text": TEXT, "note": "", "entities": listed}) for listed in lists]
    path.write_text("\n".join(lines), encoding="utf-8")
    output = output_shape(task())
    report = rows.check(path, ["title", "text"], output, also=entities.checker(["title", "text"], output))
    assert report["codes"] == {"entity_repeated": 1, "entity_missing": 1}
    assert (report["bad"], report["rows"]) == (1, 3)
    assert [fault["line"] for fault in report["faults"]] == [2, 3]


def test_many_entities_in_a_long_text_are_looked_up_in_reasonable_time() -> None:
    import time

    text = "台北" * 100_000
    row = {"title": "x", "text": text, "note": "", "entities": [entity("台北", start=1)] * 200}
    started = time.process_time()
    assert len(entities.misplaced(row, task())) == 200
    assert time.process_time() - started < 2


def schema_faults(answer: Any, **prop: Any) -> list[tuple[str, str]]:
    made = Task.model_validate(
        {
            "task_name": "x",
            "task_type": "extraction",
            "input_template": "{text}",
            "output_format": {"schema": {"a": prop}},
        }
    )
    check = answers.checker(made.output_format)
    assert check is not None
    return check({"text": "x", "a": answer})


@pytest.mark.parametrize(
    ("answer", "prop", "detail"),
    [
        ([{"text": "x", "type": "ORG"}], {"type": "array", "items": ITEM}, "/a/0/type = 'ORG': enum"),
        ([{"text": "x"}], {"type": "array", "items": ITEM}, "/a/0: required type"),
        ([{"text": 3, "type": "LOC"}], {"type": "array", "items": ITEM}, "/a/0/text = 3: type string"),
        ("2024-1", {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}, "/a = '2024-1': pattern ^[0-9]{4}-[0-9]{2}$"),
        (11, {"type": "integer", "maximum": 10}, "/a = 11: maximum 10"),
        ([], {"type": "array", "items": {"enum": ["p", "q"]}, "minItems": 1}, "/a = array (0): minItems 1"),
        (
            {"k/~\u202e": 1},
            {"type": "object", "additionalProperties": {"type": "string"}},
            "/a/'k~1~0\\u202e' = 1: type string",
        ),
    ],
)
def test_answers_are_held_against_the_whole_schema(answer: Any, prop: dict[str, Any], detail: str) -> None:
    assert schema_faults(answer, **prop) == [("off_schema", detail)]


@pytest.mark.parametrize(
    "prop",
    [
        {"type": "string", "enum": ["a", "b"], "description": "what"},
        {"type": "number"},
        {"type": "array"},
        {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
    ],
)
def test_what_the_check_of_rows_covers_is_not_checked_twice(prop: dict[str, Any]) -> None:
    output = Task.model_validate(
        {
            "task_name": "x",
            "task_type": "extraction",
            "input_template": "{text}",
            "output_format": {"schema": {"a": prop}},
        }
    ).output_format
    assert answers.checker(output) is None
    wrong = {"text": "x", "a": ["c"] if prop["type"] == "array" else {}}
    shape = Shape(["text"], {"a": prop})
    assert bool(shape.faults(wrong)) == (prop != {"type": "array"})


def test_a_schema_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(Invalid, match="not a JSON Schema") as refused:
        schema_faults([], type="array", items={"type": "strin"})
    assert refused.value.cause is not None
    assert refused.value.cause.startswith("/a/items/type:")
