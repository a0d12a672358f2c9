"""Entities and relations: nervaluate's figures where it has them; nested ones, and offsets put right."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nervaluate.evaluator import Evaluator

from nlp_skills.evaluation.scores import sheet
from nlp_skills.evaluation.scores.places import Mention, located

TYPES = ["ORG", "PER", "地點"]
LENGTH = 60
TEXT = "".join(chr(0x4E00 + place) for place in range(LENGTH))

Spans = list[tuple[int, int, str]]


def spans(draw: random.Random) -> Spans:
    """Spans of a text that do not overlap each other."""
    edges = sorted(draw.sample(range(LENGTH), 2 * draw.randint(0, 5)))
    return [(a, b, draw.choice(TYPES)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def near(true: Spans, draw: random.Random) -> Spans:
    """The same spans, some with other ends or another type, some lost."""
    found: Spans = []
    for a, b, kind in true:
        a, b = draw.choice([(a, b), (a, b), (a + 1, b + 1), (a - 1, b), (a, b + 3)])
        kind = draw.choice([kind, kind, draw.choice(TYPES)])
        free = not found or found[-1][1] <= a
        if draw.random() < 0.8 and free and 0 <= a < b <= LENGTH:
            found.append((a, b, kind))
    return found


def answer(listed: Spans, text: str = TEXT) -> dict[str, Any]:
    return {"entities": [{"text": text[a:b], "type": kind, "start": a, "end": b} for a, b, kind in listed]}


def their_figures(gold: list[Spans], given: list[Spans]) -> dict[str, Any]:
    sides = [
        [[{"label": kind, "start": a, "end": b - 1} for a, b, kind in row] for row in side] for side in (gold, given)
    ]
    found: dict[str, Any] = Evaluator(*sides, tags=TYPES, loader="dict").evaluate()
    return found


@pytest.mark.parametrize("seed", range(12))
def test_random_spans_have_nervaluates_figures(seed: int) -> None:
    draw = random.Random(seed)
    gold = [spans(draw) for _ in range(40)]
    given = [near(row, draw) if draw.random() < 0.8 else spans(draw) for row in gold]
    made = sheet.of("spans", [answer(row) for row in gold], [answer(row) for row in given], texts=[TEXT] * 40)
    ours, theirs = made.figures(), their_figures(gold, given)
    whole = theirs["overall"]
    expected = {
        "entity_f1": whole["strict"].f1,
        "entity_precision": whole["strict"].precision,
        "entity_recall": whole["strict"].recall,
        "entity_f1_boundary": whole["exact"].f1,
        "entity_f1_type": whole["ent_type"].f1,
        "entity_f1_partial": whole["partial"].f1,
    }
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, rel=0, abs=1e-9), name
    for kind, part in made.per_class().items():
        strict = theirs["entities"][kind]["strict"]
        expected_part = (strict.precision, strict.recall, strict.f1)
        assert (part.precision, part.recall, part.f1) == pytest.approx(expected_part, rel=0, abs=1e-9)
        assert part.support == strict.possible
    present = [part.f1 for part in made.per_class().values() if part.support]
    assert ours["macro_f1"] == pytest.approx(sum(present) / len(present))


def test_nested_and_overlapping_spans_do_not_take_each_others_place() -> None:
    text = "University of Taipei Hospital"
    gold = [(0, 29, "ORG"), (0, 20, "ORG"), (14, 20, "地點")]
    made = sheet.of("spans", [answer(gold, text)], [answer(gold[::-1], text)], texts=[text])
    assert {name: float(value) for name, value in made.figures().items()} == dict.fromkeys(made.names, 1.0)
    # The outer one is missing, and the inner two are whole: nothing else may count as wrong.
    inner = sheet.of("spans", [answer(gold, text)], [answer(gold[1:], text)], texts=[text]).figures()
    for name in ("entity_f1", "entity_f1_boundary", "entity_f1_type", "entity_f1_partial"):
        assert inner[name] == pytest.approx(2 * 2 / 5), name


def placed(text: str, *given: tuple[str, int | None]) -> list[tuple[int, int]]:
    mentions = [Mention(surface, "X", start, None) for surface, start in given]
    return [(span.start, span.end) for span in located(mentions, [text], {})]


def test_offsets_are_put_right_from_the_text() -> None:
    text = "Ann met Ann and Bob"
    assert placed(text, ("Ann", None), ("Bob", None), ("Ann", None)) == [(0, 3), (8, 11), (16, 19)]
    assert placed(text, ("Ann", 8)) == [(8, 11)], "a right one is believed"
    assert placed(text, ("Ann", 5), ("Ann", 8)) == [(0, 3), (8, 11)], "a wrong one takes a place that is free"
    assert placed("哈哈哈哈", ("哈哈", None), ("哈哈", None)) == [(0, 2), (2, 4)]


def test_two_types_may_stand_at_one_place_and_a_third_mention_is_one_too_many() -> None:
    text, gold = "Washington", {"entities": [{"text": "Washington", "type": kind} for kind in ("PER", "LOC")]}
    assert sheet.of("spans", [gold], [gold], texts=[text]).right == [True]
    more = {"entities": [*gold["entities"], {"text": "Washington", "type": "PER"}]}
    figures = sheet.of("spans", [gold], [more], texts=[text]).figures()
    assert figures["entity_precision"] == pytest.approx(2 / 3) and figures["entity_recall"] == 1


def test_offsets_that_a_model_miscounts_are_as_good_as_none_and_those_of_another_place_are_wrong() -> None:
    text = "Ann met Bob. Ann left."
    gold = {"people": [{"text": "Ann", "start": 0, "end": 3}, {"text": "Bob", "start": 8, "end": 11}]}
    miscounted = {"people": [{"text": "Bob", "start": 9, "end": 12}, {"text": "Ann", "start": 1, "end": 4}]}
    elsewhere = {"people": [{"text": "Ann", "start": 13, "end": 16}, {"text": "Bob"}]}
    made = sheet.of("spans", [gold] * 2, [miscounted, elsewhere], texts=[{"text": text}] * 2)
    assert made.right == [True, False] and made.classes == ("people",), "the property is the type where none is given"
    assert made.figures()["entity_f1"] == pytest.approx(3 / 4)


def test_fields_of_a_row_are_texts_of_their_own_and_what_stands_nowhere_agrees_by_its_text() -> None:
    fields = {"title": "Bob", "text": "Ann and Bob"}
    gold = {"entities": [{"text": "Bob", "type": "P", "start": 8, "end": 11}, {"text": "Carl", "type": "P"}]}
    same = {"entities": [{"text": "Carl", "type": "P"}, {"text": "Bob", "type": "P", "start": 8, "end": 11}]}
    title = {"entities": [{"text": "Bob", "type": "P", "start": 0, "end": 3}, {"text": "Carla", "type": "P"}]}
    made = sheet.of("spans", [gold] * 2, [same, title], texts=[fields] * 2)
    assert made.right == [True, False] and made.figures()["entity_f1"] == 1 / 2


def test_relations_are_right_as_whole_triples() -> None:
    gold = {
        "entities": [{"text": "Ann", "type": "PER"}],
        "links": [
            {"head": "Ann", "relation": "works_for", "tail": "Acme"},
            {"head": {"text": "Acme", "type": "ORG"}, "relation": "in", "tail": {"text": "Rome"}},
        ],
    }
    said = {
        "entities": [{"text": "Ann", "type": "PER"}],
        "links": [
            {"subject": "Acme", "predicate": "in", "object": " Rome "},
            {"head": "Acme", "relation": "works_for", "tail": "Ann"},
            {"head": "Ann", "relation": "knows", "tail": "Acme"},
        ],
    }
    made = sheet.of("spans", [gold, gold], [said, None], texts=["Ann of Acme"] * 2)
    figures = made.figures()
    assert (figures["relation_precision"], figures["relation_recall"]) == pytest.approx((1 / 3, 1 / 4))
    assert figures["entity_recall"] == 1 / 2 and figures["parse_rate"] == 1 / 2
    assert made.classes == ("PER", "in", "knows", "works_for")
    assert made.per_class()["in"].recall == 1 / 2
    only = sheet.of("spans", [{"links": gold["links"]}], [{"links": said["links"]}])
    assert only.names[0] == "relation_f1" and "entity_f1" not in only.figures()


@pytest.mark.parametrize(
    "said",
    [
        {"entities": "none"},
        {"entities": [None, 3, "Ann", [], {}, {"text": None}, {"text": ""}]},
        {"entities": [{"text": "Ann", "type": None, "start": "0", "end": -4}]},
        {"entities": [{"text": "Ann", "start": True, "end": 10**30}]},
        {},
        None,
    ],
)
def test_whatever_a_model_says_is_marked(said: dict[str, Any] | None) -> None:
    gold = {"entities": [{"text": "Ann", "type": "PER", "start": 0, "end": 3}]}
    made = sheet.of("spans", [gold], [said], texts=["Ann left"])
    assert made.right == [False] and made.figures()["entity_f1"] == 0


def test_rows_without_any_entity_are_right_when_nothing_is_found() -> None:
    none: dict[str, Any] = {"entities": []}
    made = sheet.of("spans", [none, none], [none, {"entities": [{"text": "a", "type": "X"}]}], texts=["a", "a"])
    assert made.right == [True, False] and made.figures()["exact_match"] == 1 / 2
