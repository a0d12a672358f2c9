"""What there is to do: rows, tokens and steps of a training, counted on its own data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.schema.training import Config
from nlp_skills.training import order
from nlp_skills.training.trainer import Plan


@dataclass(frozen=True)
class Work:
    """Counts of one epoch, and lengths in tokens; `known` is false where no data was there to count.

    `rows` come in an epoch (repeats and packs counted as they come), `tokens` go through the model, the loss is on
    `learnt` of them. `longest` is what most memory is needed for, `p95` what 95 of 100 rows stay within; `answer` is
    the longest answer, `spread` how far apart answers begin in a batch of similar rows, and `shared` what all prompts
    begin with.
    """

    rows: int
    tokens: int
    learnt: int
    longest: int
    p95: int
    answer: int
    spread: int
    shared: int
    valid_tokens: int
    steps: int
    total_steps: int
    known: bool = True

    @property
    def row(self) -> float:
        """Tokens of a row on average."""
        return self.tokens / max(1, self.rows)


def of_rows(config: Config, encoded: Mapping[str, Sequence[Any]], max_length: int, micro_batch: int) -> Work:
    """The work that encoded rows make; `max_length` is what a row, or a pack of them, may have."""
    rows = encoded["train"]
    sizes = sorted(len(row) for row in rows)
    tokens, learnt = _tokens(rows), sum(row.learnt for row in rows)
    count = _repeated(config, rows)
    tokens, learnt = round(tokens * count / len(rows)), round(learnt * count / len(rows))
    longest = sizes[-1]
    if config.packing:
        longest = min(max_length, tokens)
        count = math.ceil(tokens / longest)
    plan = Plan.of(config, count)
    return Work(
        rows=count,
        tokens=tokens,
        learnt=learnt,
        longest=longest,
        p95=sizes[(len(sizes) - 1) * 95 // 100],
        answer=longest if config.packing else max(len(each.completion) for row in rows for each in parts(row)),
        spread=0 if config.packing else _spread(rows, micro_batch),
        shared=0 if config.packing or (config.lora and config.lora.dropout) else _shared(rows),
        valid_tokens=_tokens(encoded.get("valid") or []),
        steps=plan.steps_per_epoch,
        total_steps=plan.total_steps,
    )


def assumed(max_length: int) -> Work:
    """What can be said without data: rows as long as they may be."""
    return Work(0, 0, 0, max_length, max_length, max_length, 0, 0, 0, 0, 0, known=False)


def parts(row: Any) -> Sequence[Any]:
    """The sequences that a row is: two where answers are compared."""
    found: Sequence[Any] = getattr(row, "each", None) or [row]
    return found


def _tokens(rows: Sequence[Any]) -> int:
    return sum(len(each) for row in rows for each in parts(row))


def _repeated(config: Config, rows: Sequence[Any]) -> int:
    """Rows of an epoch in which rare classes come as often as common ones."""
    if config.class_balance != "sampling":
        return len(rows)
    return sum(order.copies([row.classes for row in rows]).values())


def _spread(rows: Sequence[Any], micro_batch: int) -> int:
    """How many more tokens the longest prompt of a batch has than its shortest, rows of like length being together."""
    prompts = sorted(len(row.prompt) for row in rows)
    return max(last - first for first, last in zip(prompts, prompts[micro_batch - 1 :] or prompts[-1:], strict=False))


def _shared(rows: Sequence[Any]) -> int:
    """Tokens that every prompt begins with: those that the first and the last in order have in common."""
    first, last = min(row.prompt for row in rows), max(row.prompt for row in rows)
    return next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
