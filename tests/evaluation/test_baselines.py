from __future__ import annotations

from typing import Any

import pytest
from conftest import reviews

from nlp_skills.errors import Invalid, Usage
from nlp_skills.evaluation import baselines
from nlp_skills.evaluation.baselines.fitted import Fitting
from nlp_skills.schema.task import Task


def test_words_that_decide_are_learnt_from_train_and_used_on_test() -> None:
    train, test = reviews(90), reviews(30, start=400)
    answers = baselines.answers(train, test, ["text"], "label", "en")
    assert answers[baselines.TFIDF] == [row["label"] for row in test]
    assert set(answers) == {baselines.MAJORITY, baselines.TFIDF}


def test_the_majority_is_of_the_training_rows_and_ties_are_settled_by_name() -> None:
    assert baselines.majority(["b", "a", "b"], 2) == ["b", "b"]
    assert baselines.majority(["b", "a"], 1) == ["a"]


CHINESE = [
    ("這家店的餐點非常好吃", "正面"),
    ("服務態度很差勁不會再來", "負面"),
    ("東西好吃價格便宜", "正面"),
    ("又慢又差勁真失望", "負面"),
]


def test_chinese_is_read_by_characters_though_it_has_no_spaces() -> None:
    train = [{"text": text, "label": label} for text, label in CHINESE]
    test = [{"text": "真的很差勁", "label": "負面"}, {"text": "非常好吃", "label": "正面"}]
    for language in ("zh-TW", "zh_Hant", None):
        answers = baselines.answers(train, test, ["text"], "label", language)
        assert answers[baselines.TFIDF] == ["負面", "正面"]


def test_the_script_decides_when_the_task_names_no_language() -> None:
    assert baselines.unspaced(None, ["好吃"]) and not baselines.unspaced(None, ["tasty 好"])
    assert not baselines.unspaced("en", ["好吃"])


def test_train_rows_of_one_class_only_still_give_an_answer() -> None:
    rows = [{"text": "x", "label": "a"}]
    assert baselines.answers(rows, rows, ["text"], "label")[baselines.TFIDF] == ["a"]


def test_a_text_without_a_single_letter_is_answered() -> None:
    train = [{"text": "!!!", "label": "a"}, {"text": "???", "label": "b"}]
    assert baselines.answers(train, train, ["text"], "label", "en")[baselines.TFIDF] == ["a", "b"]


def made(task_type: str, schema: dict[str, Any], **more: Any) -> Task:
    output = {"type": "json", "schema": schema}
    return Task.model_validate(
        {"task_name": "t", "task_type": task_type, "input_template": "{text}", "output_format": output, **more}
    )


TOPICS = made("classification", {"topics": {"type": "array", "items": {"type": "string", "enum": ["food", "price"]}}})
ENTITY = {"text": {"type": "string"}, "type": {"type": "string"}, "start": {"type": "integer"}}
ENTITIES = made(
    "extraction",
    {"entities": {"type": "array", "items": {"type": "object", "properties": ENTITY}}, "urgent": {"type": "boolean"}},
)
RELATION = {name: {"type": "string"} for name in ("head", "tail", "relation")}
RELATIONS = made("extraction", {"facts": {"type": "array", "items": {"type": "object", "properties": RELATION}}})
FIELDS = made("extraction", {"size": {"type": "string"}, "count": {"type": "integer"}})
TEXT = made("generation", {"answer": {"type": "string"}})


def fitting(task: Task, kind: Any, train: list[dict[str, Any]], *texts: str) -> Fitting:
    return Fitting(kind, task.output_format, ["text"], train, [{"text": text} for text in texts])


def test_several_labels_are_said_one_by_one_and_the_commonest_set_is_the_majority() -> None:
    rows = [
        {"text": f"{start} {words}", "topics": topics}
        for start in ("truly", "really", "quite")
        for words, topics in [
            ("tasty noodles", ["food"]),
            ("cheap bill", ["price"]),
            ("tasty noodles and a cheap bill", ["price", "food"]),
            ("the door was blue", []),
            ("noodles were tasty", ["food"]),
        ]
    ]
    fitted = fitting(TOPICS, "labels", rows, "cheap and tasty noodles", "a blue door", "such tasty noodles")
    assert fitted.answers(baselines.MAJORITY) == [["food"]] * 3
    assert fitted.answers(baselines.TFIDF) == [["food", "price"], [], ["food"]]


def test_a_label_that_every_training_row_has_is_always_given() -> None:
    rows = [{"text": "a", "topics": ["food"]}, {"text": "b", "topics": ["food", "price"]}]
    assert all("food" in given for given in fitting(TOPICS, "labels", rows, "c").answers(baselines.TFIDF))


