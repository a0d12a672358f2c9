"""version-tracking about runs on other machines, started as Claude Code starts it."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_ssh import Far
from hook_events import fire, write_digest

from nlp_skills.schema import yaml
from nlp_skills.workspace import remote_jobs
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task("sentiment")
    write_digest(root)
    return root


def ago(minutes: float) -> str:
    return (dt.datetime.now().astimezone() - dt.timedelta(minutes=minutes)).isoformat()


def sent(task: Path, state: str, step: str = "train", version: str = "v1", **more: Any) -> None:
    """The note of a job, as the command line keeps it."""
    job = {"id": "train-v1-0", "type": "remote_ssh", "step": step, "version": version, "place": "lin@gpu-server",
           "host": "lin@127.0.0.1:9", "workdir": "/home/lin/nlp-skills", "folder": "/home/lin/nlp-skills/tasks/s",
           "state": state, "created": ago(30), "seen": ago(12)}  # fmt: skip
    folder = task / ".nlp-skills" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step}-{version}.json").write_text(json.dumps({**job, **more}), encoding="utf-8")


def status(task: Path, state: str = "running", **more: Any) -> None:
    known = {"task": task.name, "version": "v1", "kind": "train", "state": state, "pid": 2**22 + 7, "host": None,
             "place": "lin@gpu-server", "started": ago(30), "updated": ago(12), "step": 40,
             "total_steps": 300}  # fmt: skip
    folder = task / "versions" / "v1" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({**known, **more}), encoding="utf-8")


def python_that_tells(tmp_path: Path) -> tuple[Path, Path]:
    """The interpreter, which also writes down what it was asked to run."""
    log, program = tmp_path / "asked.log", tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {sys.executable} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program, log


def looks(log: Path) -> int:
    return sum(line.endswith("runs --fetch --json") for line in log.read_text(encoding="utf-8").splitlines())


def test_whoever_opens_the_project_hears_what_goes_on_elsewhere(task: Path) -> None:
    sent(task, "running", trouble="no route to host")
    status(task)
    said = fire("version_tracking", "SessionStart", task.parent)
    assert said.lines == [
        "[nlp-skills] sentiment v1: training goes on, on lin@gpu-server",
        "at step 40 of 300",
        "last heard of 12 min ago",
        "it could not be reached then: no route to host",
        "next command: nlp-skills status sentiment",
    ]


def test_each_state_of_a_job_has_its_words_and_what_is_over_has_none(task: Path) -> None:
    sent(task, "starting", seen=None)
    sent(task, "ended", "evaluate", "v2")
    sent(task, "fetched", "regenerate", "v2")
    said = fire("version_tracking", "SessionStart", task.parent)
    assert said.lines[0] == (
        "[nlp-skills] sentiment v1: evaluation has ended on lin@gpu-server; what it made is not fetched yet"
    ).replace("v1", "v2")
    assert "sentiment v1: training is on its way to lin@gpu-server and not running there yet" in said.lines
    assert "next command: nlp-skills status sentiment --version v2" in said.lines
    assert not [line for line in said.lines if "regeneration" in line]


def test_in_chinese(task: Path) -> None:
    sent(task, "running")
    said = fire("version_tracking", "SessionStart", task.parent, NLP_SKILLS_LANG="zh-TW")
    assert said.lines[:2] == [
        "[nlp-skills] sentiment v1：訓練正在 lin@gpu-server 上執行",
        "最後一次取得消息：12 分鐘前",
    ]


def test_a_run_that_was_sent_away_is_not_dead_because_its_process_is_not_here(task: Path) -> None:
    status(task)
    assert fire("version_tracking", "Stop", task.parent).out == ""
    status(task, "completed", ended=ago(0), loss=0.2, step=300)
    said = fire("version_tracking", "Stop", task.parent)
    assert said.person == "[nlp-skills] sentiment v1: training completed, not evaluated yet"


def test_one_look_at_a_time_is_started_and_nobody_waits_for_it(task: Path, tmp_path: Path) -> None:
    program, log = python_that_tells(tmp_path)
    sent(task, "running")

    def at_stop(_time: int) -> str:
        return fire("version_tracking", "Stop", task.parent, NLP_SKILLS_PYTHON=str(program)).out

    with ThreadPoolExecutor(4) as several:
        assert set(several.map(at_stop, range(4))) == {""}
    for _wait in range(50):
        if looks(log):
            break
        time.sleep(0.1)
    assert looks(log) == 1
    fire("version_tracking", "SessionStart", task.parent, NLP_SKILLS_PYTHON=str(program))
    assert looks(log) == 1  # not again within a minute


def test_where_nothing_goes_on_elsewhere_nobody_is_asked(task: Path, tmp_path: Path) -> None:
    program, log = python_that_tells(tmp_path)
    sent(task, "fetched")
    sent(task, "lost", "evaluate")
    assert fire("version_tracking", "SessionStart", task.parent, NLP_SKILLS_PYTHON=str(program)).out == ""
    assert looks(log) == 0
    assert not (task / ".nlp-skills" / "look.lock").exists()


@pytest.mark.parametrize("content", ["[]", "{", '{"state": "running", "version": 7, "place": ["<x>"], "seen": 3}'])
def test_notes_that_are_none_do_no_harm(content: str, task: Path) -> None:
    sent(task, "fetched")
    (task / ".nlp-skills" / "jobs" / "train-v1.json").write_text(content, encoding="utf-8")
    said = fire("version_tracking", "SessionStart", task.parent, NLP_SKILLS_HOOKS="debug")
    assert (said.code, said.err) == (0, "")
    assert "<" not in "".join(said.lines)


def test_the_end_of_a_run_elsewhere_comes_home_by_the_look_and_the_next_event_tells_it(
    ready: Callable[..., TaskFolder], furnished: Far, cli: Callable[..., Ran]
) -> None:
    far = furnished
    folder = ready(train=16, epochs=1)
    execution = {"type": "remote_ssh", "host": far.host, "workdir": str(far.workdir), "python": sys.executable}
    yaml.change(folder.task_path, {("execution",): execution})
    assert cli("train", folder.root, "--detach").code == 0
    project = folder.root.parent
    said = fire("version_tracking", "SessionStart", project)
    assert said.person == f"[nlp-skills] sentiment v1: training goes on, on {far.host}"
    for _look in range(300):
        os.utime(folder.state / "look.lock", (0, 0))  # as if a minute had passed
        said = fire("version_tracking", "Stop", project)
        if said.out:
            break
        time.sleep(0.5)
    assert said.person == "[nlp-skills] sentiment v1: training completed, not evaluated yet"
    assert folder.version("v1").model is not None
    lineage = folder.version("v1").lineage()
    assert lineage and lineage.run and lineage.run.place == far.host
    assert (lineage.run.gpu_hours, lineage.run.cost_usd) == (None, None)  # on a processor, for nothing
    for _wait in range(50):
        if not remote_jobs.open_ones(folder):
            break
        time.sleep(0.2)
    assert remote_jobs.open_ones(folder) == []
    assert fire("version_tracking", "SessionStart", project).out == ""
