"""What every drawing needs: axes with round numbers, in percent of the plot."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, `at` percent along it."""

    at: float
    label: str


def axis(low: float, high: float) -> list[float]:
    """Round values from `low` to at or beyond `high`, three to six of them."""
    rough = max(high - low, 1e-9) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [round(low + step * index, 12) for index in range(math.ceil((high - low) / step - 1e-9) + 1)]
