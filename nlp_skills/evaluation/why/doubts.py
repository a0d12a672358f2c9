"""Test rows whose label looks wrong; nothing is changed, a person decides.

A version that is sure and wrong may have met a wrong label, or have learnt one. So a second opinion is asked that
cannot share its mistakes: a linear model over words, fitted on train alone. A row is doubted where both are for the
same other label, and as sure of it as in all but the least sure tenth of the rows they get right with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.evaluation.baselines.similar import Known
from nlp_skills.evaluation.why.findings import Doubt
from nlp_skills.evaluation.why.material import Material
from nlp_skills.i18n import _

# Splits of the test rows for a second opinion where there is no train.
_FOLDS = 5
_LEAST_SURE = 0.1
_MORE_THAN_HALF = 0.5
# Of what the commonest class leaves wrong, so much has to be put right.
_BETTER = 0.25

Shares = Mapping[str, float]


def of(material: Material) -> tuple[list[Doubt], str | None]:
    """The doubted rows of a task with one label a row, those that both are surest about first; or why there are none.

    Whoever is hardly better than the commonest class has no opinion.
    """
    if material.kind != "label":
        return [], None
    gold, opinions = material.gold, [[_own(row) for row in material.answered], _second_opinion(material)]
    if not all(side and _worth_hearing(side, gold) for side in opinions):
        return [], _("labels that look wrong were not looked for: the version, or a linear model over words that was "
                     "fitted on train, is hardly better than the commonest class")  # fmt: skip
    enough = [_usual(side, gold) for side in opinions]
    found = []
    for row, label in enumerate(gold):
        suggested = material.predicted[row]
        if suggested in (None, label) or not all(
            _best(side[row]) == suggested and side[row][suggested] >= max(_MORE_THAN_HALF, usual.get(suggested, 1.0))
            for side, usual in zip(opinions, enough, strict=True)
        ):
            continue
        doubt = 1 - sum(side[row].get(label, 0.0) for side in opinions) / len(opinions)
        number, text = material.numbers[row], material.texts[row]
        found.append(Doubt(number, material.answered[row]["key"], text, label, suggested, round(doubt, 4)))
    return sorted(found, key=lambda one: (-one.doubt, one.line)), None


def _worth_hearing(opinions: Sequence[Shares], gold: Sequence[str]) -> bool:
    """Whether somebody is right clearly more often than who always says the commonest class."""
    right = sum(_best(shares) == true for shares, true in zip(opinions, gold, strict=True)) / len(gold)
    commonest = max(Counter(gold).values()) / len(gold)
    return right > commonest + (1 - commonest) * _BETTER


def _own(row: Mapping[str, Any]) -> dict[str, float]:
    """What the version thought of each label; all of its answer where it only said that."""
    shares = row.get("probabilities")
    if isinstance(shares, dict) and shares:
        return shares
    return {} if row["predicted"] is None else {row["predicted"]: 1.0}


def _usual(opinions: Sequence[Shares], gold: Sequence[str]) -> dict[str, float]:
    """How sure of each label somebody is who gives it rightly, in all but the least sure tenth of such rows."""
    import numpy as np

    right: dict[str, list[float]] = defaultdict(list)
    for shares, true in zip(opinions, gold, strict=True):
        if _best(shares) == true:
            right[true].append(shares[true])
    return {label: float(np.quantile(shares, _LEAST_SURE, method="lower")) for label, shares in right.items()}


def _best(shares: Shares) -> str | None:
    return max(shares, key=lambda label: shares[label]) if shares else None


def _second_opinion(material: Material) -> list[dict[str, float]]:
    """What a linear model over words thinks of every test row; nothing where there is nothing to fit it on."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    gold = material.gold
    if len(set(material.train_answers)) > 1 and material.known.matrix is not None:
        model = _model().fit(material.known.matrix, material.train_answers)
        return _named(model.classes_, model.predict_proba(material.known.vectors.transform(material.texts)))
    fewest = min(gold.count(label) for label in set(gold))
    if len(set(gold)) < 2 or fewest < 2:
        return []
    # Without train, each test row by what the other test rows teach.
    vectors = Known.of(material.texts, characters=material.characters).matrix
    if vectors is None:
        return []
    folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=0)
    shares = cross_val_predict(_model(), vectors, gold, cv=folds, method="predict_proba")
    return _named(sorted(set(gold)), shares)


def _named(labels: Sequence[Any], shares: Any) -> list[dict[str, float]]:
    return [dict(zip(map(str, labels), map(float, each), strict=True)) for each in shares]


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    # As right as the default solver to a thousandth, in a tenth of its time.
    return LogisticRegression(solver="saga", tol=1e-2, max_iter=200, class_weight="balanced", random_state=0)
