"""What a run leaves: the model, model_info.json and the lineage's sections."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nlp_skills
from nlp_skills import files
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import Lineage, LineageRun, ModelInfo
from nlp_skills.training import base_model, own_code
from nlp_skills.training.device import Device, deterministic, peak_memory_gb, processor
from nlp_skills.training.estimate import gpus
from nlp_skills.training.fit import Fitted
from nlp_skills.training.health import NanLoss
from nlp_skills.training.job import Job
from nlp_skills.training.run import Recorder
from nlp_skills.workspace import lineage, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# Those whose code decides the numbers.
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")


def place(version: VersionFolder, config: Config) -> Path:
    """Where the trained model goes: models/adapter/vN, or models/merged/vN when every weight was trained."""
    return version.merged if config.adapter == "full" else version.adapter


def save_model(
    model: Any, tokenizer: Any, version: VersionFolder, config: Config, state: dict[str, Any] | None = None
) -> Path:
    """Write the model beside its place and move it there whole. `state`: its weights, where it holds a part of them."""
    parent = place(version, config).parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{version.name}.") as temporary:
        made = Path(temporary) / "new"
        write(model, tokenizer, made, config, state)
        return install(made, version, config)


def install(made: Path, version: VersionFolder, config: Config) -> Path:
    """Move a model that was written elsewhere in the task to its place, whole."""
    target = place(version, config)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*"):
        if not made.is_relative_to(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        if target.exists():
            target.rename(Path(temporary) / "old")
        made.rename(target)
    return target


def write(model: Any, tokenizer: Any, made: Path, config: Config, state: dict[str, Any] | None = None) -> None:
    """The model's files: the adapter, or the whole model where every weight was trained.

    Raises:
        Invalid: what was trained is not a number somewhere.
        Unavailable: what is read back is not what was written.
    """
    if config.adapter != "full":
        _write_adapter(model, made, config, state)
    else:
        _refuse_no_numbers(state or dict(model.named_parameters()))
        model.save_pretrained(made, state_dict=state)
        tokenizer.save_pretrained(made)


def _write_adapter(model: Any, made: Path, config: Config, state: dict[str, Any] | None) -> None:
    from peft import get_peft_model_state_dict

    settings = model.peft_config["default"]
    # The name a person chose, not this machine's cache.
    settings.base_model_name_or_path = config.base_model
    # How it began is no matter to who loads it, and would be gone through again.
    settings.init_lora_weights, settings.eva_config = True, None
    if not isinstance(settings.target_modules, str):
        # PEFT keeps a set, whose order differs from process to process, and so would the file.
        settings.target_modules = sorted(settings.target_modules)
    trained = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    _refuse_no_numbers(trained)
    model.save_pretrained(made, state_dict=state, selected_adapters=["default"], save_embedding_layers=False)
    (made / "README.md").unlink(missing_ok=True)
    _refuse_other_bytes(trained, made / "adapter_model.safetensors")


def _refuse_no_numbers(trained: dict[str, Any]) -> None:
    broken = [name for name, tensor in trained.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise NanLoss(
            _("training diverged: weights are not numbers"),
            cause=_("{count} of them, the first: {name}", count=len(broken), name=broken[0]),
            mend=_("lower learning_rate (a tenth is a good next try), then train again"),
        )


def _refuse_other_bytes(trained: dict[str, Any], path: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(path)
    if saved.keys() != trained.keys() or any(
        not bool(saved[name].equal(tensor.cpu())) for name, tensor in trained.items()
    ):
        raise Unavailable(
            _("the adapter read back is not the one that was written"),
            file=path,
            mend=_("check the disk, then run the command again: it goes on from the last checkpoint"),
        )


def model_info(job: Job, device: Device, model: Any) -> ModelInfo:
    """model_info.json's content, from the model as it was trained."""
    version, task, config = job.version, job.task, job.config
    saved = str(place(version, config).relative_to(version.task_root))
    adapter = config.adapter != "full"
    counts = [(_weights(weight), weight.requires_grad) for weight in model.parameters()]
    trained = sum(count for count, trains in counts if trains)
    total = sum(count for count, _trains in counts)
    folder = base_model.locate(config.base_model, root=version.task_root)
    return ModelInfo(
        version=version.name,
        base_model=config.base_model,
        base_model_revision=base_model.revision(folder),
        base_model_hash=job.base_hash,
        adapter_path=saved if adapter else None,
        merged_path=None if adapter else saved,
        dtype=device.dtype,
        quantization="nf4" if config.adapter == "qlora" else None,
        parameters=total - trained if adapter else total,
        trainable_parameters=trained,
        input_template=task.input_template,
        output_format=task.output_format,
        system_prompt=config.system_prompt,
        chat_template=base_model.template_text(config.chat_template, version.task_root),
        chat_template_kwargs=config.chat_template_kwargs,
        init_from=config.init_from,
        created=files.now(),
    )


def _weights(parameter: Any) -> int:
    """How many weights a tensor holds: two share a byte where they have four bits each, whatever the bytes stand for.

    DeepSpeed leaves an empty tensor on each device, and says beside it how many there are in all.
    """
    held = getattr(parameter, "ds_numel", None) or parameter.numel()
    return int(held) * (2 * parameter.element_size() if type(parameter).__name__ == "Params4bit" else 1)


