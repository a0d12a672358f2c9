"""What score to expect, as a range with its basis: word counts on these rows, this user's earlier tasks, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nlp_skills.coach.learnability import Learnability
from nlp_skills.coach.wish import Wish
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.knowledge.catalogue import Model
from nlp_skills.workspace import listing
from nlp_skills.workspace.folder import TaskFolder

Basis = Literal["earlier_tasks", "cross_validation", "catalogue", "none"]


@dataclass(frozen=True)
class Gain:
    """How much of what word counts got wrong a version of an earlier task got right, on the same test rows.

    A share, because points cannot be carried over: where word counts reach 0.9, nobody is 0.2 better.
    """

    task: str
    version: str
    share: float

    def onto(self, value: float) -> float:
        """What is reached from `value` on by such a gain."""
        return max(0.0, value + self.share * (1 - value))


@dataclass(frozen=True)
class Performance:
    """A range of the primary metric, and what it rests on; without a basis there is no range."""

    metric: str
    basis: Basis
    says: str
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        ends = {name: None if end is None else round(end, 4) for name, end in (("low", self.low), ("high", self.high))}
        return {"metric": self.metric, **ends, "basis": self.basis, "says": self.says}


def expected(wish: Wish, found: Learnability | None, root: Path, model: Model | None) -> Performance:
    """What may be expected of `model` (a catalogue's entry, or None), by the nearest thing that was ever measured."""
    gains = earlier(root, wish) if found else []
    if found and gains:
        return _as_before(found, gains)
    if found:
        return Performance(
            wish.metric,
            "cross_validation",
            _("what word counts reach on these {rows} rows (TF-IDF, {folds}-fold cross-validation); a fine-tuned model "
              "should pass that, and by how much only an evaluation tells", rows=found.rows, folds=found.folds),
            *found.interval,
        )  # fmt: skip
    published = [each for each in (model.figures if model else []) if each.metric == wish.metric]
    if published:
        first = published[0]
        return Performance(
            wish.metric,
            "catalogue",
            _("published for {what}, not for your rows: {source}", what=first.what, source=first.source),
            *_ends([each.value for each in published]),
        )
    return Performance(
        wish.metric,
        "none",
        _("not known: there are no rows to cross-validate, and no earlier task of yours is like it"),
    )


def _as_before(found: Learnability, gains: Sequence[Gain]) -> Performance:
    named = ", ".join(f"{gain.task} {gain.version} ({gain.share:+.0%})" for gain in gains[:5])
    low, high = found.interval
    return Performance(
        found.metric,
        "earlier_tasks",
        _("word counts reach {value:.3f} here, and your earlier tasks got right so much of what theirs got wrong: "
          "{tasks}", value=found.value, tasks=named),
        min(gain.onto(low) for gain in gains),
        max(gain.onto(high) for gain in gains),
    )  # fmt: skip


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def earlier(root: Path, wish: Wish) -> list[Gain]:
    """How measured versions of this user's other tasks of the kind did beside word counts."""
    from nlp_skills.evaluation.baselines.choice import TFIDF

    found = []
    for row in listing.tasks(root).readable:
        if row.task_type != wish.task_type or row.name == wish.name:
            continue
        try:
            results = TaskFolder(row.path).version(row.version).results()
        except Problem:
            continue
        value = results.metrics.get(wish.metric) if results else None
        words = results.baselines.get(TFIDF, {}).get(wish.metric) if results else None
        if results and value is not None and words is not None and words < 1:
            found.append(Gain(row.name, results.version, (value - words) / (1 - words)))
    return found
