"""One sheet of marked answers, whatever kind they are of: its metrics, over all rows or any resample of them.

What is counted is counted once a row; a resample is a matrix product with how often each row was drawn. So a value, its
interval, the difference of two versions and a slice of the rows all come from the same counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from nlp_skills.evaluation import metrics
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.version import ClassMetrics

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats

PARSED = "parse_rate"
EXACT = "exact_match"


class Ranked(Protocol):
    """Metrics that are no function of sums, but of the rows in an order: areas under curves."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        ...

    def figures(self, times: Floats) -> dict[str, Floats]:
        """Every metric of `names`; `times` is (resamples, rows)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sheet(ABC):
    """Marked answers. `classes` are labels, types of entities and relations, or properties; none for texts.

    Rows that count alike share a cell: `cells` (cells, counts) are what the distinct rows count, `cell_of` (rows,) is
    each row's. The first counts of a cell are its classes' hits, then how often each was answered, then how often it
    was right. `shares` are the metrics that are a share of the rows. `alone` are metrics that can only be had of one
    selection of rows at a time, `(rows,)` places to a figure.
    """

    kind: Kind
    names: tuple[str, ...]
    classes: tuple[str, ...]
    right: list[bool]
    readable: list[bool]
    cells: Floats
    cell_of: Counts
    shares: frozenset[str] = frozenset({EXACT, PARSED})
    ranked: tuple[Ranked, ...] = ()
    alone: Mapping[str, Callable[[Counts], float]] = field(default_factory=dict)

    def figures(self, times: Any = None) -> dict[str, Floats]:
        """Every metric of `names`, fractions; `times` (rows,) or (resamples, rows): how often each row counts.

        The classes that macro averages are over are those that have rows here, whatever a resample happens to miss.
        Metrics that are computed alone are there only without `times`.
        """
        import numpy as np

        found = self.of_sums(self.sums(times))
        if self.ranked:
            each = np.ones(len(self.cell_of)) if times is None else np.asarray(times)
            for one in self.ranked:
                many = one.figures(np.atleast_2d(each))
                found |= {name: value if each.ndim > 1 else value[0] for name, value in many.items()}
        if times is None:
            every = np.arange(len(self.cell_of))
            found |= {name: np.asarray(figure(every)) for name, figure in self.alone.items()}
        return found

    def class_f1(self, times: Any = None) -> dict[str, Floats]:
        """F1 of every class, as `figures`."""
        f1 = self.class_f1_of_sums(self.sums(times))
        return {name: f1[..., place] for place, name in enumerate(self.classes)}

    def per_class(self) -> dict[str, ClassMetrics]:
        """Precision, recall, F1 and support of every class; 0 where nothing was answered or there are none of it."""
        hits, answered, support = self.margins(self.sums())
        precision, recall = metrics.divided(hits, answered), metrics.divided(hits, support)
        f1 = metrics.class_f1(hits, answered, support)
        return {
            name: ClassMetrics(
                precision=float(precision[i]), recall=float(recall[i]), f1=float(f1[i]), support=int(support[i])
            )
            for i, name in enumerate(self.classes)
        }

    def sums(self, times: Any = None) -> Floats:
        """The counts of all rows, or of each resample."""
        import numpy as np

        if times is None:
            counts: Floats = np.bincount(self.cell_of, minlength=len(self.cells)) @ self.cells
            return counts
        summed: Floats = np.asarray(times, dtype=np.float64) @ self.columns
        return summed

    @cached_property
    def columns(self) -> Floats:
        """What each row counts: (rows, counts)."""
        found: Floats = self.cells[self.cell_of]
        return found

    def margins(self, sums: Floats) -> tuple[Floats, Floats, Floats]:
        """Hits, answers and rows of each class, on the last axis."""
        size = len(self.classes)
        return sums[..., :size], sums[..., size : 2 * size], sums[..., 2 * size : 3 * size]

    @cached_property
    def present(self) -> Any:
        """Which classes have rows here."""
        return self.margins(self.sums())[2] > 0

    def class_f1_of_sums(self, sums: Floats) -> Floats:
        """F1 of every class on the last axis, from sums of `cells`."""
        return metrics.class_f1(*self.margins(sums))

    @abstractmethod
    def of_sums(self, sums: Floats) -> dict[str, Floats]:
        """Every metric that is a function of sums of `cells`."""


def shared_cells(columns: Sequence[Sequence[float]], width: int) -> tuple[Floats, Counts]:
    """`cells` and `cell_of` from what each row counts."""
    import numpy as np

    rows = np.asarray(columns, dtype=np.float64).reshape(len(columns), width)
    cells, cell_of = np.unique(rows, axis=0, return_inverse=True)
    return cells, cell_of.reshape(-1)


def of(
    kind: Kind,
    gold: Sequence[Any],
    predicted: Sequence[Any],
    *,
    labels: Sequence[str] = (),
    language: str | None = None,
    texts: Sequence[Any] | None = None,
    probabilities: Sequence[Mapping[str, float] | None] | None = None,
) -> Sheet:
    """Mark answers. `gold` and `predicted` have the forms that `predictions` tells; `labels` are the task's classes.

    `language` decides how texts are cut into words; without one their letters do. `texts` are the rows' inputs (a
    text, several, or texts by field), from which the places of entities are put right. `probabilities` of every label
    add calibration, and areas under curves where there are two labels.
    """
    from nlp_skills.evaluation.scores import classes, fields, spans, written

    if kind == "label":
        return classes.one(gold, predicted, labels, probabilities)
    if kind == "labels":
        return classes.several(gold, predicted, labels)
    if kind == "spans":
        return spans.sheet(gold, predicted, texts)
    if kind == "fields":
        return fields.sheet(gold, predicted)
    return written.sheet(gold, predicted, language)
