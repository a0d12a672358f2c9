"""Which texts count as the same, or nearly."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nlp_skills.data import near

CHARACTERS = [chr(0x4E00 + number) for number in range(2500)]


def chinese(rng: random.Random, length: int = 50) -> str:
    return "".join(rng.choices(CHARACTERS, k=length))


def changed(rng: random.Random, text: str) -> str:
    """One character in the middle is another one."""
    at = rng.randrange(5, len(text) - 5)
    return text[:at] + rng.choice(CHARACTERS) + text[at + 1 :]


@pytest.mark.parametrize(
    ("one", "other"),
    [("Good  phone", "good phone "), ("ＡＢＣ１２３", "abc123"), ("straße", "STRASSE"), ("a\u3000b\n", "A B")],
)
def test_case_width_and_spacing_do_not_count(one: str, other: str) -> None:
    assert near.row_key({"text": one}, ["text"]) == near.row_key({"text": other}, ["text"])


def test_fields_do_not_run_into_each_other() -> None:
    assert near.row_key({"a": "x y", "b": "z"}, ["a", "b"]) != near.row_key({"a": "x", "b": "y z"}, ["a", "b"])


def test_planted_near_duplicates_are_all_found_and_nothing_else() -> None:
    rng = random.Random(1)
    texts = [chinese(rng) for _ in range(2000)]
    texts += [changed(rng, text) for text in texts[:200]]
    expected = [near.similarity(near.grams(texts[n]), near.grams(texts[2000 + n])) >= 0.85 for n in range(200)]
    clusters = near.clusters(texts, 0.85)
    assert sum(expected) > 150
    assert [clusters[2000 + n] == n for n in range(200)] == expected
    assert clusters[:2000] == list(range(2000))


def test_similarity_decides_exactly_at_the_threshold() -> None:
    one, other = "abcdefghijkl", "abcdefghijkm"
    exact = near.similarity(near.grams(one), near.grams(other))
    assert exact == 9 / 11
    assert near.clusters([one, other], exact) == [0, 0]
    assert near.clusters([one, other], exact + 0.001) == [0, 1]


def test_a_chain_is_one_cluster() -> None:
    rng = random.Random(2)
    chain = [chinese(rng, 80)]
    for _step in range(6):
        chain.append(changed(rng, chain[-1]))
    assert near.clusters([*chain, chinese(rng)], 0.9)[:7] == [0] * 7


def test_short_and_empty_texts() -> None:
    assert near.clusters(["", "a", "ab", "b"], 0.9) == [0, 1, 2, 3]
    assert near.clusters([], 0.9) == []


def test_a_flood_of_one_template_is_one_cluster_in_little_time() -> None:
    template = "This is the text that every customer is asked to send back to us unchanged, with number {} at its end"
    assert set(near.clusters([template.format(number) for number in range(5000)], 0.8)) == {0}


@pytest.mark.parametrize("count", [15, 60, 300, 4000])
def test_a_text_is_found_again_among_many_of_its_template(count: int) -> None:
    """Most pairs here have a similarity of 0.7: nothing may be joined that is not near, and little may be missed."""
    rng = random.Random(3)
    template = (
        "dear customer, your order {} of our camera will arrive at the shop number {} today, please bring your card"
    )
    texts = [template.format(rng.randrange(10**8), rng.randrange(10**4)) for _ in range(count)]
    twins = [text.replace("today", "tomday") for text in texts[:200]]
    assert all(
        near.similarity(near.grams(one), near.grams(other)) >= 0.9 for one, other in zip(texts, twins, strict=False)
    )
    everything = rng.sample(texts + twins, count + len(twins))
    cluster = dict(zip(everything, near.clusters(everything, 0.9), strict=True))
    assert sum(cluster[one] == cluster[other] for one, other in zip(texts, twins, strict=False)) >= 0.99 * len(twins)
    assert len(set(cluster.values())) >= 0.99 * count


def test_without_memory_the_same_clusters(tmp_path: Path) -> None:
    rng = random.Random(4)
    texts = [chinese(rng, rng.randrange(100)) for _ in range(500)]
    texts += [changed(rng, text) + "😀" for text in texts if len(text) > 30]
    seen: list[int] = []
    forest = near.joined(texts, 0.7, tmp_path, seen.append)
    assert [forest.root(n) for n in range(len(texts))] == near.clusters(texts, 0.7)
    assert sum(len(members) for members in forest.groups().values()) > 200
    assert seen[-1] == len(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.95])
def test_recall_holds_at_every_threshold(threshold: float) -> None:
    rng = random.Random(5)
    texts = [chinese(rng, 120) for _ in range(300)]
    pairs = []
    for text in texts:
        twin = following = text
        while near.similarity(near.grams(text), near.grams(following)) >= threshold:
            twin, following = following, changed(rng, following)
        pairs.append(twin)
    found = near.clusters(texts + pairs, threshold)
    assert all(text != twin for text, twin in zip(texts, pairs, strict=True))
    assert sum(found[300 + n] != n for n in range(300)) <= 2


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 1.0])
def test_the_sieve_misses_none(threshold: float) -> None:
    rng = random.Random(6)
    texts = ["".join(rng.choices("abc", k=rng.randrange(1, 12))) for _ in range(150)]
    sets = [near.grams(text) for text in texts]
    sieve = near.Sieve(threshold, texts[:50])
    for number, own in enumerate(sets):
        similar = {n for n in range(number) if near.similarity(sets[n], own) >= threshold}
        assert similar <= set(sieve.candidates(own))
        sieve.add(number, own)
