"""Answers as people read them, whatever kind they are of: on one line, or marked in the text they speak of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.evaluation import words
from nlp_skills.evaluation.scores import spans
from nlp_skills.evaluation.scores.places import Mention, Span, located, texts_of
from nlp_skills.i18n import _
from nlp_skills.pages import harmless
from nlp_skills.schema.kinds import Kind

TEXT_LENGTH = 280
_TYPE_LENGTH = 40
# How much of a text stands before the first thing in it that is wrong.
_BEFORE = 60


def cut(text: object, limit: int = TEXT_LENGTH) -> str:
    """One line of at most `limit` characters."""
    line = harmless(" ".join(str(text).split()))
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def row_text(row: Mapping[str, Any], limit: int = TEXT_LENGTH) -> str:
    """A row's input on one line; several fields are named."""
    fields = row.get("input")
    if not isinstance(fields, dict):
        return ""
    if len(fields) == 1:
        return cut(next(iter(fields.values())), limit)
    return cut("; ".join(f"{name}: {value}" for name, value in fields.items()), limit)


def confidence(row: Mapping[str, Any]) -> float:
    """How probable the answer was; 0 where that was not kept."""
    shares, own = row.get("probabilities"), row.get("probability")
    if isinstance(shares, dict) and isinstance(row["predicted"], str):
        return _number(shares.get(row["predicted"]))
    return _number(own)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def line(kind: Kind, value: Any, limit: int = TEXT_LENGTH) -> str:
    """An answer of any kind on one line; None is one that could not be read."""
    if value is None:
        return _("could not be read")
    if kind in ("label", "text") or isinstance(value, str):
        return cut(value, limit)
    if isinstance(value, list):
        return cut(", ".join(str(part) for part in value), limit) or _("none of the labels")
    found = [_label(one.text, one.type) for one in spans.mentions(value)] if kind == "spans" else []
    return cut("; ".join([*found, *_facts(kind, value)]), limit) or _("nothing")


def _label(text: str, kind: str) -> str:
    return f"{text} ({kind})" if kind else text


def _facts(kind: Kind, answer: Mapping[str, Any]) -> list[str]:
    """What an answer says besides entities: relations, and properties that list neither."""
    if kind != "spans":
        return [f"{name}: {_plain(part)}" for name, part in answer.items()]
    lists = {name for name, part in answer.items() if isinstance(part, list) and all(_is_span(one) for one in part)}
    found = [f"{head} → {name} → {tail}" for head, name, tail in sorted(spans.triples(answer))]
    return [*found, *(f"{name}: {_plain(part)}" for name, part in answer.items() if name not in lists)]


def _is_span(one: Any) -> bool:
    return spans.is_entity(one) or spans.is_relation(one)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Piece:
    """A stretch of text: plain, or an entity of `type` with what stands in it; `right` where both sides have it."""

    text: str = ""
    type: str | None = None
    right: bool = True
    inner: list[Piece] = field(default_factory=list)


@dataclass(frozen=True)
class Side:
    """The text as one side marks it, and what that side says that has no place of its own in it."""

    pieces: list[Piece]
    rest: list[tuple[str, bool]]


def marked(row: Mapping[str, Any]) -> tuple[Side, Side]:
    """A row's text with its entities marked, as they truly are and as they were answered."""
    answers = [row["gold"] or {}, row["predicted"] or {}]
    named = [spans.mentions(answer) for answer in answers]
    text = max(
        texts_of(row.get("input")), key=lambda one: sum(m.text in one for side in named for m in side), default=""
    )
    placed = [[span for span in located(side, [text], {}) if span.start >= 0] for side in named]
    right = set(placed[0]) & set(placed[1])
    window = _window(text, min((span.start for span in {*placed[0], *placed[1]} - right), default=0))
    facts = [
        [*_lost(side, there, text), *_facts("spans", answer)]
        for side, there, answer in zip(named, placed, answers, strict=True)
    ]
    sides = []
    for there, own, other in zip(placed, facts, reversed(facts), strict=True):
        pieces, left = _drawn(text, there, right, window)
        rest = [(_label(text[span.start : span.end], span.type), span in right) for span in left]
        sides.append(Side(pieces, [(cut(label), so) for label, so in rest + [(one, one in other) for one in own]]))
    return sides[0], sides[1]


def _lost(named: Sequence[Mention], placed: Sequence[Span], text: str) -> list[str]:
    """The entities that have no place in the text."""
    there = Counter((text[span.start : span.end], span.type) for span in placed)
    return [_label(*one) for one in (Counter((one.text, one.type) for one in named) - there).elements()]


def _window(text: str, first: int) -> tuple[int, int]:
    """The part of a long text to show: what is wrong first is in it."""
    if len(text) <= TEXT_LENGTH:
        return 0, len(text)
    start = max(0, min(first - _BEFORE, len(text) - TEXT_LENGTH))
    return start, start + TEXT_LENGTH


def _drawn(
    text: str, placed: Sequence[Span], right: set[Span], window: tuple[int, int]
) -> tuple[list[Piece], list[Span]]:
    """The text as pieces, marks within marks; and the spans outside the window, or crossing one that is drawn."""
    start, end = window
    ordered = sorted(placed, key=lambda span: (span.start, -span.end))
    waiting = [span for span in ordered if start <= span.start and span.end <= end]
    left = [span for span in ordered if span not in waiting]

    def between(at: int, to: int) -> list[Piece]:
        pieces = []
        while waiting and waiting[0].start < to:
            span = waiting.pop(0)
            if span.start < at or span.end > to:
                left.append(span)
                continue
            pieces += _text(text[at : span.start])
            pieces.append(
                Piece(type=cut(span.type, _TYPE_LENGTH), right=span in right, inner=between(span.start, span.end))
            )
            at = span.end
        return pieces + _text(text[at:to])

    pieces = between(start, end)
    before, after = _text("…" if start else ""), _text("…" if end < len(text) else "")
    return [*before, *pieces, *after], left


def _text(text: str) -> list[Piece]:
    return [Piece(harmless(text.replace("\n", " ").replace("\t", " ")))] if text else []


@dataclass(frozen=True)
class Field:
    """One property of an answer, on both sides; None where a side lacks it."""

    name: str
    gold: str
    answered: str
    right: bool


def fields(row: Mapping[str, Any]) -> list[Field]:
    """The properties of an answer, those that are wrong first."""
    gold, answered = row["gold"] or {}, row["predicted"]
    given = answered if isinstance(answered, dict) else {}
    names = list(dict.fromkeys([*gold, *given]))
    found = [
        Field(cut(name, 60), _value(gold, name), _value(given, name), name in given and gold.get(name) == given[name])
        for name in names
    ]
    return sorted(found, key=lambda one: one.right)


def _value(answer: Mapping[str, Any], name: str) -> str:
    return cut(_plain(answer[name])) if name in answer else "–"


def sure(row: Mapping[str, Any]) -> str:
    """How probable the answer was, in percent; empty where that was not kept."""
    share = confidence(row)
    return words.percent(share, 0) if share else ""
