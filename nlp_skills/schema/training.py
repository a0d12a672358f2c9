"""How a version is trained: the `training:` part of task.yaml and the whole of versions/vN/config.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema.document import Document, Model

Method = Literal["sft", "dpo", "orpo", "kto"]
Adapter = Literal["lora", "qlora", "full"]

# Those that learn from answers people or programs preferred, instead of from rows with one right answer.
PREFERENCE_METHODS: frozenset[Method] = frozenset({"dpo", "orpo", "kto"})

# Beginnings of an adapter that are a part of the base model: its principal components, or the first of its factors.
PRINCIPAL = frozenset({"pissa", "olora"})

_FractionOfOne = Annotated[float, Field(ge=0, lt=1)]


class Lora(Model):
    """Low-rank adapters; r and alpha as in the LoRA paper, `all-linear` as TRL's docs found best.

    `rslora` scales by alpha/√r, `dora` learns magnitudes beside directions, `init` is how the adapter begins, and
    `plus_ratio` (LoRA+) is how many times faster B learns than A. Only beginnings whose adapter loads again onto the
    base model it was made for are offered: PiSSA by the exact decomposition, not by the randomised one. `pissa` and
    `olora` begin as a part of the base model, which the adapter keeps a second time: on disk it has rank 2r.
    """

    r: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: _FractionOfOne = 0.0
    target_modules: str | list[str] = "all-linear"
    rslora: bool | None = None
    dora: bool | None = None
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora", "eva"] | None = None
    plus_ratio: Annotated[float, Field(ge=1, le=1000)] | None = None

    @field_validator("target_modules")
    @classmethod
    def _not_the_head(cls, value: str | list[str]) -> str | list[str]:
        names = [value] if isinstance(value, str) else value
        if any(name.rpartition(".")[2] in ("lm_head", "embed_out") for name in names):
            raise ValueError(_("the output layer takes no adapter; leave lm_head out, or set all-linear"))
        return value

    @model_validator(mode="after")
    def _even(self) -> Lora:
        if self.init == "orthogonal" and self.r % 2:
            raise ValueError(_("init: orthogonal needs an even r; set r: {r}", r=self.r + 1))
        return self


class EarlyStopping(Model):
    """Stop when the primary metric of the valid split has not risen by `min_delta` for `patience` epochs.

    The weights of the best epoch are kept. `rows` measures only so many valid rows, the same ones every time.
    """

    patience: Annotated[int, Field(ge=1, le=1000)] = 2
    min_delta: _FractionOfOne = 0.0
    rows: Annotated[int, Field(ge=1)] | None = None


class Training(Model):
    """Hyper-parameters. One optimiser step sees batch_size × gradient_accumulation rows, on however many devices.

    `init_from` is a version of this task whose trained weights this one goes on from. `class_balance` repeats the
    rows of rare classes (`sampling`), or weighs their loss (`weights`, or a weight for each class). `max_length: auto`
    follows the longest row. `extra` holds further settings under the names that TRL gives them.

    A setting that came after the first release is unset by default: what a file does not say is no part of its hash.
    """

    base_model: Annotated[str, Field(min_length=1)]
    method: Method = "sft"
    adapter: Adapter = "lora"
    lora: Lora | None = None
    init_from: Annotated[str, Field(min_length=1)] | None = None
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 2e-4
    batch_size: Annotated[int, Field(ge=1)] = 8
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    max_length: Annotated[int, Field(ge=8)] | Literal["auto"] = 1024
    allow_truncation: bool = False
    packing: bool | None = None
    warmup_ratio: _FractionOfOne = 0.05
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    weight_decay: _FractionOfOne = 0.0
    beta: Annotated[float, Field(gt=0, le=10)] | None = None
    class_balance: Literal["sampling", "weights"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    early_stopping: EarlyStopping | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    system_prompt: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    extra: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _lora_settings(self) -> Training:
        if self.adapter == "full" and self.lora is not None:
            raise ValueError(_("adapter: full trains every weight; remove lora:, or set adapter: lora"))
        if self.adapter != "full" and self.lora is None:
            self.__dict__["lora"] = Lora()
        return self

    @model_validator(mode="after")
    def _beginning_fits(self) -> Training:
        init = self.lora.init if self.lora else None
        if self.adapter == "qlora" and init in ("pissa", "olora", "orthogonal"):
            raise ValueError(_("qlora cannot begin with init: {init}; set default or eva, or adapter: lora", init=init))
        if self.weight_decay and init in PRINCIPAL:
            raise ValueError(_("weight_decay would shrink what init: {init} keeps; set it to 0", init=init))
        return self

    @model_validator(mode="after")
    def _fits_the_method(self) -> Training:
        preference = self.method in PREFERENCE_METHODS
        if self.beta is not None and not preference:
            raise ValueError(_("beta belongs to dpo, orpo and kto; remove it, or set method"))
        for name in ("class_balance", "packing"):
            if preference and getattr(self, name):
                raise ValueError(_("{name} is for method sft; remove it", name=name))
        return self

    @property
    def effective_batch(self) -> int:
        """Rows that one optimiser step learns from."""
        return self.batch_size * self.gradient_accumulation


class Config(Training, Document):
    """versions/vN/config.yaml: the training configuration that one version was, or will be, made with."""
