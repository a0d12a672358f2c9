"""Brings the tables of the documents up to date: `python -m nlp_skills.knowledge.write [REFERENCES]`.

In: topics/ with markers. Out: the same files, and copies of the English ones without markers in the folder REFERENCES.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from nlp_skills import files
from nlp_skills.i18n import LANGUAGES
from nlp_skills.knowledge import tables

TOPICS = Path(__file__).parent / "topics"


def topics() -> Iterator[tuple[Path, str]]:
    """Every document, and what should stand in it."""
    for language in LANGUAGES:
        for path in sorted((TOPICS / language).glob("*.md")):
            yield path, tables.fill(path.read_text(encoding="utf-8"), language)


def references() -> Iterator[tuple[str, str]]:
    """File names and contents of the skill's references."""
    for path, text in topics():
        if path.parent.name == "en":
            yield path.name, tables.plain(text)


def main(arguments: list[str]) -> None:
    """Write what differs."""
    wanted = list(topics())
    if arguments:
        wanted += [(Path(arguments[0]) / name, text) for name, text in references()]
    for path, text in wanted:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            files.write_text(path, text)


if __name__ == "__main__":
    main(sys.argv[1:])
