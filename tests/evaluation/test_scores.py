"""Sheets of labels: the figures of scikit-learn, of all rows and of resampled ones; intervals; probabilities."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs
from sklearn.preprocessing import MultiLabelBinarizer

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.evaluation.scores.probabilities import Sureness
from nlp_skills.evaluation.scores.sheet import Sheet
from nlp_skills.schema.kinds import Kind

LABELS = ["正面", "neutral", "negative"]
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "我", "們", "在", "今", "天"]
TIGHT = {"rel": 0, "abs": 1e-9}


def answers(kind: Kind, rows: int, seed: int = 1) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Right answers, given ones of which some are right and some cannot be read, and what a sheet takes besides."""
    draw = random.Random(seed)

    def one() -> Any:
        text = " ".join(draw.choices(WORDS, k=8))
        entities = [{"text": word, "type": draw.choice("XY")} for word in draw.sample(WORDS, draw.randint(0, 3))]
        made: dict[Kind, Any] = {
            "label": draw.choice(LABELS),
            "labels": sorted(draw.sample(LABELS, draw.randint(0, 2))),
            "spans": {"entities": entities},
            "fields": {"who": draw.choice("AB"), "ages": [draw.randint(1, 3), 4], "none": None},
            "text": text,
        }
        return made[kind]

    gold = [one() for _ in range(rows)]
    near = [true if draw.random() < 0.5 else one() for true in gold]
    given = [answer if draw.random() < 0.9 else None for answer in near]
    return gold, given, {"texts": [" ".join(WORDS)] * rows} if kind == "spans" else {}


def marked(kind: Kind, rows: int, seed: int = 1) -> Sheet:
    gold, given, more = answers(kind, rows, seed)
    return sheet.of(kind, gold, given, **more)


@pytest.mark.filterwarnings("ignore:A single label was found", "ignore:y_pred contains classes")
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, "other", None])), min_size=1, max_size=60))
def test_one_label_a_row_is_scored_as_scikit_learn_does(rows: list[tuple[str, str | None]]) -> None:
    gold, said = [true for true, _given in rows], [given or "?" for _true, given in rows]
    made = sheet.of("label", gold, [given for _true, given in rows], labels=LABELS)
    # What is none of the task's labels is one wrong answer among others.
    said = ["?" if label == "other" else label for label in said]
    ours, present = made.figures(), [label for label in LABELS if label in gold]
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(gold, said), **TIGHT)
    for name in ("macro", "weighted"):
        score = theirs.f1_score(gold, said, labels=present, average=name, zero_division=0)
        assert ours[f"{name}_f1"] == pytest.approx(score, **TIGHT)
    recall = theirs.recall_score(gold, said, labels=present, average="macro", zero_division=0)
    assert ours["balanced_accuracy"] == pytest.approx(recall, **TIGHT)
    assert ours["mcc"] == pytest.approx(theirs.matthews_corrcoef(gold, said), **TIGHT)
    each = zip(*theirs.precision_recall_fscore_support(gold, said, labels=LABELS, zero_division=0), strict=True)
    for label, values in zip(LABELS, each, strict=True):
        own = made.per_class()[label]
        assert (own.precision, own.recall, own.f1, own.support) == pytest.approx(values, **TIGHT)
        assert made.class_f1()[label] == pytest.approx(values[2], **TIGHT)


label_sets = st.sets(st.sampled_from(LABELS))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(label_sets, label_sets), min_size=1, max_size=40))
def test_several_labels_a_row_are_scored_as_scikit_learn_does(rows: list[tuple[set[str], set[str]]]) -> None:
    columns = MultiLabelBinarizer(classes=LABELS)
    gold, said = (columns.fit_transform(side) for side in zip(*rows, strict=True))
    ours = sheet.of("labels", [sorted(a) for a, _b in rows], [sorted(b) for _a, b in rows], labels=LABELS).figures()
    present = np.flatnonzero(gold.any(axis=0)).tolist()
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(gold, said), **TIGHT)
    micro = theirs.f1_score(gold, said, average="micro", zero_division=0)
    assert ours["micro_f1"] == pytest.approx(micro, **TIGHT)
    for name in ("macro", "weighted") if present else ():
        score = theirs.f1_score(gold, said, labels=present, average=name, zero_division=0)
        assert ours[f"{name}_f1"] == pytest.approx(score, **TIGHT)


