"""A run that goes wrong ends by itself, in a state with a name and with its mend; one that goes right is left alone."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, reviews, write_rows

from nlp_skills import files
from nlp_skills.schema import yaml
from nlp_skills.schema.version import RunStatus
from nlp_skills.training import failure, health, run
from nlp_skills.training import train as training
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Ready = Callable[..., TaskFolder]
# With such a learning rate the tiny model forgets what it knew, and answers everything alike.
FAR_TOO_HIGH: dict[str, Any] = {"train": 96, "epochs": 8, "learning_rate": 0.1}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def ended(folder: TaskFolder) -> RunStatus:
    """The status of a run that is over, its records being whole."""
    status, lineage = folder.version("v1").status(), folder.version("v1").lineage()
    assert status is not None and lineage is not None and lineage.run is not None
    assert (lineage.run.state, lineage.run.reason) == (status.state, status.reason)
    assert status.ended and lineage.run.ended
    return status


def test_a_run_that_diverges_is_ended_and_begins_anew_with_another_rate(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(**FAR_TOO_HIGH)
    version = folder.version("v1")
    write_rows(folder.split("train"), reviews(96))
    write_rows(folder.split("valid"), reviews(12, start=96))
    ran = cli("train", folder.root)
    assert ran.code == 1
    assert "training diverged" in ran.err and "the loss began with" in ran.err and "lower learning_rate" in ran.err
    status = ended(folder)
    assert (status.state, status.reason) == ("failed", "diverged")
    assert status.step < status.total_steps / 2, "it was ended early"
    assert folder.task().status == "configuring"
    assert runs.last_checkpoint(version.checkpoints) is not None, "what it had reached is still there"
    diagnosis = health.words(status)
    assert diagnosis and "learning_rate" in diagnosis[1]

    yaml.change(version.config_path, {("learning_rate",): 2e-3, ("epochs",): 1})
    assert cli("train", folder.root).code == 0
    assert [line["step"] for line in run.metrics(version) if "loss" in line] == list(range(1, 13)), "from the start"


def test_a_loss_that_is_not_a_number_has_its_own_name(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tuned_base, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] *= float("nan")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    folder = ready(train=24, base=base)
    with pytest.raises(health.NanLoss):
        training.train(folder)
    status = ended(folder)
    assert (status.state, status.reason) == ("failed", "nan_loss")
    assert folder.task().status == "configuring" and health.words(status)


def test_a_full_disk_has_its_own_name_and_the_run_goes_on_afterwards(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        assert cli("train", folder.root).code == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    status = ended(folder)
    assert status.reason == "disk_full"
    diagnosis = health.words(status)
    assert diagnosis and "cleanup" in diagnosis[1]
    assert cli("train", folder.root).code == 0


# fmt: off
# Losses of real runs of the tiny model, as they were logged: bold ones that shot up, and then learnt.
SHOT_UP = [1.93, 10.62, 5.47, 7.32, 9.79, 6.94, 7.65, 6.4, 10.51, 6.85, 2.98, 3.35, 2.38, 2.5, 2.36, 1.66, 1.51, 1.69,
           1.55, 1.36, 1.39, 1.21, 1.51, 0.9, 1.12, 1.26, 0.9, 0.87, 0.9, 0.79, 0.81, 0.82, 0.88, 0.64, 0.67, 0.52]
THROWN_AND_BACK = [1.93, 1.54, 6.03, 5.37, 5.15, 2.47, 2.16, 2.04, 2.04, 2.03, 2.29, 1.95, 2.07, 2.14, 1.98, 2.01, 2.02,
                   2.01, 2.09, 2.07, 2.04, 2.03, 2.0, 1.99, 1.96, 1.93, 2.2, 1.94, 2.0, 2.17, 2.12, 1.92, 2.05, 2.02,
                   1.89, 1.91, 1.99, 2.03, 1.9, 1.96, 1.92, 2.01, 1.86, 1.98, 1.63, 1.88, 1.81, 1.95, 1.55, 1.78, 1.64,
                   1.48, 1.62, 1.46, 1.62, 1.6, 1.79, 1.77, 1.65, 1.32, 1.52, 1.48, 1.37, 1.49, 1.26, 1.8, 1.45]
# fmt: on
NOISY = [2.0 + (-1) ** number * 1.9 * (number % 7) / 7 for number in range(400)]


@pytest.mark.parametrize("losses", [SHOT_UP, THROWN_AND_BACK, NOISY, [0.69] * 200, [0.01] * 100 + [0.9] * 19])
def test_what_comes_right_or_is_only_noisy_is_left_alone(losses: list[float]) -> None:
    guard = health.Guard()
    for step, loss in enumerate(losses):
        guard.look(step, {"loss": loss})


def test_a_loss_that_stays_far_above_its_start_is_not_waited_for() -> None:
    guard = health.Guard(before=[2.0, 1.9, 1.8])
    with pytest.raises(health.Unhealthy, match="diverged") as ended:
        for step in range(100):
            guard.look(step, {"loss": 9.0 + step % 3, "grad_norm": 4.0})
    assert "began with 1.90" in str(ended.value.cause) and "above 9.00" in str(ended.value.cause)
    assert len(guard.losses) == 23


def test_a_long_run_is_given_longer_to_come_back() -> None:
    """A quarter of what it logs: 500 lines of a long run are thousands of steps."""
    guard = health.Guard(points=500)
    for step, loss in enumerate([2.0, 2.0, 2.0, 9.0, *[2.1] * 120]):
        guard.look(step, {"loss": loss})
    with pytest.raises(health.Unhealthy):
        for step in range(10):
            guard.look(step, {"loss": 2.1})


def recorder(root: Path) -> run.Recorder:
    version = VersionFolder(root, "v1")
    version.run.mkdir(parents=True)
    return run.Recorder(version, "sentiment", step=0, started=None, seconds=0.0)


def status_of(made: run.Recorder) -> RunStatus:
    status = made.version.status()
    assert status is not None
    return status


def until(so: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_loop_that_stands_still_is_marked_with_where_it_stands_until_it_moves(tmp_path: Path) -> None:
    made, log = recorder(tmp_path), tmp_path / "train.log"
    with health.watching(made, log, suspect=0.2) as watch:
        time.sleep(0.5)
        assert status_of(made).reason is None, "it has not begun: a model may take long to load"
        watch.sign()
        until(lambda: status_of(made).reason == "stalled")
        assert "in until" in log.read_text() and "test_health.py" in log.read_text()
        diagnosis = health.words(status_of(made))
        assert diagnosis and "train.log" in diagnosis[0]
        watch.sign()
        assert status_of(made).reason is None
    made.end("completed")


def test_what_takes_long_regularly_is_not_called_stalled(tmp_path: Path) -> None:
    made = recorder(tmp_path)
    with health.watching(made, tmp_path / "train.log", suspect=0.1) as watch:
        for _evaluation in range(3):
            watch.sign()
            watch.sign()
            time.sleep(0.05)
        watch.sign()
        assert watch.patience() >= 0.15, "three times the longest so far"
    made.end("completed")


def test_past_the_limit_the_loop_is_interrupted_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(health.STALL_MINUTES, str(0.6 / 60))
    made = recorder(tmp_path)
    begun = time.monotonic()
    with pytest.raises(health.Stalled) as ended, health.watching(made, tmp_path / "train.log", suspect=0.2) as watch:
        watch.sign()
        threading.Event().wait(30)
    assert time.monotonic() - begun < 15
    assert ended.value.reason == "stalled" and ended.value.mend
    made.end("failed", reason="stalled")


def test_no_limit_means_waiting_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(health.STALL_MINUTES, "0")
    assert health.stall_minutes() == 0
    monkeypatch.setenv(health.STALL_MINUTES, "soon")
    assert health.stall_minutes() == 60


HANGING = """
import signal, sys, time
from pathlib import Path
from nlp_skills.training import failure, health, run
from nlp_skills.workspace.folder import VersionFolder
version = VersionFolder(Path(sys.argv[1]), "v1")
version.run.mkdir(parents=True)
recorder = run.Recorder(version, "sentiment", step=7, started=None, seconds=0.0)
with health.watching(recorder, version.run / "train.log", suspect=0.2, grace=0.5) as watch:
    watch.sign()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])  # as deaf as code that never comes back to Python
    time.sleep(60)
