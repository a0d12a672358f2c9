"""evals/run.py in a real client whose model is a script: what it calls is counted, once, and kept."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from claude_code import Model, call, text
from conftest import ROOT

HARNESS = [sys.executable, str(ROOT / "evals" / "run.py")]


def replay(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [*HARNESS, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def counted(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["sets"]["llm-coach"]
    return found


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """One query that should trigger, and one that should not."""
    folder = tmp_path / "sets"
    folder.mkdir()
    one = {
        "name": "llm-coach",
        "kind": "skill",
        "should": [{"query": "我想做情感分析", "lang": "zh-TW"}],
        "near_miss": [{"query": "train my puppy to sit", "lang": "en", "instead": None, "why": "a dog"}],
    }
    (folder / "llm-coach.json").write_text(json.dumps(one), encoding="utf-8")
    return folder


@pytest.mark.client
def test_a_call_of_the_skill_is_a_hit_and_an_answer_without_one_is_none(
    claude: Path, model: Model, environment: dict[str, str], sets: Path, tmp_path: Path
) -> None:
    model.script = [call("Skill", skill="nlp-skills:llm-coach"), [text("Hold a treat over its nose.")]]
    options = ["--sets", sets, "--out", tmp_path / "kept.jsonl", "--runs", 1, "--jobs", 1, "--client", claude]
    first = replay(*options, env=environment)
    assert first.returncode == 0, first.stderr
    found = counted(first)
    assert (found["hits"], found["false_alarms"], found["near_miss"]) == (1, 0, 1)
    assert found["recall"] == found["precision"] == 1 and found["recall_95"][0] < 0.5

    requests = len(model.requests)
    again = replay(*options, env=environment)
    assert counted(again) == found
    assert "sessions to start: 0" in again.stderr and len(model.requests) == requests


def test_a_query_counts_by_what_most_of_its_runs_reach_for() -> None:
    found = runpy.run_path(str(ROOT / "evals" / "run.py"))
    firsts = {
        "mine": ["a", "a", None],
        "a neighbour's": ["b", "b", "a"],
        "nobody's": [None, "a", "c"],
        "a dog": ["a", "a", "a"],
        "a cat": [None, None, "a"],
    }
    answers = [
        found["Answer"](query, run, first, "0", None, "m", 1.0)
        for query, runs in firsts.items()
        for run, first in enumerate(runs)
    ]
    should = [{"query": "mine"}, {"query": "a neighbour's", "or": ["b"]}, {"query": "nobody's"}, {"query": "not asked"}]
    near = [{"query": "a dog"}, {"query": "a cat"}]
    figures = found["score"]({"name": "a", "should": should, "near_miss": near}, answers)
    assert (figures["should"], figures["hits"], figures["reached"], figures["missed"]) == (3, 1, 2, ["nobody's"])
    assert (figures["near_miss"], figures["wrong"]) == (2, ["a dog"])
    assert (round(figures["recall"], 2), figures["precision"]) == (0.33, 0.5)


def test_without_a_key_it_says_so_and_still_tells_what_it_would_ask(sets: Path, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
    options = ["--sets", sets, "--out", tmp_path / "kept.jsonl"]
    refused = replay(*options, env=env)
    assert refused.returncode == 3 and "ANTHROPIC_API_KEY" in refused.stderr
    dry = replay(*options, "--dry-run", env=env)
    assert dry.returncode == 0 and "sessions to start: 6" in dry.stderr
    assert not (tmp_path / "kept.jsonl").exists()
