from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, matthews_corrcoef

from nlp_skills import errors, i18n
from nlp_skills.evaluation import predictions, significance
from nlp_skills.evaluation.scores import sheet
from nlp_skills.schema.kinds import Kind

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


def test_mcnemar_is_scipys_binomial_test_also_for_many_rows() -> None:
    for fixed, broken in ((1, 4), (60, 31), (2500, 2300), (30_000, 30_500)):
        expected = binomtest(fixed, fixed + broken).pvalue
        assert significance.mcnemar(fixed, broken) == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_over_every_subset(chances: list[float]) -> None:
    """A p counts as the largest that any subset holding it gives by Bonferroni; Holm's is the short way there."""
    places = range(len(chances))
    subsets = [subset for size in range(1, len(chances) + 1) for subset in itertools.combinations(places, size)]
    expected = [
        max(min(1.0, len(subset) * min(chances[i] for i in subset)) for subset in subsets if place in subset)
        for place in places
    ]
    assert significance.holm(chances) == pytest.approx(expected)


def test_a_clear_improvement_is_better_and_the_other_way_round_worse() -> None:
    a, b = answers(400, 0.5, 2), answers(400, 0.9, 3)
    result = significance.compare_rows(a, b)
    assert result["verdict"] == "better"
    assert result["metrics"]["macro_f1"]["interval"][0] > 0
    back = significance.compare_rows(b, a)
    assert back["verdict"] == "worse"
    assert back["fixed"] == result["broken"]
    there, here = back["metrics"]["macro_f1"]["difference"], result["metrics"]["macro_f1"]["difference"]
    assert there == pytest.approx(-here)


def test_the_difference_is_scikit_learns_and_the_interval_that_of_resampled_rows() -> None:
    a, b = answers(200, 0.6, 2), answers(200, 0.7, 3)
    gold, of_a, of_b = (
        np.array([row[k] for row in rows]) for rows, k in ((a, "gold"), (a, "predicted"), (b, "predicted"))
    )
    macro = significance.compare_rows(a, b)["metrics"]["macro_f1"]
    assert macro["a"] == pytest.approx(f1_score(gold, of_a, average="macro"))
    assert macro["b"] == pytest.approx(f1_score(gold, of_b, average="macro"))
    draw = np.random.default_rng(0)
    differences = [
        f1_score(gold[at], of_b[at], average="macro") - f1_score(gold[at], of_a[at], average="macro")
        for at in (draw.integers(0, 200, 200) for _ in range(500))
    ]
    assert macro["interval"] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.02)


def test_every_metric_and_class_is_scikit_learns_with_the_interval_of_resampled_rows() -> None:
    a, b = answers(240, 0.55, 2), answers(240, 0.65, 5)
    gold, of_a, of_b = (
        np.array([row[k] for row in rows]) for rows, k in ((a, "gold"), (a, "predicted"), (b, "predicted"))
    )
    result = significance.compare_rows(a, b)
    scores: dict[str, Any] = {
        "accuracy": accuracy_score,
        "weighted_f1": lambda true, given: f1_score(true, given, average="weighted"),
        "balanced_accuracy": balanced_accuracy_score,
        "mcc": matthews_corrcoef,
    }
    for place, label in enumerate(LABELS):
        scores[label] = lambda true, given, at=place: f1_score(true, given, average=None, labels=LABELS)[at]
    draw = np.random.default_rng(0)
    drawn = [draw.integers(0, 240, 240) for _ in range(200)]
    for name, score in scores.items():
        found = result["metrics"].get(name) or result["classes"][name]
        assert found["a"] == pytest.approx(score(gold, of_a)) and found["b"] == pytest.approx(score(gold, of_b))
        differences = [score(gold[at], of_b[at]) - score(gold[at], of_a[at]) for at in drawn]
        assert found["interval"] == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.045)


def test_p_agrees_with_swapping_the_two_answers_of_rows_at_random() -> None:
    """The permutation test asks the same of the same rows in another way."""
    for right_b in (0.62, 0.68, 0.75):
        a, b = answers(200, 0.6, 2), answers(200, right_b, 3)
        gold = np.array([LABELS.index(row["gold"]) for row in a])
        both = np.array([[LABELS.index(row["predicted"]) for row in rows] for rows in (a, b)])

        def macro(given: Any, true: Any = gold) -> Any:
            hits = np.stack([((given == c) & (true == c)).sum(-1) for c in range(3)])
            given_to = np.stack([(given == c).sum(-1) for c in range(3)])
            support = np.bincount(true, minlength=3).reshape(3, *[1] * (given.ndim - 1))
            return (2 * hits / (given_to + support)).mean(0)

        swapped = np.random.default_rng(4).random((5000, 200)) < 0.5
        one, other = np.where(swapped, both[1], both[0]), np.where(swapped, both[0], both[1])
        null = macro(other) - macro(one)
        expected = (np.abs(null) >= abs(macro(both[1]) - macro(both[0])) - 1e-12).mean()
        assert significance.compare_rows(a, b)["metrics"]["macro_f1"]["p"] == pytest.approx(expected, abs=0.04)


