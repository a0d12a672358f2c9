"""A person's rules, measured like any other baseline."""

from __future__ import annotations

from nlp_skills.schema.task import SuccessCriteria


def rule_file(criteria: SuccessCriteria) -> str | None:
    """The path of the rule file that `success_criteria.baseline` names; None where that is a figure or a name."""
    named = criteria.baseline
    return named if isinstance(named, str) and named.strip().lower().endswith((".yaml", ".yml")) else None
