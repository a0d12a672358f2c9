"""How long a run may go on and what it may cost, counted where it runs: it ends in time though nobody looks.

What was used up is kept in the bucket, so that a machine that replaces a lost one goes on counting.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.schema.task import Execution


@dataclass
class Budget:
    """Hours and money of one job. `usd_per_hour` is for all its machines; None where nobody knows it."""

    path: Path
    max_hours: float | None
    budget_usd: float | None
    usd_per_hour: float | None
    hours: float = 0.0
    usd: float = 0.0
    _since: float = field(default_factory=time.time)

    @classmethod
    def of(cls, wanted: Execution, path: Path, usd_per_hour: float | None) -> Budget:
        """What earlier machines of this job have used is counted."""
        found = cls(path, wanted.max_hours, wanted.budget_usd, usd_per_hour)
        with contextlib.suppress(Problem, KeyError, TypeError, ValueError):
            before = files.read_json(path)
            found.hours, found.usd = float(before["hours"]), float(before["usd"])
        return found

    def count(self) -> None:
        """Count the time since the last call, and keep it."""
        now = time.time()
        hours, self._since = max(0.0, now - self._since) / 3600, now
        self.hours += hours
        self.usd += hours * (self.usd_per_hour or 0.0)
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"hours": self.hours, "usd": self.usd}), encoding="utf-8")

    def used_up(self) -> str | None:
        """Which limit is reached, in words for the run's record."""
        if self.max_hours is not None and self.hours >= self.max_hours:
            return f"max_hours: {self.max_hours:g} h are used up"
        if self.budget_usd is not None and self.usd_per_hour is not None and self.usd >= self.budget_usd:
            return f"budget_usd: {self.budget_usd:.2f} USD are used up"
        return None
