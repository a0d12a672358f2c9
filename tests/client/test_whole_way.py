"""From a file of reviews to a measured version, typed by a scripted model into a real Claude Code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_code import bash
from conftest import reviews, write_rows

pytestmark = pytest.mark.client


def test_the_hooks_follow_the_real_steps(session: Callable[..., Any], project: Path, tuned_base: Path) -> None:
    write_rows(project / "reviews.jsonl", reviews(120))
    settings = "--set epochs=1 --set batch_size=16 --set max_length=128 --set learning_rate=1e-3"
    seen = session(
        bash(f"nlp-skills new-task sentiment --labels positive,neutral,negative --threshold 0.5 --output-type text "
             f"--base-model {tuned_base} {settings}"),
        bash("nlp-skills data-source add --type file_import --path reviews.jsonl --name reviews"),
        bash("nlp-skills regenerate"),
        bash("nlp-skills generate"),
        bash("nlp-skills train", timeout=120_000),
        bash("nlp-skills evaluate --no-base-baseline", timeout=120_000),
        bash("nlp-skills new-version --change 'base model that is not there' --set base_model=/nowhere"),
        bash("nlp-skills train", timeout=120_000),
        NLP_SKILLS_DETERMINISTIC="1",
    )  # fmt: skip
    assert [seen.ours(number) for number in (1, 2, 4, 7)] == ["", "", "", ""], seen.heard(4)
    assert "sentiment/data/train.jsonl: " in seen.ours(3), seen.heard(3)
    assert "sentiment/data/test.jsonl: " in seen.ours(3)
    assert "sentiment v1: training completed, not evaluated yet" in seen.ours(5), seen.heard(5)
    assert "next command: nlp-skills evaluate sentiment" in seen.ours(5)
    assert "sentiment v1: evaluated, test rows " in seen.ours(6), seen.heard(6)
    assert "criterion ≥ 50.0%" in seen.ours(6)
    assert "lineage" not in seen.ours(5) + seen.ours(6)  # the steps had written it themselves
    assert "training" in seen.ours(8), seen.heard(8)
    assert "failed" in seen.ours(8)
