"""Personal data is found by form and checksum, whatever its width; what only looks like it is left alone."""

from __future__ import annotations

import random
import time

import pytest

from nlp_skills.data.audit import pii

# Numbers from specifications and payment test environments, and some whose checksum was worked out by hand.
FOUND = [
    ("A123456789", "tw_id"),
    ("身分證字號是A123456789。", "tw_id"),
    ("a123456789", "tw_id"),
    ("Ａ１２３４５６７８９", "tw_id"),
    ("A800000014", "tw_id"),
    ("0912345678", "mobile"),
    ("請撥0912-345-678找我", "mobile"),
    ("0912 345 678", "mobile"),
    ("0912-345678", "mobile"),
    ("０９１２－３４５－６７８", "mobile"),
    ("+886912345678", "mobile"),
    ("+886-912-345-678", "mobile"),
    ("(02)2345-6789", "landline"),
    ("電話02-2345-6789轉12", "landline"),
    ("02-23456789", "landline"),
    ("+886-2-2345-6789", "landline"),
    ("04-2345-6789", "landline"),
    ("049-2345678", "landline"),
    ("037-321456", "landline"),
    ("089-321456", "landline"),
    ("（０７）２３４５６７８", "landline"),
    ("wang.ming+a@mail.example.com.tw", "email"),
    ("寄到ming@example.com，謝謝", "email"),
    ("4111111111111111", "card"),
    ("4111 1111 1111 1111", "card"),
    ("卡號4111-1111-1111-1111到期12/27", "card"),
    ("４１１１　１１１１　１１１１　１１１１", "card"),
    ("5555 5555 5555 4444", "card"),
    ("2223003122003222", "card"),
    ("3782 822463 10005", "card"),
    ("3530111333300000", "card"),
    ("6011111111111117", "card"),
    ("30569309025904", "card"),
    ("6222021234567890128", "card"),
]
LEFT_ALONE = [
    "A123456788",  # the check digit is wrong
    "XA123456789",
    "A1234567890",
    "A323456789",
    "訂單編號 2024011512304567",
    "Order 4111111111111112",  # Luhn fails
    "1111111111111117",  # no issuer
    "4710088412345",  # a bar code of goods from Taiwan
    "價格 12,345,678 元",
    "NT$0.0912345678",
    "2024-02-23 10:30",
    "02-23-2024",
    "20240223103045",
    "1912345678",
    "0223456789",  # no mark after the area code: it could be any number
    "統一編號 12345675",
    "sha256:4111111111111111aa",
    "v1.0912.345.678",
    "@user 你好",
    "a@b",
    "192.168.0.1",
    "第 0800 期",
]


@pytest.mark.parametrize(("text", "kind"), FOUND)
def test_found(text: str, kind: str) -> None:
    assert [found.kind for found in pii.find(text)] == [kind]
    assert f"[{kind}]" in pii.masked(text)
    assert not any(character.isdigit() for character in pii.masked(text).replace("12/27", "").replace("轉12", ""))


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_left_alone(text: str) -> None:
    assert pii.find(text) == []
    assert pii.masked(text) == text


def test_every_check_digit_but_one_is_refused() -> None:
    found = [digit for digit in range(10) if pii.find(f"F13119324{digit}")]
    assert len(found) == 1
    cards = [digit for digit in range(10) if pii.find(f"411111111111111{digit}")]
    assert cards == [1]


def test_places_are_those_of_the_text_as_given() -> None:
    text = "㍿ﬁ　０９１２３４５６７８ and ming@example.com"
    first, second = pii.find(text)
    assert text[first.start : first.end] == "０９１２３４５６７８"
    assert text[second.start : second.end] == "ming@example.com"


def test_random_order_numbers_are_seldom_taken_for_cards() -> None:
    draw = random.Random(5)
    numbers = ["".join(draw.choices("0123456789", k=16)) for _ in range(4000)]
    # One in ten passes Luhn; issuers' prefixes leave a quarter of those.
    assert sum(bool(pii.find(number)) for number in numbers) / 4000 < 0.04


def test_an_excerpt_is_one_masked_line_that_can_be_seen() -> None:
    shown = pii.excerpt("call\n0912-345-678\x1b[31m\u202e now" + " and then" * 50)
    assert shown.startswith("call [mobile]\\x1b[31m\\u202e now")
    assert len(shown) <= 120 and shown.endswith("…")


@pytest.mark.parametrize("text", ["a" * 50_000, "1 " * 25_000, "4111 " * 10_000, "a.@" * 15_000, "0" * 50_000])
def test_no_text_takes_long(text: str) -> None:
    started = time.perf_counter()
    pii.find(text)
    assert time.perf_counter() - started < 2
