"""How a version is trained: the `training:` part of task.yaml and the whole of versions/vN/config.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema.document import Document, Model

Method = Literal["sft", "dpo", "orpo", "kto"]


class Lora(Model):
    """Low-rank adapters; r and alpha as in the LoRA paper, `all-linear` as TRL's docs found best."""

    r: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"


class Training(Model):
    """Hyper-parameters. Batch size counts rows in one step of one device, before accumulation."""

    base_model: Annotated[str, Field(min_length=1)]
    method: Method = "sft"
    adapter: Literal["lora", "full"] = "lora"
    lora: Lora | None = None
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 2e-4
    batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    max_length: Annotated[int, Field(ge=8)] = 1024
    allow_truncation: bool = False
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _lora_settings(self) -> Training:
        if self.adapter == "full" and self.lora is not None:
            raise ValueError(_("adapter: full trains every weight; remove lora:, or set adapter: lora"))
        if self.adapter == "lora" and self.lora is None:
            self.__dict__["lora"] = Lora()
        return self


class Config(Training, Document):
    """versions/vN/config.yaml: the training configuration that one version was, or will be, made with."""
