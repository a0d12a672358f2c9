"""A base model without its weights: how many there are, in which layers, read off its config.json alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nlp_skills import extras
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.training import Lora
from nlp_skills.training import beginnings


@dataclass(frozen=True)
class Linear:
    """A linear layer by its full name, and its width on both sides."""

    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """Without the bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Shape:
    """What memory and time depend on. Tied embeddings count once.

    `linears` are the layers that adapters go on and four bits are made of: all but the output layer. `active` are
    the weights one token is multiplied with (of a mixture of experts, those of the chosen ones). `query` and `key`
    are the widths of all heads together; `feed_forward` is the width in the middle of a layer.
    """

    family: str
    parameters: int
    active: int
    linears: tuple[Linear, ...]
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    query: int
    key: int
    vocabulary: int
    normed_heads: bool = False

    @property
    def quantisable(self) -> int:
        """Weights that four bits hold under an adapter."""
        return sum(linear.weights for linear in self.linears)

    @property
    def head(self) -> int:
        """Weights of the output layer."""
        return self.vocabulary * self.hidden

    def targets(self, lora: Lora) -> Sequence[Linear]:
        """The layers an adapter goes on, as PEFT reads `target_modules`."""
        wanted = lora.target_modules
        if wanted == "all-linear":
            return self.linears
        if isinstance(wanted, str):
            return [linear for linear in self.linears if re.fullmatch(wanted, linear.name)]
        return [linear for linear in self.linears if any(_ends_in(linear.name, name) for name in wanted)]

    def adapter(self, lora: Lora) -> int:
        """Weights of an adapter: two thin matrices a layer, with DoRA a length for each output too."""
        rank = beginnings.rank(lora)
        each = [rank * (at.inputs + at.outputs) + (at.outputs if lora.dora else 0) for at in self.targets(lora)]
        return sum(each)


def _ends_in(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


@lru_cache(maxsize=8)
def of(folder: str) -> Shape:
    """The shape of the base model in a folder.

    Raises:
        Unavailable: a package is missing, or this kind of model is not known to the installed transformers.
    """
    extras.need("train", "torch", "transformers")
    from transformers import AutoConfig

    try:
        return of_config(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True))
    except (ValueError, KeyError, OSError, ImportError, AttributeError, TypeError, RuntimeError) as error:
        raise Unavailable(
            _("the size of this base model cannot be told"),
            file=Path(folder) / "config.json",
            cause=(str(error).strip().splitlines() or [type(error).__name__])[0][:300],
            mend=_("choose a causal language model that the installed transformers knows"),
        ) from error


def of_config(config: Any) -> Shape:
    """The shape of what a transformers configuration describes; the model is built without memory for its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    text = config.get_text_config()
    head = model.get_output_embeddings()
    linears = tuple(
        Linear(name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    heads = text.num_attention_heads
    wide = getattr(text, "head_dim", None) or text.hidden_size // heads
    parameters = sum(weight.numel() for weight in model.parameters())
    return Shape(
        family=str(config.model_type),
        parameters=parameters,
        active=_active(model, text, parameters),
        linears=linears,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        feed_forward=_feed_forward(text),
        heads=heads,
        query=heads * wide,
        key=(getattr(text, "num_key_value_heads", None) or heads) * wide,
        vocabulary=text.vocab_size,
        normed_heads=any(name.endswith("q_norm") for name, _module in model.named_modules()),
    )


def _chosen(text: Any) -> tuple[int, int] | None:
    """Experts a token goes to, and experts there are; None where there is only one way."""
    chosen = getattr(text, "num_experts_per_tok", None)
    there = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None)
    return (int(chosen), int(there)) if chosen and there else None


def _active(model: Any, text: Any, parameters: int) -> int:
    """The weights a token is multiplied with; looking its embedding up multiplies nothing."""
    names = list(model.named_parameters())
    experts = sum(weight.numel() for name, weight in names if ".experts." in name)
    chosen = _chosen(text)
    used = experts * chosen[0] // chosen[1] if chosen else experts
    tied = model.get_output_embeddings() is None or (
        model.get_output_embeddings().weight is model.get_input_embeddings().weight
    )
    looked_up = 0 if tied else model.get_input_embeddings().weight.numel()
    return int(parameters - experts + used - looked_up)


def _feed_forward(text: Any) -> int:
    chosen = _chosen(text)
    if chosen and getattr(text, "moe_intermediate_size", None):
        return int(text.moe_intermediate_size) * chosen[0]
    width = int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    return width * chosen[0] if chosen else width
