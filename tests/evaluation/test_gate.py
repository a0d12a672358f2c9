"""The gate: met, not met, or cannot tell and how many rows would settle it."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest

from nlp_skills.evaluation import judgement, significance
from nlp_skills.evaluation.judgement import Before, baseline_value, rows_needed, verdict
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.schema.task import SuccessCriteria
from nlp_skills.schema.version import Results, Verdict

LABELS = ["good", "bad", "rare"]


def answers(rows: int, rights: dict[str, float], seed: int = 1) -> list[dict[str, Any]]:
    """Answers that are right as often as their class says; every tenth row is of the rare class."""
    draw, gold = random.Random(seed), ["rare" if row % 10 == 0 else LABELS[row % 2] for row in range(rows)]
    return [
        {"key": str(row), "gold": true, "predicted": true if draw.random() < rights[true] else "bad"}
        for row, true in enumerate(gold)
    ]


def judged(rows: list[dict[str, Any]], *, before: Before | None = None, **criteria: Any) -> Verdict:
    marked = sheet.of("label", [row["gold"] for row in rows], [row["predicted"] for row in rows], labels=LABELS)
    figures = {name: float(value) for name, value in marked.figures().items()}
    wanted = SuccessCriteria.model_validate(criteria)
    return verdict(wanted, figures, intervals.of(marked), rows=len(rows), before=before)


def said(found: Verdict, rows: int = 200) -> str:
    results = Results(
        version="v2",
        created=dt.datetime.now(dt.UTC),
        test_sha256="sha256:0",
        test_rows=rows,
        metrics={},
        success=found,
    )
    return " ".join([judgement.headline(results), *judgement.criteria(results), *judgement.warnings(results)])


ALL = dict.fromkeys(LABELS, 0.9)


def test_a_threshold_is_met_missed_or_within_what_the_rows_leave_open() -> None:
    rows = answers(200, ALL)
    assert judged(rows, primary_metric="accuracy").verdict is None
    met, missed = (judged(rows, primary_metric="accuracy", threshold=least) for least in (0.8, 0.995))
    assert (met.verdict, missed.verdict) == ("met", "not_met")
    open_ = judged(rows, primary_metric="accuracy", threshold=0.95)
    (check,) = open_.checks
    assert open_.verdict == check.verdict == "cannot_tell"
    text = said(open_)
    assert "cannot be told" in text and "200 test rows leave" in text and "would settle it" in text
    assert "under 99.5%" in said(missed) and "leave" not in said(met)


@pytest.mark.parametrize("least", [0.86, 0.93])
def test_the_rows_that_would_settle_it_do(least: float) -> None:
    """A test set of that many rows with the same share of right answers is told apart; one of half as many is not."""
    rows = [{"gold": "good", "predicted": "good" if row % 10 else "bad"} for row in range(100)]
    (check,) = judged(rows, primary_metric="accuracy", threshold=least).checks
    assert check.verdict == "cannot_tell" and check.rows_needed
    for times, gate in ((1.1, "met" if least < 0.9 else "not_met"), (0.5, "cannot_tell")):
        many = (rows * (1 + check.rows_needed // 50))[: round(check.rows_needed * times)]
        assert judged(many, primary_metric="accuracy", threshold=least).verdict == gate


def test_a_value_that_is_just_what_is_asked_for_is_settled_by_no_number_of_rows() -> None:
    assert rows_needed(0.7, 0.7, (0.6, 0.8), 100) is None
    assert rows_needed(0.7, 0.7 + 1e-7, (0.6, 0.8), 100) is None
    assert rows_needed(0.75, 0.7, (0.65, 0.85), 100) == 400
    assert rows_needed(0.65, 0.7, (0.6, 0.85), 100) == 1600


def test_several_criteria_are_as_good_as_the_worst_of_them() -> None:
    rows = answers(400, ALL)
    wanted = {"primary_metric": "accuracy", "threshold": 0.7}
    assert judged(rows, **wanted, baseline="rule_based_0.65", metrics={"mcc": 0.5}).verdict == "met"
    assert judged(rows, **wanted, metrics={"macro_f1": 0.98}).verdict == "not_met"
    found = judged(rows, **wanted, baseline=0.93, metrics={"macro_f1": 0.98})
    assert found.verdict == "not_met" and found.baseline == 0.93
    assert [check.verdict for check in found.checks] == ["met", "cannot_tell", "not_met"]
    assert "Macro-F1 98.0%" in said(found)


def test_a_criterion_that_was_not_measured_is_open_not_met() -> None:
    rows = answers(200, ALL)
    wanted = {"primary_metric": "accuracy", "threshold": 0.7}
    assert judged(rows, **wanted, metrics={"relation_f1": 0.1}).verdict == "cannot_tell"
    unmeasured = judged(rows, **wanted, baseline="rules.yaml")
    assert unmeasured.verdict == "cannot_tell" and "no answers of rules.yaml" in said(unmeasured)


def test_a_class_that_lost_more_than_it_may_fails_the_gate_though_the_whole_got_better() -> None:
    a = answers(1000, {"good": 0.8, "bad": 1, "rare": 0.9}, 1)
    b = answers(1000, {"good": 0.95, "bad": 1, "rare": 0.4}, 2)
    before = Before("v1", significance.compare_rows(a, b))
    wanted = {"primary_metric": "accuracy", "threshold": 0.7}
    assert judged(b, **wanted, before=before).verdict == "met"
    found = judged(b, **wanted, before=before, max_regression=0.05)
    assert found.verdict == "not_met"
    lost = {check.metric: check for check in found.checks if check.about == "regression"}
    assert set(lost) == {f"{label} F1" for label in LABELS}
    assert lost["rare F1"].verdict == "not_met" and lost["rare F1"].other == "v1" and lost["rare F1"].least == -0.05
    assert lost["good F1"].verdict == "met"
    assert "rare F1 against v1: -" in said(found) and "more lost than 5.0" in said(found)
    assert judged(b, **wanted, before=before, max_regression={"rare": 0.9, "*": 0.05}).verdict == "met"
    assert judged(b, **wanted, before=before, max_regression={"good": 0.05}).verdict == "met"


def test_few_rows_cannot_tell_whether_a_class_lost() -> None:
    a, b = answers(80, ALL, 1), answers(80, ALL, 2)
    before = Before("v1", significance.compare_rows(a, b))
    found = judged(b, before=before, max_regression=0.02)
    assert found.verdict == "cannot_tell"
    assert any(check.rows_needed for check in found.checks)


def test_a_class_in_which_no_row_moved_may_have_lost_what_its_few_rows_cannot_show() -> None:
    a = answers(60, ALL, 1)
    alike = judged(a, before=Before("v1", significance.compare_rows(a, a)), max_regression=0.1)
    gates = {check.metric: check.verdict for check in alike.checks}
    assert gates["rare F1"] == "cannot_tell", "six rows"
    many = answers(2000, ALL, 1)
    sure = judged(many, before=Before("v1", significance.compare_rows(many, many)), max_regression=0.1)
    assert sure.verdict == "met"


def test_a_version_before_that_cannot_be_compared_leaves_it_open() -> None:
    b = answers(80, ALL, 2)
    other = [{**row, "key": f"other {row['key']}"} for row in b]
    before = Before("v1", significance.compare_rows(other, b))
    wanted = {"primary_metric": "accuracy", "threshold": 0.5}
    found = judged(b, **wanted, before=before, max_regression=0.02)
    assert found.verdict == "cannot_tell" and "no answers of v1" in said(found)
    assert judged(b, **wanted, before=before).verdict == "met", "nothing was asked of it"
    assert judged(b, **wanted, max_regression=0.02).verdict == "met", "the first version loses nothing"


@pytest.mark.parametrize(
    ("given", "value"),
    [(0.65, 0.65), ("rule_based_0.65", 0.65), ("65 %", 0.65), (".7", 0.7), ("rules_v2", None), (None, None)],
)
def test_a_baseline_is_a_number_or_a_name_that_ends_in_one(given: float | str | None, value: float | None) -> None:
    assert baseline_value(given) == value