def test_the_gazetteer_finds_what_train_names_with_its_commonest_type_and_place() -> None:
    def entity(text: str, name: str) -> dict[str, Any]:
        return {"text": text, "type": name, "start": 0}

    rows = [
        {"text": "Washington slept", "entities": [entity("Washington", "person")], "urgent": False},
        {"text": "Washington won", "entities": [entity("Washington", "person")], "urgent": False},
        {"text": "Washington is far", "entities": [entity("Washington", "place")], "urgent": True},
        {"text": "May was here", "entities": [entity("May", "person")], "urgent": False},
        *[{"text": f"May {day} was cold", "entities": [], "urgent": False} for day in range(3)],
    ]
    (given, nothing) = fitting(ENTITIES, "spans", rows, "So Washington and May met", "nobody").answers(
        baselines.GAZETTEER
    )
    assert given["entities"] == [{"text": "Washington", "type": "person", "start": 3}], "May is a month, mostly"
    assert given["urgent"] is False and nothing == {"entities": [], "urgent": False}


def test_no_word_is_taken_apart_and_chinese_names_are_found() -> None:
    rows = [
        {"text": "Ann is here", "entities": [{"text": "Ann", "type": "person"}], "urgent": False},
        {"text": "我在台北", "entities": [{"text": "台北", "type": "place"}], "urgent": False},
    ]
    given = fitting(ENTITIES, "spans", rows, "Anna came", "他住台北市").answers(baselines.GAZETTEER)
    assert [[one["text"] for one in row["entities"]] for row in given] == [[], ["台北"]]


def test_fields_have_the_commonest_value_of_each_or_the_likest_rows_whole_answer() -> None:
    rows = [
        {"text": "two large boxes", "size": "large", "count": 2},
        {"text": "one large bag", "size": "large", "count": 1},
        {"text": "one tiny ring", "size": "tiny", "count": 1},
    ]
    fitted = fitting(FIELDS, "fields", rows, "a tiny ring", "large boxes")
    assert fitted.answers(baselines.MAJORITY) == [{"size": "large", "count": 1}] * 2
    assert fitted.answers(baselines.NEAREST) == [{"size": "tiny", "count": 1}, {"size": "large", "count": 2}]


def test_a_text_is_answered_as_the_likest_training_row_in_words_or_in_chinese() -> None:
    rows = [{"text": "how do I pay?", "answer": "by card"}, {"text": "where are you?", "answer": "in Taipei"}]
    assert fitting(TEXT, "text", rows, "can I pay now?", "").answers(baselines.NEAREST) == ["by card", "by card"]
    chinese = [{"text": "怎麼付款", "answer": "刷卡"}, {"text": "地址在哪裡", "answer": "台北"}]
    assert fitting(TEXT, "text", chinese, "請問地址").answers(baselines.NEAREST) == ["台北"]


def test_each_kind_has_its_baselines_and_relations_alone_have_none_that_is_fitted() -> None:
    assert baselines.usual(TOPICS, "labels") == ("majority", "tfidf_logreg", "base_zero_shot")
    assert baselines.usual(ENTITIES, "spans") == ("gazetteer", "base_zero_shot")
    assert baselines.usual(RELATIONS, "spans") == ("base_zero_shot",)
    assert baselines.usual(FIELDS, "fields") == ("majority", "nearest", "base_zero_shot")
    assert baselines.usual(TEXT, "text") == ("nearest", "base_zero_shot")


def test_the_option_names_all_none_or_some() -> None:
    assert baselines.choose(None, TEXT, "text") == baselines.usual(TEXT, "text")
    assert baselines.choose("all", TEXT, "text") == ("nearest", "base_zero_shot", "base_few_shot")
    assert baselines.choose("none", TEXT, "text") == ()
    assert baselines.choose("base_few_shot, nearest", TEXT, "text") == ("nearest", "base_few_shot")
    with_endpoint = made("generation", {"answer": {"type": "string"}}, evaluation={"endpoint": {"model": "m"}})
    assert "endpoint" in baselines.choose("all", with_endpoint, "text")
    assert "endpoint" not in baselines.choose(None, with_endpoint, "text"), "it may cost money: only when named"
    assert "endpoint" in baselines.choose(None, TEXT, "text", endpoint=True)


@pytest.mark.parametrize(
    ("asked", "mend"), [("nearst", "nearest"), ("endpoint", "--base-url"), ("rules", "success_criteria"), ("x", "--b")]
)
def test_a_baseline_this_task_does_not_have_is_refused_with_what_to_do(asked: str, mend: str) -> None:
    with pytest.raises(Usage, match=asked) as refused:
        baselines.choose(asked, TEXT, "text")
    assert mend in str(refused.value.mend) and "base_few_shot" in str(refused.value.cause)


def test_a_rule_file_where_answers_are_no_labels_is_refused() -> None:
    task = made("generation", {"answer": {"type": "string"}}, success_criteria={"baseline": "rules.yaml"})
    with pytest.raises(Invalid, match="a rule gives a label"):
        baselines.choose(None, task, "text")
