from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from nlp_skills.evaluation import metrics

LABELS = ["正面", "neutral", "negative", "no"]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(deadline=None, max_examples=60)
@given(pairs)
def test_every_figure_is_scikit_learns(rows: list[tuple[str, str]]) -> None:
    gold, predicted = zip(*rows, strict=True)
    matrix = metrics.confusion(gold, predicted, LABELS)
    present = [label for label in LABELS if label in gold]
    expected = {
        "macro_f1": sk.f1_score(gold, predicted, labels=present, average="macro", zero_division=0),
        "accuracy": sk.accuracy_score(gold, predicted),
        "micro_f1": sk.f1_score(gold, predicted, labels=LABELS, average="micro", zero_division=0),
        "weighted_f1": sk.f1_score(gold, predicted, labels=LABELS, average="weighted", zero_division=0),
        "balanced_accuracy": sk.recall_score(gold, predicted, labels=present, average="macro", zero_division=0),
        "mcc": sk.matthews_corrcoef(gold, predicted),
    }
    assert metrics.scores(matrix) == pytest.approx(expected)
    assert matrix.counts == sk.confusion_matrix(gold, predicted, labels=LABELS).tolist()


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_per_class_figures_are_scikit_learns(rows: list[tuple[str, str]]) -> None:
    gold, predicted = zip(*rows, strict=True)
    found = metrics.per_class(metrics.confusion(gold, predicted, LABELS))
    expected = sk.precision_recall_fscore_support(gold, predicted, labels=LABELS, zero_division=0)
    for label, values in zip(LABELS, zip(*expected, strict=True), strict=True):
        own = found[label]
        assert (own.precision, own.recall, own.f1, own.support) == pytest.approx(values)


def _answers(rows: int, right: float) -> tuple[list[str], list[str]]:
    draw = random.Random(3)
    gold = [draw.choice(LABELS) for _ in range(rows)]
    return gold, [label if draw.random() < right else draw.choice(LABELS) for label in gold]


def test_intervals_agree_with_resampling_the_rows_themselves() -> None:
    gold, predicted = _answers(150, 0.6)
    matrix = metrics.confusion(gold, predicted, LABELS)
    draw = np.random.default_rng(0)
    g, p = np.array(gold), np.array(predicted)
    samples = [
        sk.f1_score(g[at], p[at], labels=LABELS, average="macro", zero_division=0)
        for at in (draw.integers(0, 150, 150) for _ in range(1500))
    ]
    assert metrics.intervals(matrix)["macro_f1"] == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.012)


def test_the_truth_is_inside_about_19_of_20_intervals() -> None:
    draw = np.random.default_rng(5)
    truth = np.array([[40, 5, 5], [10, 30, 10], [5, 10, 35]])
    value = float(metrics.figures_of(truth)["macro_f1"])
    hits = 0
    for _ in range(200):
        counts = draw.multinomial(150, truth.ravel() / 150).reshape(3, 3)
        sample = metrics.figures_of(metrics.resample(counts, 400))["macro_f1"]
        low, high = metrics.percentile_interval(sample)
        hits += low <= value <= high
    assert 180 <= hits <= 198


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 100, 0.7222, 0.8749), (0, 0, 0.0, 1.0)],
)
def test_wilson_has_the_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_the_same_rows_give_the_same_interval_twice_and_quickly() -> None:
    matrix = metrics.confusion(*_answers(1000, 0.7), LABELS)
    started = time.process_time()
    once = metrics.intervals(matrix)
    assert time.process_time() - started < 2
    assert metrics.intervals(matrix) == once
    values = metrics.scores(matrix)
    assert all(low <= values[name] <= high for name, (low, high) in once.items())


def test_a_class_without_test_rows_does_not_pull_the_average_down() -> None:
    matrix = metrics.confusion(["neutral", "negative"], ["neutral", "negative"], LABELS)
    assert metrics.scores(matrix)["macro_f1"] == 1
    assert metrics.per_class(matrix)["no"].support == 0


def test_a_hundred_thousand_rows_keep_their_correlation() -> None:
    gold, predicted = _answers(2000, 0.7)
    matrix = metrics.confusion(gold, predicted, LABELS)
    large = matrix.model_copy(update={"counts": [[count * 100 for count in row] for row in matrix.counts]})
    assert metrics.scores(large)["mcc"] == pytest.approx(sk.matthews_corrcoef(gold, predicted))


def test_no_mistake_in_twelve_rows_is_not_certainty() -> None:
    gold = LABELS[:3] * 4
    perfect = metrics.confusion(gold, gold, LABELS)
    found = metrics.intervals(perfect)
    assert found["macro_f1"] == pytest.approx((0.7575, 1.0), abs=1e-3) and "mcc" not in found
    assert metrics.class_intervals(perfect)["no"] == (0.0, 1.0)
    low, high = metrics.class_intervals(perfect)["neutral"]
    assert 0.4 < low < 0.6 and high == 1
