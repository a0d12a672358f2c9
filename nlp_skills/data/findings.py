"""What a gate found: one thing wrong, or one thing worth knowing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from nlp_skills.errors import Problem


@dataclass(frozen=True)
class Finding:
    """`count`: how many rows it concerns; `line`: the first of them, from 1; `lines`: the first few.

    `info` is a remark: nothing is wrong.
    """

    severity: Literal["error", "warning", "info"]
    code: str
    message: str
    file: str | None = None
    line: int | None = None
    count: int = 1
    mend: str | None = None
    cause: str | None = None
    lines: tuple[int, ...] | None = None

    @property
    def where(self) -> str | None:
        """`path:line`, as editors link it."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; what is not known is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


def passed(findings: Iterable[Finding]) -> bool:
    """Whether nothing is an error; warnings and remarks stop nothing."""
    return not any(finding.severity == "error" for finding in findings)


def of_problem(problem: Problem, code: str) -> Iterator[Finding]:
    """A problem, and those beside it, as errors."""
    for entry in (problem, *problem.also):
        yield Finding(
            "error", code, entry.message, file=entry.file, line=entry.line, mend=entry.mend, cause=entry.cause
        )
