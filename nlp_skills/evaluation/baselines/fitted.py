"""Baselines fitted on train: always the commonest answer, a linear model over words, the answer of the likest row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.evaluation import forms
from nlp_skills.evaluation.baselines import gazetteer
from nlp_skills.evaluation.baselines.choice import GAZETTEER, MAJORITY, TFIDF
from nlp_skills.evaluation.baselines.similar import nearest, texts_of, unspaced, vectoriser
from nlp_skills.extras import need
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import OutputFormat

Row = Mapping[str, Any]

# Goes up whenever an answer of these may change: those that are kept are then made anew.
FORM = 1


@dataclass(frozen=True)
class Fitting:
    """What baselines are fitted on and answer. `fields` are those the prompt shows; `train` has at least one row."""

    kind: Kind
    output: OutputFormat
    fields: Sequence[str]
    train: Sequence[Row]
    test: Sequence[Row]
    language: str | None = None

    def answers(self, name: str) -> list[Any]:
        """The answers of the baseline of that name to every test row, in the form of the kind."""
        if name == GAZETTEER:
            return gazetteer.answers(self.train, self.test, self.fields, self.output)
        right = [forms.of(self.kind, self.output, row) for row in self.train]
        if name == MAJORITY:
            return self._majority(right)
        texts, questions = texts_of(self.train, self.fields), texts_of(self.test, self.fields)
        characters = unspaced(self.language, texts)
        if name != TFIDF:
            found = nearest(texts, questions, characters=characters)
            return [right[places[0][0]] for places in found]
        if self.kind == "labels":
            return tfidf_several(texts, right, questions, characters=characters)
        return tfidf(texts, right, questions, characters=characters)

    def _majority(self, right: Sequence[Any]) -> list[Any]:
        if self.kind != "fields":
            return [commonest(right)] * len(self.test)
        return [{name: commonest([answer[name] for answer in right]) for name in self.output.schema_}] * len(self.test)


def answers(
    train: Sequence[Row], test: Sequence[Row], fields: Sequence[str], label_field: str, language: str | None = None
) -> dict[str, list[str]]:
    """Each fitted baseline's label for every test row, by baseline name. `train` has at least one row."""
    labels = [str(row[label_field]) for row in train]
    texts, questions = texts_of(train, fields), texts_of(test, fields)
    return {
        MAJORITY: majority(labels, len(test)),
        TFIDF: tfidf(texts, labels, questions, characters=unspaced(language, texts)),
    }


def majority(labels: Sequence[str], count: int) -> list[str]:
    """The commonest training label, `count` times; the first in alphabetical order among equals."""
    return [commonest(labels)] * count


def commonest(values: Sequence[Any]) -> Any:
    """The value that stands most often, whatever it is made of; the first in the order of their texts among equals."""
    written = [json.dumps(value, ensure_ascii=False, sort_keys=True) for value in values]
    counts = Counter(written)
    return values[written.index(min(counts, key=lambda text: (-counts[text], text)))]


def tfidf(texts: Sequence[str], labels: Sequence[str], questions: Sequence[str], *, characters: bool) -> list[str]:
    """TF-IDF and balanced logistic regression: words and word pairs, or runs of one to three characters."""
    if len(set(labels)) < 2:
        return majority(labels, len(questions))
    return [str(label) for label in linear(characters).fit(texts, labels).predict(questions)]


def tfidf_several(
    texts: Sequence[str], labels: Sequence[Sequence[str]], questions: Sequence[str], *, characters: bool
) -> list[list[str]]:
    """As `tfidf` where a row has several labels: one model a label, which says whether the row has it."""
    need("quality", "sklearn")
    vectors = vectoriser(characters)
    known, asked = vectors.fit_transform(texts), vectors.transform(questions)
    found: list[list[str]] = [[] for _question in questions]
    for label in sorted({label for row in labels for label in row}):
        there = [label in row for row in labels]
        given = [True] * len(questions) if all(there) else _regression().fit(known, there).predict(asked)
        for answer, has in zip(found, given, strict=True):
            if has:
                answer.append(label)
    return found


def linear(characters: bool) -> Any:
    """The untrained model behind `tfidf`, as a scikit-learn pipeline from texts to labels."""
    need("quality", "sklearn")
    from sklearn.pipeline import make_pipeline

    return make_pipeline(vectoriser(characters), _regression())


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(class_weight="balanced", max_iter=2000)
