"""How long rows are: in characters, all of them, and in tokens of the base model, of a sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nlp_skills.data.render import Renderer

if TYPE_CHECKING:
    from nlp_skills.data.rows import Report

_FEWEST = 50
# An outlier stands three times the spread of the middle half away from it, on a logarithmic scale …
_FAR = 3.0
# … which is taken to be at least this factor: texts of nearly equal length are no reason to suspect the next.
_SPREAD = 1.5
_SHOWN = 5


def summary(counts: Mapping[int, int]) -> dict[str, int]:
    """Minimum, median, 95th percentile and maximum of lengths by their counts; empty where there are none."""
    if not counts:
        return {}
    return {"min": min(counts), "p50": quantile(counts, 0.5), "p95": quantile(counts, 0.95), "max": max(counts)}


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The smallest length that at least `share` of the rows do not exceed."""
    wanted, seen = share * sum(counts.values()), 0
    for length in sorted(counts):
        seen += counts[length]
        if seen >= wanted:
            break
    return length


@dataclass(frozen=True)
class Outliers:
    """Rows far beyond the others: how many, from which length on, and the first of them."""

    count: int
    bound: int
    places: list[tuple[int, int]]


def outliers(lengths: Report) -> tuple[Outliers | None, Outliers | None]:
    """Rows far longer and rows far shorter than the others; `lengths` is as `rows.check` reports them."""
    counts: dict[int, int] = lengths["counts"]
    if sum(counts.values()) < _FEWEST:
        return None, None
    low, high = quantile(counts, 0.25), quantile(counts, 0.75)
    reach = max(high / low, _SPREAD) ** _FAR
    most, least = math.ceil(high * reach), math.floor(low / reach)
    long = sum(count for length, count in counts.items() if length > most)
    short = sum(count for length, count in counts.items() if length < least)
    return (
        Outliers(long, most, [place for place in lengths["longest"] if place[0] > most]) if long else None,
        Outliers(short, least, [place for place in lengths["shortest"] if place[0] < least]) if short else None,
    )


@dataclass
class Tokens:
    """Lengths of prompt and answer together, in tokens, as training will see them."""

    tokenizer: Any
    renderer: Renderer
    limit: int
    counts: Counter[int] = field(default_factory=Counter)
    over: int = 0
    answers_over: int = 0
    places: list[tuple[int, int]] = field(default_factory=list)

    def look(self, line: int, row: Mapping[str, Any]) -> None:
        """Count one good row.

        Raises:
            Invalid: the tokenizer's chat template does not take the row.
        """
        prompt, completion = self.renderer.ids(self.tokenizer, row)
        total = len(prompt) + len(completion)
        self.counts[total] += 1
        self.answers_over += len(completion) >= self.limit
        if total > self.limit:
            self.over += 1
            if len(self.places) < _SHOWN:
                self.places.append((line, total))
