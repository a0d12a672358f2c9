"""Answers that come to a metric as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nlp_skills.errors import Usage
from nlp_skills.i18n import _


def answers(references: Sequence[str], predictions: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """The right answers and the given ones, None where one could not be read.

    Raises:
        Usage: a right answer is no JSON object.
    """
    right = [_read(text) for text in references]
    if None in right:
        row = right.index(None) + 1
        raise Usage(_("reference {number} is no JSON object", number=row), mend=_("give each as JSON text"))
    return right, [_read(text) for text in predictions]


def _read(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
