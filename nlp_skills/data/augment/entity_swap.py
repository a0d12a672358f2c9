"""The same sentence about somebody else: entities replaced by others of their type from the training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from nlp_skills.data import entities, mentions
from nlp_skills.data.augment.rooms import Original, Row, Work
from nlp_skills.schema.data_source import EntitySwap
from nlp_skills.schema.task import Task


class Span(NamedTuple):
    """A part of a text, and the surface (an entity's text) that stands there."""

    start: int
    end: int
    surface: str


class _Refused(Exception):
    """This row cannot be rewritten; the argument is the reason's code."""


def rows(settings: EntitySwap, work: Work) -> Iterator[Row]:
    """For each original `per_row` versions with other entities; offsets and answers follow.

    Every occurrence of an entity in a row becomes the same other one. Rows whose entities do not stand where they
    should, overlap, or have two types at once are left alone and counted.
    """
    name = str(entities.entity_field(work.task))
    pool = _pool(work, name)
    for entry, row in work.originals.read(work.originals.entries):
        for number in range(1, settings.per_row + 1):
            try:
                made = swapped(row, name, work.task, _Draw(pool, work.seed, entry, number))
            except _Refused as refused:
                work.refused[str(refused)] += 1
                break
            # All output properties and all input fields were rewritten, so the check of rows holds here too.
            if entities.faults(made, name, work.task.input_fields):
                work.refused["misplaced"] += 1
                continue
            if work.new(made):
                work.count(made)
                yield work.marked(made, entry, "entity_swap", number)


def _pool(work: Work, name: str) -> dict[str, list[str]]:
    """Every entity of the training rows by type."""
    found: dict[str, set[str]] = {}
    for _entry, row in work.originals.read(work.originals.entries):
        if not entities.faults(row, name, work.task.input_fields):
            for item in row[name]:
                found.setdefault(_kind(item), set()).add(item["text"])
    return {kind: sorted(texts) for kind, texts in found.items()}


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("type", ""))


class _Draw:
    """Which entity takes another's place: by hash of the seed, the row, the version's number and the entity."""

    def __init__(self, pool: Mapping[str, Sequence[str]], seed: int, entry: Original, number: int) -> None:
        self.pool, self.seed, self.about = pool, seed, f"{entry.key}:{number}"

    def other(self, surface: str, kind: str, texts: Sequence[str], taken: set[str]) -> str | None:
        """An entity of the type that the row does not have yet; None where there is none."""
        known = self.pool.get(kind, ())
        if not known:
            return None
        about = f"{self.seed}:{self.about}:{kind}:{surface}".encode()
        first = int.from_bytes(hashlib.blake2b(about, digest_size=8).digest()) % len(known)
        for step in range(len(known)):
            other = known[(first + step) % len(known)]
            if other != surface and other not in taken and not any(other in text for text in texts):
                return other
        return None


def swapped(row: Row, name: str, task: Task, draw: _Draw) -> Row:
    """The row with other entities in its input fields, in its list of entities and in the rest of its answer.

    Raises:
        _Refused: `no_entities`, `misplaced`, `two_types`, `overlapping`, `no_other`.
    """
    items, fields = row[name], task.input_fields
    if not items:
        raise _Refused("no_entities")
    # A repeated entity is a remark, not a fault of the row; one that overlaps another is met below.
    if any(code != "entity_repeated" for code, _detail in entities.faults(row, name, fields)):
        raise _Refused("misplaced")
    kinds = _kinds(items)
    texts = {field: str(row[field]) for field in fields}
    marked = _marked(items, texts)
    replaced = _replacements(kinds, list(texts.values()), draw)
    followed = {key: _followed(row[key], replaced) for key in task.output_fields if key != name}
    made = {**row, **followed}
    moved: dict[tuple[str, int], int] = {}
    for field, text in texts.items():
        spans = _spans(text, [span for _item, place, span in marked if place == field], kinds)
        made[field], starts = _rewritten(text, spans, replaced)
        moved.update({(field, old): new for old, new in starts.items()})
    places = {index: (field, span.start) for index, field, span in marked if span is not None}
    made[name] = [
        _item(item, replaced.get(item["text"], item["text"]), moved[places[index]] if index in places else None)
        for index, item in enumerate(items)
    ]
    return made


def _kinds(items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The type of each surface, in the order of the row."""
    kinds: dict[str, str] = {}
    for item in items:
        if kinds.setdefault(item["text"], _kind(item)) != _kind(item):
            raise _Refused("two_types")
    return kinds


def _replacements(kinds: Mapping[str, str], texts: Sequence[str], draw: _Draw) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for surface, kind in kinds.items():
        other = draw.other(surface, kind, texts, set(chosen.values()))
        if other is not None:
            chosen[surface] = other
    if not chosen:
        raise _Refused("no_other")
    return chosen


def begins(item: Mapping[str, Any]) -> int | None:
    """Where an entity says that it begins; None where it says nothing of its place."""
    start, end = item.get("start"), item.get("end")
    if start is not None:
        return int(start)
    return None if end is None else int(end) - len(item["text"])


def _marked(items: Sequence[Mapping[str, Any]], texts: Mapping[str, str]) -> list[tuple[int, str, Span]]:
    """For each entity with offsets its number, the field it stands in and its place there."""
    found = []
    for index, item in enumerate(items):
        text, begin = item["text"], begins(item)
        if begin is None:
            continue
        field = next((name for name, whole in texts.items() if whole[begin : begin + len(text)] == text), None)
        if field is None or begin < 0:
            raise _Refused("misplaced")
        found.append((index, field, Span(begin, begin + len(text), text)))
    return found


def _spans(text: str, marked: Sequence[Span], kinds: Mapping[str, str]) -> list[Span]:
    """The marked places, and every other occurrence of the same entities between them."""
    spans = sorted(set(marked))
    if any(one.end > other.start for one, other in pairwise(spans)):
        raise _Refused("overlapping")
    sizes = mentions.lengths(list(kinds))
    others = [Span(start, end, text[start:end]) for start, end in mentions.find(text, kinds, sizes)]
    free = [one for one in others if not any(one.start < span.end and span.start < one.end for span in spans)]
    return sorted([*spans, *free])


def _rewritten(text: str, spans: Sequence[Span], replaced: Mapping[str, str]) -> tuple[str, dict[int, int]]:
    """The text with the replacements in place, and where each span begins now by where it began."""
    parts: list[str] = []
    starts: dict[int, int] = {}
    at = size = 0
    for span in spans:
        new = replaced.get(span.surface, span.surface)
        parts += [text[at : span.start], new]
        starts[span.start] = size + span.start - at
        size += span.start - at + len(new)
        at = span.end
    return "".join([*parts, text[at:]]), starts


def _followed(value: Any, replaced: Mapping[str, str]) -> Any:
    """Another part of the answer, with the entities it names replaced as well."""
    if isinstance(value, list):
        return [_followed(item, replaced) for item in value]
    if isinstance(value, dict):
        return {key: _followed(item, replaced) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    return _rewritten(value, _spans(value, [], dict.fromkeys(replaced, "")), replaced)[0]


def _item(item: Mapping[str, Any], text: str, start: int | None) -> dict[str, Any]:
    made = {**item, "text": text}
    if start is not None:
        made.update({key: value for key, value in (("start", start), ("end", start + len(text))) if key in item})
    return made
