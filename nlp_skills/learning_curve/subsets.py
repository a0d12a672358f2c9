"""Which rows a point of the curve learns from: more of the same, every class in its share."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence


def nested(classes: Sequence[Hashable], percent: int, seed: int) -> list[int]:
    """The places of `percent` of the rows, in their order; a larger share of the same seed holds a smaller one.

    Of every class that share is taken, rounded up: no class that has rows is left without one.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, found in enumerate(classes):
        groups.setdefault(found, []).append(row)
    kept: list[int] = []
    for found, rows in groups.items():
        shuffled = random.Random(f"{seed}/{found}").sample(rows, len(rows))
        kept += shuffled[: -(-len(rows) * percent // 100)]
    return sorted(kept)
