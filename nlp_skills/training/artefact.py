"""What a run leaves: the model, model_info.json and the lineage's sections."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nlp_skills
from nlp_skills import files
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import LineageRun, ModelInfo
from nlp_skills.training import base_model
from nlp_skills.training.device import Device, peak_memory_gb
from nlp_skills.training.run import Recorder
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def place(version: VersionFolder, config: Config) -> Path:
    """Where the trained model goes: models/adapter/vN, or models/merged/vN when every weight was trained."""
    return version.adapter if config.adapter == "lora" else version.merged


def save_model(model: Any, tokenizer: Any, version: VersionFolder, config: Config) -> Path:
    """Write the model beside its place and move it there whole."""
    target = place(version, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        made = Path(temporary) / "new"
        _write(model, tokenizer, made, config)
        if target.exists():
            target.rename(Path(temporary) / "old")
        made.rename(target)
    return target


def _write(model: Any, tokenizer: Any, made: Path, config: Config) -> None:
    if config.adapter == "lora":
        # The name a person chose, not this machine's cache.
        model.peft_config["default"].base_model_name_or_path = config.base_model
        model.save_pretrained(made, save_embedding_layers=False)
        (made / "README.md").unlink(missing_ok=True)
    else:
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)


def model_info(version: VersionFolder, task: Task, config: Config, device: Device, model: Any, base: str) -> ModelInfo:
    """model_info.json's content, from the model as it was trained. `base` is the base model's fingerprint."""
    saved = str(place(version, config).relative_to(version.task_root))
    lora = config.adapter == "lora"
    counts = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained = sum(count for count, trains in counts if trains)
    total = sum(count for count, _trains in counts)
    folder = base_model.locate(config.base_model, root=version.task_root)
    return ModelInfo(
        version=version.name,
        base_model=config.base_model,
        base_model_revision=base_model.revision(folder),
        base_model_hash=base,
        adapter_path=saved if lora else None,
        merged_path=None if lora else saved,
        dtype=device.dtype,
        parameters=total - trained if lora else total,
        trainable_parameters=trained,
        input_template=task.input_template,
        output_format=task.output_format,
        system_prompt=config.system_prompt,
        chat_template_kwargs=config.chat_template_kwargs,
        created=files.now(),
    )


def record_setup(folder: TaskFolder, version: VersionFolder, config: Config, device: Device) -> None:
    """The lineage's `config:` and `environment:`, true from the first step on."""
    lineage.record(version, config=lineage.config_section(config), environment=environment(folder.root, device))


def record_model(version: VersionFolder, info: ModelInfo) -> None:
    """model_info.json, and where the model is in the lineage."""
    info.save(version.model_info_path)
    lineage.record(version, model=lineage.model_section(info))


def record_run(version: VersionFolder, config: Config, device: Device, recorder: Recorder) -> None:
    """The lineage's `run:` once the run is over, however it ended."""
    status = recorder.status
    section = LineageRun(
        state=status.state,
        started=status.started,
        ended=status.ended,
        seconds=round(recorder.seconds, 1),
        steps=status.step,
        tokens=recorder.tokens,
        peak_memory_gb=round(peak_memory_gb(device), 2),
        device=device.name,
        seed=config.seed,
        final_loss=None if recorder.final_loss is None else round(recorder.final_loss, 4),
    )
    lineage.record(version, run=section)


def environment(root: Path, device: Device) -> dict[str, str]:
    """What this ran with: versions, precision, and the commit of the repository the task is in."""
    parts = {"nlp-skills": nlp_skills.__version__, "python": platform.python_version()}
    parts |= {name: importlib.metadata.version(name) for name in PACKAGES}
    parts |= {"platform": platform.platform(), "precision": device.precision}
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        parts["git_commit"] = commit
        if _git(root, "status", "--porcelain", "--untracked-files=no"):
            parts["git_commit"] += "-dirty"
    return parts


def _git(root: Path, *arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
