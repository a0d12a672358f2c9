"""Intervals and averages of labels: what they hold, and what few rows or absent classes must not do to them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn import metrics as sk

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores import classes, intervals, sheet
from nlp_skills.schema.version import ConfusionMatrix

LABELS = ["正面", "neutral", "negative", "no"]


def answers(rows: int, right: float) -> tuple[list[str], list[str]]:
    draw = random.Random(3)
    gold = [draw.choice(LABELS) for _ in range(rows)]
    return gold, [label if draw.random() < right else draw.choice(LABELS) for label in gold]


def test_intervals_agree_with_resampling_the_rows_themselves() -> None:
    gold, predicted = answers(150, 0.6)
    draw = np.random.default_rng(0)
    g, p = np.array(gold), np.array(predicted)
    samples = [
        sk.f1_score(g[at], p[at], labels=LABELS, average="macro", zero_division=0)
        for at in (draw.integers(0, 150, 150) for _ in range(800))
    ]
    found = intervals.of(sheet.of("label", gold, predicted, labels=LABELS))
    assert found["macro_f1"] == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.015)


def test_the_truth_is_inside_about_19_of_20_intervals() -> None:
    draw = np.random.default_rng(5)
    truth = np.array([[40, 5, 5], [10, 30, 10], [5, 10, 35]])

    def marked(counts: list[list[int]]) -> sheet.Sheet:
        return classes.of_matrix(ConfusionMatrix(labels=LABELS[:3], counts=counts))

    value = float(marked(truth.tolist()).figures()["macro_f1"])
    hits = 0
    for _ in range(200):
        low, high = intervals.of(marked(draw.multinomial(150, truth.ravel() / 150).reshape(3, 3).tolist()))["macro_f1"]
        hits += low <= value <= high
    assert 180 <= hits <= 198


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 100, 0.7222, 0.8749), (0, 0, 0.0, 1.0)],
)
def test_wilson_has_the_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_a_class_without_test_rows_does_not_pull_the_average_down() -> None:
    made = sheet.of("label", ["neutral", "negative"], ["neutral", "negative"], labels=LABELS)
    assert made.figures()["macro_f1"] == 1
    assert made.per_class()["no"].support == 0


def test_a_hundred_thousand_rows_keep_their_correlation() -> None:
    gold, predicted = answers(2000, 0.7)
    large = sheet.of("label", gold * 100, predicted * 100, labels=LABELS)
    assert large.figures()["mcc"] == pytest.approx(sk.matthews_corrcoef(gold, predicted))


def test_no_mistake_in_twelve_rows_is_not_certainty() -> None:
    gold = LABELS[:3] * 4
    perfect = sheet.of("label", gold, gold, labels=LABELS)
    found = intervals.of(perfect)
    assert found["macro_f1"] == pytest.approx((0.7575, 1.0), abs=1e-3) and "mcc" not in found
    assert intervals.of_classes(perfect)["no"] == (0.0, 1.0)
    low, high = intervals.of_classes(perfect)["neutral"]
    assert 0.4 < low < 0.6 and high == 1


def test_rows_of_which_only_the_confusions_are_known_have_the_same_intervals() -> None:
    gold, predicted = answers(120, 0.7)
    whole = sheet.of("label", gold, predicted, labels=LABELS)
    known = classes.of_matrix(metrics.confusion(gold, predicted, LABELS))
    assert intervals.of(known) == intervals.of(whole)
    assert intervals.of_classes(known) == intervals.of_classes(whole)