def test_two_equal_models_are_called_different_in_about_one_case_of_twenty() -> None:
    """160 rows, a rare class, a hundred and twenty pairs that differ by chance alone."""
    truth = ["a"] * 80 + ["b"] * 64 + ["c"] * 16
    draw, metric, rare = random.Random(5), 0, 0
    for _ in range(120):
        sides = [
            [
                {"key": str(i), "gold": gold, "predicted": gold if draw.random() < 0.7 else draw.choice(LABELS)}
                for i, gold in enumerate(truth)
            ]
            for _side in range(2)
        ]
        result = significance.compare_rows(*sides)
        metric += result["verdict"] != "cannot_tell"
        rare += result["classes"]["c"]["p"] < significance.LEVEL
    assert metric <= 12 and rare <= 12


def test_the_verdict_follows_the_metric_that_is_asked_for() -> None:
    """The common class gains what the rare one loses: accuracy is better, macro-F1 worse."""
    gold = ["a"] * 900 + ["b"] * 20
    before = [
        {"key": str(i), "gold": label, "predicted": "b" if label == "b" or i % 18 == 0 else "a"}
        for i, label in enumerate(gold)
    ]
    after = [{**row, "predicted": "a"} for row in before]
    by_accuracy, by_macro = (significance.compare_rows(before, after, name) for name in ("accuracy", "macro_f1"))
    assert by_accuracy["verdict"] == "better" and "Accuracy +" in significance.sentence(by_accuracy, "v1", "v2")
    assert by_accuracy["metrics"]["accuracy"]["p"] == significance.mcnemar(50, 20)
    assert significance.compare_rows(before, after, "balanced_accuracy")["verdict"] == "worse"
    assert by_macro["classes"]["b"]["difference"] < 0
    own = significance.compare_rows(before, after, "a metric of our own")
    assert own["metric"] == "macro_f1" and own["verdict"] == by_macro["verdict"]


def test_only_classes_that_have_rows_count() -> None:
    a, b = answers(300, 0.5, 2), answers(300, 0.7, 3)
    a[0]["predicted"] = "never"
    result = significance.compare_rows(a, b)
    classes = result["classes"]
    assert list(classes) == LABELS
    gold, given = ([row[name] for row in a] for name in ("gold", "predicted"))
    assert result["metrics"]["macro_f1"]["a"] == pytest.approx(f1_score(gold, given, average="macro", labels=LABELS))
    assert [entry["p_holm"] for entry in classes.values()] == significance.holm([e["p"] for e in classes.values()])


def test_the_same_answers_cannot_be_told_apart() -> None:
    rows = answers(100, 0.7, 2)
    result = significance.compare_rows(rows, list(reversed(rows)))
    assert result["verdict"] == "cannot_tell"
    assert {entry["p"] for entry in [*result["metrics"].values(), *result["classes"].values()]} == {1}
    assert result["metrics"]["macro_f1"]["difference"] == 0
    assert "they answer all 100 test rows alike" in significance.sentence(result, "v1", "v2")


def test_five_rows_put_right_are_never_a_verdict_though_resampling_alone_would_say_so() -> None:
    rows = answers(100, 0.7, 2)
    five, nine = (significance.compare_rows(rows, flip(rows, count)) for count in (5, 9))
    assert five["metrics"]["macro_f1"]["interval"][0] > 0
    assert five["metrics"]["macro_f1"]["p"] == five["metrics"]["accuracy"]["p"] == 2 / 2**5
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
    assert (result["rows"], result["same_rows"]) == (60, False)
    assert result["only_a"] == [f"k{i}" for i in range(40)] and result["only_b"] == [f"k{i}" for i in range(100, 140)]
    assert result["verdict"] == "better"


