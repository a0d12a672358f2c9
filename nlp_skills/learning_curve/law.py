"""A power law through the points of a learning curve: the metric is a − b·n^(−c), n being the number of rows.

For a given c the law is a straight line, so it is fitted exactly for each c of a grid and the best one is kept: no
search that could end elsewhere from run to run, and thousands of resampled curves are fitted at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

# How fast a curve may flatten. Below, it would be a logarithm, which no metric that ends at 1 can follow.
SLOWEST, FASTEST, STEPS = 0.1, 2.0, 40
# No metric of ours passes it.
CEILING = 1.0


@dataclass(frozen=True)
class Law:
    """One law, or as many as there are resamples; `b` counts n in units of `unit` rows."""

    a: Floats
    b: Floats
    c: Floats
    unit: int

    def at(self, rows: float) -> Floats:
        """The metric with so many rows."""
        values: Floats = self.a - self.b * (rows / self.unit) ** -self.c
        return values


def fit(rows: Sequence[int], values: Any) -> Law:
    """The law nearest to the points by least squares; `values` is of shape (points,), or (curves, points).

    A point counts as its rows do: what is to come looks more like the last points than like the first. The law may
    fall as well as rise, so that a curve that is flat but for chance is as often found to fall; it never ends above 1.
    """
    import numpy as np

    points = np.asarray(values, dtype=np.float64)
    n = np.asarray(rows, dtype=np.float64) / rows[-1]
    speeds = np.geomspace(SLOWEST, FASTEST, STEPS)
    a, b, missed = (np.stack(part) for part in zip(*(_line(n**-c, points, n / n.sum()) for c in speeds), strict=True))
    best = np.argmin(missed, axis=0)[None]
    a, b = (np.take_along_axis(part, best, axis=0)[0] for part in (a, b))
    return Law(a, b, speeds[best[0]], rows[-1])


def _line(x: Any, y: Any, weight: Any) -> tuple[Floats, Floats, Floats]:
    """The a and b of y = a − b·x, a at most 1, and the squares that are left; the weights sum to 1."""
    import numpy as np

    middle = (weight * x).sum()
    away = weight * (x - middle)
    b = -(y * away).sum(axis=-1) / (x * away).sum()
    a = (weight * y).sum(axis=-1) + b * middle
    over = a > CEILING
    b = np.where(over, (weight * (CEILING - y) * x).sum(axis=-1) / (weight * x * x).sum(), b)
    a = np.where(over, CEILING, a)
    missed = weight * (y - (a[..., None] - b[..., None] * x)) ** 2
    return a, b, missed.sum(axis=-1)
