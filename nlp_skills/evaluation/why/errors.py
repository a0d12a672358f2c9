"""The rows that were answered wrongly, what matters first, each beside the training rows that are most like it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nlp_skills.evaluation.why.confusions import Slip
from nlp_skills.evaluation.why.findings import Error, Mark, Neighbour
from nlp_skills.evaluation.why.material import Material

# An answer as probable as this is one the version is sure of; a right answer this close behind was nearly given.
CONFIDENT = 0.9
NEAR = 0.2
# Two texts as alike as this should have the same label.
ALIKE = 0.8
NEIGHBOURS = 3
# Looking for them takes longest; after so many errors nobody reads on.
MOST_WITH_NEIGHBOURS = 1000


def of(material: Material, slips: Sequence[Slip], doubted: Collection[int]) -> list[Error]:
    """Every wrong row: the ones it was sure of first, then by cost, by how sure it was and by what it earned.

    `doubted` are lines whose label looks wrong.
    """
    cost: dict[int, float] = {}
    for slip in slips:
        cost[slip.row] = cost.get(slip.row, 0.0) + slip.cost
    wrong = sorted(cost, key=lambda row: _rank(material, row, cost[row]))
    near = _neighbours(material, wrong[:MOST_WITH_NEIGHBOURS])
    return [_error(material, row, cost[row], near.get(row, []), doubted) for row in wrong]


def near_misses(errors: Sequence[Error]) -> list[Error]:
    """Those where the right answer came second, the closest first."""
    found = [error for error in errors if "near_miss" in error.marks]
    return sorted(found, key=lambda error: ((error.probability or 0) - (error.gold_probability or 0), error.line))


def _rank(material: Material, row: int, cost: float) -> tuple[Any, ...]:
    sure = _probability(material.answered[row]) or 0.0
    return (sure < CONFIDENT, -cost, -sure, float(material.earned[row]), row)


def _error(material: Material, row: int, cost: float, neighbours: list[Neighbour], doubted: Collection[int]) -> Error:
    answer = material.answered[row]
    return Error(
        line=material.numbers[row],
        key=answer["key"],
        text=material.texts[row],
        gold=answer["gold"],
        predicted=answer["predicted"],
        probability=_probability(answer),
        gold_probability=_of_gold(answer),
        score=round(float(material.earned[row]), 6),
        cost=round(cost, 6),
        marks=_marks(material, row, neighbours, doubted),
        neighbours=neighbours,
    )


def _marks(material: Material, row: int, neighbours: Sequence[Neighbour], doubted: Collection[int]) -> list[Mark]:
    answer, found = material.answered[row], list[Mark]()
    given, right = _probability(answer), _of_gold(answer)
    if given is not None and given >= CONFIDENT:
        found.append("confident")
    if given is not None and right is not None and given - right < NEAR and _second(answer) == answer["gold"]:
        found.append("near_miss")
    if material.numbers[row] in doubted:
        found.append("doubtful_label")
    one_label = material.kind in ("label", "labels")
    if one_label and any(one.similarity >= ALIKE and one.answer != answer["gold"] for one in neighbours):
        found.append("contradicted")
    return found


def _shares(answer: Mapping[str, Any]) -> Mapping[str, float]:
    shares = answer.get("probabilities")
    return shares if isinstance(shares, dict) and isinstance(answer["gold"], str) else {}


def _probability(answer: Mapping[str, Any]) -> float | None:
    given = answer["predicted"]
    own = _shares(answer).get(given) if isinstance(given, str) else None
    value = answer.get("probability") if own is None else own
    return float(value) if isinstance(value, int | float) else None


def _of_gold(answer: Mapping[str, Any]) -> float | None:
    gold = answer["gold"]
    value = _shares(answer).get(gold) if isinstance(gold, str) else None
    return None if value is None else float(value)


def _second(answer: Mapping[str, Any]) -> str | None:
    ordered = sorted(_shares(answer).items(), key=lambda item: -item[1])
    return ordered[1][0] if len(ordered) > 1 else None


def _neighbours(material: Material, rows: Sequence[int]) -> dict[int, list[Neighbour]]:
    """The training rows most like each, as far as they have anything in common."""
    questions = [material.texts[row] for row in rows]
    if not material.train:
        return {}
    found = material.known.nearest(questions, NEIGHBOURS)
    return {
        row: [
            Neighbour(material.train[at][0], material.train_texts[at], material.train_answers[at], round(like, 4))
            for at, like in places
            if like > 0
        ]
        for row, places in zip(rows, found, strict=True)
    }
