"""How likely a causal language model finds each of a few given answers to each of many prompts.

Scoring every label instead of generating text always gives a label, gives its probability, and costs
the same however the model rambles. What prompts share is read once: the tokens all prompts begin with
once a call, each prompt once for all its labels, the tokens all labels begin with once a prompt.

Padding stands between the shared beginning and the prompt. `position_ids` therefore count real tokens
only, in every forward pass: leaving them to the model shifts a prompt against its labels, costs ten
points of accuracy and raises no error.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation import branches

if TYPE_CHECKING:
    import torch

Ids = Sequence[int]

# Tokens in one forward pass, padding included, prompts counted once for every label they are repeated for.
BUDGET_CPU = 8_192
BUDGET_ACCELERATOR = 65_536


@dataclass(frozen=True)
class Scored:
    """Some rows' log-probabilities: `rows` are places in the prompts, `values` one list of labels each."""

    rows: list[int]
    values: list[list[float]]


def score(model: Any, prompts: Sequence[Ids], answers: Sequence[Ids], *, budget: int | None = None) -> Iterator[Scored]:
    """The log-probability of each answer (its end-of-turn token included) after each prompt, batch by batch.

    `prompts` and `answers` are token ids, none empty; batches come longest first. `model` is a causal
    model of transformers or PEFT in evaluation mode; autocast, where wanted, is the caller's.
    """
    import torch

    if not prompts:
        return
    if budget is None:
        budget = BUDGET_CPU if model.device.type == "cpu" else BUDGET_ACCELERATOR
    # Not inside inference_mode while the caller handles a batch: a generator would leak the mode.
    with torch.inference_mode():
        shared = _Shared.read(model, prompts, answers)
        branching = shared is not None and branches.suits(model)
    for rows in _grouped(prompts, answers, shared if branching else None, budget):
        with torch.inference_mode():
            chosen = [prompts[row] for row in rows]
            values = _repeated(model, chosen, answers) if shared is None else shared.score(model, chosen, branching)
        yield Scored(rows, values.double().tolist())


def _grouped(prompts: Sequence[Ids], answers: Sequence[Ids], branching: _Shared | None, budget: int) -> list[list[int]]:
    """Rows to be read at once; those whose labels branch off cost what is their own, once."""
    lengths = [len(prompt) for prompt in prompts]
    if branching is None:
        return batches(lengths, answers, budget)
    own = [length - branching.beginning.length for length in lengths]
    return batches(own, [[token for answer in answers for token in answer]], min(budget, branches.AT_ONCE))


def batches(lengths: Sequence[int], answers: Sequence[Ids], budget: int) -> list[list[int]]:
    """Rows in groups of similar length, longest first, each group within `budget` tokens (or a single row)."""
    longest_answer = max(len(answer) for answer in answers)
    groups: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if room == 0:
            groups.append([])
            # The first row of a group is its longest.
            room = max(1, budget // (len(answers) * (lengths[row] + longest_answer)))
        groups[-1].append(row)
        room -= 1
    return groups


def common_prefix(sequences: Sequence[Ids]) -> list[int]:
    """The tokens every sequence begins with, leaving each at least one of its own."""
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))
    limit = min(len(sequence) for sequence in sequences) - 1
    same = 0
    while same < limit and first[same] == last[same]:
        same += 1
    return list(first[:same])


@dataclass(frozen=True)
class Beginning:
    """The tokens that all prompts begin with, as many as `length`, read once into a cache."""

    length: int
    cache: Any

    @classmethod
    def read(cls, model: Any, prompts: Sequence[Ids]) -> Beginning | None:
        """None when the model's cache is not plain keys and values.

        A sliding window or a recurrent state cannot have padding inside it.
        """
        import torch
        from transformers.cache_utils import DynamicCache, DynamicLayer

        prefix = common_prefix(prompts) if len(prompts) > 1 else []
        ids = torch.tensor([prefix or list(prompts[0][:1])], device=model.device)
        cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
            return None
        return cls(len(prefix), cache if prefix else DynamicCache())

    def repeated(self, rows: int) -> Any:
        """A cache of its own for a batch of so many prompts."""
        cache = copy.deepcopy(self.cache)
        if self.length:
            cache.batch_repeat_interleave(rows)
        return cache


