"""A metric of the task's own: a function in metrics/, with an interval like any other, and its faults named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import own_metrics
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.evaluation.scores.sheet import Sheet

GOLD, SAID = ["a", "b"] * 30, ["a"] * 60
ROWS = [{"text": str(number), "weight": 1 + number % 3} for number in range(60)]


def write(root: Path, name: str, text: str) -> Path:
    path = root / "metrics" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def marked(root: Path) -> Sheet:
    return own_metrics.added(sheet.of("label", GOLD, SAID), own_metrics.load(root), GOLD, SAID, ROWS)


def test_a_figure_a_row_is_averaged_and_has_an_interval(tmp_path: Path) -> None:
    write(tmp_path, "hits", "def hits(gold, predicted, rows):\n    return [a == b for a, b in zip(gold, predicted)]\n")
    made = marked(tmp_path)
    assert made.names[-1] == "hits" and made.figures()["hits"] == made.figures()["accuracy"] == 0.5
    found = intervals.of(made)
    assert found["hits"] == pytest.approx(found["accuracy"], abs=0.02)
    assert made.figures(np.eye(60)[[0, 1]])["hits"].tolist() == [1, 0]


def test_a_single_figure_is_computed_anew_of_samples(tmp_path: Path) -> None:
    write(
        tmp_path,
        "weighted",
        "def weighted(gold, predicted, rows):\n"
        "    right = sum(row['weight'] for a, b, row in zip(gold, predicted, rows) if a == b)\n"
        "    return right / sum(row['weight'] for row in rows)\n",
    )
    made = marked(tmp_path)
    value, (low, high) = float(made.figures()["weighted"]), intervals.of(made)["weighted"]
    assert value == pytest.approx(0.5, abs=0.02) and 0.3 < low < value < high < 0.7


def test_what_a_metric_does_to_its_arguments_stays_its_own(tmp_path: Path) -> None:
    text = "def rude(gold, predicted, rows):\n    gold.clear(); rows[0].clear()\n    return 0.5\n"
    write(tmp_path, "rude", text)
    made = marked(tmp_path)
    assert made.figures()["rude"] == 0.5 and len(GOLD) == 60 and ROWS[0]["text"] == "0"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("def bad(gold, predicted, rows):\n    return 1 +\n", 2, "SyntaxError"),
        ("import nowhere_to_be_found\n", 1, "nowhere_to_be_found"),
        ("exit(3)\n", None, "bad"),
        ("def good(gold, predicted, rows):\n    return 1\n", None, "no function bad"),
        ("def bad(gold, predicted, rows):\n\n    return rows[0]['colour']\n", 3, "colour"),
        ("def bad(gold, predicted):\n    return 1\n", None, "TypeError"),
        ("def bad(gold, predicted, rows):\n    return [1, 2]\n", None, "2 figures of 60 rows"),
        ("def bad(gold, predicted, rows):\n    return float('nan')\n", None, "nan"),
        ("def bad(gold, predicted, rows):\n    return 'much'\n", None, "much"),
        ("def bad(gold, predicted, rows):\n    return None\n", None, "NoneType"),
    ],
)
def test_a_metric_that_does_not_work_is_named_with_its_line(
    tmp_path: Path, text: str, line: int | None, says: str
) -> None:
    path = write(tmp_path, "bad", text)
    with pytest.raises(Invalid) as refused:
        marked(tmp_path)
    assert refused.value.file == str(path) and (line is None or refused.value.line == line)
    assert says in f"{refused.value.message} {refused.value.cause}"


def test_a_link_out_of_the_task_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("raise AssertionError('this must never run')")
    root = tmp_path / "task"
    root.mkdir()
    write(root, "_shared", "")
    (root / "metrics" / "stolen.py").symlink_to(outside)
    with pytest.raises(Problem) as refused:
        own_metrics.load(root)
    assert "AssertionError" not in str(refused.value)
    assert own_metrics.names(root) == ["stolen"], "what begins with an underscore is none"


def test_a_task_without_any_has_none(tmp_path: Path) -> None:
    assert own_metrics.load(tmp_path) == own_metrics.names(tmp_path) == []
