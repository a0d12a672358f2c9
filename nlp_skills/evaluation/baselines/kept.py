"""benchmarks/baselines.json: what baselines answered, by name and by a hash of what was asked of whom.

What can be computed anew need not stop anybody: a file that is broken or of another form counts as empty.
"""

from __future__ import annotations

import contextlib
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.workspace.folder import TaskFolder

# Of each baseline the answers to so many questions are kept, the latest: test sets and base models change.
_MOST = 8


def load(folder: TaskFolder, name: str, key: str, rows: int) -> list[Any] | None:
    """The answers kept for this question; None where there are none, or not so many."""
    found = _content(folder).get(name, {}).get(key)
    return found if isinstance(found, list) and len(found) == rows else None


def save(folder: TaskFolder, name: str, key: str, answers: list[Any]) -> None:
    """Keep the answers to a question, in place of those to older ones.

    Raises:
        Unavailable: the disk is full, or the folder cannot be written.
    """
    content = _content(folder)
    before = content.get(name, {})
    kept = {**{other: given for other, given in before.items() if other != key}, key: answers}
    content[name] = dict(list(kept.items())[-_MOST:])
    files.write_json(_path(folder), {"schema_version": 1, **content})


def _path(folder: TaskFolder) -> Any:
    return folder.root / "benchmarks" / "baselines.json"


def _content(folder: TaskFolder) -> dict[str, dict[str, Any]]:
    with contextlib.suppress(Problem):
        content = files.read_json(_path(folder))
        if isinstance(content, dict):
            return {name: given for name, given in content.items() if isinstance(given, dict)}
    return {}
