"""Which training rows say nearly the same as a text, by TF-IDF: words, or characters where none are spaced."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.extras import need

# Languages written without spaces between words, where a "word" is most of a sentence.
_UNSPACED_LANGUAGES = ("zh", "ja", "th", "lo", "km", "my", "yue")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
# So many questions are held against all training rows at once: a block of similarities, not all of them.
_AT_ONCE = 256


def unspaced(language: str | None, texts: Sequence[str]) -> bool:
    """Whether the text is written without spaces: by the task's language, else by what its letters are."""
    if language:
        return language.lower().replace("_", "-").split("-")[0] in _UNSPACED_LANGUAGES
    sample = "".join(texts[:500])
    letters = sum(character.isalpha() for character in sample)
    return len(_UNSPACED.findall(sample)) * 2 > letters


def texts_of(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """What a model reads of each row, without the prompt around it; a field that is not there is empty."""
    return ["\n".join(_text(row.get(field, "")) for field in fields) for row in rows]


def vectoriser(characters: bool) -> Any:
    """scikit-learn's TF-IDF: words and word pairs, or runs of one to three characters."""
    need("quality", "sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Every run of word characters is a word: scikit-learn's own pattern drops "I", "5" and "no." for n.
    units: dict[str, Any] = {"analyzer": "char", "ngram_range": (1, 3)}
    words: dict[str, Any] = {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"}
    return TfidfVectorizer(sublinear_tf=True, **(units if characters else words))


@dataclass(frozen=True)
class Known:
    """Texts to compare others with. `matrix` is (texts, units), None where no text has any unit."""

    vectors: Any
    matrix: Any
    count: int

    @classmethod
    def of(cls, texts: Sequence[str], *, characters: bool) -> Known:
        """The texts, taken apart."""
        import numpy as np

        vectors = vectoriser(characters).set_params(dtype=np.float32)
        try:
            return cls(vectors, vectors.fit_transform(texts), len(texts))
        except ValueError:
            # Texts of spaces only have no units at all.
            return cls(vectors, None, len(texts))

    def nearest(self, questions: Sequence[str], most: int = 1) -> list[list[tuple[int, float]]]:
        """For each question the `most` likest texts: their places and cosines, the likest first.

        Of equals the first text comes first. What has nothing to be compared by is like nothing: cosine 0.
        """
        if self.matrix is None or not questions:
            return [[(place, 0.0) for place in range(min(most, self.count))] for _question in questions]
        asked, found = self.vectors.transform(questions), []
        for start in range(0, len(questions), _AT_ONCE):
            for likeness in (asked[start : start + _AT_ONCE] @ self.matrix.T).toarray():
                places = _highest(likeness, most)
                found.append([(int(place), round(float(likeness[place]), 5)) for place in places])
        return found


def nearest(
    texts: Sequence[str], questions: Sequence[str], *, characters: bool, most: int = 1
) -> list[list[tuple[int, float]]]:
    """As `Known.nearest`, of texts that nobody asks about again; none where there are no texts."""
    if not texts:
        return [[] for _question in questions]
    return Known.of(texts, characters=characters).nearest(questions, most)


def _highest(values: Any, most: int) -> Any:
    """Places of the highest values, highest first; rounded, so that equals stay in their order."""
    import numpy as np

    rounded = np.round(values, 5)
    if most < len(rounded):
        least = np.partition(rounded, -most)[-most]
        candidates = np.flatnonzero(rounded >= least)
    else:
        candidates = np.arange(len(rounded))
    return candidates[np.lexsort((candidates, -rounded[candidates]))][:most]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)
