"""Texts that are the same, or nearly, and answered differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.audit.pii import excerpt
from nlp_skills.data.audit.reading import Entry
from nlp_skills.schema.task import Task

MOST_GROUPS = 200
_MOST_ROWS = 6


def search(entries: Sequence[Entry], task: Task, threshold: float) -> dict[str, Any]:
    """Groups of rows that disagree: identical inputs for any task, near-identical ones where the answer is a class.

    Augmented rows take no part. `searched` says how: `near`, `same` (the task has no classes, or the threshold is
    1), or `rensa_missing`.
    """
    own = [entry for entry in entries if entry.method is None]
    same: dict[str, list[Entry]] = {}
    for entry in own:
        same.setdefault(entry.key, []).append(entry)
    searched = "near" if task.label_field is not None and threshold < 1 else "same"
    groups = list(same.values())
    if searched == "near":
        searched = "near" if near.available() else "rensa_missing"
        groups = _clustered(groups, task, threshold)
    found = [_group(group, task) for group in groups if len({_answer(entry, task) for entry in group}) > 1]
    found.sort(key=lambda group: (-group["rows"], group["members"][0]["file"], group["members"][0]["line"]))
    return {
        "searched": searched,
        "threshold": threshold,
        "count": len(found),
        "rows": sum(group["rows"] for group in found),
        "found": found[:MOST_GROUPS],
    }


def _clustered(same: Sequence[list[Entry]], task: Task, threshold: float) -> list[list[Entry]]:
    texts = [near.normalised(group[0].row, task.input_fields) for group in same]
    together: dict[int, list[Entry]] = {}
    for group, leader in zip(same, near.clusters(texts, threshold), strict=True):
        together.setdefault(leader, []).extend(group)
    return list(together.values())


def _answer(entry: Entry, task: Task) -> bytes:
    return lines.canonical({name: entry.row[name] for name in task.output_fields})


def answer_words(row: dict[str, Any], task: Task) -> str:
    """A row's answer on one line: the class, or the JSON, cut and masked."""
    if task.label_field is not None:
        value = row[task.label_field]
        return excerpt(" + ".join(map(str, value)) if isinstance(value, list) else str(value), 60)
    values = {name: row[name] for name in task.output_fields}
    text = next(iter(values.values())) if len(values) == 1 else values
    return excerpt(text if isinstance(text, str) else lines.canonical(text).decode("utf-8"), 60)


def _group(group: Sequence[Entry], task: Task) -> dict[str, Any]:
    """The first rows of a group, each answer among them before any comes twice."""
    seen: set[bytes] = set()
    first: list[Entry] = []
    rest: list[Entry] = []
    for entry in group:
        (rest if _answer(entry, task) in seen else first).append(entry)
        seen.add(_answer(entry, task))
    shown = [*first, *rest][:_MOST_ROWS]
    members = [
        {**entry.where, "answer": answer_words(entry.row, task), "excerpt": excerpt(entry.text)} for entry in shown
    ]
    return {"rows": len(group), "answers": len(seen), "members": members}
