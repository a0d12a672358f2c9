"""Rows that say what another row says already: found, dropped, and every one of them written down."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.workbench import Texts, Workbench, ranked

_EXCERPT = 200


@dataclass(frozen=True)
class Dropped:
    """A row that is left out, by number, for the one that is kept instead."""

    reason: str
    row: int
    kept: int
    similarity: float

    def record(self, bench: Workbench, sources: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
        """What dropped.jsonl says of it."""
        row = bench.row(self.row)
        text = lines.cut(" ".join(str(row.get(name, "")) for name in fields), _EXCERPT)
        return {
            "reason": self.reason,
            "similarity": self.similarity,
            "kept": _place(bench, sources, self.kept),
            "dropped": {**_place(bench, sources, self.row), "text": text},
        }


def exact(bench: Workbench, drop: Callable[[Dropped], None]) -> array[int]:
    """The numbers of one row for each input and answer, in key order; `drop` hears of the others.

    Of several the one is kept whose source comes first, then the one whose line does in the alphabet: which
    one it is does not depend on the order of a source's rows.
    """
    kept = array("I")
    for _identity, twins in groupby(ranked(len(bench), bench.identity), key=bench.identity):
        best, *others = twins
        if others:
            best, *others = sorted((best, *others), key=lambda n: (bench.sources[n], bench.body(n), bench.lines[n]))
        kept.append(best)
        for number in others:
            drop(Dropped("duplicate", number, best, 1.0))
    return kept


def clusters(bench: Workbench, threshold: float, work: Path, tick: near.Tick) -> near.Forest:
    """The near-identical rows of a bench in key order; those of one key are one text, whatever they answer."""
    forest = near.joined(Texts(bench), threshold, work, tick)
    for number in range(1, len(bench)):
        if bench.key(number) == bench.key(number - 1):
            forest.join(number - 1, number)
    return forest


def near_duplicates(
    bench: Workbench, groups: Iterable[Sequence[int]], threshold: float, pinned: Sequence[int]
) -> list[Dropped]:
    """The rows of each cluster that are near-identical to a better one of the same answer.

    Pinned rows all stay; among the others the earlier source is better, then the smaller key. A row is only
    ever dropped for one that stays and that it is itself near to, not for a neighbour's neighbour.
    """
    found: list[Dropped] = []
    for members in groups:
        answers: dict[bytes, list[int]] = {}
        for number in sorted(members, key=lambda number: (not pinned[number], bench.sources[number], number)):
            answers.setdefault(bench.answer(number), []).append(number)
        for alike in answers.values():
            found += _outdone(bench, alike, threshold, pinned) if len(alike) > 1 else ()
    return sorted(found, key=lambda one: (one.kept, one.row))


def _outdone(bench: Workbench, alike: Sequence[int], threshold: float, pinned: Sequence[int]) -> Iterator[Dropped]:
    """Those of a list, best first, that one kept before them outdoes."""
    sieve = near.Sieve(threshold, map(bench.text, alike))
    for place, number in enumerate(alike):
        own = near.grams(bench.text(number))
        for rival in () if pinned[number] else sieve.candidates(own):
            similarity = near.similarity(own, near.grams(bench.text(alike[rival])))
            if similarity >= threshold:
                yield Dropped("near_duplicate", number, alike[rival], round(similarity, 4))
                break
        else:
            sieve.add(place, own)


def _place(bench: Workbench, sources: Sequence[str], number: int) -> dict[str, Any]:
    return {
        "source": sources[bench.sources[number]],
        "line": bench.lines[number],
        "key": bench.key(number).hex(),
    }
