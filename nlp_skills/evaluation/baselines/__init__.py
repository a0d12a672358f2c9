"""What a model has to beat: simple means fitted on train, the untrained base model, an endpoint, a person's rules.

In: what is evaluated, and the names that `choose` gives. Out: `measure(...)`, an answer to every test row by name.
A fine-tuned model that loses to TF-IDF with logistic regression is not worth its GPU; the report says so first.
"""

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
from nlp_skills.evaluation.baselines.measuring import measure
from nlp_skills.evaluation.baselines.rules import rule_file
from nlp_skills.evaluation.baselines.similar import unspaced

__all__ = [
    "BASE",
    "ENDPOINT",
    "FEW_SHOT",
    "GAZETTEER",
    "MAJORITY",
    "NEAREST",
    "RULES",
    "TFIDF",
    "answers",
    "choose",
    "majority",
    "measure",
    "names",
    "rule_file",
    "tfidf",
    "unspaced",
    "usual",
]
