"""A run of its own: it outlives who started it, leaves the task usable, and goes on after any end to the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import Ran, write_rows
from fixtures_training import moved_reviews

from nlp_skills.errors import Invalid
from nlp_skills.execution import detached
from nlp_skills.schema.version import RunStatus
from nlp_skills.training import train as training
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Ready = Callable[..., TaskFolder]
Cli = Callable[..., Ran]
PROGRAM = [sys.executable, "-m", "nlp_skills.cli.main"]
# 5 steps an epoch, a checkpoint after each, dropout on.
SHORT = {"epochs": 12, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}, "batch_size": 5, "gradient_accumulation": 2}
# More steps than any test waits for.
ENDLESS = {**SHORT, "epochs": 1000}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.fixture(autouse=True)
def _nothing_stays(project: Path) -> Iterator[None]:
    yield
    for path in project.glob("*/versions/*/run/status.json"):
        status = RunStatus.load(path)
        if runs.alive(status) and status.pid != os.getpid():
            kill_all(status)


def kill_all(status: RunStatus) -> None:
    """SIGKILL for the run and everything of it, its keeper too, as a machine that loses its power does."""
    assert status.group is not None and status.group not in (0, os.getpgrp())
    os.killpg(status.group, signal.SIGKILL)
    until(lambda: not runs.alive(status))


def until(ready: Callable[[], Any], seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < limit, "it did not get that far"
        time.sleep(0.02)


def until_step(version: VersionFolder, step: int) -> None:
    until(lambda: any(line["step"] >= step for line in runs.metrics(version)))


def status_of(version: VersionFolder) -> RunStatus:
    status = version.status()
    assert status is not None
    return status


def weights(folder: TaskFolder) -> bytes:
    return (folder.version("v1").adapter / "adapter_model.safetensors").read_bytes()


def test_killed_at_any_step_a_detached_run_ends_in_the_same_bits(ready: Ready, cli: Cli) -> None:
    folder = ready(train=50, **SHORT)
    straight = TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / "straight"))
    version = folder.version("v1")
    moments = sorted(random.Random(5).sample(range(7, 45), 3))
    command = "train"
    for step in moments:
        started = cli(command, folder.root, "--detach", "--json")
        assert started.code == 0, started.err
        assert started.json["state"] == "running" and started.json["pid"] == status_of(version).pid
        until_step(version, step)
        if step == moments[1]:
            stop_at_once(folder, cli)
        else:
            kill_all(status_of(version))
            assert cli("runs", "--json").json["runs"][0]["state"] == "dead"
            assert "training (dead)" in cli("tasks").out
        # A checkpoint that was being written when the power went is newer, and no use.
        (version.checkpoints / "checkpoint-59").mkdir(exist_ok=True)
        if step == moments[0]:
            refuses_other_data(folder, cli)
        command = "resume"
    assert cli("resume", folder.root, "--detach").code == 0
    # While it learns, the task stands with another version for a time.
    assert cli("new-version", folder.root, "--set", "epochs=1").code == 0
    assert cli("rollback", folder.root, "v1").code == 0
    watched = cli("status", folder.root, "--watch", "--interval", 0.5)
    assert watched.code == 0
    assert "sentiment v1, step 60 of 60, loss " in watched.out
    assert "the last run was completed: step 60 of 60" in watched.out
    assert status_of(version).exit_code == 0
    until(lambda: not (folder.state / "lock.json").exists())
    assert (folder.task().version, folder.task().status) == ("v1", "evaluating")
    assert (folder.root / "models" / "current").resolve() == version.model
    complete = cli("resume", folder.root)
    assert complete.code == 1 and "nlp-skills evaluate sentiment --version v1" in complete.err
    assert "trained already" in cli("train", folder.root, "--detach").out

    assert training.train(straight).state == "completed"
    assert weights(folder) == weights(straight)
    figures = ("step", "loss", "eval_loss", "tokens")
    lines = [[{key: line.get(key) for key in figures} for line in runs.metrics(each.version("v1"))]
             for each in (folder, straight)]  # fmt: skip
    assert lines[0] == lines[1], "no step twice, none missing"


def stop_at_once(folder: TaskFolder, cli: Cli) -> None:
    """As a kill, by a command, which records it."""
    stopped = cli("stop", folder.root, "--now", "--json")
    assert stopped.code == 0, stopped.out
    assert (stopped.json["state"], stopped.json["exit_code"]) == ("interrupted", 137)
    assert 5 <= stopped.json["checkpoint"] <= stopped.json["step"]
    keeper = Path(f"/proc/{stopped.json['group']}/stat")
    assert not keeper.exists() or keeper.read_text().rpartition(")")[2].split()[0] == "Z", "its keeper is gone too"
    assert folder.task().status == "configuring"
    assert cli("status", folder.root, "--json").json["run"]["state"] == "interrupted"


def refuses_other_data(folder: TaskFolder, cli: Cli) -> None:
    """As long as the rows are not those of the run, it does not go on."""
    kept = folder.split("train").read_bytes()
    write_rows(folder.split("train"), moved_reviews(50, start=200))
    refused = cli("resume", folder.root, "--detach")
    assert refused.code == 1 and "data/train.jsonl" in refused.err
    folder.split("train").write_bytes(kept)


def test_a_run_outlives_its_terminal_and_leaves_the_task_usable(
    ready: Ready, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ready(train=50, **ENDLESS)
    version = folder.version("v1")
    monkeypatch.setenv("SOME_TOKEN", "hush-hush")
    words = " ".join([*PROGRAM, "train", "--detach"])
    terminal = pexpect.spawn("sh", ["-c", f"{words}; sleep 100"], env=dict(os.environ), encoding="utf-8", timeout=300)
    terminal.expect(r"trained by process (\d+)")
    pid = int(terminal.match.group(1))
    assert status_of(version).pid == pid
    os.killpg(terminal.pid, signal.SIGHUP)
    terminal.close(force=True)
    os.kill(pid, signal.SIGHUP)
    until(lambda: status_of(version).metric and status_of(version).tokens_per_second)

    proc = Path(f"/proc/{pid}")
    assert os.getsid(pid) == status_of(version).group != terminal.pid
    assert proc.joinpath("stat").read_text().rpartition(")")[2].split()[4] == "0", "it has no terminal"
    assert proc.joinpath("fd/0").readlink() == Path("/dev/null")
    assert {proc.joinpath(f"fd/{number}").readlink() for number in (1, 2)} == {version.output_path}
    assert proc.joinpath("cwd").readlink() == folder.root
    assert "hush-hush" not in proc.joinpath("cmdline").read_text()
    assert "SOME_TOKEN=hush-hush" in proc.joinpath("environ").read_text()

    is_seen_everywhere(folder, cli, pid)
    is_watched_and_left_alone(pid)
    lets_others_work(folder, cli)
    assert runs.alive(status_of(version))

    assert "nlp-skills train sentiment v1" in cli("logs", folder.root, "--version", "v1", "-n", 1000).out
    stopped = cli("stop", folder.root, "--version", "v1", "--json")
    assert stopped.code == 0, stopped.out
    assert stopped.json["state"] == "interrupted" and stopped.json["step"] == stopped.json["checkpoint"]
    assert stopped.json["exit_code"] == 130
    assert (cli("stop", folder.root, "--version", "v1").code, folder.task().status) == (1, "configuring")
    assert cli("status", folder.root).out.splitlines()[-1] != "next: nlp-skills status --watch"
    followed = cli("logs", folder.root, "--version", "v1", "-f")
    assert "stopping after this step" in followed.out and "checkpoint saved" in followed.out


def is_seen_everywhere(folder: TaskFolder, cli: Cli, pid: int) -> None:
    (listed,) = cli("runs", "--json").json["runs"]
    assert [listed[key] for key in ("task", "version", "kind", "state")] == ["sentiment", "v1", "train", "running"]
    assert listed["pid"] == pid and listed["total_steps"] == 5000 and listed["loss"] > 0
    assert listed["eta_seconds"] > 0 and listed["memory_gb"] > 0.1 and listed["tokens_per_second"] > 0
    assert listed["metric"]["eval_loss"] > 0 and listed["no_step_for_seconds"] is None
    assert "running" in cli("runs").out and "/5000" in cli("runs").out
    assert "running: step " in cli("status", folder.root).out
    assert "training" in cli("tasks").out and "dead" not in cli("tasks").out
    again = cli("train", folder.root)
    assert again.code == 1 and f"being trained by process {pid}" in again.err and "nlp-skills stop" in again.err
    assert cli("resume", folder.root).code == 1
    archived = cli("archive", folder.root)
    assert archived.code == 1 and str(pid) in archived.err


def is_watched_and_left_alone(pid: int) -> None:
    """The screen of `status --watch`, ended with Ctrl-C."""
    screen = pexpect.spawn(
        PROGRAM[0], [*PROGRAM[1:], "status", "--watch"], env=dict(os.environ), encoding="utf-8", timeout=60
    )
    screen.expect("of 5000")
    screen.expect("tokens/s")
    screen.sendintr()
    screen.expect("the run goes on")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 130
    os.kill(pid, 0)


def lets_others_work(folder: TaskFolder, cli: Cli) -> None:
    """Whatever does not touch the running version's files."""
    made = cli("new-version", folder.root, "--set", "epochs=1")
    assert made.code == 0, made.err
    assert (folder.task().version, folder.task().status) == ("v2", "configuring")
    trained = cli("train", folder.root, "--json")
    assert trained.code == 0, trained.err
    assert "also running on this machine" in trained.err and "sentiment v1" in trained.err
    assert folder.task().status == "evaluating"
    assert cli("evaluate", folder.root, "--no-base-baseline").code == 0
    refused = cli("evaluate", folder.root, "--version", "v1")
    assert refused.code == 1 and "v1" in refused.err
    assert cli("use", folder.root).code == 0
    assert cli("cleanup", folder.root, "--yes").code == 0
    assert (folder.root / "models" / "checkpoints" / "v1").is_dir()

    back = cli("rollback", folder.root, "v1")
    assert back.code == 0, back.err
    assert (folder.task().version, folder.task().status) == ("v1", "training")
    assert cli("status", folder.root).out.splitlines()[-1].startswith("next: nlp-skills")
    regenerated = cli("regenerate", folder.root)
    assert regenerated.code == 0, regenerated.err
    restored = cli("data", "restore", folder.root, "v1")
    assert restored.code == 0, restored.err
    assert cli("validate", folder.root).code == 0


