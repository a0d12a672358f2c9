"""One line for every state of a run on another machine, and what a list of tasks and versions says of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from nlp_skills import files
from nlp_skills.cli import run_words
from nlp_skills.schema import yaml
from nlp_skills.schema.remote_job import RemoteJob
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace import remote_jobs, runs
from nlp_skills.workspace.folder import TaskFolder

PLACE = "lin@gpu-server"


def ago(minutes: float) -> dt.datetime:
    return files.now() - dt.timedelta(minutes=minutes)


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task("sentiment"))


def job(folder: TaskFolder, state: str, **more: Any) -> RemoteJob:
    known: dict[str, Any] = {
        "id": "train-v1-1", "type": "remote_ssh", "step": "train", "version": "v1", "place": PLACE,
        "host": "lin@127.0.0.1:9", "workdir": "/w", "folder": "/w/tasks/sentiment", "state": state,
        "created": ago(60), "seen": ago(0),
    }  # fmt: skip
    return remote_jobs.keep(folder, RemoteJob(**{**known, **more}))


def run(folder: TaskFolder, state: str, **more: Any) -> runs.Run:
    known: dict[str, Any] = {
        "task": "sentiment", "version": "v1", "state": state, "pid": 2**22 + 7, "host": "gpu-server", "place": PLACE,
        "started": ago(50), "updated": ago(0), "step": 40, "total_steps": 300, "eta_seconds": 720,
    }  # fmt: skip
    RunStatus(**{**known, **more}).save(folder.version("v1").status_path)
    found = runs.of(folder, "v1")
    assert found is not None
    return found


def test_where_it_runs_how_far_it_is_what_is_left_and_what_it_has_cost(folder: TaskFolder) -> None:
    job(folder, "running", cost_usd=0.42)
    found = run(folder, "running", cost_usd=0.42)
    assert run_words.summary(found) == f"running on {PLACE}: step 40 of 300, 12 min left, $0.42 so far"
    assert (run_words.state(found), run_words.where(found), run_words.hints(found)) == ("running", PLACE, [])
    assert run_words.facts(found) == ["step 40 of 300", "12 min left", "$0.42 so far", f"on {PLACE}"]


def test_a_machine_by_the_hour_costs_from_its_beginning(folder: TaskFolder) -> None:
    job(folder, "running", type="cloud", usd_per_hour=2.0)
    assert run_words.summary(run(folder, "running")).endswith("$2.00 so far")
    job(folder, "fetched", type="cloud", usd_per_hour=2.0, ended=ago(30), cost_usd=1.25)
    ended = run(folder, "completed", step=300, cost_usd=1.25, ended=ago(30))
    assert run_words.summary(ended) == (
        f"the last run was completed: step 300 of 300, on {PLACE}, $1.25 in all"
    )  # fmt: skip


def test_one_that_cannot_be_reached_says_since_when_and_why(folder: TaskFolder) -> None:
    job(folder, "running", seen=ago(25), trouble="no route to host")
    found = run(folder, "running", updated=ago(25))
    assert run_words.summary(found) == f"running on {PLACE}, as far as is known: step 40 of 300"
    assert run_words.state(found) == "unreachable"
    assert run_words.where(found) == f"{PLACE} · last heard of 25 min ago"
    assert run_words.hints(found)[0] == f"{PLACE} cannot be reached; last heard of 25 min ago: no route to host"


@pytest.mark.parametrize(
    ("state", "more", "words"),
    [
        ("starting", {}, f"on its way to {PLACE}; not running yet"),
        ("running", {}, f"running on {PLACE}"),
        ("ended", {}, f"ended on {PLACE}; what it made is not fetched yet"),
        ("lost", {"trouble": "it was started anew"}, f"lost: {PLACE} knows of it no more: it was started anew"),
    ],
)  # fmt: skip
def test_a_job_that_no_run_tells_of(state: str, more: dict[str, Any], words: str, folder: TaskFolder) -> None:
    kept = job(folder, state, **more)
    assert run_words.job_summary(kept) == words
    # A run of before does not speak for the job that follows it; one that is lost speaks for itself where it ended.
    before = run(folder, "interrupted", place=None)
    assert (run_words.summary(before) == words) is (state != "lost")


def test_a_run_of_this_machine_is_not_mistaken_for_an_earlier_one_elsewhere(folder: TaskFolder) -> None:
    job(folder, "fetched", cost_usd=3.0)
    found = run(folder, "completed", place=None, host=None)
    assert run_words.summary(found) == "the last run was completed: step 40 of 300"
    assert run_words.where(found) == "here"
    assert "job" not in run_words.as_dict(found)


@pytest.mark.parametrize(
    ("state", "more", "shown"),
    [
        ("starting", {}, f"training (starting, on {PLACE})"),
        ("running", {}, f"training (on {PLACE})"),
        ("running", {"trouble": "no route to host"}, f"training (not heard of, on {PLACE})"),
        ("ended", {}, f"training (to be fetched, on {PLACE})"),
        ("lost", {}, f"training (lost, on {PLACE})"),
    ],
)
def test_tasks_says_where_a_training_goes_on(
    state: str, more: dict[str, Any], shown: str, folder: TaskFolder, cli: Callable[..., Ran]
) -> None:
    yaml.change(folder.task_path, {("status",): "training"})
    job(folder, state, **more)
    folder.version("v1").root.mkdir(parents=True, exist_ok=True)
    if state != "starting":
        run(folder, "running")
    assert shown in cli("tasks").out
    listed = cli("tasks", "--json").json["tasks"][0]
    assert listed["place"] == PLACE
    assert listed["run"] == ("unknown" if more else state)


def test_history_has_columns_for_what_was_charged_where_anything_was(
    folder: TaskFolder, cli: Callable[..., Ran]
) -> None:
    from nlp_skills.workspace import lineage

    lineage.record(folder.version("v1"), run={"state": "completed"})
    assert "GPU hours" not in cli("history", "sentiment").out
    lineage.record(folder.version("v2"), run={"state": "completed", "gpu_hours": 1.5, "cost_usd": 4.2, "place": PLACE})
    table = cli("history", "sentiment").out
    first, second = (next(line for line in table.splitlines() if f" {name} " in line) for name in ("v1", "v2"))
    assert "1.50" in second and "$4.20" in second
    assert "$" not in first
    assert [row["cost_usd"] for row in cli("history", "sentiment", "--json").json["versions"]] == [4.2, None]


def test_text_from_a_server_s_answer_cannot_break_the_line(folder: TaskFolder) -> None:
    kept = job(folder, "running", place="a\nb\x1b[31m", trouble="x\n" * 400)
    assert "\n" not in run_words.job_summary(kept) and "\x1b" not in run_words.job_where(kept)
    assert max(map(len, run_words.job_hints(kept))) < 450
