"""Plain counts: classes, lengths, languages, sources, rows that were dropped or added."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nlp_skills.data import languages
from nlp_skills.data import rows as lines
from nlp_skills.data.audit.reading import Entry
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder

_BINS = 24


def splits(entries: Sequence[Entry], bad: dict[str, int], task: Task) -> dict[str, dict[str, Any]]:
    """For each split its rows (augmented ones within them), classes, lengths in characters and sources."""
    found = {}
    for name in SPLITS:
        own = [entry for entry in entries if entry.split == name]
        lengths = sorted(len(entry.text) for entry in own)
        found[name] = {
            "rows": len(own),
            "bad": bad[name],
            "augmented": dict(sorted(Counter(entry.method for entry in own if entry.method).items())),
            "distribution": _distribution(own, task),
            "chars": _spread(lengths),
            "sources": dict(sorted(Counter(str(entry.row.get("_source", "")) for entry in own).items())),
        }
    return found


def _distribution(entries: Sequence[Entry], task: Task) -> dict[str, int]:
    counts = {lines.label_key(label): 0 for label in task.labels}
    if task.label_field is not None:
        for entry in entries:
            for label in lines.labels_of(entry.row, task.label_field):
                counts[label] += 1
    return counts


def _spread(lengths: Sequence[int]) -> dict[str, int] | None:
    if not lengths:
        return None
    at = len(lengths) - 1
    return {
        "min": lengths[0],
        "median": lengths[at // 2],
        "p95": lengths[round(at * 0.95)],
        "max": lengths[-1],
        "mean": round(sum(lengths) / len(lengths)),
    }


def histogram(entries: Sequence[Entry]) -> dict[str, Any]:
    """Lengths in equal steps from 0 to the 99th percentile, rows above that in a last step; the same for all splits."""
    lengths = sorted(len(entry.text) for entry in entries)
    high = lengths[round((len(lengths) - 1) * 0.99)]
    width = max(1, -(-(high + 1) // _BINS))
    steps = high // width + 1
    counts = {name: [0] * (steps + 1) for name in SPLITS}
    for entry in entries:
        counts[entry.split][min(len(entry.text) // width, steps)] += 1
    return {"width": width, "above": steps * width, "counts": counts}


def dropped(folder: TaskFolder) -> dict[str, Any] | None:
    """How many duplicates the last regeneration dropped, by reason; None where it keeps no list."""
    path = folder.split("dropped")
    if not path.is_file():
        return None
    reasons: Counter[str] = Counter()
    with open(path, "rb") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                reasons[str(row.get("reason", ""))] += 1
    return {"rows": sum(reasons.values()), "reasons": dict(sorted(reasons.items()))}


def all_of(entries: Sequence[Entry], bad: dict[str, int], folder: TaskFolder, task: Task) -> dict[str, Any]:
    """Every count of this module under its name."""
    return {
        "splits": splits(entries, bad, task),
        "lengths": histogram(entries),
        "scripts": scripts(entries),
        "dropped": dropped(folder),
    }


def scripts(entries: Sequence[Entry]) -> dict[str, int]:
    """Rows by the script most of their text is in (ISO 15924), most frequent first."""
    counts = Counter(languages.script(entry.text) or "none" for entry in entries)
    return dict(counts.most_common())
