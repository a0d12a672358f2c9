"""How an adapter begins, where PEFT's own beginnings change the base model, round, or need to see rows.

PiSSA and OLoRA begin as a part B·A of a weight W and train it on top of W − B·A. PEFT puts that remainder in the
place of W: loading has to decompose W once more to the same digits, every other program that reads the adapter puts
it on W, and the model without the adapter is no longer the base model, which baselines and DPO's reference are taken
from. Here W stays, and the part is subtracted by the adapter itself: it has rank 2r, its first half [B, A] learns, its
second half [−B, A] never changes. The outputs and the gradients are those of the paper, and what is saved is a plain
adapter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.training import PRINCIPAL, Config, Lora

# EVA goes round the rows until its directions stand still; data in which they never do has none.
EVA_ROWS = 512
EVA_PASSES = 200


def rank(lora: Lora) -> int:
    """The rank of the adapter's matrices, in memory and on disk."""
    return 2 * lora.r if lora.init in PRINCIPAL else lora.r


def begin(model: Any, config: Config, rows: Sequence[Any], batch: int) -> None:
    """Give a new adapter its first values; `rows` are encoded rows, `batch` of them are looked at at once.

    Raises:
        Invalid: the rows do not suffice for init: eva.
    """
    assert config.lora is not None
    if config.lora.init in (*PRINCIPAL, "orthogonal"):
        import torch

        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(config.seed)
            for layer in _layers(model):
                _copy_beginning(layer, config.lora)
    elif config.lora.init == "eva":
        _eva(model, rows, batch)


def hold(model: Any, lora: Lora) -> None:
    """Keep the second half of an adapter that began as a part of the base model as it is; others learn whole."""
    if lora.init not in PRINCIPAL:
        return
    for layer in _layers(model):
        layer.lora_A["default"].weight.register_hook(lambda gradient: _without(gradient, slice(lora.r, None)))
        layer.lora_B["default"].weight.register_hook(
            lambda gradient: _without(gradient, (slice(None), slice(lora.r, None)))
        )


def _without(gradient: Any, part: Any) -> Any:
    kept = gradient.clone()
    kept[part] = 0
    return kept


def _layers(model: Any) -> Iterator[Any]:
    from peft.tuners.lora import LoraLayer

    return (layer for layer in model.modules() if isinstance(layer, LoraLayer))


def _copy_beginning(layer: Any, lora: Lora) -> None:
    """PEFT's own beginning, made on a copy of the weight in 32 bits."""
    import torch

    down, up = _made_by_peft(layer, lora)
    if lora.init in PRINCIPAL:
        down, up = torch.cat([down, down]), torch.cat([up, -up], dim=1)
    layer.lora_A["default"].weight.data = down.contiguous()
    layer.lora_B["default"].weight.data = up.contiguous()


def _made_by_peft(layer: Any, lora: Lora) -> tuple[Any, Any]:
    import torch
    from peft import LoraConfig
    from peft.tuners.lora import Linear

    weight = layer.get_base_layer().weight
    weight = weight.T if layer.fan_in_fan_out else weight
    copy = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device=weight.device)
    copy.weight.copy_(weight)
    settings = LoraConfig(init_lora_weights=lora.init, use_rslora=bool(lora.rslora))
    made = Linear(copy, "default", settings, r=lora.r, lora_alpha=lora.alpha)
    return made.lora_A["default"].weight.data, made.lora_B["default"].weight.data


def _eva(model: Any, rows: Sequence[Any], batch: int) -> None:
    """The directions in which the inputs of each layer vary most, over the training rows.

    Every layer gets the rank that config.yaml says, so that a checkpoint fits the model it is loaded into.
    """
    from peft import initialize_lora_eva_weights

    batches = _batches(rows[:EVA_ROWS], batch, model.peft_config["default"].r, model.config.pad_token_id or 0)
    backbone = model.get_base_model().base_model
    left = itertools.count(EVA_PASSES * len(batches), -1)

    def forward(_model: Any, inputs: Any) -> Any:
        if next(left) < 0:
            raise Invalid(
                _("lora.init: eva finds no directions in these rows"),
                mend=_("lower lora.r, or set init: default"),
            )
        # The head is no layer with an adapter, and the dearest one.
        return backbone(**inputs, use_cache=False)

    initialize_lora_eva_weights(model, batches, forward_fn=forward, show_progress_bar=False)


def _batches(rows: Sequence[Any], batch: int, least: int, pad: int) -> list[dict[str, Any]]:
    """Batches of `batch` rows, or more where these have fewer than `least` tokens, padded on the right."""
    groups: list[list[list[int]]] = [[]]
    for row in rows:
        if len(groups[-1]) >= batch and _tokens(groups[-1]) >= least:
            groups.append([])
        groups[-1].append(row.ids if hasattr(row, "ids") else row.each[0].ids)
    if len(groups) > 1 and _tokens(groups[-1]) < least:
        groups[-2:] = [groups[-2] + groups[-1]]
    if _tokens(groups[0]) < least:
        raise Invalid(
            _("lora.init: eva needs at least as many tokens as lora.r, which is {rank}", rank=least),
            cause=_("the training rows have {tokens}", tokens=_tokens(groups[0])),
            mend=_("lower lora.r, or set init: default"),
        )
    return [_padded(group, pad) for group in groups]


def _tokens(group: Sequence[Sequence[int]]) -> int:
    return sum(len(ids) for ids in group)


def _padded(group: Sequence[Sequence[int]], pad: int) -> dict[str, Any]:
    import torch

    width = max(len(ids) for ids in group)
    return {
        "input_ids": torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in group]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in group]),
    }
