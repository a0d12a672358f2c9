"""What is trained on top of what: adapters and their beginnings, a base model in four bits, an earlier version."""

from __future__ import annotations

from typing import Any

from nlp_skills.schema.training import Config
from nlp_skills.training import base_model
from nlp_skills.training.device import Device
from nlp_skills.training.job import Job


def load(job: Job, device: Device) -> Any:
    """The model to train, without the new adapter: the base model, or the version that `init_from` names."""
    return base_model.load_model(job.config.base_model, device, root=job.folder.root)


def settings(config: Config) -> Any:
    """The new adapter's settings for PEFT; None when every weight is trained."""
    if config.adapter == "full" or config.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.target_modules,
        task_type="CAUSAL_LM",
    )


def begin(model: Any, job: Job, rows: Any) -> None:
    """Whatever an adapter's beginning needs to see of the data, once the trainer has put it on the model."""


def optimizer(model: Any, config: Config, arguments: Any) -> Any:
    """An optimiser of our own choice (LoRA+), or None for TRL's."""
    return None
