"""What a causal language model says to each of many prompts, in its own words or in those a grammar allows.

Prompts are answered in batches of like length; the tokens that all of them begin with are read once. Padding stands
on the left, with positions that count real tokens only, so that a row's answer does not depend on its batch. Sampled
text does not either: every row draws from random numbers of its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation import likelihood
from nlp_skills.evaluation.likelihood import Ids

if TYPE_CHECKING:
    import torch

    from nlp_skills.schema.version import Sampling


# How much longer than the longest right answer an answer may get before it is cut off.
_LONGER = 1.5
_MORE_TOKENS = 8


@dataclass(frozen=True)
class Generated:
    """Some rows' new tokens, their end left out: `rows` are places in the prompts.

    `logs` are the texts' log-probabilities, end included, as the model has them before anything is ruled out or
    sharpened; `cut` tells of each whether it came to the limit before it came to an end, `bent` whether it is other
    than the likeliest tokens would have made it, as what is ruled out or drawn may be.
    """

    rows: list[int]
    ids: list[list[int]]
    logs: list[float]
    cut: list[bool]
    bent: list[bool]


def generate(
    model: Any,
    prompts: Sequence[Ids],
    ends: Sequence[int],
    sampling: Sampling,
    *,
    within: Callable[[], Any] | None = None,
    most: int | None = None,
    numbers: Sequence[int] | None = None,
) -> Iterator[Generated]:
    """An answer to each prompt (token ids, none empty), batch by batch, longest prompts first.

    `ends` are the tokens an answer ends with; `within` makes a logits processor that rules tokens out, anew for every
    batch; `most` is how many tokens the model reads, of which a prompt leaves at least one. What is drawn at random
    depends on `sampling.seed` and a prompt's number alone, which is its place unless `numbers` say otherwise.
    """
    import torch

    if not prompts:
        return
    budget = likelihood.BUDGET_CPU if model.device.type == "cpu" else likelihood.BUDGET_ACCELERATOR
    numbers = range(len(prompts)) if numbers is None else numbers
    with torch.inference_mode():
        beginning = likelihood.Beginning.read(model, prompts)
    new = sampling.max_new_tokens
    for rows in likelihood.batches([len(prompt) for prompt in prompts], [range(new)], budget):
        chosen = [prompts[row] for row in rows]
        room = new if most is None else min(new, most - max(map(len, chosen)))
        processors = [*([within()] if within else []), *_drawn(sampling, [numbers[row] for row in rows])]
        with torch.inference_mode():
            said, logs, bent = _said(model, chosen, ends, room, processors, beginning)
        texts = [_to_its_end(ids, ends) for ids in said]
        yield Generated(rows, [ids for ids, _cut in texts], logs, [cut for _ids, cut in texts], bent)


def _said(
    model: Any,
    prompts: Sequence[Ids],
    ends: Sequence[int],
    room: int,
    processors: list[Any],
    beginning: likelihood.Beginning | None,
) -> tuple[list[list[int]], list[float], list[bool]]:
    """The new tokens of each prompt, what follows their end included, their log-probabilities, and which were bent."""
    from transformers import GenerationConfig

    ids, mask = _beside(prompts, beginning.length if beginning else 0, model.device)
    heard = _heard(ends)
    settings = GenerationConfig(
        # A penalty for what was said before, or beams, which a base model may bring along, it was not trained with.
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=room,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
        use_cache=True,
    )
    whole = model.generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=settings,
        logits_processor=[heard, *processors],
        **({"past_key_values": beginning.repeated(len(prompts))} if beginning and beginning.length else {}),
    )
    new = whole[:, ids.shape[1] :]
    heard.last(new)
    return new.tolist(), heard.logs.double().tolist(), heard.bent.tolist()


def _beside(prompts: Sequence[Ids], shared: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask of a batch: what is shared first, then padding, then what is each prompt's own."""
    import torch

    ids, mask = likelihood.padded([prompt[shared:] for prompt in prompts], device, left=True)
    if not shared:
        return ids, mask
    beginning = torch.tensor([list(prompts[0][:shared])], device=device).expand(len(prompts), -1)
    return torch.cat([beginning, ids], dim=1), torch.cat([torch.ones_like(beginning), mask], dim=1)


def _to_its_end(ids: list[int], ends: Sequence[int]) -> tuple[list[int], bool]:
    """The tokens before the first end, and whether there is none."""
    at = next((place for place, token in enumerate(ids) if token in ends), None)
    return (ids, True) if at is None else (ids[:at], False)


def _heard(ends: Sequence[int]) -> Any:
    """A logits processor that changes nothing, and hears how probable the tokens are that come to be chosen."""
    import torch
    from transformers import LogitsProcessor

    class Heard(LogitsProcessor):  # type: ignore[misc]
        before: torch.Tensor | None = None
        logs: torch.Tensor
        bent: torch.Tensor
        going: torch.Tensor

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            self._count(input_ids[:, -1])
            self.before = scores.float().log_softmax(dim=-1)
            return scores

        def last(self, new: torch.Tensor) -> None:
            self._count(new[:, -1])

        def _count(self, token: torch.Tensor) -> None:
            if self.before is None:
                self.logs = torch.zeros(len(token), device=token.device)
                self.going = torch.ones_like(token, dtype=torch.bool)
                self.bent = torch.zeros_like(self.going)
                return
            self.logs += self.before.gather(1, token[:, None])[:, 0] * self.going
            self.bent |= (self.before.argmax(dim=-1) != token) & self.going
            self.going &= ~torch.isin(token, torch.tensor(list(ends), device=token.device))

    return Heard()


def _drawn(sampling: Sampling, numbers: Sequence[int]) -> list[Any]:
    """What makes the likeliest token a drawn one; nothing at temperature 0."""
    import torch
    from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

    if not sampling.temperature:
        return []
    # Of a seed torch takes 32 bits.
    seeds = [zlib.crc32(f"{sampling.seed or 0}/{number}".encode()) for number in numbers]
    dice = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Drawn(LogitsProcessor):  # type: ignore[misc]
        """The largest of log-probabilities with Gumbel noise is a sample of their distribution."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            noise = torch.stack([torch.empty(scores.shape[1]).exponential_(generator=one) for one in dice])
            drawn: torch.Tensor = scores - noise.log().to(scores.device)
            return drawn

    shares = [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    return [TemperatureLogitsWarper(float(sampling.temperature)), *shares, Drawn()]


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens at which an answer ends, by the tokenizer and by the model's own settings."""
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = listed if isinstance(listed, list) else [listed]
    return sorted({end for end in [tokenizer.eos_token_id, *found] if end is not None})


def longest(tokens: int) -> int:
    """How many tokens an answer may have where the longest right one has `tokens`."""
    return int(tokens * _LONGER) + _MORE_TOKENS
