"""A sheet of entities and relations: which of them are right, by the schemes of nervaluate, and of which type.

An entity is strictly right with its type and both ends right; by boundary with its ends alone. By type it is right when
it overlaps one of its type; a partial match, which is one of the text alone, counts half. Each entity answers for one
at most, exact pairs first, so that nested ones do not take each other's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores import fields
from nlp_skills.evaluation.scores.places import Mention, Span, located, texts_of
from nlp_skills.evaluation.scores.sheet import EXACT, PARSED, Sheet, shared_cells

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

ENTITIES = (
    "entity_f1", "entity_precision", "entity_recall", "entity_f1_boundary", "entity_f1_type", "entity_f1_partial",
    "macro_f1",
)  # fmt: skip
RELATIONS = ("relation_f1", "relation_precision", "relation_recall")

_HEADS, _TAILS, _KINDS = ("head", "subject"), ("tail", "object"), ("type", "relation", "predicate")

Answer = Mapping[str, Any]
Triple = tuple[str, str, str]


def sheet(gold: Sequence[Answer], predicted: Sequence[Answer | None], texts: Sequence[Any] | None = None) -> Sheet:
    """`classes` are the types of entities, then those of relations. Nothing is right in what could not be read."""
    inputs = [texts_of(each) for each in texts] if texts is not None else [[] for _row in gold]
    rows = [_Row.of(true, given, each) for true, given, each in zip(gold, predicted, inputs, strict=True)]
    types = sorted({span.type for row in rows for span in (*row.true, *row.given)})
    relations = sorted({triple[1] for row in rows for triple in (*row.true_triples, *row.given_triples)})
    columns = [[*row.by_class(types, relations), *row.counts()] for row in rows]
    named = [name if name not in types else f"{name} →" for name in relations]
    cells, cell_of = shared_cells(columns, 3 * (len(types) + len(named)) + _COUNTS)
    return _Spans(
        kind="spans",
        names=(
            *(ENTITIES if types or not relations else ()),
            *(RELATIONS if relations or not types else ()),
            EXACT,
            PARSED,
        ),
        classes=(*types, *named),
        right=[row.right for row in rows],
        readable=[given is not None for given in predicted],
        cells=cells,
        cell_of=cell_of,
        types=len(types),
    )


def is_entity(value: Any) -> bool:
    """Whether an object is an entity: it has a text."""
    return isinstance(value, Mapping) and isinstance(value.get("text"), str)


def is_relation(value: Any) -> bool:
    """Whether an object is a relation: it has a head, a tail and a name."""
    return isinstance(value, Mapping) and all(_first(value, keys) is not None for keys in (_HEADS, _TAILS, _KINDS))


def mentions(answer: Answer | None) -> list[Mention]:
    """The entities of an answer; one without a type has that of the property it is listed in."""
    return [
        Mention(item["text"], str(item.get("type") or name), _offset(item.get("start")), _offset(item.get("end")))
        for name, item in _items(answer)
        if is_entity(item) and not is_relation(item)
    ]


def triples(answer: Answer | None) -> set[Triple]:
    """The relations of an answer as head, name, tail."""
    found = (item for _name, item in _items(answer) if is_relation(item))
    return {(_end(item, _HEADS), str(_first(item, _KINDS)), _end(item, _TAILS)) for item in found}


def _items(answer: Answer | None) -> Iterator[tuple[str, Any]]:
    for name, listed in (answer or {}).items():
        yield from ((name, item) for item in (listed if isinstance(listed, list) else ()))


def _offset(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _first(item: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _end(item: Mapping[str, Any], keys: Sequence[str]) -> str:
    value = _first(item, keys)
    return str(value["text"] if isinstance(value, Mapping) and "text" in value else value).strip()


@dataclass(frozen=True)
class _Row:
    """The entities and relations of one row at their places."""

    true: list[Span]
    given: list[Span]
    true_triples: set[Triple]
    given_triples: set[Triple]
    right: bool
    readable: bool

    @classmethod
    def of(cls, true: Answer, given: Answer | None, texts: Sequence[str]) -> _Row:
        strangers: dict[str, int] = {}
        spans, their_spans = (located(mentions(side), texts, strangers) for side in (true, given))
        relations, their_relations = triples(true), triples(given)
        alike = spans == their_spans and relations == their_relations and fields.same(_rest(true), _rest(given))
        readable = given is not None
        return cls(spans, their_spans, relations, their_relations, right=readable and alike, readable=readable)

    def by_class(self, types: Sequence[str], relations: Sequence[str]) -> list[int]:
        """Hits, answers and support, each of every type and then of every relation."""
        hits = (Counter(self.true) & Counter(self.given)).elements(), self.true_triples & self.given_triples
        sides = (hits, (self.given, self.given_triples), (self.true, self.true_triples))
        counted = [(Counter(span.type for span in a), Counter(triple[1] for triple in b)) for a, b in sides]
        return [n for a, b in counted for n in (*(a[name] for name in types), *(b[name] for name in relations))]

    def counts(self) -> tuple[float, ...]:
        """What `_Spans` has beside the classes."""
        boundary = Counter(map(_ends, self.true)) & Counter(map(_ends, self.given))
        found = boundary.total(), self._by_type(), self._partial(boundary)
        return (*found, self.right, self.readable, 1)

    def _by_type(self) -> int:
        same = Counter(self.true) & Counter(self.given)
        return same.total() + _overlapping(*self._left(same, lambda span: span), by_type=True)

    def _partial(self, boundary: Counter[tuple[int, int]]) -> float:
        return boundary.total() + _overlapping(*self._left(boundary, _ends), by_type=False) / 2

    def _left(self, paired: Counter[Any], key: Any) -> tuple[list[Span], list[Span]]:
        """What is left on both sides without the exact pairs."""
        sides = []
        for spans in (self.true, self.given):
            gone, left = Counter(paired), []
            for span in spans:
                if gone[key(span)]:
                    gone[key(span)] -= 1
                else:
                    left.append(span)
            sides.append(left)
        return sides[0], sides[1]


_COUNTS = 6


def _ends(span: Span) -> tuple[int, int]:
    return span.start, span.end


def _rest(answer: Answer | None) -> dict[str, Any]:
    """The properties that list neither entities nor relations."""
    listed = {name for name, item in _items(answer) if is_entity(item) or is_relation(item)}
    return {name: value for name, value in (answer or {}).items() if name not in listed and value != []}


def _overlapping(true: Sequence[Span], given: Sequence[Span], *, by_type: bool) -> int:
    """How many of the given are right by nervaluate's rule for overlaps; both sides are in the order of the text."""
    if not true or not given or not any(a.start < b.end and b.start < a.end for a in true for b in given):
        return 0
    from nlp_skills.extras import need

    need("quality", "nervaluate")
    from nervaluate.entities import Entity
    from nervaluate.strategies import EntityTypeEvaluation, PartialEvaluation

    # Its ends are the last character. Any overlap counts, however small.
    sides = [[Entity(span.type, span.start, span.end - 1) for span in spans] for spans in (true, given)]
    result, _places = (EntityTypeEvaluation if by_type else PartialEvaluation)().evaluate(*sides, [])
    return int(result.correct + result.partial)


