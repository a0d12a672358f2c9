"""What runs on rented machines, run here: two that share nothing, both lost and replaced from the bucket."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_cloud import Rented, on_cloud, pause
from fixtures_sql import free_port
from fixtures_training import CONFIG

from nlp_skills.training import run
from nlp_skills.training import train as training
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
SHORT: dict[str, Any] = {**CONFIG, "epochs": 3, "batch_size": 4, "gradient_accumulation": 2}
FIGURES = ("step", "loss", "grad_norm", "eval_loss", "learning_rate", "tokens")


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.fixture
def rent(tmp_path: Path) -> Iterator[Callable[..., Rented]]:
    """Rent machines for a task; those that are left at the end are taken back."""
    every: list[Rented] = []

    def one(folder: TaskFolder) -> Rented:
        disk = tmp_path / f"machine {len(every)}"
        disk.mkdir()
        every.append(Rented(disk, folder, tmp_path / "bucket"))
        return every[-1]

    yield one
    for machine in every:
        if machine.disk.exists():
            machine.lose()


def figures(folder: TaskFolder) -> list[dict[str, Any]]:
    return [{name: line.get(name) for name in FIGURES} for line in run.metrics(folder.version("v1"))]


def adapter(folder: TaskFolder) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder.version("v1").adapter / "adapter_model.safetensors")


def same_bits(one: TaskFolder, other: TaskFolder) -> None:
    before, after = adapter(one), adapter(other)
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)
    assert figures(one) == figures(other)


def wait_for(found: Callable[[], object], machine: Rented, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert machine.process is not None and machine.process.poll() is None, machine.log()
        assert time.monotonic() < until, machine.log()
        time.sleep(0.02)


def test_two_machines_that_share_nothing_learn_what_two_processes_do(ready: Ready, rent: Callable[..., Rented]) -> None:
    folder = on_cloud(ready(train=50, **{**SHORT, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}}), nodes=2)
    cut = two(rent, folder)
    bucket = cut[0].bucket / "v1"
    wait_for(lambda: all(runs.last_checkpoint(one.folder.version("v1").checkpoints) for one in cut), cut[0])
    for machine in cut:
        pause(machine.disk)
    wait_for(lambda: [path for path in bucket.glob("checkpoint-*") if len(list(path.glob("whole-*"))) == 2], cut[0])
    for machine in cut:
        machine.lose()
    used = json.loads((cut[0].bucket / "budget-two.json").read_text())["hours"]
    again = two(rent, folder)
    for machine in again:
        assert machine.process is not None
        assert machine.process.wait(300) == 0, machine.log()
        assert "going on from checkpoint-" in machine.log()
    same_bits(alone_on_two(folder), again[0].folder)
    job = again[0].workdir / "jobs" / "two"
    assert json.loads((job / "exit.json").read_text())["exit_code"] == 0
    assert "v1 is trained" in (job / "out.log").read_text() and "v1 is trained" in again[0].log()
    assert json.loads((again[0].bucket / "budget-two.json").read_text())["hours"] > used > 0, "both times count"
    other = again[1].folder.version("v1")
    assert not other.adapter.exists() and not other.checkpoints.exists(), "the first machine keeps the records"


def alone_on_two(folder: TaskFolder) -> TaskFolder:
    """The same training by two processes on this machine."""
    local = TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / "alone"))
    text = local.task_path.read_text().partition("execution:")[0]
    local.task_path.write_text(f"{text}execution: {{gpus: 2}}\n")
    assert training.train(local).state == "completed"
    return local


def two(rent: Callable[..., Rented], folder: TaskFolder, **more: str) -> list[Rented]:
    """Two machines of one training; `more` is what only the second one is told."""
    port, machines = str(free_port()), [rent(folder), rent(folder)]
    for number, machine in enumerate(machines):
        given = more if number else {}
        machine.start(number=number, nodes=2, NLP_SKILLS_JOB="two", MASTER_PORT=port, **given)
    return machines


def test_what_one_machine_breaks_on_is_said_by_the_first(ready: Ready, rent: Callable[..., Rented]) -> None:
    folder = on_cloud(ready(train=50, **SHORT), nodes=2)
    base = folder.version("v1").config().base_model
    first, second = two(rent, folder, NLP_SKILLS_MODELS=json.dumps({base: "/nowhere"}))
    assert first.process is not None and second.process is not None
    assert first.process.wait(300) == 3 and second.process.wait(300) != 0, first.log()
    assert "/nowhere: this folder is not a base model" in first.log() and "Traceback" not in first.log()
    status = first.folder.version("v1").status()
    assert status is not None and (status.state, status.exit_code) == ("failed", 3)