"""


def test_a_process_that_cannot_be_interrupted_is_ended_with_its_record_whole(tmp_path: Path) -> None:
    variables = {**os.environ, health.STALL_MINUTES: str(0.6 / 60)}
    program = subprocess.run([sys.executable, "-c", HANGING, str(tmp_path)], env=variables, timeout=50, check=False)
    assert program.returncode == 1
    status = VersionFolder(tmp_path, "v1").status()
    assert status is not None
    assert (status.state, status.reason, status.step, status.exit_code) == ("failed", "stalled", 7, 1)
    assert 'File "<string>"' in (tmp_path / "versions" / "v1" / "run" / "train.log").read_text()
    assert health.words(status)


def test_a_stalled_training_ends_with_all_its_records(
    ready: Ready, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran]
) -> None:
    """A pipe nobody reads from stands in for a disk that does not answer: writing the figures waits for ever."""
    folder = ready(train=96, epochs=30)
    version = folder.version("v1")
    monkeypatch.setenv(health.STALL_MINUTES, str(3 / 60))

    def block() -> None:
        until(lambda: len(run.metrics(version)) >= 3, 60)
        pipe = version.run / "pipe"
        os.mkfifo(pipe)
        os.replace(pipe, version.metrics_path)
        # Whoever draws the curves of what was ends up reading it; it is there again by then.
        version.metrics_path.open("w").close()

    blocking = threading.Thread(target=block, daemon=True)
    blocking.start()
    ran = cli("train", folder.root)
    blocking.join(20)
    version.metrics_path.unlink()
    assert ran.code == 1
    assert "stopped moving" in ran.err and "Traceback" not in ran.err
    status = version.status()
    assert status is not None and (status.state, status.reason) == ("failed", "stalled")
    assert folder.task().status == "configuring"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later",
        "CUDA error: an illegal memory access was encountered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_gpu_that_fails_is_no_traceback(text: str, tmp_path: Path) -> None:
    problem = failure.explain(RuntimeError(text), tmp_path)
    assert problem is not None and problem.exit_code == 3
    assert problem.cause == text.splitlines()[0] and "train again" in str(problem.mend)
    assert failure.reason(RuntimeError(text)) is None


@pytest.mark.parametrize("reason", ["nan_loss", "diverged", "stalled", "out_of_memory", "disk_full"])
def test_every_end_with_a_name_has_words(reason: Any) -> None:
    now = files.now()
    about: dict[str, Any] = {"task": "t", "version": "v1", "pid": 1, "started": now, "updated": now}
    diagnosis = health.words(RunStatus(state="failed", reason=reason, **about))
    assert diagnosis is not None and all(diagnosis)
    assert health.words(RunStatus(state="completed", **about)) is None
    assert health.words(RunStatus(state="failed", **about)) is None
    assert health.hopeless(RunStatus(state="failed", reason=reason, **about)) == (reason in ("nan_loss", "diverged"))
