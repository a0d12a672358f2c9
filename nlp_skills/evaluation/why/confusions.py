"""What goes wrong, sorted by what it costs: one label for another, entities missed or misplaced, fields, texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.evaluation.scores import fields as answers
from nlp_skills.evaluation.scores import spans
from nlp_skills.evaluation.scores.places import Span, located, texts_of
from nlp_skills.evaluation.why.findings import Confusion, Fault
from nlp_skills.evaluation.why.material import Material

# How `evaluation.costs` calls no label at all, and an answer that could not be read.
NOTHING = "none"
UNREAD = "unread"

_EXAMPLES = 5


@dataclass(frozen=True)
class Slip:
    """One thing that is wrong in one row's answer, and what it costs."""

    row: int
    fault: Fault
    gold: str | None
    predicted: str | None
    cost: float
    field: str | None = None


def slips(material: Material) -> list[Slip]:
    """Everything that is wrong, row by row; a row that is wrong has at least one."""
    found = []
    for row, right in enumerate(material.sheet.right):
        if not right:
            found += list(_slips(material, row)) or [Slip(row, "different", None, None, 1.0)]
    return found


def ranked(material: Material, found: Sequence[Slip]) -> list[Confusion]:
    """The slips of one sort together, the dearest first; examples are the rows that earned least."""
    groups: dict[tuple[Any, ...], list[Slip]] = defaultdict(list)
    for slip in found:
        groups[slip.fault, slip.field, slip.gold, slip.predicted].append(slip)
    listed = [_confusion(material, group, len(found)) for group in groups.values()]
    return sorted(listed, key=lambda one: (-one.cost, -one.count, one.field or "", one.gold or "", one.predicted or ""))


def _confusion(material: Material, group: Sequence[Slip], total: int) -> Confusion:
    rows = sorted({slip.row for slip in group}, key=lambda row: (material.earned[row], row))
    first = group[0]
    return Confusion(
        fault=first.fault,
        gold=first.gold,
        predicted=first.predicted,
        count=len(group),
        share=len(group) / total,
        cost=round(sum(slip.cost for slip in group), 6),
        rows=[material.numbers[row] for row in rows[:_EXAMPLES]],
        field=first.field,
    )


def _slips(material: Material, row: int) -> Iterator[Slip]:
    gold, given = material.gold[row], material.predicted[row]
    if given is None:
        label = gold if isinstance(gold, str) and material.kind == "label" else None
        yield Slip(row, "unread", label, None, _cost(material, label, UNREAD))
    elif material.kind == "label":
        yield Slip(row, "confused", gold, given, _cost(material, gold, given))
    elif material.kind == "labels":
        for label in sorted({*gold} - {*given}):
            yield Slip(row, "missed", label, None, _cost(material, label, None))
        for label in sorted({*given} - {*gold}):
            yield Slip(row, "spurious", None, label, _cost(material, None, label))
    elif material.kind == "spans":
        yield from _span_slips(material, row)
    elif material.kind == "fields":
        yield from _field_slips(material, row, gold, given)
    else:
        yield Slip(row, "different", None, None, 1.0 - float(material.earned[row]))


def _cost(material: Material, gold: str | None, given: str | None) -> float:
    by_given: Mapping[str, float] = material.costs.get(NOTHING if gold is None else gold, {})
    return by_given.get(NOTHING if given is None else given, 1.0)


def _field_slips(material: Material, row: int, gold: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[Slip]:
    for name, value in gold.items():
        if answers.same(value, given.get(name)):
            continue
        # Values that are chosen from a list can be confused; of others every one would be a sort of its own.
        part = material.output.schema_.get(name)
        if part and part.choices and isinstance(value, str) and isinstance(given.get(name), str):
            yield Slip(row, "field", value, given[name], _cost(material, value, given[name]), name)
        else:
            yield Slip(row, "field", None, None, 1.0, name)


def _span_slips(material: Material, row: int) -> Iterator[Slip]:
    sides = [material.gold[row], material.predicted[row]]
    texts, strangers = texts_of(material.answered[row].get("input")), {}  # type: tuple[list[str], dict[str, int]]
    true, said = (located(spans.mentions(side), texts, strangers) for side in sides)
    yield from _entity_slips(material, row, true, said)
    triples = [spans.triples(side) for side in sides]
    for _head, name, _tail in sorted(triples[0] - triples[1]):
        yield Slip(row, "missed", name, None, _cost(material, name, None))
    for _head, name, _tail in sorted(triples[1] - triples[0]):
        yield Slip(row, "spurious", None, name, _cost(material, None, name))


def _entity_slips(material: Material, row: int, true: list[Span], said: list[Span]) -> Iterator[Slip]:
    """Exact pairs go first, then those with the same ends, then those that overlap; what is left has no other."""
    left, given = list(true), list(said)
    rules: list[tuple[Fault | None, Any]] = [
        (None, lambda a, b: a == b),
        ("type", lambda a, b: a[:2] == b[:2]),
        ("boundary", lambda a, b: a.type == b.type and _overlap(a, b)),
        ("boundary_and_type", _overlap),
    ]
    for fault, alike in rules:
        for one in [*left]:
            other = next((candidate for candidate in given if alike(one, candidate)), None)
            if other is None:
                continue
            left.remove(one)
            given.remove(other)
            if fault:
                cost = _cost(material, one.type, other.type) if fault != "boundary" else 1.0
                yield Slip(row, fault, one.type, other.type, cost)
    for one in left:
        yield Slip(row, "missed", one.type, None, _cost(material, one.type, None))
    for one in given:
        yield Slip(row, "spurious", None, one.type, _cost(material, None, one.type))


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end
