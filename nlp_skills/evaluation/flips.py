"""Rows to look at when versions are compared: those only one answered correctly, and those they do not share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nlp_skills.evaluation import shown
from nlp_skills.evaluation.significance import right
from nlp_skills.schema.kinds import Kind

Row = Mapping[str, Any]


class Flip(NamedTuple):
    """A test row with its right answer and both that were given, each on one line."""

    text: str
    gold: str
    before: str
    after: str


class Stray(NamedTuple):
    """A test row that the two do not share; its right answer on each side, None where it is not."""

    text: str
    before: str | None
    after: str | None


def fixed(a: Mapping[Any, Row], b: Mapping[Any, Row], limit: int, kind: Kind = "label") -> list[Flip]:
    """Rows that only B got right, the ones it is surest of first; `a` and `b` are of `significance.keyed`."""
    return _flips(a, b, limit, kind, lambda before, after: right(after) and not right(before))


def broken(a: Mapping[Any, Row], b: Mapping[Any, Row], limit: int, kind: Kind = "label") -> list[Flip]:
    """Rows that only A got right, the ones that B is surest of first."""
    return _flips(a, b, limit, kind, lambda before, after: right(before) and not right(after))


def _flips(
    a: Mapping[Any, Row], b: Mapping[Any, Row], limit: int, kind: Kind, wanted: Callable[[Row, Row], bool]
) -> list[Flip]:
    pairs = [(a[key], b[key]) for key in a if key in b and wanted(a[key], b[key])]
    pairs.sort(key=lambda pair: -shown.confidence(pair[1]))
    return [
        Flip(shown.row_text(after), *(shown.line(kind, one) for one in (after["gold"], *_answers(before, after))))
        for before, after in pairs[:limit]
    ]


def _answers(before: Row, after: Row) -> tuple[Any, Any]:
    return before["predicted"], after["predicted"]


def strays(
    a: Sequence[Row], b: Sequence[Row], result: Mapping[str, Any], limit: int, kind: Kind = "label"
) -> dict[str, list[Stray]]:
    """Rows of only one side and those labelled differently, by `only_a`, `only_b` and `relabelled` of the result."""
    of_a, of_b = ({row["key"]: shown.row_text(row) for row in rows} for rows in (a, b))
    gold_a, gold_b = ({row["key"]: shown.line(kind, row["gold"]) for row in rows} for rows in (a, b))
    return {
        "only_a": [Stray(of_a[key], gold_a[key], None) for key in result["only_a"][:limit]],
        "only_b": [Stray(of_b[key], None, gold_b[key]) for key in result["only_b"][:limit]],
        "relabelled": [
            Stray(of_b[row["key"]], *(shown.line(kind, row[side]) for side in ("a", "b")))
            for row in result["relabelled"][:limit]
        ],
    }
