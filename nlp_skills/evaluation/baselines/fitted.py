"""Baselines fitted on train: always the commonest answer, and a linear model over words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.evaluation.baselines.choice import MAJORITY, TFIDF
from nlp_skills.evaluation.baselines.similar import texts_of, unspaced, vectoriser
from nlp_skills.extras import need


def answers(
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    fields: Sequence[str],
    label_field: str,
    language: str | None = None,
) -> dict[str, list[str]]:
    """Each baseline's answer to every test row, by baseline name. `train` has at least one row."""
    labels = [str(row[label_field]) for row in train]
    texts, questions = texts_of(train, fields), texts_of(test, fields)
    return {
        MAJORITY: majority(labels, len(test)),
        TFIDF: tfidf(texts, labels, questions, characters=unspaced(language, texts)),
    }


def majority(labels: Sequence[str], count: int) -> list[str]:
    """The commonest training label, `count` times; the first in alphabetical order among equals."""
    counts = Counter(labels)
    return [min(counts, key=lambda label: (-counts[label], label))] * count


def tfidf(texts: Sequence[str], labels: Sequence[str], questions: Sequence[str], *, characters: bool) -> list[str]:
    """TF-IDF and balanced logistic regression: words and word pairs, or runs of one to three characters."""
    need("quality", "sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(set(labels)) < 2:
        return majority(labels, len(questions))
    model = make_pipeline(vectoriser(characters), LogisticRegression(class_weight="balanced", max_iter=2000))
    return [str(label) for label in model.fit(texts, labels).predict(questions)]
