"""What is said of runs: on this computer, on another one, when nothing happens, and in the file they write to."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from nlp_skills import files
from nlp_skills.cli import run_words, watch
from nlp_skills.execution import output
from nlp_skills.schema.version import RunStatus
from nlp_skills.training import run as training_run
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Cli = Callable[..., Ran]
GONE = 2**22 + 1


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    folder = TaskFolder.at(make_task())
    configured(folder, "v1")
    return folder


def configured(folder: TaskFolder, name: str) -> VersionFolder:
    version = folder.version(name)
    version.root.mkdir(parents=True)
    version.config_path.write_text("base_model: none/none\nmethod: sft\n", encoding="utf-8")
    return version


def ran(version: VersionFolder, ago: float = 0, **changes: Any) -> RunStatus:
    """What a run leaves, `ago` seconds after its last word."""
    time = files.now() - dt.timedelta(seconds=ago)
    known = {"task": "sentiment", "version": version.name, "state": "running", "pid": os.getpid(), "started": time,
             "updated": time, "step": 30, "total_steps": 100, "loss": 0.5}  # fmt: skip
    status = RunStatus.model_validate({**known, **changes})
    status.save(version.status_path)
    return status


def test_runs_that_go_on_come_first_and_old_ones_on_request(task: TaskFolder, cli: Cli) -> None:
    day = 86400
    ran(task.version("v1"))
    ended = {"pid": GONE, "state": "completed"}
    ran(configured(task, "v2"), 3600, **ended, metric={"eval_loss": 0.2, "eval_macro_f1": 0.81})
    ran(configured(task, "v3"), 60, pid=GONE)
    ran(configured(task, "v4"), 9 * day, **ended)
    configured(task, "v5").run.mkdir()
    task.version("v5").status_path.write_text("{", encoding="utf-8")
    shown = cli("runs", "--json").json
    assert [(run["version"], run["state"]) for run in shown["runs"]] == [
        ("v1", "running"),
        ("v3", "dead"),
        ("v2", "completed"),
    ]
    assert shown["older"] == 1 and shown["unreadable"][0]["file"].endswith("v5/run/status.json")
    table = cli("runs").out
    assert "loss 0.200, Macro-F1 81.0%" in table and "30/100" in table and "older runs: 1" in table
    assert "not valid JSON" in table
    assert len(cli("runs", "--all", "--json").json["runs"]) == 4
    assert "also running" not in cli("status").out


def test_a_dead_run_came_as_far_as_its_last_whole_checkpoint(task: TaskFolder, cli: Cli) -> None:
    version = task.version("v1")
    ran(version, 60, pid=GONE)
    for step in (40, 45, 50):
        (version.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    for step in (40, 45):
        (version.checkpoints / f"checkpoint-{step}" / runs.COMPLETE).write_text("{}", encoding="utf-8")
    (shown,) = cli("runs", "--json").json["runs"]
    assert (shown["state"], shown["step"], shown["checkpoint"]) == ("dead", 45, 45)
    assert "its process ended at step 45 of 100" in cli("status").out


def test_a_workspace_without_runs(project: Path, cli: Cli) -> None:
    assert cli("runs").out == "no run goes on, and none ended within a week\n"
    assert cli("runs", "--json").json["runs"] == []


def test_a_run_on_another_computer_is_only_heard_of(task: TaskFolder, cli: Cli) -> None:
    version = task.version("v1")
    ran(version, 30, host="gpu-box")
    assert cli("runs", "--json").json["runs"][0]["state"] == "unknown"
    said = cli("status").out
    assert "running on gpu-box, as far as is known: step 30 of 100" in said and "last heard of 30 s ago" in said
    stop = cli("stop")
    assert stop.code == 3 and "runs on gpu-box, as process" in stop.err and "stop it there" in stop.err
    for command in (["archive"], ["resume"]):
        refused = cli(*command)
        assert refused.code == 1 and "v1" in refused.err, command
    assert "on gpu-box" in cli("resume").err

    # Long silent: whatever became of it, nobody waits for it here. It is not called dead either.
    ran(version, 3600, host="gpu-box", pid=GONE)
    assert cli("runs", "--json").json["runs"][0]["state"] == "unknown"
    assert cli("archive").code == 0


def test_a_long_time_without_a_step_is_seen_though_the_heart_beats(task: TaskFolder, cli: Cli) -> None:
    silent = files.now() - dt.timedelta(minutes=4)
    ran(task.version("v1"), stepped=silent, step_seconds=2.0)
    assert "no step for 4 min; a step takes 2 s" in cli("status").out
    assert "no step for 4 min" in cli("runs").out
    assert cli("runs", "--json").json["runs"][0]["no_step_for_seconds"] >= 240
    ran(task.version("v1"), stepped=silent, step_seconds=30.0)
    assert "no step" not in cli("status").out


@pytest.mark.parametrize("state", ["completed", "running"])
def test_nothing_to_stop(task: TaskFolder, cli: Cli, state: str) -> None:
    ran(task.version("v1"), state=state, pid=GONE)
    stopped = cli("stop", "--json")
    assert (stopped.code, stopped.json["error"]["message"]) == (1, "no run of sentiment v1 goes on")


def test_a_run_that_does_not_end_in_time_is_said_to(task: TaskFolder, cli: Cli) -> None:
    deaf = subprocess.Popen([sys.executable, "-c", "import signal, time\n"
                             "signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"],
                            stdout=subprocess.PIPE)  # fmt: skip
    assert deaf.stdout is not None and deaf.stdout.readline()
    ran(task.version("v1"), pid=deaf.pid, updated=files.now() + dt.timedelta(seconds=1))
    waited = cli("stop", "--timeout", 0.3)
    assert waited.code == 1 and "--now" in waited.err
    assert cli("stop", "--now").code == 0
    assert deaf.wait(timeout=10) == -signal.SIGKILL
    ended = task.version("v1").status()
    assert ended is not None and (ended.state, ended.exit_code) == ("interrupted", 137)


@pytest.mark.parametrize("reason", ["disk_full", "out_of_memory", "nan_loss", "diverged", "stalled"])
def test_an_end_that_has_a_name_is_told_with_its_mend(task: TaskFolder, cli: Cli, reason: str) -> None:
    ran(task.version("v1"), pid=GONE, state="failed", reason=reason, message="the loss went \x1b[31mup")
    said = cli("status").out
    assert "the last run failed at step 30 of 100: the loss went \\x1b[31mup" in said
    assert "  cause: " in said and "  mend: " in said
    resumed = cli("resume")
    assert resumed.code == 1
    assert ("would end the same way" in resumed.err) == (reason in ("nan_loss", "diverged"))
    found = cli("runs", "--json").json["runs"][0]
    assert found["reason"] == reason and found["diagnosis"]["mend"] in said
    assert f"failed ({reason})" in cli("runs").out


def test_several_runs_want_a_name(task: TaskFolder, cli: Cli) -> None:
    for name in ("v2", "v3"):
        ran(configured(task, name))
    asked = cli("stop")
    assert asked.code == 1 and "v2, v3" in asked.err and "--version" in asked.err
    assert "v2: running: step 30 of 100" in cli("status").out
    shutil.rmtree(task.version("v3").root)
    assert runs.chosen(task).version.name == "v2"  # type: ignore[union-attr]


def test_reading_commands_write_nothing(task: TaskFolder, cli: Cli) -> None:
    version = task.version("v1")
    ran(version, pid=GONE)
    version.output_path.write_text("hello\n", encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in task.root.rglob("*")}
    for words in (["runs"], ["logs"], ["logs", "-f"], ["status", "--watch"]):
        cli(*words)
    assert {path: path.stat().st_mtime_ns for path in task.root.rglob("*")} == before


def test_logs_are_cut_from_the_end_escaped_and_the_libraries_apart(task: TaskFolder, cli: Cli) -> None:
    version = task.version("v1")
    ran(version, pid=GONE)
    (version.run / "train.log").write_text("a library warns\n", encoding="utf-8")
    terminal = cli("logs")
    assert terminal.out == "a library warns\n" and "started in a terminal" in terminal.err
    lines = [f"line {number} 評論" for number in range(30_000)]
    version.output_path.write_text("\n".join([*lines, "\x1b[31mred", "x" * 5000]) + "\n", encoding="utf-8")
    shown = cli("logs", "-n", 3)
    assert shown.out == f"line 29999 評論\n\\x1b[31mred\n{'x' * 2000}…\n"
    assert cli("logs", "-n", 0).out == ""
    assert len(cli("logs", "--json", "-n", 20_000).json["lines"]) == 20_000
    assert cli("logs", "--libraries").out == "a library warns\n"
    assert cli("logs", "-f", "--json").code == 2


def test_a_log_is_followed_through_a_rewrite_to_the_end_of_its_run(tmp_path: Path) -> None:
    path, going = tmp_path / "output.log", threading.Event()
    path.write_bytes(b"one\ntw")
    going.set()

    def write() -> None:
        for content, mode in ((b"o\n\xe8\xa9", "ab"), (b"\x95\n", "ab"), (b"new\n", "wb"), (b"last", "ab")):
            time.sleep(0.6)
            with open(path, mode) as stream:
                stream.write(content)
        going.clear()

    lines, end = output.tail(path, 1)
    assert (lines, end) == (["tw"], 6)
    writer = threading.Thread(target=write)
    writer.start()
    assert list(output.follow(path, 4, going.is_set)) == ["two", "評", "new", "last"]
    writer.join()


def test_the_heart_beats_within_a_step_and_survives_what_it_cannot_write(
    task: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "HEARTBEAT_SECONDS", 0.3)
    version = task.version("v1")
    recorder = training_run.Recorder(version, "sentiment", step=0, started=None, seconds=0.0)
    recorder.begin_step()
    before = threading.active_count()
    shutil.rmtree(version.run)
    version.run.write_text("a file where the folder was", encoding="utf-8")
    time.sleep(1.5)
    version.run.unlink()
    time.sleep(1.5)
    seen = version.status()
    assert seen is not None and seen.updated > seen.started, "it was written again, by nobody else"
    assert runs.alive(seen) and seen.host is not None and seen.group is None

    recorder.step(1, 10, 0.1, 9.0)
    ended = recorder.end("failed", "why", exit_code=3)
    assert (ended.exit_code, ended.step) == (3, 1)
    assert ended.step_seconds is not None and ended.step_seconds > 2.5
    time.sleep(1.5)
    assert version.status() == ended
    assert threading.active_count() < before


def test_the_speed_leaves_out_what_lies_between_steps() -> None:
    pace = training_run.Pace()
    for number in range(1, 4):
        pace.begin((number - 1) * 100)
        time.sleep(0.05)
        pace.end()
        time.sleep(0.2)
        speed = pace.tokens_per_second(number * 100)
    assert speed is not None and 700 < speed <= 2000


def test_words_for_time_and_a_curve_of_blocks() -> None:
    spans = {0.25: "0.2 s", 5.0: "5 s", 42: "42 s", 600: "10 min", 12000: "3 h 20 min", 190_000: "2 d 4 h"}
    assert {seconds: run_words.span(seconds) for seconds in spans} == spans
    assert watch.spark([4, 3, 2, 1]) == "█▆▃▁" and watch.spark([]) == "" and watch.spark([1, 1]) == "▁▁"
    assert len(watch.spark([float(n) for n in range(1000)])) <= 40
