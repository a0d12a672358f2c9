"""Every prompt of a batch read once, with all labels as branches behind it, in one row without padding.

Nothing is read twice and no cache is copied: on a CPU, where tokens that pass through the layers are what costs, this
is as few of them as there can be. The layout is that of `training.one_row`; a label sees its prompt and itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from nlp_skills.training.one_row import OneRow

Ids = Sequence[int]

# Own tokens read at once: fewer leave the matrix products small, more no longer fit the processor's caches.
AT_ONCE = 1024


def suits(model: Any) -> bool:
    """Whether the model, on a CPU, gives the same laid out like this as it gives row by row."""
    from nlp_skills.training import one_row

    return bool(model.device.type == "cpu") and one_row.suits(model)


def score(
    model: Any, cache: Any, beginning: int, prompts: Sequence[Ids], stem: Ids, tails: Sequence[Ids]
) -> torch.Tensor:
    """Log-probabilities (prompts, labels) of `stem` and each of `tails` after each prompt.

    `cache` holds the first `beginning` tokens, which all prompts share; it is left as it is.

    Raises:
        one_row.Unsuitable: the model's attention is not one that can be stood in for.
    """
    import torch

    from nlp_skills.training import one_row

    rows = [[*prompt[beginning:], *stem] for prompt in prompts]
    batch = _laid_out(rows, beginning, tails)
    places, wanted = _asked(batch, rows, stem, tails)
    out = one_row.forward(model, batch, logits_to_keep=places, past_key_values=copy.deepcopy(cache))
    logits = out.logits[0].float()
    logs = (logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(1)).view(len(rows), -1)
    common, firsts = logs[:, : len(stem)].sum(1), len(tails)
    # Every label's first token is read off the same place, which stands there once for each of them.
    total = common[:, None] + logs[:, len(stem) : len(stem) + firsts]
    rest = logs[:, len(stem) + firsts :].split([len(tail) - 1 for tail in tails], dim=1)
    return total + torch.stack([part.sum(1) for part in rest], dim=1)


def _laid_out(rows: Sequence[Ids], beginning: int, tails: Sequence[Ids]) -> OneRow:
    import torch

    from nlp_skills.training.one_row import TOKENS, WIDTH, OneRow

    more = sum(len(tail) - 1 for tail in tails)
    lengths = torch.tensor([len(row) + more for row in rows])
    width = -(-int(lengths.max()) // WIDTH) * WIDTH
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros_like(ids)
    hidden = torch.ones(width, width, dtype=torch.bool).triu(1).repeat(len(rows), 1, 1)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        positions[number, : len(row)] = torch.arange(len(row))
        at = len(row)
        for branch in (tail[:-1] for tail in tails):
            end = at + len(branch)
            ids[number, at:end] = torch.tensor(branch, dtype=torch.long)
            positions[number, at:end] = torch.arange(len(row), len(row) + len(branch))
            hidden[number, at:end, len(row) : at] = True
            at = end
    cells = (torch.arange(width) < lengths[:, None]).flatten().nonzero().squeeze(1)
    padded = torch.zeros(len(rows) * width, dtype=torch.long)
    padded[cells] = torch.arange(len(cells))
    idle = -len(cells) % TOKENS
    taken = torch.nn.functional.pad(cells, (0, idle))
    return OneRow(
        ids=ids.flatten()[taken][None],
        positions=beginning + positions.flatten()[taken][None],
        shared=beginning,
        idle=idle,
        padded=padded.view(len(rows), width),
        cells=cells,
        longest=beginning + width,
        hidden=hidden,
        cached=True,
    )


def _asked(batch: OneRow, rows: Sequence[Ids], stem: Ids, tails: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a logit is wanted and of which token, row by row: the stem's, each label's first, each label's others."""
    import torch

    first = torch.tensor([len(row) - len(stem) - 1 for row in rows])
    last = first + len(stem)
    columns = [first + place for place in range(len(stem))] + [last] * len(tails)
    wanted = [*stem, *(tail[0] for tail in tails)]
    at = last + 1
    for tail in tails:
        columns += [at + place for place in range(len(tail) - 1)]
        wanted += tail[1:]
        at = at + len(tail) - 1
    places = batch.padded.gather(1, torch.stack(columns, dim=1)).flatten()
    return places, torch.tensor(wanted).repeat(len(rows))
