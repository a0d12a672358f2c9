"""A sheet of texts: BLEU and chrF of sacrebleu, ROUGE of rouge-score, and how many are the right text to the letter.

Words of Chinese, Japanese, Thai and the like, which no spaces part, are their characters; the others are words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores.sheet import EXACT, PARSED, Sheet, shared_cells
from nlp_skills.extras import need

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

ROUGE = ("rouge1", "rouge2", "rougeL")
NAMES = ("chrf", "bleu", *ROUGE, EXACT, PARSED)

_ORDER = 4
_CHARACTERS = 6
_BETA2 = 4.0

# Scripts written without spaces: Thai, Lao, Burmese, Khmer, kana, bopomofo, Han with its extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]\u3099?|(?:(?![{_UNSPACED}])[^\W_])+")
_HAN_ONLY = ("zh", "yue", "lzh", "wuu", "nan", "hak", "cmn")
_CHARACTER_WISE = ("ja", "th", "lo", "my", "km")


def sheet(gold: Sequence[str], predicted: Sequence[str | None], language: str | None = None) -> Sheet:
    """There are no classes. What could not be read is an empty text."""
    need("quality", "sacrebleu", "rouge_score")
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    said = [text or "" for text in predicted]
    # Each row's own counts: a corpus' score is that of their sums, which is how sacrebleu draws resamples too.
    bleu, chrf = BLEU(tokenize=tokenizer(language, gold)), CHRF()
    by_row = [each._extract_corpus_statistics(said, [list(gold)]) for each in (bleu, chrf)]
    rouge = RougeScorer(["rouge1", "rouge2"], tokenizer=Words())
    marks = [
        (*(mark.fmeasure for mark in rouge.score(true, given).values()), rouge_l(true, given))
        for true, given in zip(gold, said, strict=True)
    ]
    right = [given is not None and given.strip() == true.strip() for true, given in zip(gold, predicted, strict=True)]
    columns = [
        [*a, *b, *mark, is_right, given is not None, 1]
        for a, b, mark, is_right, given in zip(*by_row, marks, right, predicted, strict=True)
    ]
    cells, cell_of = shared_cells(columns, 2 + 2 * _ORDER + 3 * _CHARACTERS + len(ROUGE) + 3)
    return _Written(
        kind="text",
        names=NAMES,
        classes=(),
        right=right,
        readable=[given is not None for given in predicted],
        cells=cells,
        cell_of=cell_of,
    )


def tokenizer(language: str | None, texts: Sequence[str]) -> str:
    """The tokenizer of sacrebleu: `zh` for Chinese, `char` for what else has no spaces, `13a` for the rest.

    `zh` parts only Han characters, so mixed with words of other scripts these stay words; without a language the
    letters decide, kana and Thai before Han.
    """
    if language:
        code = language.lower().replace("_", "-").split("-")[0]
        return "zh" if code in _HAN_ONLY else "char" if code in _CHARACTER_WISE else "13a"
    sample = "".join(texts)[:200_000]
    letters = sum(character.isalpha() for character in sample)
    unspaced = re.findall(f"[{_UNSPACED}]", sample)
    if len(unspaced) * 2 <= letters or not letters:
        return "13a"
    han = sum("\u3400" <= character <= "\u9fff" for character in unspaced)
    # Japanese has kana in nearly every sentence.
    return "zh" if han > 0.9 * len(unspaced) else "char"


class Words:
    """Cuts a text into words for ROUGE, in lower case, without punctuation; of ASCII text as rouge-score does."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return [word.lower() for word in _WORD.findall(text)]


def rouge_l(true: str, given: str) -> float:
    """ROUGE-L of two texts, F1, as rouge-score has it; its own takes minutes for some hundred Chinese texts.

    The longest common subsequence is found a word at a time for all places of the other text at once, as bits of one
    number: H. Hyyrö, Bit-Parallel LCS-length Computation Revisited, 2004.
    """
    cut = Words().tokenize
    a, b = cut(true), cut(given)
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    every = left = (1 << len(a)) - 1
    for word in b:
        matched = left & places.get(word, 0)
        left = (left + matched | left - matched) & every
    common = len(a) - left.bit_count()
    return 2 * common / (len(a) + len(b)) if common else 0.0


@dataclass(frozen=True, kw_only=True)
class _Written(Sheet):
    def of_sums(self, sums: Floats) -> dict[str, Floats]:
        rows, rouge = sums[..., -1], sums[..., -6:-3]
        return {
            "chrf": _chrf(sums[..., 2 + 2 * _ORDER : -6]),
            "bleu": _bleu(sums[..., : 2 + 2 * _ORDER]),
            **{name: metrics.divided(rouge[..., place], rows) for place, name in enumerate(ROUGE)},
            EXACT: metrics.divided(sums[..., -3], rows),
            PARSED: metrics.divided(sums[..., -2], rows),
        }


def _bleu(sums: Floats) -> Floats:
    """BLEU of summed counts: lengths of answers and truths, right n-grams of 1 to 4, all n-grams.

    As sacrebleu's `corpus_bleu`: precisions that are 0 are halved on and on, n-grams longer than every answer leave 0.
    """
    import numpy as np

    said, wanted = sums[..., 0], sums[..., 1]
    hits, total = sums[..., 2 : 2 + _ORDER], sums[..., 2 + _ORDER :]
    none = hits == 0
    smoothed = metrics.divided(np.where(none, 0.5 ** np.cumsum(none, axis=-1), hits), total)
    defined = (np.cumsum(total == 0, axis=-1) == 0).all(axis=-1) & (hits > 0).any(axis=-1)
    mean = np.exp(np.log(np.where(smoothed > 0, smoothed, 1.0)).mean(axis=-1))
    penalty = np.exp(np.minimum(0.0, 1 - wanted / np.where(said > 0, said, 1.0)))
    return np.where(defined & (said > 0), penalty * mean, 0.0)


def _chrf(sums: Floats) -> Floats:
    """chrF2 of summed counts: given, wanted and right character n-grams of 1 to 6, as sacrebleu's `corpus_chrf`."""
    parts: Any = sums.reshape(*sums.shape[:-1], _CHARACTERS, 3)
    given, wanted, hits = parts[..., 0], parts[..., 1], parts[..., 2]
    counted = (given > 0) & (wanted > 0)
    orders = counted.sum(axis=-1)
    precision = metrics.divided((metrics.divided(hits, given) * counted).sum(axis=-1), orders)
    recall = metrics.divided((metrics.divided(hits, wanted) * counted).sum(axis=-1), orders)
    return metrics.divided((1 + _BETA2) * precision * recall, _BETA2 * precision + recall)