@pytest.mark.parametrize("kind", ["label", "labels", "spans", "fields", "text"])
def test_a_resample_has_the_figures_of_its_rows(kind: Kind) -> None:
    gold, given, more = answers(kind, 40)
    if kind in ("label", "labels"):
        more["labels"] = LABELS
    whole = sheet.of(kind, gold, given, **more)
    drawn = np.random.default_rng(3).integers(0, 40, size=(4, 40))
    times = np.stack([np.bincount(one, minlength=40) for one in drawn])
    many, classes = whole.figures(times), whole.class_f1(times)
    assert set(many) == set(whole.names)
    for number, chosen in enumerate(drawn):
        part = {name: [value[row] for row in chosen] if name == "texts" else value for name, value in more.items()}
        alone = sheet.of(kind, [gold[row] for row in chosen], [given[row] for row in chosen], **part)
        for name, value in alone.figures().items():
            assert many[name][number] == pytest.approx(float(value), **TIGHT), name
        for name, one in alone.class_f1().items():
            assert classes[name][number] == pytest.approx(float(one), **TIGHT)


@pytest.mark.parametrize("kind", ["label", "labels", "spans", "fields", "text"])
def test_every_figure_has_an_interval_around_it_and_what_could_not_be_read_is_wrong(kind: Kind) -> None:
    gold, given, _more = answers(kind, 80)
    made = marked(kind, 80)
    figures, ranges = made.figures(), intervals.of(made)
    assert set(ranges) == set(made.names)
    assert all(low <= figures[name] <= high and low < high for name, (low, high) in ranges.items())
    unread = [answer is None for answer in given]
    assert made.readable == [not one for one in unread] and figures["parse_rate"] == 1 - sum(unread) / 80
    assert not any(right for right, one in zip(made.right, unread, strict=True) if one)
    perfect = sheet.of(kind, gold, gold)
    exact = "accuracy" if kind in ("label", "labels") else "exact_match"
    assert perfect.figures()[exact] == 1
    for name, (low, high) in intervals.of(perfect).items():
        assert high == 1 and low < (1 if name == "mcc" else 0.97), "80 rows are no certainty"


def test_intervals_agree_with_resampling_the_rows_themselves() -> None:
    gold, given, _more = answers("text", 120)
    made = sheet.of("text", gold, given, language="zh")
    draw = np.random.default_rng(0)
    samples = []
    for _ in range(300):
        chosen = draw.integers(0, 120, 120)
        again = made.figures(np.bincount(chosen, minlength=120))
        samples.append(float(again["chrf"]))
    assert intervals.of(made)["chrf"] == pytest.approx(np.quantile(samples, [0.025, 0.975]), abs=0.02)


def test_shares_of_rows_have_wilsons_interval() -> None:
    made = marked("label", 90)
    right = sum(made.right)
    assert intervals.of(made)["accuracy"] == metrics.wilson_interval(right, 90)
    made = marked("spans", 90)
    assert intervals.of(made)["exact_match"] == metrics.wilson_interval(sum(made.right), 90)


@pytest.mark.parametrize(("kind", "seconds"), [("label", 0.5), ("labels", 0.5), ("spans", 3.0), ("text", 4.0)])
def test_ten_thousand_resamples_of_two_thousand_rows_take_about_a_second(kind: Kind, seconds: float) -> None:
    rows = 2000 if kind != "text" else 1000
    made = marked(kind, rows)
    started = time.process_time()
    once = intervals.of(made)
    assert time.process_time() - started < seconds
    assert intervals.of(made) == once, "the same rows have the same interval"


def test_the_order_of_the_rows_makes_no_difference() -> None:
    for kind in ("label", "labels", "fields"):
        gold, given, _more = answers(kind, 60)
        assert intervals.of(sheet.of(kind, gold, given)) == intervals.of(sheet.of(kind, gold[::-1], given[::-1]))


def sure(rows: int, seed: int = 3, classes: int = 2) -> tuple[list[str], list[str], list[dict[str, float]]]:
    draw = np.random.default_rng(seed)
    labels = LABELS[:classes]
    gold = [labels[place] for place in draw.integers(0, classes, rows)]
    # Rounded, so that scores are tied.
    raw = [draw.random(classes).round(1) + 0.05 + np.asarray([label == true for label in labels]) / 3 for true in gold]
    shares = [dict(zip(labels, (each / each.sum()).tolist(), strict=True)) for each in raw]
    return gold, [max(each, key=each.__getitem__) for each in shares], shares


