"""What the points of a curve say: how sure each is, what more rows would give, and whether that is worth labelling.

Everything uncertain comes from the same resamples of the valid rows, which were asked at every point: what two points
have in common cancels out in their difference. Where a point was trained with several seeds, those are drawn too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores import sheet
from nlp_skills.learning_curve import law
from nlp_skills.schema.kinds import Kind

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

Interval = tuple[float, float]
Verdict = Literal["label_more", "flat", "cannot_tell"]
Caveat = Literal["no_law", "three_points", "one_seed", "few_valid_rows"]

RESAMPLES = 2000
SEED = 20_261_121
# A law has three parameters.
FEWEST_POINTS = 3
# How many times as many rows as there are now are looked ahead to.
AHEAD = (2, 4)
# A gain that is worth anybody's labelling: one point.
WORTH = 0.01
FEW_VALID_ROWS = 100
# Numbers held at once while resampling.
_BLOCK = 20_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Asked:
    """The valid split, and the metric that its answers are measured by; `texts` are the rows' inputs."""

    kind: Kind
    labels: Sequence[str]
    gold: Sequence[Any]
    metric: str
    texts: Sequence[Any] | None = None
    language: str | None = None

    def sheet(self, given: Sequence[Any]) -> sheet.Sheet:
        """These answers, marked."""
        return sheet.of(self.kind, self.gold, given, labels=self.labels, language=self.language, texts=self.texts)


@dataclass(frozen=True)
class Trained:
    """One training: on `percent` of the rows, with a seed, and the answers it gave to the valid rows."""

    percent: int
    seed: int
    rows: int
    given: Sequence[Any]


@dataclass(frozen=True)
class Point:
    """A share of the rows: the metric reached, the mean over seeds, and its 95 % interval."""

    percent: int
    rows: int
    value: float
    interval: Interval
    by_seed: list[float]


@dataclass(frozen=True)
class Ahead:
    """So many times the rows of now: how much the law gains from here to there, and where that leads."""

    times: int
    rows: int
    value: float
    interval: Interval
    gain: float
    gain_interval: Interval


@dataclass(frozen=True)
class Outlook:
    """The curve: its points, the law through them, what is ahead, and the answer.

    `band` follows the law from the first point to the farthest ahead: rows, value, and the 95 % interval. Points that
    follow no law have neither law nor anything ahead. `rise` is from the last point but one to the last.
    """

    metric: str
    points: list[Point]
    rise: tuple[float, Interval]
    law: dict[str, float] | None
    band: list[tuple[float, float, float, float]]
    ahead: list[Ahead]
    verdict: Verdict
    caveats: list[Caveat] = field(default_factory=list)


def of(trained: Sequence[Trained], asked: Asked) -> Outlook:
    """The outlook from at least three shares, each trained with the same number of seeds."""
    percents = sorted({one.percent for one in trained})
    groups = [[one for one in trained if one.percent == percent] for percent in percents]
    rows = [group[0].rows for group in groups]
    sheets = [[asked.sheet(one.given) for one in group] for group in groups]
    exact = [[float(_figure(marked, asked)) for marked in group] for group in sheets]
    values = [sum(each) / len(each) for each in exact]
    drawn = _resampled(sheets, asked)
    points = [
        Point(percent, count, value, _interval(drawn[:, place], sheets[place], asked), each)
        for place, (percent, count, value, each) in enumerate(zip(percents, rows, values, exact, strict=True))
    ]
    one, many = _Fitted(law.fit(rows, values), values[-1]), _Fitted(law.fit(rows, drawn), drawn[:, -1])
    lawful = all(_holds(point, float(one.law.at(point.rows))) for point in points)
    ahead = [_ahead(times * rows[-1], times, one, many, points[-1]) for times in AHEAD] if lawful else []
    return Outlook(
        metric=asked.metric,
        points=points,
        rise=(values[-1] - values[-2], metrics.percentile_interval(drawn[:, -1] - drawn[:, -2])),
        law={"a": float(one.law.a), "b": float(one.law.b), "c": float(one.law.c), "unit": rows[-1]} if lawful else None,
        band=_band(rows, one, many) if lawful else [],
        ahead=ahead,
        verdict=verdict(ahead[0]) if lawful else "cannot_tell",
        caveats=_caveats(points, asked, lawful=lawful),
    )