@dataclass(frozen=True)
class _Shared:
    """What is read once: the prompts' common beginning (as a cache) and the answers' (as tokens)."""

    beginning: Beginning
    stem: list[int]
    tails: list[list[int]]

    @classmethod
    def read(cls, model: Any, prompts: Sequence[Ids], answers: Sequence[Ids]) -> _Shared | None:
        beginning = Beginning.read(model, prompts)
        if beginning is None:
            return None
        stem = common_prefix(answers)
        return cls(beginning, stem, [list(answer[len(stem) :]) for answer in answers])

    def score(self, model: Any, prompts: Sequence[Ids], branching: bool) -> torch.Tensor:
        """Log-probabilities of shape (prompts, answers)."""
        if branching:
            from nlp_skills.training.one_row import Unsuitable

            with contextlib.suppress(Unsuitable):
                known = self.beginning.cache, self.beginning.length
                return branches.score(model, *known, prompts, self.stem, self.tails)
        return self._after_another(model, prompts)

    def _after_another(self, model: Any, prompts: Sequence[Ids]) -> torch.Tensor:
        import torch

        read = self.beginning.length
        rest = [[*prompt[read:], *self.stem] for prompt in prompts]
        ids, mask = padded(rest, model.device, left=True)
        mask = torch.cat([mask.new_ones(len(rest), read), mask], dim=1)
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=_positions(mask)[:, read:],
            past_key_values=self.beginning.repeated(len(rest)),
            use_cache=True,
            logits_to_keep=len(self.stem) + 1,
        )
        logits = out.logits.float().log_softmax(dim=-1)
        stem = torch.tensor(self.stem, device=model.device, dtype=torch.long)
        of_stem = logits[:, :-1].gather(2, stem.expand(len(rest), -1)[..., None]).sum(dim=(1, 2))
        firsts = torch.tensor([tail[0] for tail in self.tails], device=model.device)
        return of_stem[:, None] + logits[:, -1, firsts] + self._after_first(model, mask, out.past_key_values)

    def _after_first(self, model: Any, mask: torch.Tensor, cache: Any) -> torch.Tensor | float:
        """What the answers' second and later own tokens add, every prompt's cache read once an answer."""
        import torch

        if max(len(tail) for tail in self.tails) == 1:
            return 0.0
        rows, labels = len(mask), len(self.tails)
        cache.batch_repeat_interleave(labels)
        given, real = padded([tail[:-1] or tail[:1] for tail in self.tails], model.device, left=False)
        wanted, counted = padded([tail[1:] or tail[:1] for tail in self.tails], model.device, left=False)
        counted = counted * torch.tensor([[len(tail) > 1] for tail in self.tails], device=model.device)
        whole = torch.cat([mask.repeat_interleave(labels, dim=0), real.repeat(rows, 1)], dim=1)
        logits = model(
            input_ids=given.repeat(rows, 1),
            attention_mask=whole,
            position_ids=_positions(whole)[:, -given.shape[1] :],
            past_key_values=cache,
            use_cache=True,
        ).logits
        return (_chosen(logits, wanted.repeat(rows, 1)) * counted.repeat(rows, 1)).sum(dim=1).view(rows, labels)


def _repeated(model: Any, prompts: Sequence[Ids], answers: Sequence[Ids]) -> torch.Tensor:
    """The plain way, for models whose cache cannot be shared: each prompt read anew with each answer."""
    import torch

    columns = []
    for answer in answers:
        ids, mask = padded([[*prompt, *answer] for prompt in prompts], model.device, left=False)
        starts = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
        places = starts[:, None] + torch.arange(len(answer), device=model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        before = logits.gather(1, (places - 1)[..., None].expand(-1, -1, logits.shape[-1]))
        columns.append(_chosen(before, ids.gather(1, places)).sum(dim=1))
    return torch.stack(columns, dim=1)


def _chosen(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of `ids` under `logits` at the same places."""
    logits = logits.float()
    return logits.gather(-1, ids[..., None])[..., 0] - logits.logsumexp(dim=-1)


def padded(sequences: Sequence[Ids], device: Any, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (sequences, longest). The padding's id is never looked at."""
    import torch

    width = max(len(sequence) for sequence in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        place = slice(width - len(sequence), None) if left else slice(len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1
    return ids.to(device), mask.to(device)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Each token's place among the real tokens of its row."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
