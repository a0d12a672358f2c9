"""The sections of a lineage, each from the file that knows its truth; hashes of what a version is made of."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import (
    DataSnapshot,
    LineageConfig,
    LineageData,
    LineageModel,
    LineageResults,
    LineageRun,
    ModelInfo,
    Results,
    RunStatus,
    without_empty,
)
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import VersionFolder

NAMES = ("data", "config", "model", "results", "run")
_LAST_LOSSES = 10


def on_disk(
    version: VersionFolder, names: Collection[str] = NAMES, *, model_hashes: bool = True
) -> dict[str, dict[str, Any]]:
    """Every section that the version's own files can tell, as plain data; the hashes are those of now.

    Raises:
        Invalid: a file is not what we wrote.
    """
    told = {name: _tell(version, name, model_hashes) for name in NAMES if name in names}
    return {name: plain(section) for name, section in told.items() if section}


def readable(version: VersionFolder) -> dict[str, dict[str, Any]]:
    """As `on_disk`, without the sections whose files are broken."""
    found: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        with contextlib.suppress(Problem, OSError):
            found |= on_disk(version, [name])
    return found


def _tell(version: VersionFolder, name: str, model_hashes: bool) -> BaseModel | None:
    if name == "run":
        return run(version)
    if name == "config":
        return config(version.config()) if version.config_path.exists() else None
    if name == "data":
        return data(taken) if (taken := version.snapshot()) else None
    if name == "results":
        return results(found, version) if (found := version.results()) else None
    return model(info, version if model_hashes else None) if (info := version.model_info()) else None


def plain(section: Any) -> Any:
    """A section as it is written: plain data, nothing empty in it."""
    if isinstance(section, BaseModel):
        return without_empty(section.model_dump(mode="json", by_alias=True, exclude_none=True))
    return section


def data(snapshot: DataSnapshot) -> LineageData:
    """The `data:` section; the class distribution is the training split's, as the counts are per split."""
    rows = {f"{name}_count": split.rows for name, split in snapshot.splits.items()}
    train = snapshot.splits.get("train")
    return LineageData(
        source_hash=snapshot.source_hash,
        **rows,
        class_distribution=train.class_distribution if train else {},
        hashes={name: split.sha256 for name, split in snapshot.splits.items()},
    )


def config(found: Config) -> LineageConfig:
    """The `config:` section: the whole configuration."""
    return LineageConfig.model_validate(found.dump())


def model(info: ModelInfo, version: VersionFolder | None = None) -> LineageModel:
    """The `model:` section: paths relative to the task folder and, given the version, the hash of each model file."""
    hashes = {}
    if version is not None:
        place = version.adapter if info.adapter_path else version.merged
        hashes = file_hashes(place, version.task_root)
    return LineageModel(adapter_path=info.adapter_path, merged_path=info.merged_path, hashes=hashes)


def results(found: Results, version: VersionFolder | None = None) -> LineageResults:
    """The `results:` section: every metric, the classes, what it took and, given the version, its files' hashes."""
    paths = [version.results_path, version.predictions_path] if version else []
    hashes = {path.name: files.sha256_file(path) for path in paths if path.is_file()}
    told = {"per_class": found.per_class, "seconds": found.seconds, "device": found.device, "hashes": hashes}
    return LineageResults.model_validate({**found.metrics, **told})


def run(version: VersionFolder) -> LineageRun | None:
    """The `run:` section as far as the run folder tells; None where nothing was trained, or a training goes on."""
    status = version.status()
    if status is None or status.kind != "train" or runs.alive(status):
        return None
    info = version.model_info()
    trained = version.config() if version.config_path.is_file() else None
    return LineageRun(
        # A run that was killed still says that it is running.
        state="dead" if status.state == "running" else status.state,
        started=status.started,
        ended=status.ended,
        steps=status.step,
        seed=trained.seed if trained else None,
        config_hash=config_hash(version.config_path) if trained else None,
        base_model_hash=info.base_model_hash if info else None,
        base_model_revision=info.base_model_revision if info else None,
        **_measured(version, status),
    )


def _measured(version: VersionFolder, status: RunStatus) -> dict[str, Any]:
    """Seconds, tokens and the final loss, from the lines of metrics.jsonl that are whole."""
    lines = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in version.metrics_path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
    lines = [line for line in lines if isinstance(line, dict)]
    losses = [line["loss"] for line in lines if "loss" in line][-_LAST_LOSSES:]
    last = lines[-1] if lines else {}
    return {
        "seconds": round(last["seconds"], 1) if "seconds" in last else None,
        "tokens": last.get("tokens"),
        "final_loss": round(sum(losses) / len(losses), 4) if losses else status.loss,
    }


def config_hash(path: Path) -> str:
    """`sha256:…` of what a config.yaml says: comments, order and quoting are no part of it."""
    content = json.dumps(yaml.read(path).data, ensure_ascii=False, sort_keys=True)
    return files.sha256_bytes(content.encode())


def file_hashes(place: Path, root: Path) -> dict[str, str]:
    """`sha256:…` of every regular file in a folder, by its path in `root`; links are neither hashed nor followed."""
    return {path.relative_to(root).as_posix(): files.sha256_file(path) for path in regular_files(place)}


def regular_files(place: Path) -> list[Path]:
    """The files in a folder and in the folders in it, in order; nothing that is reached through a link."""
    if place.is_symlink():
        return []
    found = [Path(parent, name) for parent, _folders, names in os.walk(place) for name in names]
    return sorted(path for path in found if not path.is_symlink() and path.is_file())
