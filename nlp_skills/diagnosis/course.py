"""The course of a run in a few figures: where its losses began, how high they rose, where they came to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.diagnosis import rules

Point = tuple[int, float]


@dataclass(frozen=True)
class Course:
    """Losses by step, in nats per token of the answers: of single batches in training, and of the valid split.

    `levelled` are the training losses without what single batches do: medians of five neighbours.
    """

    losses: list[Point]
    valid: list[Point]
    levelled: list[Point]
    epoch: float
    seconds: float | None

    @classmethod
    def of(cls, lines: Sequence[dict[str, Any]]) -> Course:
        """The course that the lines of metrics.jsonl tell."""
        lines = [line for line in lines if isinstance(line, dict)]
        losses, valid = _series(lines, "loss"), _series(lines, "eval_loss")
        values = [value for _step, value in losses]
        level = [statistics.median(values[max(0, at - 2) : at + 3]) for at in range(len(values))]
        levelled = [(step, value) for (step, _loss), value in zip(losses, level, strict=True)]
        last = lines[-1] if lines else {}
        return cls(losses, valid, levelled, float(last.get("epoch") or 0.0), last.get("seconds"))

    @property
    def steps(self) -> int:
        """The step of the last loss."""
        return self.losses[-1][0] if self.losses else 0

    @property
    def start(self) -> float | None:
        """Where the training loss began."""
        first = [value for _step, value in self.losses[: rules.FIRST]]
        return statistics.median(first) if first else None

    @property
    def end(self) -> float | None:
        """Where the training loss came to: of its last measurements, a third of them at most."""
        count = max(1, min(rules.LAST, len(self.losses) // 3))
        return statistics.fmean(value for _step, value in self.losses[-count:]) if self.losses else None

    @property
    def fell(self) -> float | None:
        """The share of its start that the training loss lost."""
        if self.start is None or self.end is None or self.start <= 0:
            return None
        return (self.start - self.end) / self.start

    @property
    def pace(self) -> float:
        """Nats that an epoch takes off the loss: off the valid loss where it was measured often enough."""
        if len(self.valid) > 2 and self.epoch:
            (first, high), (last, low) = self.valid[0], self.valid[-1]
            return (high - low) / (self.epoch * (last - first) / max(1, self.steps))
        return (self.start - self.end) / self.epoch if self.epoch and self.start and self.end else 0.0

    @property
    def highest(self) -> Point | None:
        """The highest levelled training loss."""
        return max(self.levelled, key=lambda point: point[1], default=None)

    @property
    def lowest(self) -> Point | None:
        """The lowest levelled training loss."""
        return min(self.levelled, key=lambda point: point[1], default=None)

    @property
    def best(self) -> Point | None:
        """The lowest valid loss: the first of several."""
        return min(self.valid, key=lambda point: point[1], default=None)

    @property
    def after(self) -> list[Point]:
        """The valid losses after the lowest."""
        return [point for point in self.valid if self.best and point[0] > self.best[0]]

    @property
    def still(self) -> float | None:
        """The share by which the valid loss fell in the last third of the run; None with too few measurements."""
        early = [value for step, value in self.valid if step <= self.steps * 2 / 3]
        if not early or len(self.valid) < 3:
            return None
        return (early[-1] - self.valid[-1][1]) / early[-1] if early[-1] > 0 else 0.0

    def training_at(self, step: int) -> float | None:
        """The levelled training loss around a step."""
        near = [value for at, value in self.levelled if at <= step]
        return near[-1] if near else None


def _series(lines: Iterable[dict[str, Any]], name: str) -> list[Point]:
    """(step, value) by step; of a step measured twice the later. What is no number is left out."""
    found: dict[int, float] = {}
    for line in lines:
        value, step = line.get(name), line.get("step")
        if isinstance(value, int | float) and math.isfinite(value) and isinstance(step, int):
            found[step] = float(value)
    return sorted(found.items())