def test_too_few_shared_rows_are_not_compared() -> None:
    result = significance.compare_rows(answers(100, 0.6, 2), answers(100, 0.9, 3, start=80))
    assert result["verdict"] == "not_comparable"
    assert result["metrics"] == result["classes"] == {} and result["smallest_visible_difference"] is None
    assert "They share 20" in significance.sentence(result, "v1", "v2")


def test_a_row_labelled_anew_is_not_a_common_row() -> None:
    a = answers(60, 0.7, 2)
    b = [{**row, "gold": "z"} if row["key"] == "k7" else row for row in a]
    result = significance.compare_rows(a, b)
    assert (result["rows"], result["only_a"], result["only_b"]) == (59, [], [])
    assert result["relabelled"] == [{"key": "k7", "a": a[7]["gold"], "b": "z"}]


def test_one_text_with_two_labels_is_two_rows_in_whatever_order_they_stand() -> None:
    rows = [{"key": "same", "gold": label, "predicted": "a"} for label in ("a", "b")]
    result = significance.compare_rows(rows, rows[::-1])
    assert result["rows"] == 2 and result["same_rows"]


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
        predictions.load(tmp_path / "predictions.jsonl")
    path = tmp_path / "predictions.jsonl"
    for bad in (b'{"key": "k"}', b'{"key": "k", "gold": ["a"], "predicted": "b"}', b'{"key": "\xff"}', b"[1"):
        path.write_bytes(b'{"key": "k", "gold": "a", "predicted": "b"}\n\n' + bad + b"\n")
        with pytest.raises(errors.Invalid) as caught:
            predictions.load(path, "label")
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


def of_kind(kind: Kind, rows: int, right: float, seed: int) -> list[dict[str, Any]]:
    """Answers of a kind to the same rows, right as often as `right` says, some not read."""
    truth, draw = random.Random(1), random.Random(seed)
    made = []
    for number in range(rows):
        words = [truth.choice(["Ann", "Bob", "Rome", "Acme"]) for _ in range(3)]
        other = words if draw.random() < right else [draw.choice(["Ann", "Bob", "Rome", "Eve"]) for _ in words]
        gold, said = (
            {
                "labels": sorted({*found}),
                "spans": {"entities": [{"text": word, "type": word[:1]} for word in dict.fromkeys(found)]},
                "fields": {"first": found[0], "last": found[-1]},
                "text": " ".join(found),
            }[kind]
            for found in (words, other)
        )
        answer = None if draw.random() < 0.05 else said
        made.append({"key": str(number), "gold": gold, "predicted": answer, "input": {"text": " ".join(words)}})
    return made


@pytest.mark.parametrize(
    ("kind", "metric", "whole"),
    [("labels", "macro_f1", "accuracy"), ("spans", "entity_f1", "exact_match"), ("fields", "field_f1", "exact_match"),
     ("text", "chrf", "exact_match")],
)  # fmt: skip
def test_versions_of_every_kind_are_told_apart_or_not(kind: Kind, metric: str, whole: str) -> None:
    a, same, better = (of_kind(kind, 200, right, seed) for right, seed in ((0.5, 2), (0.5, 3), (0.9, 4)))
    found = significance.compare_rows(a, better, "of our own", kind=kind)
    assert (found["verdict"], found["metric"]) == ("better", metric), "an unknown metric is the kind's own"
    assert found["metrics"][metric]["interval"][0] > 0
    assert found["metrics"][whole]["p"] == significance.mcnemar(len(found["fixed"]), len(found["broken"]))
    gold, said = ([row[name] for row in better] for name in ("gold", "predicted"))
    inputs = [row["input"] for row in better]
    figures = sheet.of(kind, gold, said, texts=inputs).figures()
    assert found["metrics"][metric]["b"] == pytest.approx(float(figures[metric]))
    assert significance.compare_rows(better, a, metric, kind=kind)["verdict"] == "worse"
    alike = significance.compare_rows(a, same, metric, kind=kind)
    assert alike["verdict"] == "cannot_tell" and metric not in significance.sentence(alike, "v1", "v2")
    classes = sheet.of(kind, gold, said).per_class()
    assert set(found["classes"]) == {name for name, part in classes.items() if part.support}
    assert json.loads(json.dumps(found)) == found


def test_a_row_with_another_right_answer_is_not_a_common_row_whatever_its_kind() -> None:
    a = of_kind("spans", 60, 0.7, 2)
    b = [{**row, "gold": {"entities": []}} if row["key"] == "7" else row for row in a]
    result = significance.compare_rows(a, b, kind="spans")
    assert result["rows"] == 59 and [row["key"] for row in result["relabelled"]] == ["7"]
