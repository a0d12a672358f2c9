"""From which probability on a label is taken where a row has several: the one that is best for valid's rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nlp_skills.evaluation.answering.ask import HALF, above
from nlp_skills.evaluation.answering.scorer import Answer

# So many thresholds are tried, spread over those that tell two answers apart.
_MOST = 100


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

    return max(_between(answers), key=lambda threshold: (score(threshold), -abs(threshold - HALF)))


def _between(answers: Sequence[Answer]) -> list[float]:
    """A half, and thresholds between neighbouring probabilities, however small these are."""
    shares = sorted({share for answer in answers for share in (answer.probabilities or {}).values()})
    middles = [round((low + high) / 2, 9) for low, high in pairwise(shares)]
    taken = min(_MOST, len(middles))
    return [HALF, *(middles[place * len(middles) // taken] for place in range(taken))]
