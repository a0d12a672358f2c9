"""One text, marked now this way, now that: entities with two types, left out here and there, or cut elsewhere."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.data import entities, mentions
from nlp_skills.data.audit.pii import excerpt
from nlp_skills.data.audit.reading import Entry
from nlp_skills.schema.task import Task

# A text counts as forgotten where it is not marked, once it is marked in this many rows and in this share of them.
FEWEST_MARKED = 2
LEAST_SHARE = 0.5
MOST_SHOWN = 200
_MOST_PLACES = 5
_LONGEST = 60

Place = tuple[str, int]


@dataclass
class _Surface:
    """What is known of one text: rows by type, rows where it stands unmarked, and where only a part of it is marked."""

    types: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))
    unmarked: list[Place] = field(default_factory=list)
    shorter: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))
    spellings: Counter[str] = field(default_factory=Counter)

    @property
    def marked(self) -> int:
        return len({place for places in self.types.values() for place in places})

    @property
    def text(self) -> str:
        return excerpt(min(self.spellings, key=lambda text: (-self.spellings[text], text)), _LONGEST)


@dataclass(frozen=True)
class _Row:
    entry: Entry
    fields: tuple[str, ...]
    marked: Mapping[str, str]


def search(entries: Sequence[Entry], task: Task) -> dict[str, Any]:
    """Texts with several types, texts that were likely forgotten, and texts whose ends differ; with counts and places.

    Upper and lower case, width and outer spaces make no difference. Augmented rows take no part.
    """
    name = entities.entity_field(task)
    if name is None:
        return {"skipped": {"code": "no_entities"}, "count": 0}
    rows = [_row(entry, name, task) for entry in entries if entry.method is None]
    surfaces = _surfaces(rows, name)
    if not surfaces:
        return {"skipped": {"code": "nothing_marked"}, "count": 0}
    _look(rows, surfaces)
    types, forgotten, ends = _types(surfaces), _forgotten(surfaces), _ends(surfaces)
    return {
        "surfaces": len(surfaces),
        "marked": sum(len(places) for surface in surfaces.values() for places in surface.types.values()),
        "types": _by_type(surfaces),
        "fewest_marked": FEWEST_MARKED,
        "least_share": LEAST_SHARE,
        "count": len(types) + len(forgotten) + len(ends),
        "several_types": types[:MOST_SHOWN],
        "forgotten": forgotten[:MOST_SHOWN],
        "ends": ends[:MOST_SHOWN],
    }


def _by_type(surfaces: Mapping[str, _Surface]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for surface in surfaces.values():
        counts.update({kind: len(places) for kind, places in surface.types.items()})
    return dict(counts.most_common())


def level(text: str) -> str:
    """A text as surfaces are compared."""
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _row(entry: Entry, name: str, task: Task) -> _Row:
    marked = {level(item["text"]): item["text"] for item in _items(entry.row[name])}
    return _Row(entry, tuple(level(str(entry.row[part])) for part in task.input_fields), marked)


def _items(value: Any) -> list[dict[str, Any]]:
    """The entities of a row that have a text; the others are what `validate` is for."""
    items = value if isinstance(value, list) else []
    return [i for i in items if isinstance(i, dict) and isinstance(i.get("text"), str) and level(i["text"])]


def _surfaces(rows: Sequence[_Row], name: str) -> dict[str, _Surface]:
    found: dict[str, _Surface] = defaultdict(_Surface)
    for row in rows:
        place = (row.entry.file, row.entry.line)
        for item in _items(row.entry.row[name]):
            surface = found[level(item["text"])]
            surface.spellings[item["text"]] += 1
            places = surface.types[str(item.get("type", ""))]
            if place not in places[-1:]:
                places.append(place)
    return dict(found)


def _look(rows: Sequence[_Row], surfaces: dict[str, _Surface]) -> None:
    """In every row, the longest known texts: are they marked, is a part of them, or nothing?"""
    sizes = [size for size in mentions.lengths(list(surfaces)) if size > 1]
    for row in rows:
        place = (row.entry.file, row.entry.line)
        unmarked: set[str] = set()
        shorter: set[tuple[str, str]] = set()
        for found in {part[at:end] for part in row.fields for at, end in mentions.find(part, surfaces, sizes)}:
            if found in row.marked:
                continue
            parts = [text for text in row.marked if text in found]
            shorter.update((found, part) for part in parts)
            if not parts and not any(found in text for text in row.marked):
                unmarked.add(found)
        for text in unmarked:
            surfaces[text].unmarked.append(place)
        for text, part in shorter:
            surfaces[text].shorter[part].append(place)


def _places(places: Sequence[Place]) -> list[dict[str, Any]]:
    return [{"file": file, "line": line} for file, line in places[:_MOST_PLACES]]


def _types(surfaces: Mapping[str, _Surface]) -> list[dict[str, Any]]:
    found = [
        {
            "text": surface.text,
            "rows": surface.marked,
            "types": [
                {"type": kind, "rows": len(places), "places": _places(places)}
                for kind, places in sorted(surface.types.items(), key=lambda item: (-len(item[1]), item[0]))
            ],
        }
        for _text, surface in sorted(surfaces.items())
        if len(surface.types) > 1
    ]
    return sorted(found, key=lambda entry: -entry["rows"])


def _forgotten(surfaces: Mapping[str, _Surface]) -> list[dict[str, Any]]:
    found = []
    for _text, surface in sorted(surfaces.items()):
        share = surface.marked / (surface.marked + len(surface.unmarked))
        if surface.unmarked and surface.marked >= FEWEST_MARKED and share >= LEAST_SHARE:
            found.append(
                {
                    "text": surface.text,
                    "marked": surface.marked,
                    "unmarked": len(surface.unmarked),
                    "share": round(share, 4),
                    "places": _places(surface.unmarked),
                }
            )
    return sorted(found, key=lambda entry: (-entry["unmarked"], -entry["marked"]))


def _ends(surfaces: Mapping[str, _Surface]) -> list[dict[str, Any]]:
    """A longer text that is marked whole in some rows and in part in others, under a type they share."""
    found = [
        {
            "longer": surface.text,
            "shorter": surfaces[part].text,
            "longer_rows": surface.marked,
            "shorter_rows": len(places),
            "places": _places(places),
        }
        for _text, surface in sorted(surfaces.items())
        for part, places in sorted(surface.shorter.items())
        if set(surface.types) & set(surfaces[part].types)
    ]
    return sorted(found, key=lambda entry: -entry["shorter_rows"])
