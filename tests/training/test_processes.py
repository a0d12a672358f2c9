"""Two processes learn what one does, stop and go on as one would, and end together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
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


def start(folder: TaskFolder, *launcher: str) -> subprocess.Popen[str]:
    """`nlp-skills train` as a program of its own, by a launcher of several if one is named."""
    command = [*(launcher or [sys.executable]), "-m", "nlp_skills.cli.main", "train", str(folder.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_for(ready: Callable[[], bool], program: subprocess.Popen[str], seconds: float = 400) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < until, "the run did not get that far"
        time.sleep(0.01)


def ranks_of(program: subprocess.Popen[str]) -> list[int]:
    """The processes that a training started, in their order."""
    listed = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    return sorted(int(pid) for pid in listed if "nlp_skills.training.rank" in Path(f"/proc/{pid}/cmdline").read_text())


def gone(pids: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_two_processes_learn_what_one_does_and_go_on_as_if_never_stopped(ready: Ready) -> None:
    one = ready(train=50, **SHORT)
    two, stopped = on_two(copy(one, "two")), on_two(copy(one, "stopped"))
    assert training.train(one).state == "completed"
    status = training.train(two)
    assert (status.state, status.step, status.total_steps) == ("completed", 21, 21)
    assert status.processes == 2 and status.metric == {"eval_loss": figures(two)[-1]["eval_loss"]}
    assert status.pid == os.getpid(), "who was started keeps the record"
    alike(one, two)
    recorded(one, two)

    stop_half_way(stopped)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    again = start(stopped, *torchrun)
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    assert out.count("v1 is trained") == 1, "one of them speaks"
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


def stop_half_way(folder: TaskFolder) -> None:
    version = folder.version("v1")
    program = start(folder)
    wait_for(lambda: len(run.metrics(version)) >= 9, program)
    program.send_signal(signal.SIGTERM)
    out, err = program.communicate(timeout=400)
    assert program.returncode == 130, err
    assert "stopping after this step" in err and "checkpoint saved" in out
    status = version.status()
    assert status is not None and status.state == "interrupted" and 8 <= status.step < 21
    assert sorted(path.name for path in version.checkpoints.glob("*/rng_state_*.pth"))[-1] == "rng_state_1.pth"
    assert not version.adapter.exists()


def test_a_process_that_dies_ends_the_run_in_words(ready: Ready) -> None:
    folder = on_two(ready(train=50, **{**SHORT, "epochs": 20}))
    version = folder.version("v1")
    program = start(folder)
    wait_for(lambda: len(run.metrics(version)) >= 9, program)
    ranks = ranks_of(program)
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    _out, err = program.communicate(timeout=400)
    assert program.returncode == 3, err
    assert "process 1 of this training died" in err and "SIGKILL" in err and "Traceback" not in err
    status = version.status()
    assert status is not None and status.state == "failed"
    assert folder.task().status == "configuring"
    assert gone(ranks), "nothing is left behind"
