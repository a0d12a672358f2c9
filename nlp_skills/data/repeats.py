"""Refusing texts that say again what was said, one at a time as they come."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from nlp_skills.data import near


class Repeats:
    """The texts so far; a new one is refused when it equals or nearly equals one of them.

    Two sets of 3-grams of similarity `threshold` or more share one of their first few grams in any one order, so
    only texts that do are compared: the outcome is exact. Rare grams come first in that order, which keeps the
    lists short; it is made anew each time the texts have doubled.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._whole: set[str] = set()
        self._grams: list[set[str]] = []
        self._seen: Counter[str] = Counter()
        self._places: dict[str, int] = {}
        self._by_gram: dict[str, list[int]] = defaultdict(list)
        self._next_order = 64

    def refuses(self, text: str) -> str | None:
        """`repeat` or `near_repeat`, or None: then the text is kept."""
        if text in self._whole:
            return "repeat"
        if self.threshold < 1:
            grams = near.grams(text)
            if self._has_near(grams):
                return "near_repeat"
            self._keep(grams)
        self._whole.add(text)
        return None

    def _keep(self, grams: set[str]) -> None:
        self._grams.append(grams)
        self._seen.update(grams)
        if len(self._grams) < self._next_order:
            self._index(len(self._grams) - 1)
            return
        self._next_order *= 2
        self._places = dict(self._seen)
        self._by_gram.clear()
        for number in range(len(self._grams)):
            self._index(number)

    def _index(self, number: int) -> None:
        for gram in self._first(self._grams[number]):
            self._by_gram[gram].append(number)

    def _first(self, grams: set[str]) -> list[str]:
        ordered = sorted(grams, key=lambda gram: (self._places.get(gram, 0), gram))
        return ordered[: len(grams) - math.ceil(self.threshold * len(grams)) + 1]

    def _has_near(self, grams: set[str]) -> bool:
        candidates = {number for gram in self._first(grams) for number in self._by_gram.get(gram, ())}
        size = len(grams)
        for number in candidates:
            other = self._grams[number]
            small, large = sorted((size, len(other)))
            if small >= self.threshold * large and near.similarity(grams, other) >= self.threshold:
                return True
        return False
