"""The curve as a drawing: points with their intervals, the law through them, and how unsure it is of what is ahead."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import pages
from nlp_skills.charts import Tick, axis
from nlp_skills.evaluation import words
from nlp_skills.i18n import _
from nlp_skills.learning_curve.law import CEILING
from nlp_skills.learning_curve.outlook import Ahead, Outlook, Point

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 720, 400, 64, 24, 84, 58


@dataclass(frozen=True)
class Mark:
    """A point in pixels, the ends of its interval, and its value in words; `ahead`: it is not measured."""

    x: float
    y: float
    low: float
    high: float
    text: str
    ahead: bool


@dataclass(frozen=True)
class _Frame:
    """Rows (each doubling as wide) and values of the metric, to pixels."""

    first: float
    last: float
    bottom: float
    top: float

    def x(self, rows: float) -> float:
        share = math.log(rows / self.first) / math.log(self.last / self.first)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def y(self, value: float) -> float:
        share = (min(max(value, self.bottom), self.top) - self.bottom) / (self.top - self.bottom)
        return round(HEIGHT - FOOT - (HEIGHT - FOOT - TOP) * share, 1)


def svg(task: str, version: str, found: Outlook) -> str:
    """The drawing, on a scale of rows on which every doubling is as wide."""
    shown: list[Point | Ahead] = [*found.points, *found.ahead]
    values = [value for _rows, *every in found.band for value in every]
    values += [value for one in shown for value in one.interval]
    ticks = axis(math.floor(10 * min(values)) / 10, max(values))
    # No metric passes 1, whatever round number the axis would end at.
    frame = _Frame(shown[0].rows, shown[-1].rows, ticks[0], min(ticks[-1], CEILING))
    texts = {
        "title": _("{task} {version}: learning curve", task=task, version=version),
        "measured": _("measured on valid"),
        "law": _("power law"),
        "ahead": _("Interval (95%)"),
        "rows": _("training rows"),
        "metric": words.metric(found.metric),
    }
    plot = {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - FOOT,
        "marks": [_mark(frame, one, found.metric) for one in shown],
        "x_ticks": [Tick(frame.x(one.rows), str(one.rows)) for one in shown],
        "y_ticks": [Tick(frame.y(value), _level(found.metric, value)) for value in ticks if value <= frame.top],
        "description": "; ".join(f"{one.rows}: {words.figure(found.metric, one.value)}" for one in found.points),
        **_lines(frame, found),
    }
    return pages.render(Path(__file__).parent / "templates", "learning_curve.svg.j2", texts, plot)


def _lines(frame: _Frame, found: Outlook) -> dict[str, str]:
    """The law up to the rows of now and beyond them, and the area that the resampled laws fill; else the points."""
    if not found.band:
        return {
            "area": "",
            "dashes": "",
            "line": _joined((frame.x(one.rows), frame.y(one.value)) for one in found.points),
        }
    last = found.points[-1]
    law = [(n, (frame.x(n), frame.y(value))) for n, value, _low, _high in found.band]
    upper = [(frame.x(n), frame.y(high)) for n, _value, _low, high in found.band]
    lower = [(frame.x(n), frame.y(low)) for n, _value, low, _high in found.band]
    behind = [place for n, place in law if n <= last.rows]
    law_ahead = [place for n, place in law if n > last.rows]
    return {
        "area": _joined([*upper, *reversed(lower)]),
        "line": _joined(behind),
        "dashes": _joined([(frame.x(last.rows), frame.y(last.value)), *law_ahead]),
    }


def _level(metric: str, value: float) -> str:
    return f"{value:g}" if metric == "mcc" else f"{100 * value:g}%"


def _mark(frame: _Frame, one: Point | Ahead, metric: str) -> Mark:
    low, high = one.interval
    text = words.figure(metric, one.value)
    return Mark(frame.x(one.rows), frame.y(one.value), frame.y(low), frame.y(high), text, isinstance(one, Ahead))


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
