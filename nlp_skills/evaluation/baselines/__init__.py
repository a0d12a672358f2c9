"""What a model has to beat: simple means fitted on train, the untrained base model, an endpoint, a person's rules.

In: what is evaluated, the names that `choose` gives, how the version is asked. Out: `measure(...)`, each one's answers.

    wanted = baselines.choose(option, task, kind, endpoint=bool(settings))
    manner = baselines.Manner(sampling, way, listed)
    others = baselines.measure(chosen, wanted, manner, base=lambda: scorer.untrained(fingerprint), endpoint=settings)

A fine-tuned model that loses to TF-IDF with logistic regression is not worth its GPU; the report says so first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation.baselines.choice import (
    BASE,
    ENDPOINT,
    FEW_SHOT,
    GAZETTEER,
    MAJORITY,
    NEAREST,
    RULES,
    TFIDF,
    choose,
    names,
    usual,
)
from nlp_skills.evaluation.baselines.fitted import answers, majority, tfidf
from nlp_skills.evaluation.baselines.rules import rule_file
from nlp_skills.evaluation.baselines.similar import unspaced

if TYPE_CHECKING:
    from nlp_skills.evaluation.baselines.measuring import Manner, check, measure, unfitted

__all__ = [
    "BASE",
    "ENDPOINT",
    "FEW_SHOT",
    "GAZETTEER",
    "MAJORITY",
    "NEAREST",
    "RULES",
    "TFIDF",
    "Manner",
    "answers",
    "check",
    "choose",
    "majority",
    "measure",
    "names",
    "rule_file",
    "tfidf",
    "unfitted",
    "unspaced",
    "usual",
]


def __getattr__(name: str) -> Any:
    """What measures is imported when it is asked for: who only wants a name to show waits for none of it."""
    if name not in ("Manner", "check", "measure", "unfitted"):
        raise AttributeError(name)
    from nlp_skills.evaluation.baselines import measuring

    return getattr(measuring, name)
