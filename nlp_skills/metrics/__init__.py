"""Metrics for the `evaluate` library, which load by path and without a network: `evaluate.load(metrics.path("texts"))`.

In: predictions and references. Out: the figures that results.json has, computed by the same code; with
`intervals=True` their 95 % intervals too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.errors import Usage
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.evaluation.scores.sheet import Sheet

NAMES = ("classification", "entities", "fields", "multi_label", "texts")


def path(name: str) -> str:
    """Where a metric of ours lies, as `evaluate.load` takes it.

    Raises:
        Usage: there is none of this name.
    """
    if name not in NAMES:
        raise Usage(_("there is no metric {name}", name=name), mend=_("one of: {names}", names=", ".join(NAMES)))
    return str(Path(__file__).resolve().parent / name)


def figures(sheet: Sheet, *, intervals: bool) -> dict[str, Any]:
    """A sheet's metrics as `evaluate` returns them, `intervals` as a mapping of low and high by metric."""
    from nlp_skills.evaluation.scores import intervals as ranges

    found: dict[str, Any] = {name: float(value) for name, value in sheet.figures().items()}
    return {**found, "intervals": ranges.of(sheet)} if intervals else found
