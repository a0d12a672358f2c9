"""A run to look at: its curves as one SVG, its figures as one summary."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files, pages
from nlp_skills.charts import Tick, axis
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.version import LineageRun, RunStatus
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import VersionFolder

WIDTH, LEFT, RIGHT, TOP, GAP, FOOT = 720, 64, 24, 84, 46, 46
HEIGHTS = {"loss": 230, "metric": 110, "rate": 54}
# Points of a line at most, the share of a run that smoothing looks at around each, and how many points get a dot.
POINTS, SMOOTHED_SHARE, DOTS = 400, 40, 200

Point = tuple[float, float]
Series = list[Point]


@dataclass(frozen=True)
class Panel:
    """One drawing of the page: lines on axes of their own, in pixels. `dots` are measurements that stand alone."""

    kind: str
    title: str
    y: float
    height: float
    raw: str
    line: str
    valid: str
    dots: Series
    y_ticks: list[Tick]


def draw(version: VersionFolder) -> None:
    """Write run/loss.svg from run/metrics.jsonl; without losses there is none. It is never what a run fails for."""
    with contextlib.suppress(OSError, Problem):
        text = svg(version)
        if text is None:
            version.curve_path.unlink(missing_ok=True)
        else:
            files.write_text(version.curve_path, text)


def svg(version: VersionFolder) -> str | None:
    """The curves of a version's run; None while there are fewer than two losses."""
    lines = runs.metrics(version)
    losses = series(lines, "loss")
    if len(losses) < 2:
        return None
    metric = metric_of(version, lines)
    valid, measured, rate = series(lines, "eval_loss"), series(lines, metric or ""), series(lines, "learning_rate")
    far = max(points[-1][0] for points in (losses, valid, measured) if points)
    ticks = axis(0, far)
    panels = [_panel("loss", _("loss"), TOP, losses, valid, ticks[-1])]
    if metric and measured:
        panels.append(_panel("metric", shown(metric), _below(panels), [], measured, ticks[-1], percent=True))
    if rate:
        panels.append(_panel("rate", _("learning rate"), _below(panels), rate, [], ticks[-1]))
    best = best_step(version, lines)
    return pages.render(
        Path(__file__).parent / "templates",
        "loss.svg.j2",
        _texts(version),
        {
            "width": WIDTH,
            "height": _below(panels) - GAP + FOOT,
            "left": LEFT,
            "right": WIDTH - RIGHT,
            "panels": panels,
            "bottom": _below(panels) - GAP,
            "x_ticks": [Tick(_x(value, ticks[-1]), f"{value:g}") for value in ticks],
            "best": None if best is None else _x(best, ticks[-1]),
            "best_text": None if best is None else _("best: step {step}", step=best),
            "description": "; ".join(_summed(version, lines).words),
        },
    )


def _texts(version: VersionFolder) -> dict[str, str]:
    return {
        "title": _("{task} {version}: training", task=version.task_root.name, version=version.name),
        "train": _("training, single steps"),
        "smooth": _("training, smoothed"),
        "valid": _("valid"),
        "step": _("step"),
    }


def _below(panels: Sequence[Panel]) -> float:
    return panels[-1].y + panels[-1].height + GAP


def _panel(
    kind: str, title: str, y: float, train: Series, valid: Series, far: float, *, percent: bool = False
) -> Panel:
    height = HEIGHTS[kind]
    smooth = smoothed(train) if kind == "loss" else []
    values = [value for _step, value in valid] + usual([value for _step, value in train])
    low, high = min(0.0, *values), max(values)
    ticks = axis(low, high if high > low else low + 1)
    if kind == "rate":
        ticks = [ticks[0], ticks[-1]]

    def place(point: Point) -> Point:
        share = (point[1] - ticks[0]) / (ticks[-1] - ticks[0])
        return round(_x(point[0], far), 1), round(y + height * (1 - min(1.0, max(0.0, share))), 1)

    def label(value: float) -> str:
        return f"{value:.0%}" if percent and low >= 0 and high <= 1 else f"{value:g}"

    main = train if kind == "rate" else smooth
    return Panel(
        kind=kind,
        title=title,
        y=y,
        height=height,
        raw=_joined(map(place, thinned(train))) if kind == "loss" else "",
        line=_joined(map(place, thinned(main))),
        valid=_joined(map(place, thinned(valid))),
        dots=[place(point) for point in valid] if len(valid) <= DOTS else [],
        y_ticks=[Tick(place((0, value))[1], label(value)) for value in ticks],
    )


