"""Two commands on one task: one changes it, the other waits and says so; readers never wait."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import invariants
import made_versions
import pytest
from conftest import Ran

from nlp_skills.workspace import versions
from nlp_skills.workspace.folder import TaskFolder

PROGRAM = [sys.executable, "-m", "nlp_skills.cli.main"]
_HOLDER = """
import sys, time
from pathlib import Path
from nlp_skills.workspace import lock
from nlp_skills.workspace.folder import TaskFolder
with lock.writing(TaskFolder.at(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    versions.new_version(folder, changes=["epochs 2 → 3"], settings={"epochs": 3})
    made_versions.finish(folder, "v2")
    return folder


@pytest.fixture
def held(task: TaskFolder) -> Iterator[Callable[[float], None]]:
    """Another process has the task for some seconds."""
    started: list[subprocess.Popen[str]] = []

    def hold(seconds: float) -> None:
        command = [sys.executable, "-c", _HOLDER, str(task.root), str(seconds)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stream = started[-1].stdout
        assert stream is not None and stream.readline() == "held\n"

    yield hold
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "command",
    [
        ["new-version", "--set", "epochs=7"],
        ["rollback", "v1"],
        ["archive"],
        ["cleanup", "--yes"],
        ["plan", "new", "faster answers"],
    ],
    ids=lambda words: " ".join(words),
)
def test_the_second_waits_and_says_so(
    task: TaskFolder, held: Callable[[float], None], cli: Callable[..., Ran], command: list[str]
) -> None:
    held(0.7)
    started = time.monotonic()
    ran = cli(*command, "--json")
    assert ran.code == 0, ran.err
    assert "another command is changing this task; waiting" in ran.err
    assert time.monotonic() - started > 0.3
    assert isinstance(ran.json, dict)


@pytest.mark.parametrize("command", [["tasks"], ["history"], ["compare", "v1", "v2"], ["du"], ["cleanup", "--dry-run"]])
def test_readers_do_not_wait(
    task: TaskFolder, held: Callable[[float], None], cli: Callable[..., Ran], command: list[str]
) -> None:
    held(30)
    ran = cli(*command, "--json")
    assert ran.code == 0, ran.err
    assert "waiting" not in ran.err


def test_many_new_versions_at_once_are_made_one_after_the_other(task: TaskFolder) -> None:
    commands = [[*PROGRAM, "new-version", str(task.root), "--set", f"epochs={n}", "--json"] for n in range(4, 9)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for words in commands]
    assert [process.wait(timeout=60) for process in running] == [0] * 5
    assert task.version_names() == ["v1", "v2", "v3", "v4", "v5", "v6", "v7"]
    invariants.hold(task.root)
