"""Personal data in texts: identity and resident numbers, telephones, e-mail addresses, card numbers.

A number counts only where its checksum holds, or its form leaves little doubt. What was found is never shown:
its kind stands in its place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.data.audit.reading import Entry

MOST_PLACES = 500
_AROUND = 30
_LETTERS = {letter: 10 + place for place, letter in enumerate("ABCDEFGHJKLMNPQRSTUVXYWZIO")}


@dataclass(frozen=True)
class Found:
    """One piece of personal data: `start` and `end` in the text as it was given."""

    kind: str
    start: int
    end: int


def _identity(match: re.Match[str]) -> int | None:
    """Weights 1, 9, 8 … 1, 1 over the two digits of the letter and the nine that follow, modulo ten."""
    text = match[0].upper()
    area = _LETTERS[text[0]]
    # A letter in second place (resident certificates until 2020) counts with the last digit of its number.
    digits = [area // 10, area % 10, *(int(c) if c.isdigit() else _LETTERS[c] % 10 for c in text[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    whole = sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 10 == 0
    return match.end() if whole else None


def _any(match: re.Match[str]) -> int | None:
    return match.end()


def _card(match: re.Match[str]) -> int | None:
    """Where the card number ends: with its last short group, or before it when that is a code or a date."""
    for end in dict.fromkeys((match.end(), match.end("four") if match["four"] else match.end())):
        digits = re.sub("[^0-9]", "", match.string[match.start() : end])
        if _issued(digits) and _luhn(digits) and not _barcode(digits):
            return end
    return None


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(value - 9 * (value > 9) for value in doubled)) % 10 == 0


def _barcode(digits: str) -> bool:
    """EAN-13, which Taiwan's goods carry with the prefix 471: a card of thirteen digits would begin the same."""
    return len(digits) == 13 and sum(int(d) * (3 if place % 2 else 1) for place, d in enumerate(digits)) % 10 == 0


_ISSUERS = re.compile(
    r"""
    4[0-9]{12}(?:[0-9]{3}){0,2}                      # Visa: 13, 16 or 19 digits
    | 5[1-5][0-9]{14}                                # Mastercard
    | 2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}  # Mastercard, 2221 to 2720
    | 3[47][0-9]{13}                                 # American Express
    | 35(?:2[89]|[3-8][0-9])[0-9]{12,15}             # JCB
    | 62[0-9]{14,17}                                 # UnionPay
    | 6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12,15}     # Discover
    | 3(?:0[0-5]|[68][0-9])[0-9]{11,16}              # Diners Club
    """,
    re.VERBOSE,
)


def _issued(digits: str) -> bool:
    return _ISSUERS.fullmatch(digits) is not None


# Not inside a longer number, code or amount.
_ALONE = r"(?<![0-9A-Za-z])(?<![0-9][-./])"
_ENDS = r"(?![0-9A-Za-z])"

_ID = re.compile(
    rf"""{_ALONE}
    [A-Za-z]            # where the number was first given out
    (?: [12]            # citizens: man, woman
      | [89]            # residents, since 2021
      | [A-Da-d] )      # residents before
    [0-9]{{8}}          # the rest, the last one the check digit
    {_ENDS}""",
    re.VERBOSE,
)
_MOBILE = re.compile(
    rf"""{_ALONE}
    (?: \+?886[ -]?(?:\(0\)|0)?   # from abroad, the zero kept by some
      | 0 )
    9[0-9]{{2}}                   # all mobile numbers begin with 09
    (?: ([ -]?)[0-9]{{3}}\1[0-9]{{3}}   # 0912-345-678, 0912345678
      | -[0-9]{{6}} )             # 0912-345678
    {_ENDS}""",
    re.VERBOSE,
)
_LANDLINE = re.compile(
    rf"""{_ALONE}
    (?: \+?886[ -]?(?:\(0\))?     # from abroad
        (?=[2-8])
      | \(0(?=[0-9]{{1,3}}\))     # (02)
      | 0(?=[0-9]{{1,3}}[ -]) )   # 02-; without a mark after the area code it could be any number
    (?: 2\)?[ -]?[2-8][0-9]{{3}}[ -]?[0-9]{{4}}                    # Taipei: eight digits
      | [47]\)?[ -]?[2-9][0-9]{{3}}[ -]?[0-9]{{4}}                 # Taichung, Kaohsiung: eight
      | (?:49|[3-8])\)?[ -]?[2-9][0-9]{{2}}[ -]?[0-9]{{4}}         # most others: seven
      | (?:37|82|89)\)?[ -]?[2-9][0-9]{{2}}[ -]?[0-9]{{3}}         # Miaoli, Kinmen, Taitung: six
      | (?:826|836)\)?[ -]?[2-9][0-9]{{4}} )                       # Wuqiu, Matsu: five
    (?![0-9A-Za-z])(?!-[0-9])""",
    re.VERBOSE,
)
_EMAIL = re.compile(
    r"""(?<![A-Za-z0-9._%+'-])
    [A-Za-z0-9._%+'-]{1,64}                                   # the box
    @
    (?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+      # the domain and those above it
    [A-Za-z]{2,24}                                            # the top one
    (?![A-Za-z0-9-])""",
    re.VERBOSE,
)
_CARD = re.compile(
    rf"""{_ALONE}
    (?: [0-9]{{13,19}}                                                        # in one piece
      | (?P<four>[0-9]{{4}}(?P<mark>[ -])[0-9]{{4}}(?P=mark)[0-9]{{4}}(?P=mark)[0-9]{{4}})  # four by four
        (?:(?P=mark)[0-9]{{1,3}})?                                            # of nineteen, the last three
      | [0-9]{{4}}(?P<other>[ -])[0-9]{{6}}(?P=other)[0-9]{{4,5}} )           # American Express, Diners Club
    {_ENDS}""",
    re.VERBOSE,
)