def _x(step: float, far: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / far


def _joined(points: Iterable[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def series(lines: Iterable[dict[str, Any]], name: str) -> Series:
    """(step, value) of a figure, by step; of a step measured twice the later."""
    found = {line["step"]: float(line[name]) for line in lines if _is_number(line.get(name)) and "step" in line}
    return sorted(found.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def smoothed(points: Series) -> Series:
    """Each point the mean of itself and its neighbours, a fortieth of the run around it."""
    reach = max(1, len(points) // SMOOTHED_SHARE // 2)
    sums = [0.0]
    for _step, value in points:
        sums.append(sums[-1] + value)
    means = []
    for at, (step, _value) in enumerate(points):
        start, end = max(0, at - reach), min(len(points), at + reach + 1)
        means.append((step, (sums[end] - sums[start]) / (end - start)))
    return means


def usual(values: Sequence[float]) -> list[float]:
    """Each value's neighbourhood in one number, so that one wild step does not flatten all the others."""
    around = (sorted(values[max(0, at - 2) : at + 3]) for at in range(len(values)))
    return [near[len(near) // 2] for near in around]


def thinned(points: Series) -> Series:
    """At most `POINTS` of them, the lowest and the highest of each stretch, so that no spike gets lost."""
    if len(points) <= POINTS:
        return points
    size = math.ceil(len(points) / (POINTS // 2))
    kept: Series = []
    for at in range(0, len(points), size):
        stretch = points[at : at + size]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def metric_of(version: VersionFolder, lines: Sequence[dict[str, Any]]) -> str | None:
    """The figure on the valid split that is not the loss: the task's primary one where it was measured."""
    measured = {name for line in lines for name in line if name.startswith("eval_") and name != "eval_loss"}
    wanted = ["eval_rewards/accuracies", "eval_mean_token_accuracy"]
    with contextlib.suppress(OSError, Problem):
        from nlp_skills.schema.task import Task

        wanted.insert(0, f"eval_{Task.load(version.task_root / 'task.yaml').metric}")
    return next((name for name in wanted if name in measured), None)


def shown(metric: str) -> str:
    """A figure's name for people: `Macro-F1 on valid`."""
    from nlp_skills.evaluation import words

    return _("{metric} on valid", metric=words.metric(metric.removeprefix("eval_")))


def best_step(version: VersionFolder, lines: Sequence[dict[str, Any]]) -> int | None:
    """The step whose weights were kept; while it is not recorded, the one that is ahead."""
    ran = _recorded(version)
    if ran is not None and ran.best_step:
        return ran.best_step
    measured = series(lines, "eval_loss")
    return int(min(measured, key=lambda point: point[1])[0]) if measured else None


def _recorded(version: VersionFolder) -> LineageRun | None:
    with contextlib.suppress(OSError, Problem):
        lineage = version.lineage()
        return lineage.run if lineage else None
    return None


@dataclass(frozen=True)
class Summary:
    """A run's figures: `figures` for `--json`, and `words` for people, short ones to be set side by side."""

    figures: dict[str, Any]
    words: list[str]


def summary(version: VersionFolder) -> Summary:
    """What came of a version's last run, as far as its files say. Durations are seconds, memory is gigabytes."""
    return _summed(version, runs.metrics(version))


def _summed(version: VersionFolder, lines: Sequence[dict[str, Any]]) -> Summary:
    ran, status = _recorded(version), version.status()
    losses, valid = series(lines, "loss"), series(lines, "eval_loss")
    metric = metric_of(version, lines)
    best = best_step(version, lines)
    at_best = {name: dict(series(lines, name)).get(best) for name in ("epoch", "eval_loss", metric or "") if best}
    figures = {
        "steps": _first(status and status.step, ran and ran.steps),
        "total_steps": status.total_steps if status else None,
        "seconds": _first(ran and ran.seconds, lines[-1].get("seconds") if lines else None),
        "tokens": _first(ran and ran.tokens, lines[-1].get("tokens") if lines else None),
        "tokens_per_second": _pace(lines, ran, status),
        "first_loss": losses[0][1] if losses else None,
        "last_loss": _first(ran and ran.final_loss, losses[-1][1] if losses else None),
        "best_step": best,
        "best_epoch": at_best.get("epoch"),
        "first_valid_loss": valid[0][1] if valid else None,
        "best_valid_loss": at_best.get("eval_loss"),
        "metric": metric.removeprefix("eval_") if metric else None,
        "best_metric": at_best.get(metric or ""),
        "peak_memory_gb": _first(ran and ran.peak_memory_gb, status and status.memory_gb),
        "gpu_hours": ran.gpu_hours if ran else None,
        "cost_usd": _first(ran and ran.cost_usd, status and status.cost_usd),
        "place": _first(ran and ran.place, status and status.place),
    }
    known = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
    return Summary({name: value for name, value in known.items() if value is not None}, _words(known))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _pace(lines: Sequence[dict[str, Any]], ran: LineageRun | None, status: RunStatus | None) -> float | None:
    """Tokens a second: as the run measured it without its pauses, else over all its time."""
    measured = _first(ran and ran.tokens_per_second, status and status.tokens_per_second)
    if measured is not None or not lines or not lines[-1].get("seconds"):
        return None if measured is None else float(measured)
    return float(lines[-1].get("tokens", 0) / lines[-1]["seconds"])


def _words(known: dict[str, Any]) -> list[str]:
    from nlp_skills.evaluation import words as terms

    words = []
    if known["seconds"] is not None and known["steps"] is not None:
        words.append(_("steps {steps} in {time}", steps=known["steps"], time=duration(known["seconds"])))
    if known["tokens_per_second"] is not None:
        words.append(_("{pace:,.0f} tokens/s", pace=known["tokens_per_second"]))
    if known["peak_memory_gb"] is not None:
        words.append(_("at most {gb:.1f} GB", gb=known["peak_memory_gb"]))
    if known["gpu_hours"] is not None:
        words.append(_("{hours:.2f} GPU hours", hours=known["gpu_hours"]))
    if known["cost_usd"] is not None:
        words.append(f"${known['cost_usd']:,.2f}")
    if known["place"] is not None:
        words.append(_("on {place}", place=known["place"]))
    if known["first_loss"] is not None:
        words.append(
            _("loss {first:.3f} at first, {last:.3f} at last", first=known["first_loss"], last=known["last_loss"])
        )
    if known["best_valid_loss"] is not None:
        epoch = "–" if known["best_epoch"] is None else f"{known['best_epoch']:g}"
        loss = known["best_valid_loss"]
        words.append(_("best on valid: epoch {epoch}, loss {loss:.3f}", epoch=epoch, loss=loss))
    if known["best_metric"] is not None:
        name, value = known["metric"], known["best_metric"]
        words.append(_("{name} there {value}", name=terms.metric(name), value=terms.figure(name, value)))
    return words


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return _("{seconds} s", seconds=whole)
    if whole < 3600:
        return _("{minutes} min {seconds:02d} s", minutes=whole // 60, seconds=whole % 60)
    return _("{hours} h {minutes:02d} min", hours=whole // 3600, minutes=whole % 3600 // 60)
