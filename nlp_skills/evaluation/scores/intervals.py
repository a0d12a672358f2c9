"""95 % intervals of a sheet's metrics: Wilson's for shares of rows, the bootstrap over rows for the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.metrics import Interval
from nlp_skills.evaluation.scores import resampling
from nlp_skills.evaluation.scores.sheet import Sheet

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats

# No share of anything: nothing stands in for the bootstrap where no resample differs.
_NO_SHARE = ("mcc", "ece", "brier")
# A metric that is computed a sample at a time: so many samples, in so many seconds, and not fewer than are worth it.
_MOST_ALONE = 200
_SECONDS_ALONE = 10.0
_FEWEST_ALONE = 50


def of(sheet: Sheet) -> dict[str, Interval]:
    """The interval of every metric that has one.

    Where no resample differs (no mistake, or nothing right), the bootstrap would claim certainty. Wilson's interval of
    such a share of the rows stands in for it there.
    """
    rows, values = len(sheet.cell_of), {name: float(value) for name, value in sheet.figures().items()}
    drawn = _joined([_figures(sheet, sample) for sample in _samples(sheet)])
    found = {name: metrics.percentile_interval(samples) for name, samples in drawn.items()}
    found |= _alone(sheet)
    alike = {name for name, (low, high) in found.items() if high - low < 1e-12 and name not in _NO_SHARE}
    shares = (alike | sheet.shares) & {*found} - {*sheet.alone}
    found |= {name: metrics.wilson_interval(round(values[name] * rows), rows) for name in shares}
    return {name: found[name] for name in sheet.names if name in found and _holds(found[name], values[name])}


def of_classes(sheet: Sheet) -> dict[str, Interval]:
    """The interval of each class's F1; Wilson's of its recall where no resample differs."""
    import numpy as np

    drawn = np.concatenate([sheet.class_f1_of_sums(each @ sheet.cells) for each in resampling.of_cells(sheet.cell_of)])
    hits, _answered, support = sheet.margins(sheet.sums())
    found = {}
    for place, name in enumerate(sheet.classes):
        low, high = metrics.percentile_interval(drawn[:, place])
        sure = metrics.wilson_interval(round(hits[place]), round(support[place]))
        found[name] = (low, high) if low < high else sure
    return found


def _samples(sheet: Sheet) -> Iterator[Floats]:
    """Counts of the cells, or of the rows where a metric needs these."""
    return resampling.of_rows(len(sheet.cell_of)) if sheet.ranked else resampling.of_cells(sheet.cell_of)


def _figures(sheet: Sheet, sample: Floats) -> dict[str, Floats]:
    return sheet.figures(sample) if sheet.ranked else sheet.of_sums(sample @ sheet.cells)


def _joined(blocks: list[dict[str, Floats]]) -> dict[str, Floats]:
    import numpy as np

    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _alone(sheet: Sheet) -> dict[str, Interval]:
    """Intervals of the metrics that are computed a sample at a time; none for one that takes too long for that."""
    found = {name: _one_by_one(figure, len(sheet.cell_of)) for name, figure in sheet.alone.items()}
    return {name: interval for name, interval in found.items() if interval}


def _one_by_one(figure: Callable[[Counts], float], rows: int) -> Interval | None:
    import numpy as np

    generator, started = np.random.default_rng(metrics.SEED), time.monotonic()
    drawn: list[float] = []
    while len(drawn) < _MOST_ALONE and time.monotonic() - started < _SECONDS_ALONE:
        drawn.append(figure(generator.integers(rows, size=rows)))
    return metrics.percentile_interval(np.asarray(drawn)) if len(drawn) >= _FEWEST_ALONE else None


def _holds(interval: Interval, value: float) -> bool:
    """Whether it is one at all, and of this value."""
    low, high = interval
    return low < high and low - 1e-9 <= value <= high + 1e-9