def verdict(twice: Ahead) -> Verdict:
    """Whether to label more, from what twice the rows would give."""
    low, high = twice.gain_interval
    if high < WORTH:
        return "flat"
    return "label_more" if low > 0 and twice.gain >= WORTH else "cannot_tell"


@dataclass(frozen=True)
class _Fitted:
    """A law, or many, and the metric that was measured with all rows, which the gains are counted from."""

    law: law.Law
    now: Any

    def gain(self, rows: float) -> Floats:
        """What the law gains from now to so many rows, and at most what is left to gain."""
        import numpy as np

        gained: Floats = np.minimum(self.law.at(rows) - self.law.at(self.law.unit), law.CEILING - self.now)
        return gained

    def at(self, rows: float) -> Floats:
        """The law as far as was measured; from there on what was measured and the law's gain."""
        value: Floats = self.law.at(rows) if rows <= self.law.unit else self.now + self.gain(rows)
        return value


def _figure(marked: sheet.Sheet, asked: Asked, times: Any = None) -> Floats:
    figures = marked.figures(times)
    # A schema may list relations, and no row of the split have one.
    return figures[asked.metric if asked.metric in figures else marked.names[0]]


def _resampled(groups: Sequence[Sequence[sheet.Sheet]], asked: Asked) -> Floats:
    """The metric of each share in each resample: (resamples, shares)."""
    import numpy as np

    generator, rows = np.random.default_rng(SEED), len(asked.gold)
    resamples = min(RESAMPLES, max(200, _BLOCK // rows))
    drawn = generator.integers(rows, size=(resamples, rows)) + rows * np.arange(resamples)[:, None]
    # Floats, which are multiplied many times faster than integers.
    times = np.bincount(drawn.ravel(), minlength=resamples * rows).reshape(resamples, rows).astype(np.float64)
    columns = []
    for group in groups:
        by_seed = np.stack([_figure(one, asked, times) for one in group], axis=1)
        seeds = generator.integers(len(group), size=(resamples, len(group)))
        columns.append(np.take_along_axis(by_seed, seeds, axis=1).mean(axis=1))
    return np.stack(columns, axis=1)


def _interval(drawn: Floats, group: Sequence[sheet.Sheet], asked: Asked) -> Interval:
    """The middle 95 %; Wilson's where no resample differs, which is no certainty."""
    low, high = metrics.percentile_interval(drawn)
    if low < high or asked.metric == "mcc":
        return low, high
    right = sum(sum(marked.right) for marked in group) / len(group)
    return metrics.wilson_interval(round(right), len(asked.gold))


def _ahead(rows: int, times: int, one: _Fitted, many: _Fitted, last: Point) -> Ahead:
    interval = metrics.percentile_interval(many.at(rows))
    gained = metrics.percentile_interval(many.gain(rows))
    if interval[0] == interval[1] == law.CEILING:
        # Every answer right in every resample: what may be left to gain is what so few rows cannot show.
        interval, gained = last.interval, (0.0, law.CEILING - last.interval[0])
    return Ahead(
        times=times,
        rows=rows,
        value=float(one.at(rows)),
        interval=interval,
        gain=float(one.gain(rows)),
        gain_interval=gained,
    )


def _band(rows: Sequence[int], one: _Fitted, many: _Fitted) -> list[tuple[float, float, float, float]]:
    """The law and the interval of the resampled laws, at places from the first point to the farthest ahead."""
    import numpy as np

    places = np.geomspace(rows[0], rows[-1] * AHEAD[-1], 40)
    return [(float(n), float(one.at(n)), *metrics.percentile_interval(many.at(n))) for n in places]


def _holds(point: Point, value: float) -> bool:
    low, high = point.interval
    return low - _ROUNDING <= value <= high + _ROUNDING


def _caveats(points: Sequence[Point], asked: Asked, *, lawful: bool) -> list[Caveat]:
    found: list[Caveat] = [] if lawful else ["no_law"]
    if lawful and len(points) == FEWEST_POINTS:
        found.append("three_points")
    if len(points[0].by_seed) == 1:
        found.append("one_seed")
    if len(asked.gold) < FEW_VALID_ROWS:
        found.append("few_valid_rows")
    return found
