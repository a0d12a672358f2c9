"""Where entities stand in the text: their own `start` and `end` where these are right, else found from the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Farther apart than any text is long: the fields of a row, and what stands in none of them.
_FIELD = 1 << 40


class Span(NamedTuple):
    """An entity at its place: from `start` up to and without `end`, in characters over all fields of the row."""

    start: int
    end: int
    type: str


class Mention(NamedTuple):
    """An entity as it was given."""

    text: str
    type: str
    start: int | None
    end: int | None


def texts_of(given: Any) -> list[str]:
    """The fields of a row's input: a text, several, or texts by field."""
    if given is None:
        return []
    parts = given.values() if isinstance(given, Mapping) else [given] if isinstance(given, str) else given
    return [part if isinstance(part, str) else str(part) for part in parts]


def located(mentions: Sequence[Mention], texts: Sequence[str], strangers: dict[str, int]) -> list[Span]:
    """Each mention at its place.

    Offsets that are wrong or missing are found from the text: mentions of one text take the places it stands at from
    left to right, those of another type may take one that is taken. What stands nowhere gets a place of its own by
    its text, the same for all who share `strangers`, so that two answers can still agree on it.
    """
    taken: set[tuple[int, int]] = set()
    typed: set[tuple[int, int, str]] = set()
    found: dict[int, Span] = {}
    for number, mention in enumerate(mentions):
        start = _given(mention, texts)
        if start is not None:
            found[number] = _take(mention, start, taken, typed)
    for number, mention in enumerate(mentions):
        if number not in found:
            start = _free(mention, texts, taken, typed)
            if start is None:
                start = -_FIELD * (1 + strangers.setdefault(mention.text, len(strangers)))
                # One that is listed more often than it stands there is more than one.
                while (start, start + max(1, len(mention.text)), mention.type) in typed:
                    start += 2 * max(1, len(mention.text))
            found[number] = _take(mention, start, taken, typed)
    return sorted(found.values())


def _take(mention: Mention, start: int, taken: set[tuple[int, int]], typed: set[tuple[int, int, str]]) -> Span:
    end = start + max(1, len(mention.text))
    taken.add((start, end))
    typed.add((start, end, mention.type))
    return Span(start, end, mention.type)


def _given(mention: Mention, texts: Sequence[str]) -> int | None:
    """The place that a mention says itself, where its text stands there; without any text it is believed."""
    start, end, length = mention.start, mention.end, len(mention.text)
    if start is None and end is not None:
        start = end - length
    if start is None or start < 0 or not length or (end is not None and end - start != length):
        return None
    if not texts:
        return start
    fields = (field for field, text in enumerate(texts) if text.startswith(mention.text, start))
    return next((field * _FIELD + start for field in fields), None)


def _free(
    mention: Mention, texts: Sequence[str], taken: set[tuple[int, int]], typed: set[tuple[int, int, str]]
) -> int | None:
    """The first place of a text that nothing has taken, else one that no mention of its type has."""
    if not mention.text:
        return None
    length, second = len(mention.text), None
    for field, text in enumerate(texts):
        at = text.find(mention.text)
        while at >= 0:
            start = field * _FIELD + at
            if (start, start + length) not in taken:
                return start
            if second is None and (start, start + length, mention.type) not in typed:
                second = start
            at = text.find(mention.text, at + length)
    return second
