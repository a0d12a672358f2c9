"""`nlp-skills status`: what is stale and why, how the run stands, what comes next."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, reviews, write_rows

from nlp_skills.data import snapshot
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    return make_task()


def test_before_anything_was_fetched(task: Path, cli: Any) -> None:
    ran: Ran = cli("status", task)
    assert ran.code == 1
    assert "never fetched" in ran.out
    assert "next: nlp-skills regenerate" in ran.out
    (task / "data_source.yaml").write_text("sources: []\n")
    assert "next: nlp-skills data-source add" in cli("status", task).out


def test_when_nothing_is_stale(task: Path, cli: Any) -> None:
    cli("regenerate", task)
    ran: Ran = cli("status", task)
    assert ran.code == 0
    assert "sentiment v1: configuring" in ran.out
    assert ran.out.count("current") >= 4
    assert "stale" not in ran.out
    found = cli("status", task, "--json").json
    assert (found["ok"], found["stale"], found["run"], found["snapshot"]) == (True, False, None, None)
    assert found["sources"][0]["rows"] == 120
    assert dt.datetime.fromisoformat(found["sources"][0]["fetched"]).tzinfo is not None
    assert {output["name"] for output in found["outputs"]} >= {"train", "valid", "test"}
    assert found["next"] == "nlp-skills generate"


def test_why_it_is_stale(task: Path, cli: Any) -> None:
    cli("regenerate", task)
    write_rows(task / "reviews.jsonl", reviews(121))
    ran: Ran = cli("status", task, "--json")
    assert ran.code == 1
    assert ran.json["sources"][0]["reasons"] == [
        {"code": "input", "words": "files it reads changed: reviews.jsonl"},
    ]
    assert ran.json["outputs"][0]["reasons"] == [{"code": "source", "words": "source reviews is stale"}]
    assert "files it reads changed: reviews.jsonl" in cli("status", task).out


def test_an_interrupted_regeneration(task: Path, cli: Any) -> None:
    cli("regenerate", task)
    (task / ".nlp-skills" / "regenerating.json").write_text("{}")
    ran: Ran = cli("status", task)
    assert ran.code == 1
    assert "interrupted" in ran.out
    cli("regenerate", task)
    assert cli("status", task).code == 0


def test_data_against_the_snapshot_of_the_version(task: Path, cli: Any) -> None:
    folder = TaskFolder.at(task)
    cli("regenerate", task)
    snapshot.write(folder, "v1")
    assert "data/ is what v1 was made with" in cli("status", task).out
    (task / "data_source.yaml").write_text((task / "data_source.yaml").read_text().replace("seed: 7", "seed: 8"))
    cli("regenerate", task)
    assert "not what v1 was made with" in cli("status", task).out
    found = cli("status", task, "--json").json["snapshot"]
    assert found["version"] == "v1"
    assert not found["same"]
    assert "train" in found["differing"]


@pytest.mark.parametrize(
    ("state", "alive", "words"),
    [
        ("running", True, "running: step 3 of 10, 42 s left"),
        ("running", False, "the last run is dead: its process ended at step 3 of 10"),
        ("interrupted", False, "the last run was stopped at step 3 of 10"),
        ("failed", False, "the last run failed at step 3 of 10: no room"),
        ("completed", False, "the last run was completed: step 3 of 10"),
    ],
)
def test_the_run_of_the_current_version(task: Path, cli: Any, state: Any, alive: bool, words: str) -> None:
    now = dt.datetime.now().astimezone()
    RunStatus(
        task="sentiment",
        version="v1",
        state=state,
        pid=os.getpid() if alive else 2**22 + 1,
        started=now,
        updated=now,
        step=3,
        total_steps=10,
        eta_seconds=42 if state == "running" else None,
        message="no room" if state == "failed" else None,
    ).save(TaskFolder.at(task).version("v1").status_path)
    assert words in cli("status", task).out
    wanted = "dead" if state == "running" and not alive else state
    assert cli("status", task, "--json").json["run"]["state"] == wanted


def test_a_task_in_chinese_lines_up(task: Path, cli: Any) -> None:
    path = task / "data_source.yaml"
    path.write_text(path.read_text().replace("name: reviews", "name: 評論"))
    cli("regenerate", task)
    drawn = [line for line in cli("status", task, "--lang", "zh-TW").out.splitlines() if line[:1] in "┌│├└"]
    from rich.cells import cell_len

    first = [line for line in drawn if "評論" in line or "┌" in line][:2]
    assert len({cell_len(line) for line in first}) == 1


def test_a_broken_document_is_named(task: Path, cli: Any) -> None:
    (task / "data_source.yaml").write_text("sources: [\n")
    ran: Ran = cli("status", task)
    assert ran.code == 1
    assert "data_source.yaml" in ran.err
    assert "Traceback" not in ran.err
