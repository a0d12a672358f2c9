"""A training on rented machines through the command line: asked for, followed, lost, replaced, ended in time, paid for.

SkyPilot's program is a fake (see `fake_sky`) that runs here what it would run there, behind a real SSH server.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Ran
from fixtures_cloud import FakeSky, on_cloud, pause
from fixtures_training import CONFIG

from nlp_skills.schema import yaml
from nlp_skills.training import train as training
from nlp_skills.workspace import remote_jobs
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
Cli = Callable[..., Ran]
SHORT: dict[str, Any] = {**CONFIG, "epochs": 4, "batch_size": 4, "gradient_accumulation": 2}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.fixture
def rentable(ready: Ready, cli: Cli, sky: FakeSky) -> Callable[..., TaskFolder]:
    """A task that is ready to be trained on a machine that `sky` rents."""

    def make(epochs: int = 4, **execution: object) -> TaskFolder:
        folder = ready(train=50, **{**SHORT, "epochs": epochs})
        on_cloud(folder, workdir=str(sky.far.workdir), **execution)
        assert cli("generate", folder.root).code == 0
        return folder

    return make


def launched(sky: FakeSky) -> list[list[str]]:
    return [words for words in sky.commands() if words[0] == "launch"]


def adapter(folder: TaskFolder) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder.version("v1").adapter / "adapter_model.safetensors")


def comes(found: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not found() and time.monotonic() < until:
        time.sleep(0.02)


def test_a_machine_taken_back_is_replaced_and_the_model_is_as_if_trained_here(
    rentable: Callable[..., TaskFolder], cli: Cli, sky: FakeSky
) -> None:
    folder = rentable(epochs=6, budget_usd=20, max_hours=6)
    asked = cli("train", folder.root)
    assert asked.code == 2 and "nothing was rented" in asked.err and not launched(sky)
    assert "1.50 USD an hour" in asked.err and "at 9.00 USD" in asked.err

    def take_back() -> None:
        comes(lambda: (job := remote_jobs.of(folder, "train", "v1")) is not None and job.state == "running")
        comes(lambda: list(sky.folder.glob("clusters/*/sky_workdir/models/checkpoints/v1/*/complete.json")))
        pause(sky.clusters[0])
        comes(lambda: list(sky.folder.glob("buckets/*/*/v1/checkpoint-*/whole-0.json")))
        sky.take_back()

    lost = threading.Thread(target=take_back)
    lost.start()
    ran = cli("train", folder.root, "--yes")
    lost.join()
    assert ran.code == 0, ran.err
    assert "another one goes on from what outlives it" in ran.err, ran.err
    assert "going on from checkpoint-" in ran.err, ran.err
    assert len(launched(sky)) == 2 and launched(sky)[0] == launched(sky)[1], "the same job, not another one"
    assert not sky.clusters and sky.commands()[-1][0] == "down", "nothing is left that costs"

    job = remote_jobs.of(folder, "train", "v1")
    assert job is not None and job.state == "fetched" and job.cost_usd is not None
    lineage = folder.version("v1").lineage()
    assert lineage is not None and lineage.run is not None and lineage.run.cost_usd == pytest.approx(job.cost_usd)
    here = alone(folder)
    there, expected = adapter(folder), adapter(here)
    assert all((there[name] == expected[name]).all() for name in expected), "bit for bit"


def alone(folder: TaskFolder) -> TaskFolder:
    """The same training on this machine."""
    ignored = shutil.ignore_patterns("run", "models", "jobs", "lineage.yaml", "model_info.json")
    here = TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / "alone", ignore=ignored))
    yaml.change(here.task_path, {("execution",): None, ("status",): "configuring"})
    assert training.train(here).state == "completed"
    return here


def test_money_that_is_used_up_ends_the_run_and_gives_the_machine_back(
    rentable: Callable[..., TaskFolder], cli: Cli, sky: FakeSky
) -> None:
    sky.prices({"aws": {"A100:1": (9000.0, 3600.0)}})
    folder = rentable(epochs=500, budget_usd=5)
    ran = cli("train", folder.root, "--yes")
    assert ran.code == 130, ran.err
    assert "budget_usd: 5.00 USD are used up" in ran.err and not sky.clusters
    status = folder.version("v1").status()
    assert status is not None and status.state == "interrupted" and status.place == f"aws:{launched(sky)[0][4]}"


def test_what_cannot_be_kept_or_shared_is_refused_before_anything_is_rented(
    rentable: Callable[..., TaskFolder], cli: Cli, sky: FakeSky
) -> None:
    folder = rentable()

    def refused(code: int, *words: str, **execution: object) -> None:
        on_cloud(folder, **execution)
        ran = cli("train", folder.root, "--yes")
        assert ran.code == code and all(word in ran.err for word in words), ran.err
        assert not launched(sky) and remote_jobs.of(folder, "train", "v1") is None

    refused(1, "budget_usd cannot be kept", "max_hours", "task.yaml", budget_usd=5, provider="gcp")
    refused(1, "budget_usd cannot be kept", "no money by the hour", budget_usd=5, provider="kubernetes")
    refused(1, "8 rows cannot be shared evenly by 3 GPUs", nodes=3)
    refused(1, "hyperbolic cannot take themselves down", provider="hyperbolic")
    refused(1, "cannot mount a bucket", "volume:NAME", provider="runpod", bucket="mine")
    (folder.root / "pyproject.toml").unlink()
    refused(1, "nlp-skills generate")
    (sky.folder / "bin" / "sky").unlink()
    refused(3, "there is no program sky", 'uv tool install "skypilot[aws]>=0.14,<0.15"')
    (sky.folder / "bin" / "sky").write_text("#!/bin/sh\necho skypilot, version 0.9.2\n")
    (sky.folder / "bin" / "sky").chmod(0o755)
    refused(3, "another SkyPilot is installed", "0.9.2")
