"""config.yaml as TRL's settings: the only place that knows what TRL calls things."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.training import Config, Method
from nlp_skills.training import extra_settings, processes
from nlp_skills.training.device import Device
from nlp_skills.training.job import Job


def config_class(method: Method) -> Any:
    """TRL's class of settings for a method."""
    if method == "orpo":
        # Experimental in TRL, and says so at every import.
        import os

        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from trl.experimental.orpo import ORPOConfig

        return ORPOConfig
    import trl

    return {"sft": trl.SFTConfig, "dpo": trl.DPOConfig, "kto": trl.KTOConfig}[method]


def checked_extra(config: Config, path: Path) -> dict[str, Any]:
    """`extra:` of config.yaml, by the TRL that is installed.

    Raises:
        Invalid: something in it is not passed through; every such thing.
    """
    return extra_settings.passed_through(config, path, config_class(config.method)) if config.extra else {}


def made(
    job: Job, device: Device, *, log_every: int, validate: bool, checkpointing: bool, best_by: str = "eval_loss"
) -> Any:
    """The settings of one run.

    Raises:
        Invalid: TRL refuses one of them, with the file it is in.
    """
    kind = config_class(job.config.method)
    values = {
        **_of_config(job),
        **_of_machine(device, checkpointing),
        **_of_processes(job, checkpointing),
        "output_dir": str(job.version.checkpoints),
        "logging_steps": log_every,
        "eval_strategy": "epoch" if validate else "no",
        "load_best_model_at_end": validate,
        "metric_for_best_model": best_by if validate else None,
        "greater_is_better": best_by != "eval_loss" if validate else None,
    }
    extra = checked_extra(job.config, job.version.config_path)
    with refusals(job.version.config_path):
        return kind(**{**_known(kind, values), **extra})


def _of_config(job: Job) -> dict[str, Any]:
    config = job.config
    return {
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": job.micro_batch,
        "per_device_eval_batch_size": job.micro_batch * 2,
        "gradient_accumulation_steps": job.accumulation,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_ratio,
        "lr_scheduler_type": config.scheduler,
        "weight_decay": config.weight_decay,
        "seed": config.seed,
        "data_seed": config.seed,
        **({} if config.beta is None else {"beta": config.beta}),
        # Rows come encoded; TRL would cut at max_length and drop what has no loss left, saying nothing.
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "max_length": None,
        "include_num_input_tokens_seen": "non_padding",
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "epoch",
        "save_total_limit": 2,
    }


def _of_machine(device: Device, checkpointing: bool) -> dict[str, Any]:
    return {
        "bf16": device.autocast == "bfloat16",
        "fp16": device.autocast == "float16",
        "use_cpu": device.type == "cpu",
        "gradient_checkpointing": False,
        "activation_checkpointing": checkpointing,
        "dataloader_pin_memory": device.type == "cuda",
    }


def _of_processes(job: Job, checkpointing: bool) -> dict[str, Any]:
    """How several processes share the model. Of the shared-out forms only the settings could be checked here."""
    if job.processes == 1:
        return {}
    values: dict[str, Any] = {"ddp_find_unused_parameters": False, "ddp_timeout": processes.PATIENCE_SECONDS}
    if job.own_disks:
        values["save_on_each_node"] = True
    if job.sharding == "fsdp":
        # FSDP recomputes activations by itself; the trainer's own way would gather the weights once more.
        values |= {"fsdp": True, "fsdp_config": fsdp(checkpointing), "activation_checkpointing": False}
    if job.sharding == "zero3":
        values |= {"deepspeed": ZERO3}
    return values


def fsdp(checkpointing: bool) -> dict[str, Any]:
    """FSDP2: every device holds a part of each layer, and the whole of one layer while it works on it."""
    return {
        "version": 2,
        "reshard_after_forward": True,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "state_dict_type": "FULL_STATE_DICT",
        "cpu_ram_efficient_loading": False,
        "activation_checkpointing": checkpointing,
    }


# DeepSpeed's ZeRO-3; `auto` takes what the trainer's settings say.
ZERO3: dict[str, Any] = {
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "zero_allow_untested_optimizer": True,
    "gradient_clipping": "auto",
    "gradient_accumulation_steps": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "train_batch_size": "auto",
}


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind) if field.init}


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those a method's class has: the preference methods have no `dataset_kwargs`."""
    fields = _fields(kind)
    return {name: value for name, value in values.items() if name in fields}


@contextlib.contextmanager
def refusals(config_path: Path) -> Iterator[None]:
    """What PEFT and TRL refuse on construction is a wrong setting; say which file it is in."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Invalid(
            _("these training settings do not fit the base model"),
            file=config_path,
            cause=str(error).splitlines()[0][:300],
            mend=_("correct the file; lora.target_modules: all-linear suits every model"),
        ) from error
