"""Answers so far: a file that survives an interruption, and says which question it is about."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from nlp_skills import files
from nlp_skills.evaluation.answering.scorer import Answer


class Partial:
    """A JSONL file whose first line is the fingerprint, then one `[row, answer]` a line."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def read(self) -> dict[int, Answer]:
        """Answers by row number; none when the file is of another question. A line cut off is left out."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return {}
        if lines[0] != self.fingerprint:
            return {}
        return dict(found for line in lines[1:] if (found := _entry(line)))

    @contextlib.contextmanager
    def opened(self, kept: dict[int, Answer]) -> Iterator[Callable[[int, Answer], None]]:
        """A function that adds a row's answer to the file, which holds whole lines only from here on.

        Raises:
            Unavailable: the disk is full, or the folder cannot be written.
        """
        lines = [self.fingerprint, *(_line(row, answer) for row, answer in kept.items())]
        files.write_text(self.path, "".join(f"{line}\n" for line in lines))
        # Unbuffered, so that nothing is left to fail, or to be lost, when the file is closed.
        with open(self.path, "ab", buffering=0) as stream:

            def write(row: int, answer: Answer) -> None:
                try:
                    stream.write(f"{_line(row, answer)}\n".encode())
                except OSError as error:
                    raise files.storage_problem(error, self.path) from error

            yield write

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _line(row: int, answer: Answer) -> str:
    said = {name: value for name, value in vars(answer).items() if name == "predicted" or value is not None}
    # ASCII, since a model within a schema may spell half a character.
    return json.dumps([row, said])


def _entry(line: str) -> tuple[int, Answer] | None:
    try:
        row, fields = json.loads(line)
        return int(row), Answer(**fields)
    except (ValueError, TypeError):
        return None
