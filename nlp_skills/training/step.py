"""One step's loss, computed more cheaply than TRL does where we know how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nlp_skills.training import one_row
from nlp_skills.training.encode import IGNORED

# Tokens of which a CPU holds everything in memory at once that the way back needs (some 2 MB each in a model of 135
# million weights); more at once are no faster.
AT_ONCE = 1024


def suits(model: Any, inputs: Any) -> bool:
    """Whether `loss` is for this batch: on a CPU, TRL scores the whole vocabulary at every position.

    Weighted rows are ours everywhere: TRL knows none.
    """
    return "weight" in inputs or bool(inputs["labels"].device.type == "cpu")


def pieces(inputs: Any) -> Iterator[Any]:
    """A batch in parts of at most `AT_ONCE` tokens on a CPU, or a row each; in one elsewhere.

    Their losses over the same `items` add up to the batch's.
    """
    rows, width = inputs["input_ids"].shape
    at_once = max(1, AT_ONCE // width) if inputs["labels"].device.type == "cpu" else rows
    for start in range(0, rows, at_once):
        yield {name: values[start : start + at_once] for name, values in inputs.items()}


def loss(model: Any, inputs: Any, items: Any) -> Any:
    """The mean loss of the answers' tokens: TRL's to the last digit, scored where an answer stands only.

    `inputs` are a batch's input_ids, attention_mask and labels, (rows, tokens) each, and where classes are weighed
    weight, (rows,); `items` is the number of answer tokens in all batches of this optimiser step (None: those of
    this batch).
    """
    import torch

    rows, columns = (inputs["labels"][:, 1:] != IGNORED).nonzero(as_tuple=True)
    wanted = inputs["labels"][rows, columns + 1]
    logits = _logits(model, inputs, rows, columns)
    each = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
    if "weight" in inputs:
        each = each * inputs["weight"][rows]
    return each.sum() / (len(wanted) if items is None else items)


def _logits(model: Any, inputs: Any, rows: Any, columns: Any) -> Any:
    """What the model says at these places of the batch: (places, vocabulary)."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    if ids.device.type == "cpu" and bool((mask[:, :-1] >= mask[:, 1:]).all()) and one_row.suits(model):
        batch = one_row.laid_out(ids, mask, share=not _drops_out(model))
        try:
            return one_row.forward(model, batch, logits_to_keep=batch.place(rows, columns)).logits[0]
        except one_row.Unsuitable:
            pass
    kept, places = columns.unique(return_inverse=True)
    return model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits[rows, places]


def _drops_out(model: Any) -> bool:
    """Whether rows lose something by chance: each then has a beginning of its own."""
    import torch

    return any(isinstance(part, torch.nn.Dropout) and part.p > 0 and part.training for part in model.modules())
