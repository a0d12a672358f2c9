"""Figures of answers in memory agree with scikit-learn, and resampled ones with those of the resampled rows."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.preprocessing import MultiLabelBinarizer

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.marks import Given, Kind, Marks, as_json, from_json, primary
from nlp_skills.schema.task import Task

LABELS = ["a", "b", "c", "d"]


def drawn(rows: int, kind: Kind, seed: int = 1) -> Marks:
    """Random truths and answers, half of them right; of the last class there is none, and some cannot be read."""
    chance = random.Random(seed)
    gold, given = [], []
    for _row in range(rows):
        most = 1 if kind == "label" else 3
        true, other = (tuple(chance.sample(LABELS[:3], chance.randint(1, most))) for _side in range(2))
        answer = true if chance.random() < 0.5 else other
        readable = chance.random() < 0.9
        gold.append(true)
        given.append(Given(answer if readable else (), readable and set(answer) == set(true), readable))
    return Marks(kind, LABELS, gold, given)


def test_one_label_a_row_is_scored_as_scikit_learn_does() -> None:
    marked = drawn(200, "label")
    gold = [label for (label,) in marked.gold]
    said = [one.labels[0] if one.labels else "?" for one in marked.given]
    ours = marked.figures()
    present = ["a", "b", "c"]
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(gold, said))
    for name in ("macro", "weighted"):
        score = theirs.f1_score(gold, said, labels=present, average=name, zero_division=0)
        assert ours[f"{name}_f1"] == pytest.approx(score)
    assert ours["mcc"] == pytest.approx(theirs.matthews_corrcoef(gold, said))
    assert set(ours) == set(metrics.NAMES)


def test_several_labels_a_row_are_scored_as_scikit_learn_does() -> None:
    marked = drawn(200, "labels")
    columns = MultiLabelBinarizer(classes=["a", "b", "c"])
    gold = columns.fit_transform(marked.gold)
    said = columns.transform([one.labels for one in marked.given])
    ours = marked.figures()
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(gold, said))
    for name in ("macro", "micro", "weighted"):
        assert ours[f"{name}_f1"] == pytest.approx(theirs.f1_score(gold, said, average=name, zero_division=0))
    assert "mcc" not in ours


def test_a_whole_answer_is_right_or_not() -> None:
    given = [Given((), right) for right in (True, True, False)] + [Given((), right=False, readable=False)]
    marked = Marks("answer", [], [()] * 4, given)
    assert marked.figures() == {"exact_match": 0.5}
    assert marked.parse_rate() == 0.75


@pytest.mark.parametrize("kind", ["label", "labels", "answer"])
def test_a_resample_has_the_figures_of_its_rows(kind: Kind) -> None:
    marked = drawn(40, kind)
    rows = np.random.default_rng(3).integers(0, 40, size=(5, 40))
    times = np.stack([np.bincount(one, minlength=40) for one in rows])
    many = marked.figures(times)
    for number, chosen in enumerate(rows):
        alone = Marks(kind, LABELS, [marked.gold[row] for row in chosen], [marked.given[row] for row in chosen])
        for name, value in alone.figures().items():
            assert many[name][number] == pytest.approx(float(value)), name


def test_answers_come_back_from_a_file() -> None:
    given = [Given(("a", "b"), right=False), Given((), right=False, readable=False)]
    assert from_json(as_json(given)) == given


def task(kind: str, metric: str) -> Task:
    output = {"type": "json", "schema": {"label": {"type": "string", "enum": ["a", "b"]}}}
    return Task.model_validate(
        {
            "task_name": "t",
            "task_type": kind,
            "input_template": "{text}",
            "output_format": output,
            "success_criteria": {"primary_metric": metric},
        }
    )


def test_the_metric_that_decides_is_one_we_compute() -> None:
    assert primary(task("classification", "mcc")) == "mcc"
    assert primary(task("generation", "macro_f1")) == "exact_match", "what a task that says nothing has"
    with pytest.raises(Invalid, match="macro-f1 is not one we compute") as refused:
        primary(task("classification", "macro-f1"))
    assert "to macro_f1 perhaps" in str(refused.value.mend)
    with pytest.raises(Invalid, match="bleu"):
        primary(task("generation", "bleu"))
