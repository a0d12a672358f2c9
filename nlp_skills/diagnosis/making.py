"""A finding from its code: words, severity and weight are the rule's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_skills.diagnosis import rules
from nlp_skills.diagnosis.finding import Evidence, Finding, Severity
from nlp_skills.i18n import _


def made(code: str, evidence: Sequence[Evidence], *, severity: Severity | None = None, **parts: Any) -> Finding:
    """One finding. `severity`: where it is another than the rule's."""
    rule = rules.RULES[code]
    return Finding(code, _(rule.title), severity or rule.severity, rule.weight, tuple(evidence), **parts)
