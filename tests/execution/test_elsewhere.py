"""A run on a server over a real SSH link is the same run: the same bits and the same records."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Ran
from fixtures_ssh import Far

from nlp_skills.schema import yaml
from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.workspace import remote_jobs
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
Cli = Callable[..., Ran]
PROGRAM = [sys.executable, "-m", "nlp_skills.cli.main"]
# 5 steps an epoch, a checkpoint after each.
SHORT = {"epochs": 4, "batch_size": 5, "gradient_accumulation": 2}
ENDLESS = {**SHORT, "epochs": 1000}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.fixture
def away(ready: Ready, far: Far) -> Iterator[Ready]:
    """As `ready`, to be run on the server; whatever runs there is ended with the test."""

    def make(**settings: Any) -> TaskFolder:
        folder = ready(**settings)
        send_to(folder, far)
        return folder

    yield make
    for path in far.workdir.glob("jobs/*/keeper.json"):
        with_suppress_kill(json.loads(path.read_text())["group"])


def with_suppress_kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def send_to(folder: TaskFolder, far: Far, **more: Any) -> None:
    execution = {"type": "remote_ssh", "host": far.host, "workdir": str(far.workdir), "python": sys.executable, **more}
    yaml.change(folder.task_path, {("execution",): execution})


def kept(folder: TaskFolder, step: Step = "train") -> RemoteJob:
    job = remote_jobs.of(folder, step, "v1")
    assert job is not None
    return job


def until(ready: Callable[[], Any], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < limit, "it did not get that far"
        time.sleep(0.02)


def client(*words: object) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, words)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def bits(folder: TaskFolder) -> dict[str, bytes]:
    """What a version is: its weights, what it answered, and the losses of every step."""
    version = folder.version("v1")
    found = {path.name: path.read_bytes() for path in sorted(version.adapter.iterdir())}
    lines = [json.loads(line) for line in version.metrics_path.read_text().splitlines()]
    found["losses"] = json.dumps([[line["step"], line.get("loss")] for line in lines]).encode()
    if version.predictions_path.is_file():
        given = [json.loads(line) for line in version.predictions_path.read_text().splitlines()]
        found["predictions"] = json.dumps([{**row, "latency_seconds": None} for row in given]).encode()
    return found


def test_train_evaluate_and_report_are_those_of_this_machine(ready: Ready, furnished: Far, cli: Cli) -> None:
    far = furnished
    folder = ready(**SHORT)
    assert cli("train", folder.root).code == 0
    assert cli("evaluate", folder.root, "--baselines", "majority").code == 0
    here, measured = bits(folder), folder.version("v1").results()
    folder.root.rename(folder.root.with_name("local"))
    folder = ready(**SHORT)
    send_to(folder, far)
    trained = cli("train", folder.root, "--json")
    assert trained.code == 0, trained
    assert (trained.json["ok"], trained.json["state"]) == (True, "completed")
    evaluated = cli("evaluate", folder.root, "--baselines", "majority")
    assert evaluated.code == 0, evaluated
    assert str(far.workdir) not in trained.out + evaluated.out
    assert bits(folder) == here
    version, found = folder.version("v1"), folder.version("v1").results()
    assert found is not None and measured is not None
    assert (found.metrics, found.intervals) == (measured.metrics, measured.intervals)
    status, lineage = version.status(), version.lineage()
    assert status is not None and (status.state, status.place) == ("completed", far.host)
    assert lineage is not None and lineage.run is not None and lineage.run.place == far.host
    assert lineage.results is not None and lineage.model is not None and lineage.data is not None
    assert folder.task().status == "evaluating"
    assert (folder.root / "models" / "current" / "adapter_model.safetensors").is_file()
    assert cli("report", folder.root).code == 0
