"""Has the mix of classes moved since another version's data was taken?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nlp_skills.schema.version import DataSnapshot
from nlp_skills.workspace.folder import TaskFolder

MOVED = 0.05
CHANCE = 0.01

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Drift:
    """`distance`: total variation, the share of rows that would have to change class; `p`: of a chi-square test."""

    before: Counts
    after: Counts
    distance: float
    p: float

    @property
    def matters(self) -> bool:
        """Whether it is both large enough to care about and too large for chance."""
        return self.distance >= MOVED and self.p < CHANCE

    def moves(self) -> list[tuple[str, float, float]]:
        """Each class with its share before and after, the largest move first."""
        shares = [(label, _share(self.before, label), _share(self.after, label)) for label in _labels(self)]
        return sorted(shares, key=lambda move: (-abs(move[2] - move[1]), move[0]))


def compare(before: Counts, after: Counts) -> Drift | None:
    """Two distributions over classes; None where one of them is empty."""
    if not sum(before.values()) or not sum(after.values()):
        return None
    labels = {*before, *after}
    distance = sum(abs(_share(after, label) - _share(before, label)) for label in labels) / 2
    return Drift(before, after, distance, _p_value(before, after))


def last_other(folder: TaskFolder, now: Mapping[str, Counts]) -> tuple[str, DataSnapshot] | None:
    """The newest version whose recorded data is not what `now` (split → distribution) says, and that record."""
    for name in reversed(folder.version_names()):
        snapshot = folder.version(name).snapshot()
        if snapshot and any(
            _present(part.class_distribution) != _present(now[split])
            for split, part in snapshot.splits.items()
            if split in now
        ):
            return name, snapshot
    return None


def _present(counts: Counts) -> dict[str, int]:
    return {label: count for label, count in counts.items() if count}


def _labels(drift: Drift) -> list[str]:
    return list(dict.fromkeys([*drift.before, *drift.after]))


def _share(counts: Counts, label: str) -> float:
    return counts.get(label, 0) / sum(counts.values())


def _p_value(before: Counts, after: Counts) -> float:
    """How likely chance alone moves the classes this far, were both drawn from the same mix."""
    sizes = (sum(before.values()), sum(after.values()))
    statistic, classes = 0.0, 0
    for label in {*before, *after}:
        seen = (before.get(label, 0), after.get(label, 0))
        if not any(seen):
            continue
        classes += 1
        expected = [size * sum(seen) / sum(sizes) for size in sizes]
        statistic += sum((count - mean) ** 2 / mean for count, mean in zip(seen, expected, strict=True))
    return chi_square_tail(statistic, classes - 1)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """The probability that a chi-square variable of `freedom` degrees exceeds `statistic`."""
    if freedom < 1 or statistic <= 0:
        return 1.0
    half = statistic / 2
    steps = [step + (freedom % 2) / 2 for step in range(freedom // 2)]
    tail = math.erfc(math.sqrt(half)) if freedom % 2 else 0.0
    return min(1.0, tail + sum(math.exp(step * math.log(half) - half - math.lgamma(step + 1)) for step in steps))
