"""One step's loss, computed more cheaply than TRL does where we know how."""

from __future__ import annotations

from typing import Any

from nlp_skills.training.encode import IGNORED


def suits(model: Any, inputs: Any) -> bool:
    """Whether `loss` is for this batch: on a CPU, TRL scores the whole vocabulary at every position.

    Weighted rows are ours everywhere: TRL knows none.
    """
    return "weight" in inputs or bool(inputs["labels"].device.type == "cpu")


def loss(model: Any, inputs: Any, items: Any) -> Any:
    """The mean loss of the answers' tokens: TRL's to the last digit, scored where an answer stands only.

    `inputs` are a batch's input_ids, attention_mask and labels, (rows, tokens) each, and where classes are weighed
    weight, (rows,); `items` is the number of answer tokens in all batches of this optimiser step (None: those of
    this batch).
    """
    import torch

    targets = inputs["labels"][:, 1:]
    columns = (targets != IGNORED).any(0).nonzero().squeeze(1)
    logits = model(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    wanted = targets[:, columns].flatten()
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted, ignore_index=IGNORED, reduction="none"
    )
    if "weight" in inputs:
        each = each * inputs["weight"].repeat_interleave(len(columns))
    total = each.sum()
    return total / ((wanted != IGNORED).sum() if items is None else items)
