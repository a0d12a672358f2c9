"""What can go wrong for a user, as one small family of exceptions.

Every problem says what happened, where (file and line), why (cause) and what to do (mend), and
carries the exit code of the command line: 1 the answer is no, 2 usage, 3 environment. Anything
that is not a `Problem` is a bug of ours and may show its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Problem(Exception):
    """A user's problem; subclasses fix the exit code."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        cause: str | None = None,
        mend: str | None = None,
        also: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = str(file) if file is not None else None
        self.line = line
        self.cause = cause
        self.mend = mend
        self.also = list(also)

    @property
    def where(self) -> str | None:
        """`path:line`, the form editors and terminals turn into a link."""
        if self.file is None:
            return None
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def as_dict(self) -> dict[str, Any]:
        """The problem for `--json`; absent parts are left out."""
        parts = {
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "cause": self.cause,
            "mend": self.mend,
            "also": [other.as_dict() for other in self.also] or None,
        }
        return {key: value for key, value in parts.items() if value is not None}


class Invalid(Problem):
    """The answer is no: a document, the data or a gate did not pass (exit 1)."""

    exit_code = 1


class Usage(Problem):
    """The command was asked for something it cannot mean (exit 2)."""

    exit_code = 2


class Unavailable(Problem):
    """The machine lacks something: a package, a file system, a database, a model (exit 3)."""

    exit_code = 3
