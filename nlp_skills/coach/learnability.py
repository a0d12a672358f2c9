"""How far word counts get: cross-validation of a linear model, which takes seconds and needs no GPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from nlp_skills.coach.dataset import Dataset

Interval = tuple[float, float]
_SEED = 42
_LOTS = 50


@dataclass(frozen=True)
class Learnability:
    """What every row got from a model that had not seen it. Figures are fractions, intervals of 95 %."""

    metric: str
    value: float
    interval: Interval
    majority: float
    chance: float
    rows: int
    folds: int
    of: int

    @property
    def tells(self) -> bool:
        """Whether the texts tell the classes at all: better than the same answers dealt out by lot."""
        return self.interval[0] > self.chance

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "metric": self.metric,
            "value": round(self.value, 4),
            "interval": [round(end, 4) for end in self.interval],
            "majority": round(self.majority, 4),
            "chance": round(self.chance, 4),
            "rows": self.rows,
            "folds": self.folds,
            "of_rows": self.of,
        }


def measure(data: Dataset, metric: str, *, language: str | None, folds: int, most: int) -> Learnability | None:
    """Cross-validate TF-IDF with logistic regression on distinct, labelled texts; at most `most` of them.

    None where that says nothing: no classes, fewer rows of each than folds, or a metric that is not of classes.

    Raises:
        Unavailable: scikit-learn is not installed.
    """
    from nlp_skills.evaluation import metrics

    pairs = _distinct(data)
    counts = Counter(answer for _text, answer in pairs)
    pairs = [pair for pair in pairs if counts[pair[1]] >= folds]
    if metric not in metrics.NAMES or len({answer for _text, answer in pairs}) < 2:
        return None
    sample = _sample(pairs, most)
    given = _out_of_fold([text for text, _answer in sample], [answer for _text, answer in sample], language, folds)
    return _judged(sample, given, metric, folds, len(pairs))


def _distinct(data: Dataset) -> list[tuple[str, str]]:
    """Each text once, so that none is in train and test; the first answer it has."""
    seen: dict[str, tuple[str, str]] = {}
    for text, answer in zip(data.texts, data.answers, strict=True):
        if answer and text.strip():
            seen.setdefault(" ".join(text.split()).casefold(), (text, answer))
    return list(seen.values())


def _sample(pairs: list[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    import random

    return pairs if len(pairs) <= most else random.Random(_SEED).sample(pairs, most)


def _out_of_fold(texts: list[str], answers: list[str], language: str | None, folds: int) -> list[str]:
    from nlp_skills.evaluation.baselines import fitted, similar
    from nlp_skills.extras import need

    need("quality", "sklearn")
    from sklearn.model_selection import StratifiedKFold

    characters = similar.unspaced(language, texts)
    given = [""] * len(texts)
    for known, asked in StratifiedKFold(folds, shuffle=True, random_state=_SEED).split(texts, answers):
        found = fitted.tfidf(
            [texts[place] for place in known],
            [answers[place] for place in known],
            [texts[place] for place in asked],
            characters=characters,
        )
        for place, answer in zip(asked, found, strict=True):
            given[place] = answer
    return given


def _by_lot(gold: list[str], given: list[str], metric: str) -> float:
    """What the same answers score when each goes to a row by lot, on average."""
    import random
    import statistics

    from nlp_skills.evaluation.scores import classes

    lot, labels = random.Random(_SEED), sorted({*gold, *given})
    dealt = [classes.one(gold, lot.sample(given, len(given)), labels).figures()[metric] for _time in range(_LOTS)]
    return statistics.mean(float(each) for each in dealt)


def _judged(sample: list[tuple[str, str]], given: list[str], metric: str, folds: int, of: int) -> Learnability:
    from nlp_skills.evaluation.baselines import fitted
    from nlp_skills.evaluation.scores import classes, intervals

    gold = [answer for _text, answer in sample]
    sheet = classes.one(gold, given)
    most = classes.one(gold, fitted.majority(gold, len(gold)), sorted(set(gold)))
    return Learnability(
        metric=metric,
        value=float(sheet.figures()[metric]),
        interval=intervals.of(sheet)[metric],
        majority=float(most.figures()[metric]),
        chance=_by_lot(gold, given, metric),
        rows=len(sample),
        folds=folds,
        of=of,
    )
