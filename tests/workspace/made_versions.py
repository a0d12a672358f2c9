"""Versions as training and evaluation leave them, written by hand: records and small stand-ins for weights."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

from conftest import LABELS, write_rows

from nlp_skills import files
from nlp_skills.schema.deployment import Deployment
from nlp_skills.schema.version import DataSnapshot, LineageRun, ModelInfo, Results, RunStatus
from nlp_skills.workspace import active, deployments, digest, lifecycle, lineage, lock
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

CONFIG = """\
# chosen by a person
base_model: none/none
lora: {r: 8, alpha: 16}
learning_rate: 1e-3  # found by hand
epochs: 2
"""
ROWS = 24
HASH = "sha256:" + "0" * 64


def first_version(root: Path, name: str = "v1") -> TaskFolder:
    """A task made by `make_task`, with one version that nothing was done with."""
    folder = TaskFolder.at(root)
    version = folder.version(name)
    version.root.mkdir(parents=True)
    version.config_path.write_text(CONFIG, encoding="utf-8")
    lineage.ensure(version, changes=["first"])
    lifecycle.move(folder, "configuring", "made")
    digest.write(folder)
    return folder


def finish(folder: TaskFolder, name: str, *, right: float = 0.7, checkpoint: bool = False) -> VersionFolder:
    """Leave what `train` and `evaluate` leave, under the lock as they do."""
    version = folder.version(name)
    with lock.writing(folder):
        follow = folder.task().version == name
        if follow:
            lifecycle.move(folder, "training", f"training {name}")
        _train(folder, version, checkpoint=checkpoint)
        if follow:
            active.point(folder)
            lifecycle.move(folder, "evaluating", f"trained {name}")
        _evaluate(folder, version, right)
        digest.write(folder)
    return version


def _train(folder: TaskFolder, version: VersionFolder, *, checkpoint: bool) -> None:
    weights = random.Random(version.name).randbytes(3000)
    _write(version.adapter / "adapter_model.safetensors", weights)
    _write(version.adapter / "adapter_config.json", b"{}\n")
    if checkpoint:
        _write(version.checkpoints / "checkpoint-4" / "adapter_model.safetensors", weights)
    now = files.now()
    splits = {split: {"rows": ROWS, "sha256": HASH, "class_distribution": {}} for split in ("train", "valid", "test")}
    snapshot = DataSnapshot.model_validate({"created": now, "source_hash": HASH, "splits": splits})
    snapshot.save(version.snapshot_path)
    config = version.config()
    info = ModelInfo(
        version=version.name, base_model=config.base_model, adapter_path=f"models/adapter/{version.name}",
        dtype="float32", parameters=9000, trainable_parameters=90, input_template=folder.task().input_template,
        output_format=folder.task().output_format, created=now,
    )  # fmt: skip
    info.save(version.model_info_path)
    RunStatus(
        task=folder.task().task_name, version=version.name, state="completed", pid=1, started=now, updated=now,
        ended=now, step=4, total_steps=4, loss=0.2,
    ).save(version.status_path)  # fmt: skip
    write_rows(version.metrics_path, [{"step": n, "loss": 1 / n, "tokens": n, "seconds": n} for n in range(1, 5)])
    lineage.record(
        version,
        data=lineage.data_section(snapshot),
        config=lineage.config_section(config),
        run=LineageRun(state="completed", seconds=3.0, steps=4, seed=config.seed, by=lineage.whoami()),
        model=lineage.model_section(info),
    )


def _evaluate(folder: TaskFolder, version: VersionFolder, right: float) -> None:
    draw = random.Random(f"{version.name} {right}")
    rows = []
    for number in range(ROWS):
        gold = LABELS[number % 3]
        answer = gold if draw.random() < right else LABELS[(number + 1) % 3]
        rows.append({"key": f"k{number}", "gold": gold, "predicted": answer, "correct": gold == answer, "input": {}})
    write_rows(version.predictions_path, rows)
    share = sum(row["correct"] for row in rows) / ROWS
    classes = {label: {"precision": share, "recall": share, "f1": share, "support": 8} for label in LABELS}
    results = Results.model_validate(
        {
            "version": version.name,
            "created": files.now(),
            "test_sha256": HASH,
            "test_rows": ROWS,
            "metrics": {"macro_f1": share, "accuracy": share},
            "per_class": classes,
            "success": {"primary_metric": "macro_f1", "value": share, "threshold": 0.6, "met": share >= 0.6},
        }
    )
    results.save(version.results_path)
    lineage.record(version, results=lineage.results_section(results))


def deploy(folder: TaskFolder, name: str, *, follows: bool = True) -> Deployment:
    """Leave what a deployment will leave: its entry, and its link where it follows the active version."""
    entry = Deployment(
        target="local",
        name="live" if follows else f"{folder.root.name}@{name}",
        version=name,
        since=files.now(),
        follows=follows,
        link="models/live" if follows else None,
    )
    with lock.writing(folder):
        if follows:
            place = folder.root / "models" / "live"
            place.unlink(missing_ok=True)
            place.symlink_to(f"adapter/{name}")
        deployments.put(folder, entry)
        lineage.note(folder.version(name), "deployed", reason=entry.name)
    return entry


def aged(folder: TaskFolder, name: str, days: int) -> None:
    """Make a version look `days` older, wherever its age is written."""
    version = folder.version(name)
    then = (files.now() - dt.timedelta(days=days)).isoformat()
    for path in (version.results_path, version.model_info_path):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files.write_json(path, {**content, "created": then})
    status: dict[str, Any] = json.loads(version.status_path.read_text(encoding="utf-8"))
    files.write_json(version.status_path, {**status, "started": then, "updated": then, "ended": then})
    text = version.lineage_path.read_text(encoding="utf-8")
    lines = [f"created: '{then}'" if line.startswith("created:") else line for line in text.splitlines()]
    version.lineage_path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