def test_areas_and_squared_error_are_scikit_learns_of_all_rows_and_of_resampled_ones() -> None:
    gold, said, shares = sure(150)
    made = sheet.of("label", gold, said, labels=LABELS[:2], probabilities=shares)
    drawn = np.random.default_rng(1).integers(0, 150, size=(3, 150))
    many = made.figures(np.stack([np.bincount(one, minlength=150) for one in drawn]))
    for number, chosen in enumerate([np.arange(150), *drawn]):
        true = np.asarray([gold[row] == LABELS[1] for row in chosen])
        score = np.asarray([shares[row][LABELS[1]] for row in chosen])
        found = made.figures() if number == 0 else {name: value[number - 1] for name, value in many.items()}
        assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(true, score), **TIGHT)
        assert found["average_precision"] == pytest.approx(theirs.average_precision_score(true, score), **TIGHT)
        assert found["brier"] == pytest.approx(2 * theirs.brier_score_loss(true, score), **TIGHT)
    ranges = intervals.of(made)
    assert {"ece", "brier", "roc_auc", "average_precision"} <= set(ranges)


def test_the_calibration_error_is_the_mean_gap_of_fifteen_bins() -> None:
    gold, said, shares = sure(200, classes=3)
    made = Sureness.of(gold, said, shares, LABELS)
    confidence = np.asarray([max(each.values()) for each in shares])
    right = np.asarray([a == b for a, b in zip(gold, said, strict=True)])
    gaps = 0.0
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15)
        gaps += abs(confidence[inside].sum() - right[inside].sum())
    assert made.figures(np.ones((1, 200)))["ece"][0] == pytest.approx(gaps / 200, **TIGHT)
    bins = made.bins()
    assert sum(each.rows for each in bins) == 200
    assert sum(each.accuracy * each.rows for each in bins) == pytest.approx(right.sum())
    assert set(made.names) == {"ece", "brier"} and set(made.curves()) == {"abstention"}


def test_curves_are_scikit_learns_and_abstention_ends_with_all_rows() -> None:
    gold, said, shares = sure(120)
    made = Sureness.of(gold, said, shares, LABELS[:2])
    true, score = [label == LABELS[1] for label in gold], [each[LABELS[1]] for each in shares]
    curves = made.curves()
    wrong, hit, _at = theirs.roc_curve(true, score, drop_intermediate=False)
    assert curves["roc"].x == pytest.approx(wrong) and curves["roc"].y == pytest.approx(hit)
    precision, recall, _at = theirs.precision_recall_curve(true, score)
    assert curves["pr"].x == pytest.approx(recall[::-1]) and curves["pr"].y[1:] == pytest.approx(precision[::-1][1:])
    assert curves["roc"].area == pytest.approx(theirs.roc_auc_score(true, score))
    kept, right = curves["abstention"].x, curves["abstention"].y
    assert kept == sorted(kept) and kept[-1] == 1
    assert right[-1] == pytest.approx(theirs.accuracy_score(gold, said))
    surest = np.argsort([-max(each.values()) for each in shares], kind="stable")[: round(kept[0] * 120)]
    assert right[0] == pytest.approx(np.mean([gold[row] == said[row] for row in surest]))


def test_one_class_alone_has_no_areas() -> None:
    _gold, said, shares = sure(20)
    made = sheet.of("label", [LABELS[0]] * 20, said, labels=LABELS[:2], probabilities=shares)
    assert "roc_auc" not in made.names and "ece" in made.figures()


def test_values_count_by_where_they_stand() -> None:
    gold = [{"who": "Ann", "born": {"year": 1990, "town": None}, "tags": ["a", "b"], "ok": True}]
    said = [{"who": " Ann ", "born": {"year": 1990.0, "town": "Rome"}, "tags": ["b"], "ok": 1}]
    made = sheet.of("fields", gold, said)
    # Five values are wanted and five given; right are who, year and one tag; true is no 1.
    assert made.figures()["field_f1"] == pytest.approx(2 * 3 / (5 + 5)) and made.right == [False]
    assert {name: part.f1 for name, part in made.per_class().items()} == pytest.approx(
        {"who": 1, "born": 2 / 3, "tags": 2 / 3, "ok": 0}
    )
    assert sheet.of("fields", gold, [dict(reversed(gold[0].items()))]).right == [True]
