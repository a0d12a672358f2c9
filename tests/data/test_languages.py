"""Scripts, with Traditional and Simplified Chinese told apart."""

from __future__ import annotations

import re
import time

import pytest
from conftest import ROOT

from nlp_skills.data import languages


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("這家餐廳的服務態度非常好，下次還會再來。", "Hant"),
        ("这家餐厅的服务态度非常好，下次还会再来。", "Hans"),
        ("好吃", "Hani"),
        ("用 iPhone 15 Pro Max 拍照很清楚，這 CP 值高", "Hant"),
        ("このカメラは使いやすいです", "Jpan"),
        ("東京タワーに行きました", "Jpan"),
        ("我喜歡の味道，真的很不錯", "Hant"),
        ("배송이 빠르고 좋아요", "Hang"),
        ("A plain review, in English, about 台北", "Latn"),
        ("Größe passt nicht, schade", "Latn"),
        ("Очень хороший телефон", "Cyrl"),
        ("สินค้าดีมาก", "Thai"),
        ("هاتف جيد جدا", "Arab"),
        ("טלפון טוב", "Hebr"),
        ("Πολύ καλό", "Grek"),
        ("बहुत अच्छा फोन", "Deva"),
        ("看這裡 https://example.com/a/very/long/address/in/latin/letters?x=y @someone someone@example.com", "Hant"),
        ("👍👍 12345 !!!", None),
        ("", None),
    ],
)
def test_a_text_s_script(text: str, script: str | None) -> None:
    assert languages.script(text) == script


def test_our_own_chinese_is_traditional() -> None:
    """Some hundred sentences that people of Taiwan read."""
    catalogue = (ROOT / "nlp_skills/locale/zh_TW/LC_MESSAGES/nlp_skills.po").read_text(encoding="utf-8")
    sentences = [text for text in re.findall(r'^msgstr "(.*[\u4e00-\u9fff].*)"$', catalogue, re.M) if len(text) > 20]
    assert len(sentences) > 200
    mix = languages.Mix(["zh-TW"])
    for line, text in enumerate(sentences):
        mix.look(line, text)
    assert "Hans" not in mix.counts
    assert mix.counts["Hant"] > 0.8 * len(sentences)
    assert mix.share < 0.02


@pytest.mark.parametrize(
    ("named", "scripts"),
    [
        (["zh-TW"], {"Hani", "Hant"}),
        (["zh_Hans_CN"], {"Hani", "Hans"}),
        (["zh"], {"Hani", "Hant", "Hans"}),
        (["en", "ja"], {"Latn", "Jpan", "Hani", "Hant", "Hans"}),
        (["ko"], {"Hang"}),
        (["ru", "de"], {"Cyrl", "Latn"}),
        ([], set()),
    ],
)
def test_what_languages_may_be_written_in(named: list[str], scripts: set[str]) -> None:
    assert languages.expected(named) == scripts
    assert all(languages.words(name) for name in scripts)


def test_rows_of_another_language_are_counted_with_their_places() -> None:
    mix = languages.Mix(["zh-TW"])
    for line in range(1, 101):
        mix.look(line, "这个质量很差" if line % 10 == 0 else "這個品質很好" if line % 2 else "123")
    assert mix.as_dict() == {"Hant": 50, "Hans": 10}
    assert mix.share == pytest.approx(10 / 60)
    assert [line for line, _text in mix.places] == [10, 20, 30, 40, 50]


def test_borrowed_words_are_no_other_language() -> None:
    mix = languages.Mix(["zh-TW"])
    for text in ("Apple MacBook Pro M3 真的讚啦", "LINE Pay 好用", "OK"):
        mix.look(1, text)
    assert mix.others == {"Latn": 1}
    english = languages.Mix(["en"])
    english.look(1, "We ate 臭豆腐 near 台北 main station")
    assert not english.others


def test_nothing_is_expected_where_nobody_said_what() -> None:
    mix = languages.Mix([])
    mix.look(1, "whatever")
    assert mix.share == 0


@pytest.mark.parametrize("char", ["a", "@", "a.", "中", "あ", "http://"])
def test_a_text_made_to_be_slow_is_not(char: str) -> None:
    started = time.process_time()
    languages.script(char * 500_000)
    assert time.process_time() - started < 0.5
