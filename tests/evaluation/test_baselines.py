from __future__ import annotations

from conftest import reviews

from nlp_skills.evaluation import baselines


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
