"""Our own commands in a shell line: through the program, or through a task's scripts."""

from __future__ import annotations

import os

_PROGRAMS = ("nlp-skills", "nlp_skills.cli.main")
_SCRIPTS = {"01_regenerate_data": "regenerate", "04_train": "train", "05_evaluate": "evaluate"}
_APART = str.maketrans(";&|\"'()", "       ")


def verbs(line: object) -> list[str]:
    """What of ours the line runs, in its order: `train`, `evaluate`, `data-source` and so on."""
    parts = str(line or "").translate(_APART).split()
    found = []
    for place, word in enumerate(parts):
        name = os.path.basename(word)
        verb = _SCRIPTS.get(name.rpartition(".")[0]) or (_verb(parts[place + 1 :]) if name in _PROGRAMS else None)
        found += [verb] if verb else []
    return found


def first(line: object, *wanted: str) -> str | None:
    """The first of these verbs that the line runs."""
    return next((verb for verb in verbs(line) if verb in wanted), None)


def names(line: object, folder: str) -> bool:
    """Whether the line has the folder's name as a word, or as a part of a path."""
    words = str(line or "").translate(_APART).replace("/", " ").split()
    return os.path.basename(folder) in words


def _verb(arguments: list[str]) -> str | None:
    """The command among a program's arguments; the only option before it that takes a value is --lang."""
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[2 if arguments[0] == "--lang" else 1 :]
    return arguments[0] if arguments else None
