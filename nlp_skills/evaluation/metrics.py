"""The arithmetic of metrics: what follows from hits, answers and rows of each class, and what intervals are made of.

Values and resamples go through the same formulas, so a value and its interval cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nlp_skills.schema.version import ConfusionMatrix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Counts = NDArray[np.int64]
    Numbers = Floats | Counts

RESAMPLES = 10_000
SEED = 20_261_121
CONFIDENCE = 0.95
NAMES = ("macro_f1", "accuracy", "micro_f1", "weighted_f1", "balanced_accuracy", "mcc")

Interval = tuple[float, float]


def confusion(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> ConfusionMatrix:
    """Count answers by true class (rows) and given class (columns). Every label must be in `labels`."""
    place = {label: index for index, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for truth, answer in zip(gold, predicted, strict=True):
        counts[place[truth]][place[answer]] += 1
    return ConfusionMatrix(labels=list(labels), counts=counts)


def figures_from_margins(hits: Numbers, answered: Numbers, support: Numbers, present: Any) -> dict[str, Floats]:
    """The metrics in `NAMES` from hits, answers and rows per class (last axis), as fractions.

    Macro-F1 and balanced accuracy average the classes that are `present`; a class without any test row says nothing
    about the model, whatever it was mistaken for.
    """
    _, recall, f1 = _rates(hits, answered, support)
    rows, right = support.sum(axis=-1), hits.sum(axis=-1)
    accuracy = divided(right, rows)
    return {
        "macro_f1": _mean(f1, present),
        "accuracy": accuracy,
        "micro_f1": accuracy,
        "weighted_f1": divided((f1 * support).sum(axis=-1), rows),
        "balanced_accuracy": _mean(recall, present),
        "mcc": _mcc(right, rows, answered, support),
    }


def class_f1(hits: Numbers, answered: Numbers, support: Numbers) -> Floats:
    """Every class's F1 from hits, answers and rows per class (last axis); 0 where there are none of them."""
    return _rates(hits, answered, support)[2]


def _rates(hits: Numbers, answered: Numbers, support: Numbers) -> tuple[Floats, Floats, Floats]:
    return divided(hits, answered), divided(hits, support), divided(2 * hits, answered + support)


def _mcc(right: Any, rows: Any, answered: Numbers, support: Numbers) -> Floats:
    """Gorodkin's R_K; 0 when everything has, or was given, one class."""
    import numpy as np

    # In floats: rows to the fourth power leaves the integers at 60,000 rows.
    hits, total, given, true = (np.asarray(part, dtype=np.float64) for part in (right, rows, answered, support))
    covariance = hits * total - (given * true).sum(axis=-1)
    spread = (total**2 - (given**2).sum(axis=-1)) * (total**2 - (true**2).sum(axis=-1))
    # Where rows have several labels the product may be under 0, and there is no such figure.
    return divided(covariance, np.sqrt(np.maximum(spread, 0)))


def divided(above: Any, below: Any) -> Floats:
    """Division in which nothing over nothing is 0."""
    import numpy as np

    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    result: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result


def _mean(values: Floats, present: Any) -> Floats:
    return divided((values * present).sum(axis=-1), present.sum(axis=-1))


def percentile_interval(samples: Floats) -> Interval:
    """The middle 95 % of bootstrap samples."""
    import numpy as np

    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(samples, [outside, 1 - outside])
    return float(low), float(high)


def wilson_interval(successes: int, trials: int) -> Interval:
    """Wilson's 95 % interval of a proportion: right also near 0 and 1, where ±1.96 standard errors is not."""
    if not trials:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    share = successes / trials
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # At the very ends rounding would leave a hair.
    return max(0.0, middle - half) if successes else 0.0, min(1.0, middle + half) if successes < trials else 1.0
