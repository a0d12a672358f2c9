"""From which probability on a label is taken where a row has several: the one that is best for valid's rows."""

from __future__ import annotations

from collections.abc import Sequence

from nlp_skills.evaluation.answering.ask import HALF, above
from nlp_skills.evaluation.answering.scorer import Answer

_STEPS = [step / 50 for step in range(1, 50)]


def best(gold: Sequence[Sequence[str]], answers: Sequence[Answer], labels: Sequence[str], metric: str) -> float:
    """The threshold at which `answers` have the highest `metric`; of equal ones the nearest to a half.

    A half where there are no rows.
    """
    from nlp_skills.evaluation.scores import sheet

    if not answers:
        return HALF

    def score(threshold: float) -> float:
        taken = [above(answer, threshold).predicted for answer in answers]
        figures = sheet.of("labels", gold, taken, labels=labels).figures()
        return round(float(figures.get(metric, figures["macro_f1"])), 9)

    return max(_STEPS, key=lambda threshold: (score(threshold), -abs(threshold - HALF)))
