"""A task whose data and configuration are ready to train on a tiny model."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, reviews, write_rows

from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.training import run
from nlp_skills.training import train as training
from nlp_skills.training.job import Job
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# Every label moved on by one: the tuned base knows the classes, and is wrong on every row until it learns.
MOVED = dict(zip(LABELS, LABELS[1:] + LABELS[:1], strict=True))


def moved_reviews(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{**row, "label": MOVED[row["label"]]} for row in reviews(count, start)]


CONFIG: dict[str, Any] = {
    "lora": {"r": 8, "alpha": 16},
    "epochs": 2,
    "learning_rate": 2e-3,
    "batch_size": 8,
    "max_length": 128,
    "seed": 3,
}


@pytest.fixture
def ready(make_task: Callable[..., Path], tuned_base: Path) -> Callable[..., TaskFolder]:
    """Make a task with data/*.jsonl and versions/v1/config.yaml; keyword arguments change the configuration."""

    def make(*, train: int = 48, base: Path | str | None = None, **settings: Any) -> TaskFolder:
        base_model = str(base or tuned_base)
        root = make_task(base_model=base_model)
        yaml.change(root / "task.yaml", {("status",): "configuring"})
        rows = moved_reviews(train + 48)
        write_rows(root / "data" / "train.jsonl", rows[:train])
        write_rows(root / "data" / "valid.jsonl", rows[train : train + 12])
        write_rows(root / "data" / "test.jsonl", rows[train + 12 :])
        folder = TaskFolder.at(root)
        config = {"base_model": base_model, **CONFIG, **settings}
        path = folder.version("v1").config_path
        path.parent.mkdir(parents=True)
        path.write_text(yaml.dumps(config), encoding="utf-8")
        return folder

    return make


def job_of(config: Config, root: Path) -> Job:
    """A training of `config` in a task folder that holds nothing: for parts that look at the settings only."""
    return Job(
        folder=TaskFolder(root),
        version=VersionFolder(root, "v1"),
        task=None,  # type: ignore[arg-type]
        config=config,
        identity={config.base_model: "sha256:0"},
        micro_batch=config.batch_size,
        accumulation=config.gradient_accumulation,
    )


def stopped(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Begin to train v1 and be told to stop in the middle, as by Ctrl-C, after a step."""
    record = run.Recorder.step

    def step(self: run.Recorder, number: int, *figures: Any) -> None:
        record(self, number, *figures)
        if number == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(run.Recorder, "step", step)
        status = training.train(folder)
    assert (status.state, status.step) == ("interrupted", at)
