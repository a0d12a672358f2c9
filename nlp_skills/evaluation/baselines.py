"""What a model has to beat: always the commonest class, and a linear model over words.

Both are fitted on the train split and answer the very rows the model answers. A fine-tuned model that
loses to TF-IDF with logistic regression is not worth its GPU; the report says so first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.extras import need

MAJORITY = "majority"
TFIDF = "tfidf_logreg"
BASE = "base_zero_shot"

# Languages written without spaces between words, where a "word" is most of a sentence.
_UNSPACED_LANGUAGES = ("zh", "ja", "th", "lo", "km", "my", "yue")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


def answers(
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    fields: Sequence[str],
    label_field: str,
    language: str | None = None,
) -> dict[str, list[str]]:
    """Each baseline's answer to every test row, by baseline name. `train` has at least one row."""
    labels = [str(row[label_field]) for row in train]
    texts, questions = _texts(train, fields), _texts(test, fields)
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
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(set(labels)) < 2:
        return majority(labels, len(questions))
    # Every run of word characters is a word: scikit-learn's own pattern drops "I", "5" and "no." for n.
    units: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    words: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"}
    vectors = TfidfVectorizer(sublinear_tf=True, **(units if characters else words))
    model = make_pipeline(vectors, LogisticRegression(class_weight="balanced", max_iter=2000))
    return [str(label) for label in model.fit(texts, labels).predict(questions)]


def unspaced(language: str | None, texts: Sequence[str]) -> bool:
    """Whether the text is written without spaces: by the task's language, else by what its letters are."""
    if language:
        return language.lower().replace("_", "-").split("-")[0] in _UNSPACED_LANGUAGES
    sample = "".join(texts[:500])
    letters = sum(character.isalpha() for character in sample)
    return len(_UNSPACED.findall(sample)) * 2 > letters


def _texts(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    return ["\n".join(str(row[field]) for field in fields) for row in rows]