@dataclass(frozen=True, kw_only=True)
class _Spans(Sheet):
    """`types`: how many of the classes are types of entities."""

    types: int

    def of_sums(self, sums: Floats) -> dict[str, Floats]:
        margins = self.margins(sums)
        boundary, by_type, partial, right, readable, rows = (sums[..., place - _COUNTS] for place in range(_COUNTS))
        hits, answered, support = (part[..., : self.types].sum(axis=-1) for part in margins)
        present = self.present[: self.types]
        f1 = self.class_f1_of_sums(sums)[..., : self.types]
        figures = {
            "entity_f1": _f1(hits, answered, support),
            "entity_precision": metrics.divided(hits, answered),
            "entity_recall": metrics.divided(hits, support),
            "entity_f1_boundary": _f1(boundary, answered, support),
            "entity_f1_type": _f1(by_type, answered, support),
            "entity_f1_partial": _f1(partial, answered, support),
            "macro_f1": metrics.divided((f1 * present).sum(axis=-1), present.sum()),
        }
        hits, answered, support = (part[..., self.types :].sum(axis=-1) for part in margins)
        figures |= {
            "relation_f1": _f1(hits, answered, support),
            "relation_precision": metrics.divided(hits, answered),
            "relation_recall": metrics.divided(hits, support),
            EXACT: metrics.divided(right, rows),
            PARSED: metrics.divided(readable, rows),
        }
        return {name: figures[name] for name in self.names}


def _f1(hits: Floats, answered: Floats, support: Floats) -> Floats:
    return metrics.divided(2 * hits, answered + support)
