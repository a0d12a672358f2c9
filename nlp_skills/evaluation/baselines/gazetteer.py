"""Entities that train names, found again in the test rows' texts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlp_skills.data import entities, mentions
from nlp_skills.schema.task import OutputField, OutputFormat

Row = Mapping[str, Any]

_PLACE = ("text", "start", "end")


def answers(train: Sequence[Row], test: Sequence[Row], fields: Sequence[str], output: OutputFormat) -> list[Any]:
    """To every test row the texts that were entities in train, with what they were most often said to be there.

    A text that stands in train more often without being an entity than as one is left alone. The output's other
    properties are empty lists, or what most training rows have.
    """
    from nlp_skills.evaluation.baselines.fitted import commonest

    schema = output.schema_
    name = str(entities.field_of({key: part.model_dump() for key, part in schema.items()}))
    known = _known(train, fields, name)
    rest = {
        key: [] if part.type == "array" else commonest([row[key] for row in train])
        for key, part in schema.items()
        if key != name
    }
    sizes = mentions.lengths(list(known))
    return [
        {key: _found(row, fields, known, sizes, schema[name]) if key == name else rest[key] for key in schema}
        for row in test
    ]


def _known(train: Sequence[Row], fields: Sequence[str], name: str) -> dict[str, dict[str, Any]]:
    """What each text is as an entity, its place left out."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for entity in row[name]:
            about = {key: value for key, value in entity.items() if key not in _PLACE}
            said[entity["text"]][json.dumps(about, ensure_ascii=False, sort_keys=True)] += 1
    sizes, standing = mentions.lengths(list(said)), Counter[str]()
    for row in train:
        standing.update(text[start:end] for text, start, end in _standing(row, fields, said, sizes))
    return {
        text: json.loads(min(counts, key=lambda about: (-counts[about], about)))
        for text, counts in said.items()
        if counts.total() * 2 >= standing[text]
    }


def _found(
    row: Row, fields: Sequence[str], known: Mapping[str, dict[str, Any]], sizes: Sequence[int], part: OutputField
) -> list[dict[str, Any]]:
    wanted = (part.items or {}).get("properties") or {}
    found = []
    for text, start, end in _standing(row, fields, known, sizes):
        entity = {"text": text[start:end], "start": start, "end": end, **known[text[start:end]]}
        found.append({key: entity[key] for key in wanted if key in entity})
    return found


def _standing(
    row: Row, fields: Sequence[str], known: Mapping[str, Any], sizes: Sequence[int]
) -> Iterator[tuple[str, int, int]]:
    """Each known text in the row: the field's whole text, start and end."""
    for text in (str(row.get(field, "")) for field in fields):
        yield from ((text, start, end) for start, end in mentions.find(text, known, sizes))
