"""`archive` and `unarchive`: by hand, with a reason, never under a run, and nothing is trained meanwhile."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import made_versions
import pytest
from conftest import Ran

from nlp_skills import files
from nlp_skills.schema.deployment import Deployment
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

Command = Callable[..., Ran]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    """An evaluated task."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    return folder


def _digest(folder: TaskFolder) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder.state / "digest.json").read_text(encoding="utf-8"))
    return found


def test_archived_with_time_and_reason_and_back(task: TaskFolder, cli: Command) -> None:
    started = files.now()
    ran = cli("archive", "sentiment", "--reason", "以 reviews-2027 取代")
    assert ran.code == 0 and "evaluating → archived" in ran.out
    last = task.task().history[-1]
    assert (last.from_, last.to, last.reason) == ("evaluating", "archived", "以 reviews-2027 取代")
    assert started <= last.time <= files.now()
    assert _digest(task)["status"] == "archived"
    assert cli("tasks", "--status", "archived", "--json").json["tasks"][0]["name"] == "sentiment"
    assert task.task_path.read_text(encoding="utf-8").startswith("# A comment a person wrote.")
    back = cli("unarchive", "sentiment", "--json")
    assert back.json == {
        "ok": True, "task": "sentiment", "changed": True, "before": "archived", "status": "configuring",
    }  # fmt: skip
    assert task.task().history[-1].to == "configuring"
    assert _digest(task)["status"] == "configuring"


def test_twice_says_so_and_changes_nothing(task: TaskFolder, cli: Command) -> None:
    assert cli("archive").code == 0
    before = task.task_path.read_bytes()
    again = cli("archive", "--reason", "once more")
    assert again.code == 0 and "archived already" in again.out
    assert cli("archive", "--json").json["changed"] is False
    assert task.task_path.read_bytes() == before
    assert cli("unarchive").code == 0
    before = task.task_path.read_bytes()
    again = cli("unarchive")
    assert again.code == 0 and "configuring already" in again.out
    assert task.task_path.read_bytes() == before


@pytest.mark.parametrize("command", [["train"], ["train", "--again"], ["evaluate"], ["evaluate", "--again"]])
def test_an_archived_task_is_neither_trained_nor_evaluated(task: TaskFolder, cli: Command, command: list[str]) -> None:
    cli("archive", "--reason", "the shop is closed\n\x1b[31m")
    before = {path: path.read_bytes() for path in task.root.rglob("*") if path.is_file()}
    ran = cli(*command)
    assert ran.code == 1
    assert "the task sentiment is archived" in ran.err and "the shop is closed" in ran.err
    assert "nlp-skills unarchive sentiment" in ran.err and "\x1b[31m\n" not in ran.err
    now = {path: path.read_bytes() for path in task.root.rglob("*") if path.is_file()}
    assert now == before


@pytest.fixture
def running(task: TaskFolder) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says it trains v1."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    time = dt.datetime.now().astimezone() + dt.timedelta(seconds=1)
    status = RunStatus(
        task="sentiment", version="v1", state="running", pid=process.pid, started=time, updated=time, total_steps=9
    )
    status.save(task.version("v1").status_path)
    yield process
    process.kill()
    process.wait()


def test_a_task_that_is_being_trained_is_not_archived(
    task: TaskFolder, cli: Command, running: subprocess.Popen[bytes]
) -> None:
    before = task.task_path.read_bytes()
    ran = cli("archive")
    assert ran.code == 1
    assert str(running.pid) in ran.err and "v1" in ran.err
    assert task.task_path.read_bytes() == before
    running.kill()
    running.wait()
    assert cli("archive").code == 0  # its last words are still there, and it no longer runs


def test_what_still_answers_is_named(task: TaskFolder, cli: Command) -> None:
    entry = Deployment(target="api", name="http://gpu:8000/sentiment", version="v1", since=files.now())
    deployments.save(task, [entry])
    ran = cli("archive")
    assert ran.code == 0
    assert "http://gpu:8000/sentiment" in ran.err and "v1" in ran.err
