"""Does a row, or nearly the same row, stand on two sides of the split, or say two different things?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.findings import Finding
from nlp_skills.data.regenerate import pinned_keys
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder

_SHOWN = 5


@dataclass(frozen=True)
class _Place:
    """A readable row: where it stands, what it says, what it answers."""

    split: str
    line: int
    key: str
    text: str
    answer: bytes

    @property
    def where(self) -> str:
        return f"data/{self.split}.jsonl:{self.line}"


def search(folder: TaskFolder, task: Task, threshold: float) -> Iterator[Finding]:
    """Errors for rows shared between splits (same input, or near-identical from `threshold`), for rows of
    train or valid that another version was tested on, and for one input with two answers.
    """
    places = [place for name in SPLITS for place in _places(folder, name, task)]
    groups: dict[str, list[_Place]] = {}
    for place in places:
        groups.setdefault(place.key, []).append(place)
    same = [(group[0], other) for group in groups.values() for other in group[1:] if other.split != group[0].split]
    yield from _finding("leak", _("the same input stands in two splits"), same, folder)
    yield from _finding(
        "near_leak", _("near-identical inputs stand in two splits"), _near_pairs(groups, threshold), folder
    )
    clash = [(group[0], other) for group in groups.values() for other in group[1:] if other.answer != group[0].answer]
    yield from _finding("contradiction", _("the same input has two different answers"), clash, folder)
    yield from _trained_on_test(places, folder)


def _places(folder: TaskFolder, split: str, task: Task) -> Iterator[_Place]:
    """The rows that parse and carry their fields; the others are named by the check of the rows."""
    with open(folder.split(split), "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = lines.parse(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and all(isinstance(row.get(name), str) for name in task.input_fields):
                yield _place(row, split, number, task)


def _place(row: dict[str, Any], split: str, number: int, task: Task) -> _Place:
    answer = lines.canonical({name: row.get(name) for name in task.output_fields})
    key, text = near.row_key(row, task.input_fields), near.normalised(row, task.input_fields)
    return _Place(split, number, key, text, answer)


def _near_pairs(groups: dict[str, list[_Place]], threshold: float) -> list[tuple[_Place, _Place]]:
    """For each cluster that spans splits, its first row and the first row of each other split."""
    leaders = [group[0] for _key, group in sorted(groups.items())]
    clusters: dict[int, list[_Place]] = {}
    for place, cluster in zip(leaders, near.clusters([place.text for place in leaders], threshold), strict=True):
        clusters.setdefault(cluster, []).append(place)
    pairs = []
    for members in clusters.values():
        firsts = {place.split: place for place in reversed(members)}
        first, *others = sorted(firsts.values(), key=lambda place: SPLITS.index(place.split))
        pairs += [(first, other) for other in others]
    return pairs


def _trained_on_test(places: Sequence[_Place], folder: TaskFolder) -> Iterator[Finding]:
    pinned = pinned_keys(folder)
    found = [place for place in places if place.split != "test" and place.key in pinned]
    if found:
        yield Finding(
            "error",
            "tested_before",
            _("another version was tested on rows that are now trained on"),
            file=str(folder.split(found[0].split)),
            line=found[0].line,
            count=len(found),
            cause=_("at {places}", places=", ".join(place.where for place in found[:_SHOWN])),
            mend="nlp-skills regenerate",
        )


def _finding(code: str, message: str, pairs: Sequence[tuple[_Place, _Place]], folder: TaskFolder) -> Iterator[Finding]:
    if not pairs:
        return
    first = pairs[0][1]
    shown = "; ".join(f"{one.where} = {other.where}" for one, other in pairs[:_SHOWN])
    yield Finding(
        "error",
        code,
        message,
        file=str(folder.split(first.split)),
        line=first.line,
        count=len(pairs),
        cause=_("at {places}", places=shown),
        mend=_mend(code),
    )


def _mend(code: str) -> str:
    if code == "contradiction":
        return _("decide which answer is right, correct it at the source, then: nlp-skills regenerate")
    return "nlp-skills regenerate"
