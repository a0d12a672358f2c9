"""Two processes learn what one does, stop and go on as one would, and end together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_training import CONFIG

from nlp_skills.schema import yaml
from nlp_skills.training import run
from nlp_skills.training import train as training
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
# 50 rows and steps of 8: an epoch's last step has two rows for two processes, and valid's 12 rows are no whole round.
SHORT: dict[str, Any] = {**CONFIG, "epochs": 3, "batch_size": 4, "gradient_accumulation": 2}
FIGURES = ("step", "loss", "grad_norm", "eval_loss", "learning_rate", "tokens")


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def on_two(folder: TaskFolder) -> TaskFolder:
    """The same task, to be trained by two processes."""
    yaml.change(folder.task_path, {("execution",): {"gpus": 2}})
    return folder


def copy(folder: TaskFolder, name: str) -> TaskFolder:
    return TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / name))


def figures(folder: TaskFolder) -> list[dict[str, Any]]:
    return [{name: line.get(name) for name in FIGURES} for line in run.metrics(folder.version("v1"))]


def tensors(folder: TaskFolder) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder.version("v1").adapter / "adapter_model.safetensors")


def under_torchrun(folder: TaskFolder) -> subprocess.CompletedProcess[str]:
    """`nlp-skills train` as a launcher of several processes starts it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "nlp_skills.cli.main", "train", str(folder.root)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


@contextlib.contextmanager
def meanwhile(folder: TaskFolder, lines: int, act: Callable[[], None]) -> Iterator[None]:
    """Do something, beside the training in the block, once so many lines are in metrics.jsonl."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if len(run.metrics(folder.version("v1"))) >= lines:
                act()
                break

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def ranks() -> list[int]:
    """The processes that this one has started for a training, in their order."""
    listed = [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return sorted(pid for pid in listed if "nlp_skills.training.rank" in Path(f"/proc/{pid}/cmdline").read_text())


def test_two_processes_learn_what_one_does_and_go_on_as_if_never_stopped(ready: Ready, cli: Callable[..., Ran]) -> None:
    one = ready(train=50, **SHORT)
    two, stopped = on_two(copy(one, "two")), on_two(copy(one, "stopped"))
    assert training.train(one).state == "completed"
    status = training.train(two)
    assert (status.state, status.step, status.total_steps) == ("completed", 21, 21)
    assert status.processes == 2 and status.metric == {"eval_loss": figures(two)[-1]["eval_loss"]}
    assert status.pid == os.getpid(), "who was started keeps the record"
    alike(one, two)
    recorded(one, two)

    stop_half_way(stopped, cli)
    again = under_torchrun(stopped)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("v1 is trained") == 1, "one of them speaks"
    whole, cut = tensors(two), tensors(stopped)
    assert all((whole[name] == cut[name]).all() for name in whole), "bit for bit"
    assert figures(stopped) == figures(two)


def alike(one: TaskFolder, two: TaskFolder) -> None:
    """The same curve and the same weights, but for the last digits."""
    import torch

    alone, shared = figures(one), figures(two)
    assert [line["step"] for line in shared] == [line["step"] for line in alone], "each step is recorded once"
    assert [line["tokens"] for line in shared] == [line["tokens"] for line in alone], "no row twice"
    for name in ("loss", "eval_loss", "grad_norm"):
        expected = [line[name] for line in alone if line[name] is not None]
        assert [line[name] for line in shared if line[name] is not None] == pytest.approx(expected, rel=1e-4), name
    before, after = tensors(one), tensors(two)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)


def recorded(one: TaskFolder, two: TaskFolder) -> None:
    """What several processes leave is what one leaves."""
    lineage, alone = two.version("v1").lineage(), one.version("v1").lineage()
    assert lineage is not None and lineage.run is not None and alone is not None and alone.run is not None
    assert (lineage.run.processes, lineage.run.micro_batch, lineage.run.steps) == (2, 4, 21)
    assert lineage.run.final_loss == pytest.approx(alone.run.final_loss, rel=1e-3)
    assert lineage.run.peak_memory_gb and lineage.model is not None and lineage.model.adapter_path
    info = two.version("v1").model_info()
    assert info is not None and info.trainable_parameters == sum(tensor.numel() for tensor in tensors(two).values())
    assert not two.version("v1").checkpoints.exists() and not (two.version("v1").run / "ranks").exists()
    assert [move.to for move in two.task().history] == ["training", "evaluating"]


def stop_half_way(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    version = folder.version("v1")
    with meanwhile(folder, 9, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        ran = cli("train", folder.root)
    assert ran.code == 130, ran.err
    assert "stopping after this step" in ran.err and "checkpoint saved" in ran.out
    status = version.status()
    assert status is not None and status.state == "interrupted" and 8 <= status.step < 21
    assert sorted(path.name for path in version.checkpoints.glob("*/rng_state_*.pth"))[-1] == "rng_state_1.pth"
    assert not version.adapter.exists()


def test_a_process_that_dies_ends_the_run_in_words(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = on_two(ready(train=50, **{**SHORT, "epochs": 20}))
    found: list[int] = []

    def kill_the_second() -> None:
        found.extend(ranks())
        os.kill(found[1], signal.SIGKILL)

    with meanwhile(folder, 9, kill_the_second):
        ran = cli("train", folder.root)
    assert ran.code == 3 and len(found) == 2, ran.err
    assert "process 1 of this training died" in ran.err and "SIGKILL" in ran.err and "Traceback" not in ran.err
    status = folder.version("v1").status()
    assert status is not None and (status.state, status.reason) == ("failed", "process_died")
    assert folder.task().status == "configuring"
    assert not any(Path(f"/proc/{pid}").exists() for pid in found), "nothing is left behind"
