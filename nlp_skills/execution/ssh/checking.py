"""What a server has, what will be installed there, and what would stop a run: asked without changing anything."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.data.findings import Finding, passed
from nlp_skills.errors import Problem
from nlp_skills.execution.ssh import environment
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.schema.task import Execution
from nlp_skills.workspace.folder import TaskFolder

SKEW_SECONDS = 30.0
# The pinned packages with torch for a GPU, and a small model beside them.
LEAST_FREE_GB = 12.0


@dataclass(frozen=True)
class Report:
    """What was found. `machine` is the agent's probe; `jobs` ours there; `plan` what will be installed."""

    host: str
    user: str
    address: str
    open_seconds: float
    answer_seconds: float
    skew_seconds: float
    machine: dict[str, Any]
    jobs: list[dict[str, Any]]
    chosen: list[int]
    plan: environment.Plan | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing that was found would stop a run."""
        return passed(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            **vars(self),
            "plan": vars(self.plan) if self.plan else None,
            "findings": [finding.as_dict() for finding in self.findings],
            "ok": self.ok,
        }


def check(folder: TaskFolder | None, server: Server, execution: Execution | None = None) -> Report:
    """Look at a server; for a task also at what its runs need there.

    Raises:
        Unreachable: it does not answer.
        Unavailable: it does, and lets nobody of us in, or has no Python that could answer.
    """
    raise NotImplementedError