def record_setup(job: Job, device: Device) -> LineageRun:
    """The lineage's `config:` and `environment:`, true from the first step on, and what `run:` will say of it."""
    version, config = job.version, job.config
    earlier = version.lineage() if job.step else None
    before = earlier.run if earlier else None
    around = environment(job.folder.root, device)
    if earlier:
        around |= _resumed(earlier, around, job.step)
    lineage.record(version, config=lineage.config_section(config), environment=around)
    return LineageRun(
        state="running",
        device=device.name,
        seed=config.seed,
        threads=device.threads,
        peak_memory_gb=before.peak_memory_gb if before else None,
        seconds=before.seconds if before else None,
        gpu_hours=before.gpu_hours if before else None,
        cost_usd=before.cost_usd if before else None,
        by=lineage.whoami(),
        config_hash=lineage.config_hash(version.config_path),
        base_model_hash=job.base_hash,
        base_model_revision=base_model.revision(base_model.locate(config.base_model, root=job.folder.root)),
        pinned=pinned(job.folder),
    )


def pinned(folder: TaskFolder) -> dict[str, str]:
    """The task's own project file, lock and wheels, kept in the store: their hashes by their path in the task."""
    names = [folder.root / "pyproject.toml", folder.root / "uv.lock", *sorted((folder.root / "vendor").glob("*.whl"))]
    return {path.relative_to(folder.root).as_posix(): store.keep(folder, path) for path in names if path.is_file()}


def record_model(version: VersionFolder, info: ModelInfo) -> None:
    """model_info.json, and in the lineage where the model is and which bytes it is."""
    info.save(version.model_info_path)
    lineage.record(version, model=lineage.model_section(info, version))


def record_run(job: Job, begun: LineageRun, device: Device, recorder: Recorder, fitted: Fitted | None) -> None:
    """The lineage's `run:` once the run is over, however it ended; `begun` is what `record_setup` gave."""
    status = recorder.status
    ended = {
        "state": status.state,
        "started": status.started,
        "ended": status.ended,
        "seconds": round(recorder.seconds, 1),
        "steps": status.step,
        "tokens": recorder.tokens,
        **spent(begun, device, recorder, processes=job.processes),
        "peak_memory_gb": round(max(begun.peak_memory_gb or 0.0, _peak(device, fitted)), 2),
        "processes": job.processes if job.processes > 1 else None,
        "micro_batch": job.micro_batch,
        "tokens_per_second": status.tokens_per_second,
        "final_loss": None if recorder.final_loss is None else round(recorder.final_loss, 4),
        "best_step": fitted.best_step if fitted else None,
        "valid": {name: round(value, 4) for name, value in fitted.valid.items()} if fitted else {},
        "reason": status.reason,
    }
    lineage.record(job.version, run=begun.model_copy(update=ended))


def spent(begun: LineageRun, device: Device, recorder: Recorder, *, processes: int) -> dict[str, float | None]:
    """GPU hours over all stretches, with so many GPUs as each had, and what those of this one cost where the user has
    said what one costs. `begun` has the stretches before; one that was killed is in the seconds only.
    """
    if device.type != "cuda":
        return {}
    recorded = min(begun.seconds or 0.0, recorder.seconds_before)
    hours = (recorder.seconds - recorded) * processes / 3600
    price = gpus.own_price(device.name, device.memory_bytes)
    cost = (begun.cost_usd or 0.0) + hours * price if price is not None else begun.cost_usd
    return {
        "gpu_hours": round((begun.gpu_hours or 0.0) + hours, 4),
        "cost_usd": None if cost is None else round(cost, 4),
    }


def _peak(device: Device, fitted: Fitted | None) -> float:
    """Of several processes, the one that used most: this one has only watched them."""
    return (fitted.peak_memory_gb if fitted else 0.0) or peak_memory_gb(device)


def environment(root: Path, device: Device) -> dict[str, str]:
    """What this ran with: versions, code, processor, precision, and the commit of the repository the task is in."""
    parts = {**packages(), "platform": platform.platform(), "processor": processor(), "precision": device.precision}
    if deterministic():
        parts["deterministic"] = "1"
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        parts["git_commit"] = commit
        if _git(root, "status", "--porcelain", "--untracked-files=no"):
            parts["git_commit"] += "-dirty"
    return parts


def packages() -> dict[str, str]:
    """The versions of Python and of the packages that decide the numbers, and the hash of our own code."""
    parts = {"nlp-skills": nlp_skills.__version__, "code": own_code.running(), "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts[name] = importlib.metadata.version(name)
    return parts


def _resumed(earlier: Lineage, now: dict[str, str], step: int) -> dict[str, str]:
    """At which steps the run went on, and what surrounded it before where that was something else."""
    then = earlier.environment
    notes = {"resumed_at": ", ".join(filter(None, [then.get("resumed_at"), str(step)]))}
    passing = {"git_commit", "resumed_at", "before"}
    other = [f"{name} {value}" for name, value in then.items() if name not in passing and value != now.get(name)]
    if other or "before" in then:
        notes["before"] = "; ".join(filter(None, [then.get("before"), ", ".join(other)]))
    return notes


def _git(root: Path, *arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
