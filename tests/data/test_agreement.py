"""Agreement of annotators on rows as sources give them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from conftest import DATA_SOURCE_YAML, LABELS, Ran, reviews, write_rows

from nlp_skills.data.audit import agreement
from nlp_skills.errors import Usage
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


def measured(root: Path, column: str | None = None) -> dict[str, Any]:
    folder = TaskFolder.at(root)
    return agreement.measure(folder, folder.task(), folder.sources(), column, seed=1)


def annotated(root: Path, rows: list[dict[str, Any]]) -> Path:
    write_rows(root / "data" / "raw" / "reviews.jsonl", rows)
    return root


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    return make_task()


def three_people(wrong: float, column: str = "annotator") -> list[dict[str, Any]]:
    """Three annotators of 200 rows; the third errs so often."""
    draw = random.Random(3)
    rows = []
    for row in reviews(200):
        for name in ("ann", "bob", "eve"):
            errs = name == "eve" and draw.random() < wrong
            rows.append({**row, column: name, "label": draw.choice(LABELS) if errs else row["label"]})
    return rows


def test_alpha_is_the_packages_and_lies_in_its_interval(task: Path) -> None:
    rows = three_people(0.4)
    found = measured(annotated(task, rows))
    by_person = {
        name: {r["text"]: r["label"] for r in rows if r["annotator"] == name} for name in ("ann", "bob", "eve")
    }
    texts = [row["text"] for row in reviews(200)]
    codes = [[LABELS.index(by_person[name][text]) for text in texts] for name in by_person]
    assert found["alpha"] == pytest.approx(krippendorff.alpha(codes, level_of_measurement="nominal"), abs=1e-4)
    low, high = found["interval"]
    assert low < found["alpha"] < high
    assert high - low < 0.2
    assert (found["units"], found["shared"], found["column"]) == (200, 200, "annotator")


def test_pairs_people_and_disputes(task: Path) -> None:
    found = measured(annotated(task, three_people(0.4)))
    kappas = {tuple(pair["annotators"]): pair["kappa"] for pair in found["pairs"]}
    assert kappas["ann", "bob"] == 1
    assert 0.5 < kappas["ann", "eve"] < 0.9
    people = {entry["name"]: entry for entry in found["annotators"]}
    assert people["eve"]["with_majority"] < 0.9 < people["ann"]["with_majority"]
    torn = found["disputed"][0]
    assert torn["file"] == "data/raw/reviews.jsonl"
    assert len(set(torn["answers"].values())) > 1


def test_agreement_by_chance_is_none(task: Path) -> None:
    draw = random.Random(8)
    rows = [{**row, "annotator": name, "label": draw.choice(LABELS)} for row in reviews(300) for name in "ab"]
    found = measured(annotated(task, rows))
    low, high = found["interval"]
    assert low < 0 < high


def test_the_interval_covers_what_it_should() -> None:
    """Of intervals from 60 samples of one population, most hold that population's alpha."""
    draw = np.random.default_rng(4)

    def sample(size: int) -> Any:
        truth = draw.integers(0, 3, size)
        given = [np.where(draw.random(size) < 0.7, truth, draw.integers(0, 3, size)) for _ in range(3)]
        return sum(np.eye(3)[column] for column in given)

    whole = krippendorff.alpha(value_counts=sample(100_000), level_of_measurement="nominal")
    held = 0
    for number in range(60):
        low, high = agreement.interval(sample(120), number)
        held += low <= whole <= high
    assert held >= 51


def test_the_column_is_looked_for_or_named(task: Path) -> None:
    assert measured(annotated(task, three_people(0.2, "標註者")))["column"] == "標註者"
    annotated(task, three_people(0.2, "who"))
    assert measured(task)["skipped"] == {"code": "no_column"}
    assert measured(task, "who")["column"] == "who"
    with pytest.raises(Usage, match="nobody"):
        measured(task, "nobody")


def test_rows_are_read_under_the_tasks_names(task: Path) -> None:
    mapped = DATA_SOURCE_YAML.format(path="reviews.jsonl") + "\n"
    mapped = mapped.replace("path: reviews.jsonl", "path: reviews.jsonl\n    mapping: {text: body, label: opinion}")
    (task / "data_source.yaml").write_text(mapped, encoding="utf-8")
    rows = [{"body": r["text"], "opinion": r["label"], "annotator": r["annotator"]} for r in three_people(0.3)]
    rows.append({"body": "no opinion", "annotator": "ann"})
    found = measured(annotated(task, rows))
    assert (found["units"], found["unread"]) == (200, 1)


def test_what_cannot_be_measured_is_said(task: Path) -> None:
    one = [{**row, "annotator": "ann"} for row in reviews(30)]
    assert measured(annotated(task, one))["skipped"] == {"code": "one_annotator"}
    apart = [{**row, "annotator": "ab"[number % 2]} for number, row in enumerate(reviews(30))]
    assert measured(annotated(task, apart))["skipped"] == {"code": "nothing_shared"}
    same = [{**row, "label": "neutral", "annotator": name} for row in reviews(30) for name in "ab"]
    found = measured(annotated(task, same))
    assert (found["alpha"], found["interval"], found["pairs"][0]["kappa"], found["disputed"]) == (None, None, None, [])


def test_names_that_are_addresses_are_numbered(task: Path, cli: Cli) -> None:
    rows = [{**row, "annotator": f"{row['annotator']}@example.com"} for row in three_people(0.3)]
    found = measured(annotated(task, rows))
    assert [entry["name"] for entry in found["annotators"]] == ["#1", "#2", "#3"]
    assert "@" not in str(found)


def test_several_labels_are_measured_one_by_one(task: Path) -> None:
    text = (task / "task.yaml").read_text(encoding="utf-8").replace("type: text", "type: json")
    text = text.replace("type: string\n      enum: [positive, neutral, negative]",
                        "type: array\n      items: {type: string, enum: [a, b, c]}")  # fmt: skip
    (task / "task.yaml").write_text(text, encoding="utf-8")
    draw = random.Random(2)
    rows = []
    for number in range(200):
        truth = [label for label in "abc" if draw.random() < 0.5]
        noisy = [label for label in "abc" if (label in truth) != (label == "c" and draw.random() < 0.3)]
        rows += [{"text": f"Text {number}", "label": given, "annotator": name}
                 for name, given in (("ann", truth), ("bob", noisy))]  # fmt: skip
    found = measured(annotated(task, rows))
    alphas = {label: part["alpha"] for label, part in found["labels"].items()}
    assert alphas["a"] == alphas["b"] == 1
    assert 0.2 < alphas["c"] < 0.6
    assert found["alpha"] == pytest.approx(sum(alphas.values()) / 3, abs=1e-3)
