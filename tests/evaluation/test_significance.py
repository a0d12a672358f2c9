from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from nlp_skills import errors, i18n
from nlp_skills.evaluation import significance

LABELS = ["a", "b", "c"]


def answers(rows: int, right: float, seed: int, start: int = 0) -> list[dict[str, Any]]:
    truth, draw = random.Random(1), random.Random(seed)
    gold = [truth.choice(LABELS) for _ in range(start + rows)][start:]
    return [
        {"key": f"k{start + i}", "gold": label, "predicted": label if draw.random() < right else draw.choice(LABELS)}
        for i, label in enumerate(gold)
    ]


def flip(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The same answers with `count` of the wrong ones put right."""
    wrong = [row["key"] for row in rows if row["gold"] != row["predicted"]][:count]
    return [{**row, "predicted": row["gold"]} if row["key"] in wrong else row for row in rows]


@pytest.mark.parametrize(
    ("fixed", "broken", "p"),
    [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (9, 2, 0.06543), (15, 4, 0.019211), (7, 7, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(fixed: int, broken: int, p: float) -> None:
    assert significance.mcnemar(fixed, broken) == pytest.approx(p, abs=1e-5)
    assert significance.mcnemar(broken, fixed) == significance.mcnemar(fixed, broken)


def test_a_clear_improvement_is_better_and_the_other_way_round_worse() -> None:
    a, b = answers(400, 0.5, 2), answers(400, 0.9, 3)
    result = significance.compare_rows(a, b)
    assert result["verdict"] == "better"
    assert result["macro_f1"]["interval"][0] > 0
    back = significance.compare_rows(b, a)
    assert back["verdict"] == "worse"
    assert back["fixed"] == result["broken"]
    assert back["macro_f1"]["difference"] == pytest.approx(-result["macro_f1"]["difference"])


def test_the_difference_is_scikit_learns_and_the_interval_that_of_resampled_rows() -> None:
    a, b = answers(200, 0.6, 2), answers(200, 0.7, 3)
    gold, of_a, of_b = (
        np.array([row[k] for row in rows]) for rows, k in ((a, "gold"), (a, "predicted"), (b, "predicted"))
    )
    macro = significance.compare_rows(a, b)["macro_f1"]
    assert macro["a"] == pytest.approx(f1_score(gold, of_a, average="macro"))
    assert macro["b"] == pytest.approx(f1_score(gold, of_b, average="macro"))
    draw = np.random.default_rng(0)
    differences = [
        f1_score(gold[at], of_b[at], average="macro") - f1_score(gold[at], of_a[at], average="macro")
        for at in (draw.integers(0, 200, 200) for _ in range(1000))
    ]
    assert macro["interval"] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.02)


def test_the_same_answers_cannot_be_told_apart() -> None:
    rows = answers(100, 0.7, 2)
    result = significance.compare_rows(rows, list(reversed(rows)))
    assert result["verdict"] == "cannot_tell"
    assert result["macro_f1"]["p"] == result["accuracy"]["p"] == 1
    assert result["macro_f1"]["difference"] == 0
    assert "+0.0" not in significance.sentence(result, "v1", "v2")


def test_five_rows_put_right_are_never_a_verdict_though_the_bootstrap_would_say_so() -> None:
    rows = answers(100, 0.7, 2)
    five, nine = (significance.compare_rows(rows, flip(rows, count)) for count in (5, 9))
    assert five["macro_f1"]["p"] < significance.LEVEL
    assert five["verdict"] == "cannot_tell"
    assert nine["verdict"] == "better"
    assert len(nine["fixed"]) == 9


def test_more_rows_show_smaller_differences() -> None:
    few, many = (significance.compare_rows(answers(n, 0.7, 2), answers(n, 0.7, 3)) for n in (60, 2000))
    assert few["smallest_visible_difference"] > 2 * many["smallest_visible_difference"]
    assert many["smallest_visible_difference"] < 0.06


def test_a_difference_of_the_size_it_names_does_show_in_about_four_cases_of_five() -> None:
    """Two models that disagree at random, 300 rows: the named difference is neither wishful nor timid."""
    draw = random.Random(9)
    seen = 0
    for trial in range(40):
        a = [
            {"key": str(i), "gold": LABELS[i % 3], "predicted": LABELS[(i + (draw.random() < 0.4)) % 3]}
            for i in range(300)
        ]
        b = [{**row, "predicted": LABELS[(i + (draw.random() < 0.285)) % 3]} for i, row in enumerate(a)]
        result = significance.compare_rows(a, b)
        if trial == 0:
            assert result["smallest_visible_difference"] == pytest.approx(0.11, abs=0.015)
        seen += result["verdict"] == "better"
    assert 26 <= seen <= 39


def test_different_test_sets_are_compared_on_what_they_share() -> None:
    a, b = answers(100, 0.6, 2), answers(100, 0.9, 3, start=40)
    result = significance.compare_rows(a, b)
    assert (result["rows"], result["only_a"], result["only_b"], result["same_rows"]) == (60, 40, 40, False)
    assert result["verdict"] == "better"


def test_too_few_shared_rows_are_not_compared() -> None:
    result = significance.compare_rows(answers(100, 0.6, 2), answers(100, 0.9, 3, start=80))
    assert result["verdict"] == "not_comparable"
    assert result["accuracy"] is result["macro_f1"] is result["smallest_visible_difference"] is None
    assert "20" in significance.sentence(result, "v1", "v2")


def test_a_row_labelled_anew_is_not_a_common_row() -> None:
    a = answers(60, 0.7, 2)
    b = [{**row, "gold": "z"} if row["key"] == "k7" else row for row in a]
    result = significance.compare_rows(a, b)
    assert (result["rows"], result["only_a"], result["only_b"]) == (59, 1, 1)


def test_a_text_that_stands_twice_is_matched_in_turn() -> None:
    rows = [{"key": "same", "gold": "a", "predicted": "a"}, {"key": "same", "gold": "a", "predicted": "b"}]
    assert significance.compare_rows(rows, rows)["rows"] == 2


def test_the_result_is_json_and_repeats_itself() -> None:
    a, b = answers(80, 0.6, 2), answers(80, 0.8, 3)
    result = significance.compare_rows(a, b)
    assert json.loads(json.dumps(result)) == result == significance.compare_rows(a, b)


@pytest.mark.parametrize("seed", [3, 2])
def test_the_sentence_names_both_versions_and_the_interval(seed: int) -> None:
    result = significance.compare_rows(answers(200, 0.6, 2), answers(200, 0.62, seed))
    text = significance.sentence(result, "v1", "v2")
    assert "v1" in text and "v2" in text and "95" in text
    assert (f"{result['smallest_visible_difference'] * 100:.1f}" in text) == (result["verdict"] == "cannot_tell")


def test_predictions_that_are_not_there_or_not_predictions_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.Invalid, match="no predictions yet"):
        significance.load(tmp_path / "predictions.jsonl")
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"key": "k", "gold": "a", "predicted": "b"}\n\n{"key": "k"}\n', encoding="utf-8")
    with pytest.raises(errors.Invalid) as caught:
        significance.load(path)
    assert caught.value.line == 3 and "--again" in str(caught.value.mend)


def test_points_have_a_sign_and_nothing_has_none() -> None:
    assert [significance.points(value) for value in (0.0312, -0.0312, 0.0001, -0.0001)] == [
        "+3.1",
        "-3.1",
        "0.0",
        "0.0",
    ]


def test_the_room_speaks_english_without_a_catalogue() -> None:
    i18n.set_language(None)
    result = significance.compare_rows(answers(300, 0.4, 2), answers(300, 0.9, 3))
    assert significance.sentence(result, "v1", "v2").startswith("v2 is better than v1")
