"""What a diagnosis is made of: a finding, its evidence, the change it proposes, and what could not be looked at."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nlp_skills.errors import Problem

Severity = Literal["critical", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "note")


@dataclass(frozen=True)
class Evidence:
    """One observation, and where it can be looked up: a file from the task folder, a line of it or a step of the run.

    `figures` are the numbers in `text`, fractions and nats as they are in the files; `rows` the first lines meant.
    """

    text: str
    file: str | None = None
    step: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    rows: Sequence[int] = ()

    @property
    def where(self) -> str | None:
        """`path:line` where there is one line to open."""
        return f"{self.file}:{self.rows[0]}" if self.file and self.rows else self.file

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        parts: dict[str, Any] = {"text": self.text, "file": self.file, "step": self.step}
        parts |= {"figures": dict(self.figures) or None, "rows": list(self.rows) or None}
        return {name: value for name, value in parts.items() if value is not None}


@dataclass(frozen=True)
class Change:
    """What to do: in words, as commands to be run in this order, and the settings of config.yaml that they set."""

    text: str
    commands: Sequence[Sequence[str]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """The commands as a shell takes them."""
        return [shlex.join(command) for command in self.commands]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"text": self.text, "commands": self.lines, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Effort:
    """What a change costs, as far as the last run tells: seconds of training, rows to label; None: not known."""

    training_seconds: float | None = None
    label_rows: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; what is not known is left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    `weight` orders findings of one severity: the nearer to a root, the heavier. `effect` is what the evidence says of
    the gain; None: it says nothing. `or_else` names findings that the same evidence would fit.
    """

    code: str
    title: str
    severity: Severity
    weight: float
    evidence: Sequence[Evidence]
    change: Change | None = None
    effect: str | None = None
    effort: Effort | None = None
    or_else: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; `effect` is always there, and null where nothing is known."""
        return {
            "code": self.code,
            "title": self.title,
            "severity": self.severity,
            "weight": self.weight,
            "evidence": [entry.as_dict() for entry in self.evidence],
            "change": self.change.as_dict() if self.change else None,
            "effect": self.effect,
            "effort": self.effort.as_dict() if self.effort else None,
            "or_else": list(self.or_else),
        }


@dataclass(frozen=True)
class Unseen:
    """Something that could not be looked at, why, and the command that would change that."""

    what: str
    why: str
    mend: str | None = None

    @classmethod
    def of(cls, what: str, problem: Problem) -> Unseen:
        """The same of a file that could not be read."""
        return cls(what, str(problem), problem.mend)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {name: value for name, value in vars(self).items() if value is not None}
