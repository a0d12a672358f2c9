"""Refusing texts that say again what was said, one at a time as they come."""

from __future__ import annotations

import math
from collections import defaultdict

from nlp_skills.data import near


class Repeats:
    """The texts so far; a new one is refused when it equals or nearly equals one of them.

    Two sets of 3-grams of similarity `threshold` or more share one of their first few grams in any fixed order,
    so only texts that do are compared: the outcome is exact.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._whole: set[str] = set()
        self._grams: list[set[str]] = []
        self._by_gram: dict[str, list[int]] = defaultdict(list)

    def refuses(self, text: str) -> str | None:
        """`repeat` or `near_repeat`, or None: then the text is kept."""
        if text in self._whole:
            return "repeat"
        if self.threshold < 1:
            grams = near.grams(text)
            first = self._first(grams)
            if self._has_near(grams, first):
                return "near_repeat"
            for gram in first:
                self._by_gram[gram].append(len(self._grams))
            self._grams.append(grams)
        self._whole.add(text)
        return None

    def _first(self, grams: set[str]) -> list[str]:
        return sorted(grams, key=_order)[: len(grams) - math.ceil(self.threshold * len(grams)) + 1]

    def _has_near(self, grams: set[str], first: list[str]) -> bool:
        candidates = {number for gram in first for number in self._by_gram.get(gram, ())}
        size = len(grams)
        for number in candidates:
            other = self._grams[number]
            small, large = sorted((size, len(other)))
            if small >= self.threshold * large and near.similarity(grams, other) >= self.threshold:
                return True
        return False


def _order(gram: str) -> tuple[int, str]:
    """Any fixed order does; rare characters first keeps the lists short, and rare ones stand late in Unicode."""
    return -sum(map(ord, gram)), gram
