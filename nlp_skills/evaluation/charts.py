"""Coordinates for the report's drawings, in percent of the plot; what to draw them with is the template's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.charts import Tick, axis
from nlp_skills.i18n import _
from nlp_skills.schema.version import Bin, Results
from nlp_skills.schema.version import Curve as Points

POINTS = 600
MEANS = 100

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
    measured = _measured(path)
    train, valid = ([(step, value) for step, _epoch, value in measured[name]] for name in ("loss", "eval_loss"))
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


@dataclass(frozen=True)
class Line:
    """One version's losses in a box of 100 by 100: points as SVG writes them, and those to mark with a dot."""

    name: str
    points: str
    dots: list[Point]
    last: float


@dataclass(frozen=True)
class Overlay:
    """The losses of several versions over one another, on common axes; `by_epoch`, else by step."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    by_epoch: bool


def overlay(paths: dict[str, Path], loss: str) -> Overlay | None:
    """The curves of `loss` or `eval_loss` of several run/metrics.jsonl, by version; None where there are none.

    They are drawn by epoch, as versions differ in how many steps one takes, unless a run did not note it. Of a
    long run, each point is the mean of a hundredth: the noise of several runs would hide them all.
    """
    found = {name: points for name, path in paths.items() if (points := _measured(path)[loss])}
    if not found:
        return None
    by_epoch = all(epoch is not None for points in found.values() for _step, epoch, _value in points)
    curves = {
        name: _averaged([(epoch if by_epoch and epoch is not None else step, value) for step, epoch, value in points])
        for name, points in found.items()
    }
    x_ticks = axis(0, max(points[-1][0] for points in curves.values()))
    y_ticks = axis(0, max(value for points in curves.values() for _x, value in points))
    far, high = x_ticks[-1], y_ticks[-1]
    drawn = {name: [_place(point, far, high) for point in points] for name, points in curves.items()}
    few = loss == "eval_loss"
    return Overlay(
        [
            Line(name, _points(points), points if few or len(points) == 1 else [], curves[name][-1][1])
            for name, points in drawn.items()
        ],
        [Tick(100 * value / far, f"{value:g}") for value in x_ticks],
        [Tick(100 - 100 * value / high, f"{value:g}") for value in y_ticks],
        by_epoch,
    )


@dataclass(frozen=True)
class Share:
    """A line of one share over another in a box of 100 by 100; `says` is what it shows in a sentence.

    `dots` are points with their width in pixels; `even` draws the line from corner to corner to hold it against.
    """

    title: str
    says: str
    x_name: str
    y_name: str
    points: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    dots: list[tuple[float, float, float]]
    even: bool = False


def shares(results: Results) -> list[Share]:
    """The drawings that a version's probabilities allow: reliability, what abstaining brings, ROC, precision-recall."""
    drawn = [_reliability(results.calibration)] if results.calibration else []
    curves = {name: curve for name, curve in results.curves.items() if len(curve.x) > 1}
    if "abstention" in curves:
        drawn.append(_abstention(curves["abstention"]))
    if "roc" in curves:
        drawn.append(_roc(curves["roc"]))
    if "pr" in curves:
        drawn.append(_precision_recall(curves["pr"]))
    return drawn


def _reliability(bins: Sequence[Bin]) -> Share:
    most, full = max(one.rows for one in bins), max(bins, key=lambda one: one.rows)
    says = _(
        "Where it is about {sure} sure (the most rows: {rows}), {right} of its answers are right. Under the dashed "
        "line it is too sure of itself, above it not sure enough.",
        sure=_percent(full.confidence),
        right=_percent(full.accuracy),
        rows=full.rows,
    )
    spots = [(one.confidence, one.accuracy) for one in bins]
    sizes = [6 + 12 * math.sqrt(one.rows / most) for one in bins]
    placed = [_place(spot, 1, 1) for spot in spots]
    return Share(
        _("Calibration"), says, _("how sure it is"), _("how often it is right"), _points(placed),
        _fractions(0), _rising(_fractions(0)),
        [(x, y, round(size, 1)) for (x, y), size in zip(placed, sizes, strict=True)], even=True,
    )  # fmt: skip


