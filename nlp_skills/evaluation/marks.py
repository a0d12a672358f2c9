"""How good answers to some rows are: where a row has one label, where it has several, and where it has a text.

Every metric can be had of many resamples of the rows at once, which is what intervals are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats

# One label a row, several of them, or an answer that is right as a whole or not.
Kind = Literal["label", "labels", "answer"]

EXACT = "exact_match"
PARSED = "parse_rate"
NAMES: dict[Kind, tuple[str, ...]] = {
    "label": metrics.NAMES,
    "labels": tuple(name for name in metrics.NAMES if name != "mcc"),
    "answer": (EXACT,),
}
# What a task that says nothing is measured by; where there are no classes it means the whole answer.
_USUAL = "macro_f1"


def kind(task: Task) -> Kind:
    """What an answer of this task is."""
    if task.task_type != "classification":
        return "answer"
    return "labels" if task.multi_label else "label"


def primary(task: Task) -> str:
    """The metric that decides: success_criteria.primary_metric, `exact_match` where a task has no classes.

    Raises:
        Invalid: it is none that we compute for such a task.
    """
    wanted, known = task.success_criteria.primary_metric, NAMES[kind(task)]
    if wanted in known:
        return wanted
    if wanted == _USUAL:
        return EXACT
    close = get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
    raise Invalid(
        _("the metric {name} is not one we compute", name=wanted),
        cause=_("of such a task we compute: {names}", names=", ".join(known)),
        mend=_("set success_criteria.primary_metric, to {name} perhaps", name=close),
    )


@dataclass(frozen=True)
class Given:
    """What a model answered to one row: its labels, whether all of it is right, and whether it could be read at all."""

    labels: tuple[str, ...]
    right: bool
    readable: bool = True


@dataclass(frozen=True)
class Marks:
    """Rows and the answers given to them. `labels` are the task's, `gold` each row's."""

    kind: Kind
    labels: Sequence[str]
    gold: Sequence[tuple[str, ...]]
    given: Sequence[Given]

    def figures(self, times: Counts | None = None) -> dict[str, Floats]:
        """Every metric of `NAMES`, as fractions.

        `times` is how often each row counts: of shape (rows,), or (resamples, rows) for as many values of each metric.
        The classes that macro averages are over are those that have rows here, whatever a resample happens to miss.
        """
        import numpy as np

        each = np.ones(len(self.gold), dtype=np.int64) if times is None else times
        right = metrics.divided(each @ self._flags("right"), each.sum(axis=-1))
        if self.kind == "answer":
            return {EXACT: right}
        gold, given = self._matrices()
        hits, answered, support = each @ (gold * given), each @ given, each @ gold
        figures = metrics.figures_from_margins(hits, answered, support, gold.any(axis=0))
        if self.kind == "label":
            return figures
        both = answered.sum(axis=-1) + support.sum(axis=-1)
        several = {"accuracy": right, "micro_f1": metrics.divided(2 * hits.sum(axis=-1), both)}
        return {name: several.get(name, figures[name]) for name in NAMES["labels"]}

    def parse_rate(self) -> float:
        """The share of answers that could be read."""
        return sum(one.readable for one in self.given) / len(self.given)

    def _flags(self, name: str) -> Counts:
        import numpy as np

        return np.asarray([getattr(one, name) for one in self.given], dtype=np.int64)

    def _matrices(self) -> tuple[Counts, Counts]:
        """Which labels each row has and was given; what could not be read is a class of its own, as wrong as any."""
        import numpy as np

        place = {label: column for column, label in enumerate(self.labels)}
        gold, given = (np.zeros((len(self.gold), len(place) + 1), dtype=np.int64) for _side in range(2))
        for row, (true, answer) in enumerate(zip(self.gold, self.given, strict=True)):
            gold[row, [place[label] for label in true]] = 1
            given[row, [place[label] for label in answer.labels if label in place]] = 1
            given[row, -1] = self.kind == "label" and not answer.labels
        return gold, given


def as_json(given: Sequence[Given]) -> list[list[Any]]:
    """Answers as plain data."""
    return [[list(one.labels), one.right, one.readable] for one in given]


def from_json(content: Sequence[Sequence[Any]]) -> list[Given]:
    """Answers from plain data.

    Raises:
        ValueError: it is of another form.
    """
    return [Given(tuple(labels), bool(right), bool(readable)) for labels, right, readable in content]
