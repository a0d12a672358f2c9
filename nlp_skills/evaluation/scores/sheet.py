"""One sheet of marked answers, whatever kind they are of: its metrics, over all rows or any resample of them.

What is counted is counted once a row; a resample is a matrix product with how often each row was drawn. So a value, its
interval, the difference of two versions and a slice of the rows all come from the same counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nlp_skills.schema.version import ClassMetrics, Kind

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats


class Sheet(Protocol):
    """Marked answers. `classes` are labels, or types of entities and relations; none for texts."""

    kind: Kind
    names: tuple[str, ...]
    classes: tuple[str, ...]
    right: list[bool]

    def figures(self, times: Counts | None = None) -> dict[str, Floats]:
        """Every metric of `names`, fractions; `times` (rows,) or (resamples, rows): how often each row counts."""
        ...

    def class_f1(self, times: Counts | None = None) -> dict[str, Floats]:
        """F1 of every class, as `figures`."""
        ...

    def per_class(self) -> dict[str, ClassMetrics]:
        """Precision, recall, F1 and support of every class."""
        ...


def of(
    kind: Kind,
    gold: Sequence[Any],
    predicted: Sequence[Any],
    *,
    labels: Sequence[str] = (),
    language: str | None = None,
) -> Sheet:
    """Mark answers. `gold` and `predicted` have the forms that `predictions` tells; `labels` are the task's classes.

    `language` decides how texts are cut into words (zh, ja and th by character).
    """
    raise NotImplementedError
