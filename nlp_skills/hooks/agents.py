"""Which agent reads on from what a hook has to say, and the facts it is to be given.

A fact for the model, not an order: who it hands this to is its own and the person's business.
"""

from __future__ import annotations

import os

from nlp_skills.hooks import words

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

DIAGNOSER = "nlp-skills:problem-diagnoser"
ANALYZER = "nlp-skills:result-analyzer"
ADVISOR = "nlp-skills:data-source-advisor"


def line(lang: str, agent: str, task: str, *facts: str) -> str:
    """One line: the agent, the task and the facts, those that are empty left out."""
    named = words.phrase(lang, "fact_task", name=words.clean(os.path.basename(task)))
    listed = words.phrase(lang, "comma").join([named, *(fact for fact in facts if fact)])
    return words.phrase(lang, "agent", agent=agent, facts=listed)


def version(lang: str, name: object) -> str:
    """The fact of which version it is about."""
    return words.phrase(lang, "fact_version", name=words.clean(name))


def coded(lang: str, reason: Any) -> str:
    """The fact of why a run ended, by its code; empty where none is known."""
    return words.phrase(lang, "fact_reason", reason=words.clean(reason, 40)) if isinstance(reason, str) else ""


def present(task: str, *keys: str) -> list[str]:
    """Those of these files of a task that are there."""
    return [words.clean(key) for key in keys if os.path.exists(os.path.join(task, *key.split("/")))]
