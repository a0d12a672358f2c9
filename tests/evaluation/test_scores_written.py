"""Texts: sacrebleu's and rouge-score's own figures, and words that are right where no spaces part them."""

from __future__ import annotations

import random
import time

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from nlp_skills.evaluation.scores import sheet, written

VOCABULARY = {
    "en": ["the", "quick", "brown", "fox", "don't", "jump", "(over)", "3.5%", "a", "lazy", "dog,", "and"],
    "zh": [*"我們在今天去台北", "GPU", "，", "2026年", "open source"],
    "ja": [*"東京タワーでご飯を食べる。", "AI"],
    "th": [*"สวัสดีครับผมไปตลาด", " "],
    "de": ["Der", "schnelle", "braune", "Fuchs,", "größer", "als", "3", "Hügel!"],
}
TIGHT = {"rel": 0, "abs": 1e-9}


def texts(language: str, rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Right texts and given ones, of any length down to none."""
    draw, words = random.Random(seed), VOCABULARY[language]
    space = " " if language in ("en", "de") else ""
    gold, said = [], []
    for _ in range(rows):
        true = draw.choices(words, k=draw.randint(0, 12))
        gold.append(space.join(true))
        said.append(space.join(word if draw.random() < 0.7 else draw.choice(words) for word in true))
    return gold, ["" if draw.random() < 0.1 else text for text in said]


@pytest.mark.parametrize("language", VOCABULARY)
@pytest.mark.parametrize("rows", [1, 2, 25])
def test_random_texts_have_the_reference_libraries_figures(language: str, rows: int) -> None:
    for seed in range(3):
        gold, said = texts(language, rows, seed)
        ours = sheet.of("text", gold, said, language=language).figures()
        cut = written.tokenizer(language, gold)
        bleu = sacrebleu.corpus_bleu(said, [gold], tokenize=cut).score / 100
        assert ours["bleu"] == pytest.approx(bleu, **TIGHT)
        assert ours["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [gold]).score / 100, **TIGHT)
        scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=written.Words())
        rouge = [scorer.score(true, given) for true, given in zip(gold, said, strict=True)]
        for name in ("rouge1", "rouge2", "rougeL"):
            assert ours[name] == pytest.approx(sum(one[name].fmeasure for one in rouge) / rows, **TIGHT)
        assert ours["exact_match"] == sum(a.strip() == b.strip() for a, b in zip(gold, said, strict=True)) / rows


def test_a_resample_has_sacrebleus_figures_too() -> None:
    gold, said = texts("zh", 30, 5)
    times = [3] * 4 + [0] * 20 + [1] * 6
    drawn = [row for row, count in enumerate(times) for _ in range(count)]
    ours = sheet.of("text", gold, said, language="zh").figures(times)
    again = [said[row] for row in drawn], [[gold[row] for row in drawn]]
    assert ours["bleu"] == pytest.approx(sacrebleu.corpus_bleu(*again, tokenize="zh").score / 100, **TIGHT)
    assert ours["chrf"] == pytest.approx(sacrebleu.corpus_chrf(*again).score / 100, **TIGHT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("今天GPU很快，2026年!", ["今", "天", "gpu", "很", "快", "2026", "年"]),
        ("東京タワーへ行く", [*"東京タワーへ行く"]),
        ("ราคา 50 บาท", [*"ราคา", "50", *"บาท"]),
        ("Größe, naïve-test_x", ["größe", "naïve", "test", "x"]),
        ("안녕 세상", ["안녕", "세상"]),
        ("!?", []),
    ],
)
def test_words_are_characters_where_no_spaces_part_them(text: str, words: list[str]) -> None:
    assert written.Words().tokenize(text) == words


def test_english_is_cut_as_rouge_score_does() -> None:
    own, theirs = (RougeScorer(["rouge1", "rougeL"], tokenizer=one) for one in (written.Words(), None))
    for seed in range(20):
        for pair in zip(*texts("en", 3, seed), strict=True):
            assert own.score(*pair) == theirs.score(*pair)


@pytest.mark.parametrize(
    ("language", "sample", "cut"),
    [
        ("zh-TW", "hello", "zh"), ("yue", "", "zh"), ("ja", "今天", "char"), ("th", "", "char"), ("en", "今天", "13a"),
        (None, "今天天氣很好 GPU", "zh"), (None, "東京タワーで食べる", "char"), (None, "สวัสดี", "char"),
        (None, "Hello 你", "13a"), (None, "", "13a"),
    ],
)  # fmt: skip
def test_the_language_or_else_the_letters_decide_how_bleu_cuts(language: str | None, sample: str, cut: str) -> None:
    assert written.tokenizer(language, [sample]) == cut


def test_a_text_that_could_not_be_read_is_wrong_even_where_nothing_was_to_be_said() -> None:
    made = sheet.of("text", ["", "hello there"], [None, "hello there"], language="en")
    assert made.right == [False, True] and made.figures()["parse_rate"] == 1 / 2
    assert made.per_class() == {} and made.class_f1() == {}


def test_long_chinese_texts_are_marked_in_no_time() -> None:
    draw, characters = random.Random(1), [chr(place) for place in range(0x4E00, 0x4E60)]
    gold = ["".join(draw.choices(characters, k=600)) for _ in range(60)]
    said = ["".join(one if draw.random() < 0.7 else draw.choice(characters) for one in text) for text in gold]
    started = time.process_time()
    ours = sheet.of("text", gold, said, language="zh").figures()
    assert time.process_time() - started < 8
    theirs = RougeScorer(["rougeL"], tokenizer=written.Words()).score(gold[0], said[0])["rougeL"].fmeasure
    assert written.rouge_l(gold[0], said[0]) == pytest.approx(theirs, **TIGHT) and 0.6 < ours["rougeL"] < 0.9
