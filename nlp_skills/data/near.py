"""Texts that are the same, or nearly: keys of rows, and clusters of near-identical texts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills import extras
from nlp_skills.i18n import _

_PERMUTATIONS = 128
_RECALL = 0.999
_CLUSTER_PROBES = 32


def normalised(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """What a row says, with case, width and spacing levelled; a missing field counts as empty."""
    parts = (unicodedata.normalize("NFKC", str(row.get(name, ""))).casefold() for name in fields)
    return "\x1f".join(" ".join(part.split()) for part in parts)


def row_key(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """32 hex digits that stand for a row's input; rows that differ in case or spacing only share it."""
    return hashlib.blake2b(normalised(row, fields).encode("utf-8"), digest_size=16).hexdigest()


def available() -> bool:
    """Whether near-identical texts can be searched for (rensa, of the extra `data`)."""
    return extras.installed("rensa")


def missing_words() -> str:
    """What to tell where they cannot."""
    return _("near-identical texts were not searched for: rensa is not installed")


def clusters(texts: Sequence[str], near: float) -> list[int]:
    """For each text the index of the first text of its cluster.

    Two texts share a cluster when the Jaccard similarity of their character 3-grams is at least `near`,
    or a chain of such pairs joins them. MinHash proposes pairs, the exact similarity decides. The result
    depends on the texts' order only in which member leads. Without rensa every text is on its own.
    """
    forest = _Forest(len(texts))
    if near < 1 and available() and len(texts) > 1:
        _join_near(texts, near, forest)
    return [forest.root(index) for index in range(len(texts))]


def _join_near(texts: Sequence[str], near: float, forest: _Forest) -> None:
    import rensa

    index = rensa.RMinHashLSH(threshold=near, num_perm=_PERMUTATIONS, num_bands=_bands(near))
    for start in range(0, len(texts), 1000):
        sketches = rensa.RMinHash.from_token_sets([grams(t) for t in texts[start : start + 1000]], _PERMUTATIONS, 42)
        for number, sketch in enumerate(sketches, start):
            _join(number, index.query(sketch), texts, near, forest)
            # A flood of one template would make every query return all of it; a few dozen probes are enough.
            if forest.size[forest.root(number)] <= _CLUSTER_PROBES:
                index.insert(number, sketch)


def _join(number: int, candidates: Sequence[int], texts: Sequence[str], near: float, forest: _Forest) -> None:
    own = grams(texts[number]) if candidates else set()
    for other in sorted(candidates):
        if forest.root(other) != forest.root(number) and similarity(own, grams(texts[other])) >= near:
            forest.join(other, number)


def _bands(near: float) -> int:
    """The fewest bands that find a pair of similarity `near` with the recall we promise."""
    for bands in (4, 8, 16, 32, 64):
        if 1 - (1 - near ** (_PERMUTATIONS / bands)) ** bands >= _RECALL:
            return bands
    return _PERMUTATIONS


def grams(text: str) -> set[str]:
    """The character 3-grams of a text; of a shorter one, the text itself."""
    return {text[index : index + 3] for index in range(max(1, len(text) - 2))}


def similarity(one: set[str], other: set[str]) -> float:
    """Jaccard similarity, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


class _Forest:
    """Union-find; the smallest index leads a cluster."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))
        self.size = [1] * count

    def root(self, index: int) -> int:
        while self.parent[index] != index:
            self.parent[index] = self.parent[self.parent[index]]
            index = self.parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        if first != second:
            self.parent[second] = first
            self.size[first] += self.size[second]