_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], int | None]], ...] = (
    ("tw_id", _ID, _identity),
    ("mobile", _MOBILE, _any),
    ("landline", _LANDLINE, _any),
    ("email", _EMAIL, _any),
    ("card", _CARD, _card),
)
KINDS = tuple(kind for kind, _pattern, _check in _KINDS)
_POSSIBLE = re.compile(r"[0-9][0-9 )-]{5}|@")
_DASHES = {ord(dash): "-" for dash in "‐‑‒–—―−"}


def find(text: str) -> list[Found]:
    """Everything personal in a text, in its order, without overlaps; full-width digits and letters count."""
    level, origin = _levelled(text)
    if not _POSSIBLE.search(level):
        return []
    found = []
    for kind, pattern, check in _KINDS:
        for match in pattern.finditer(level):
            end = check(match)
            if end is not None:
                found.append(Found(kind, origin(match.start()), origin(end - 1) + 1))
    found.sort(key=lambda entry: (entry.start, -entry.end))
    apart: list[Found] = []
    for entry in found:
        if not apart or entry.start >= apart[-1].end:
            apart.append(entry)
    return apart


def _levelled(text: str) -> tuple[str, Callable[[int], int]]:
    """The text under NFKC with plain hyphens, and for each place in it the place it came from."""
    level = text.translate(_DASHES)
    if unicodedata.is_normalized("NFKC", level):
        return level, lambda place: place
    pieces = [unicodedata.normalize("NFKC", character).translate(_DASHES) for character in level]
    places = [place for place, piece in enumerate(pieces) for _character in piece]
    return "".join(pieces), places.__getitem__


def masked(text: str) -> str:
    """The text with the kind of each piece of personal data in its place: `call [mobile]`."""
    for entry in reversed(find(text)):
        text = f"{text[: entry.start]}[{entry.kind}]{text[entry.end :]}"
    return text


def search(entries: Sequence[Entry]) -> dict[str, Any]:
    """Counts by kind, and the places of the first ones: kind, file, line, field, masked excerpt."""
    counts = dict.fromkeys(KINDS, 0)
    rows = 0
    places: list[dict[str, Any]] = []
    for entry in entries:
        before = sum(counts.values())
        for name, text in _texts(entry.row):
            for found in find(text):
                counts[found.kind] += 1
                if len(places) < MOST_PLACES:
                    places.append(_place(entry, name, text, found))
        rows += sum(counts.values()) > before
    total = sum(counts.values())
    return {"count": total, "rows": rows, "kinds": counts, "places": places, "shown": len(places)}


def _place(entry: Entry, name: str, text: str, found: Found) -> dict[str, Any]:
    before, after = masked(text[: found.start]), masked(text[found.end :])
    excerpt = f"{'…' if len(before) > _AROUND else ''}{before[-_AROUND:]}[{found.kind}]{after}"
    shown = lines.cut(excerpt, len(before[-_AROUND:]) + _AROUND * 2 + 10)
    return {"kind": found.kind, "file": entry.file, "line": entry.line, "field": lines.shown_name(name),
            "excerpt": one_line(shown)}  # fmt: skip


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a row with the column it is in; what we added ourselves is left out."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in ("_source", "_augmented"):
                yield from _texts(item, name or str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)


def one_line(text: str) -> str:
    """Spaces levelled; characters that cannot be seen are escaped."""
    flat = " ".join(text.split())
    return flat if flat.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in flat)


def excerpt(text: str, limit: int = 120) -> str:
    """The beginning of a text as any result may show it: masked, on one line, escaped, cut."""
    return lines.cut(one_line(masked(text[: limit * 8])), limit)