def test_what_is_wrong_is_said_before_anything_is_started(ready: Ready, cli: Cli) -> None:
    folder = ready(train=24, max_length=30)
    refused = cli("train", folder.root, "--detach", "--json")
    assert refused.code == 1 and "max_length" in refused.json["error"]["message"]
    assert not folder.version("v1").run.exists()
    nothing = cli("resume", folder.root)
    assert nothing.code == 1 and "nlp-skills train sentiment --version v1" in nothing.err
    assert cli("logs", folder.root).code == 1
    assert cli("status", folder.root, "--watch").code == 1


def test_a_run_that_ends_before_it_began_is_shown_with_its_words(ready: Ready, cli: Cli) -> None:
    folder = ready(train=24)
    folder.split("train").unlink()
    version = folder.version("v1")
    with pytest.raises(Invalid, match="ended before its first step, with exit code 1") as refused:
        detached.start(folder, version, ["train", str(folder.root), "--version", "v1"])
    assert "there is no data to train on" in str(refused.value.cause)
    shown = cli("logs", folder.root)
    assert shown.code == 0 and "there is no data to train on" in shown.out


DYING = """
import ctypes, sys, time
from pathlib import Path
from nlp_skills.training.run import Recorder
from nlp_skills.workspace.folder import TaskFolder
recorder = Recorder(TaskFolder(Path(sys.argv[1])).version("v1"), "sentiment", step=0, started=None, seconds=0)
time.sleep(1)
recorder.step(3, 10, None, None)
ctypes.string_at(0)
"""


def test_a_crash_of_a_library_is_recorded_by_the_keeper(ready: Ready, cli: Cli) -> None:
    folder = ready(train=24)
    (folder.version("v1").run).mkdir()
    words = [sys.executable, "-m", "nlp_skills.execution.keeper", folder.root, "v1", runs.GROUP, sys.executable, "-c"]
    done = subprocess.run([*map(str, words), DYING, str(folder.root)], start_new_session=True, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 128 + signal.SIGSEGV, done.stderr
    status = json.loads(folder.version("v1").status_path.read_text())
    assert (status["state"], status["exit_code"]) == ("dead", 139)
    shown = cli("status", folder.root)
    assert "the last run is dead: its process ended at step 3 of 10: the process was ended by SIGSEGV" in shown.out