def _abstention(curve: Points) -> Share:
    points = _sampled(curve)
    half = min(points, key=lambda point: abs(point[0] - 0.5))
    says = _(
        "Answering only the {share} it is surest of, {right} are right; answering all, {all}.",
        share=_percent(half[0]),
        right=_percent(half[1]),
        all=_percent(max(points)[1]),
    )
    low = min(math.floor(min(value for _x, value in points) * 10) / 10, 0.9)
    placed = [_place((x, (y - low) / (1 - low)), 1, 1) for x, y in points]
    return Share(
        _("What abstaining brings"), says, _("share of rows it answers"), _("how often it is right"),
        _points(placed), _fractions(0), _rising(_fractions(low)), [],
    )  # fmt: skip


def _roc(curve: Points) -> Share:
    area = "" if curve.area is None else _("The area under it is {area}.", area=f"{curve.area:.3f}")
    says = _("The dashed line is what guessing does.")
    placed = [_place(point, 1, 1) for point in _sampled(curve)]
    return Share(
        "ROC", f"{area} {says}".strip(), _("false positives"), _("true positives"), _points(placed), _fractions(0),
        _rising(_fractions(0)), [], even=True,
    )  # fmt: skip


def _precision_recall(curve: Points) -> Share:
    says = "" if curve.area is None else _("Its average precision is {area}.", area=f"{curve.area:.3f}")
    placed = [_place(point, 1, 1) for point in _sampled(curve)]
    return Share(
        _("Precision and recall"), says, _("recall"), _("precision"), _points(placed), _fractions(0),
        _rising(_fractions(0)), [],
    )  # fmt: skip


def sparkline(values: Sequence[float | None]) -> tuple[str, list[Point]]:
    """The values that are known as points in a box of 100 by 100, and the places of the last one alone."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if not known:
        return "", []
    low, high = min(value for _x, value in known), max(value for _x, value in known)
    wide, tall = max(len(values) - 1, 1), high - low
    # Values that hardly differ are drawn as such: noise in the last digit is no mountain range.
    tall, low = (tall, low) if tall >= 0.02 else (0.02, low - (0.02 - tall) / 2)
    drawn = [(round(100 * x / wide, 1), round(100 - 100 * (value - low) / tall, 1)) for x, value in known]
    return _points(drawn), drawn[-1:]


def _sampled(curve: Points) -> list[Point]:
    return _thinned(list(zip(curve.x, curve.y, strict=True)))


def _fractions(low: float) -> list[Tick]:
    """Ticks from `low` to 1, in percent."""
    values = axis(low, 1)
    return [Tick(100 * (value - low) / (1 - low), _percent(value)) for value in values if value <= 1]


def _rising(ticks: Sequence[Tick]) -> list[Tick]:
    """The same upwards, where a box counts downwards."""
    return [Tick(round(100 - tick.at, 2), tick.label) for tick in ticks]


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.0f}%"


def _averaged(points: Sequence[Point]) -> list[Point]:
    """At most `MEANS` points, each the mean of its stretch."""
    every = math.ceil(len(points) / MEANS)
    stretches = [points[start : start + every] for start in range(0, len(points), every)]
    return [(stretch[-1][0], sum(value for _x, value in stretch) / len(stretch)) for stretch in stretches]


def _measured(path: Path) -> dict[str, list[tuple[int, float | None, float]]]:
    """(step, epoch, value) of every `loss` and `eval_loss`, by step; of a step measured twice, the later."""
    found: dict[str, dict[int, tuple[int, float | None, float]]] = {"loss": {}, "eval_loss": {}}
    for entry in _entries(path):
        epoch = float(entry["epoch"]) if _is_number(entry.get("epoch")) else None
        for name, values in found.items():
            if _is_number(entry.get(name)):
                values[entry["step"]] = entry["step"], epoch, float(entry[name])
    return {name: [values[step] for step in sorted(values)] for name, values in found.items()}


def _entries(path: Path) -> Iterable[dict[str, Any]]:
    """Every line that names a step; the others, such as one that was cut off, are none."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            yield entry


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
