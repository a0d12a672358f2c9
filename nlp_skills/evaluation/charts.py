"""Coordinates for the report's drawings, in percent of the plot; what to draw them with is the template's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.charts import Tick, axis

POINTS = 600

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A loss curve: points as SVG writes them, in a 100 by 100 box with y downwards."""

    train: str
    valid: list[Point]
    valid_line: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    first: float
    last: float
    best_valid: float | None


def loss_curve(path: Path) -> Curve | None:
    """The curve of run/metrics.jsonl; None when there are fewer than two training losses.

    A resumed run repeats steps: the later line counts. Lines that are not measurements are skipped.
    """
    entries = list(_entries(path))
    train = sorted({step: value for step, name, value in entries if name == "loss"}.items())
    valid = sorted({step: value for step, name, value in entries if name == "eval_loss"}.items())
    if len(train) < 2:
        return None
    values = [value for _step, value in [*train, *valid]]
    x_ticks, y_ticks = axis(0, max(train[-1][0], *(step for step, _ in valid), 1)), axis(0, max(values))
    far, high = x_ticks[-1], y_ticks[-1]
    drawn = [_place(point, far, high) for point in _thinned(train)]
    marks = [_place(point, far, high) for point in valid]
    return Curve(
        train=_points(drawn),
        valid=marks,
        valid_line=_points(marks),
        x_ticks=[Tick(100 * value / far, f"{value:g}") for value in x_ticks],
        y_ticks=[Tick(100 - 100 * value / high, f"{value:g}") for value in y_ticks],
        first=train[0][1],
        last=train[-1][1],
        best_valid=min((value for _step, value in valid), default=None),
    )


def _entries(path: Path) -> Iterable[tuple[int, str, float]]:
    """(step, `loss` or `eval_loss`, value) of every measurement."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            continue
        for name in ("loss", "eval_loss"):
            if _is_number(entry.get(name)):
                yield entry["step"], name, float(entry[name])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most `POINTS` of them, the last always among them."""
    every = math.ceil(len(points) / POINTS)
    return [*points[:-1:every], points[-1]]


def _place(point: Point, far: float, high: float) -> Point:
    return round(100 * point[0] / far, 2), round(100 - 100 * point[1] / high, 2)


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
