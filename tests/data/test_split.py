"""The split's promises, for whatever rows come."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp_skills.data.split import Item, assign
from nlp_skills.errors import Invalid
from nlp_skills.schema.data_source import Split

SHARES = Split(train=0.7, valid=0.15, test=0.15, seed=42)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plain(count: int, start: int = 0, labels: str = "ab") -> list[Item]:
    return [Item(f"key{n}", labels[n % len(labels)], n) for n in range(start, start + count)]


@st.composite
def crowded(draw: st.DrawFn) -> list[Item]:
    """Some dozens of rows in clusters of one to four, of two classes, with enough singles of each."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=0, max_size=15))
    items = plain(12)
    for cluster, size in enumerate(sizes, 1000):
        labels = draw(st.lists(st.sampled_from("ab"), min_size=size, max_size=size))
        items += [Item(f"c{cluster}-{n}", label, cluster) for n, label in enumerate(labels)]
    return items


@quick
@given(crowded(), st.randoms(use_true_random=False))
def test_neither_order_nor_cluster_numbers_matter(items: list[Item], rng: random.Random) -> None:
    expected = dict(zip((item.key for item in items), assign(items, SHARES), strict=True))
    shuffled = [Item(item.key, item.label, -item.cluster) for item in items]
    rng.shuffle(shuffled)
    assert dict(zip((item.key for item in shuffled), assign(shuffled, SHARES), strict=True)) == expected


@quick
@given(crowded(), st.data())
def test_clusters_stay_whole_and_pinned_rows_in_test(items: list[Item], data: st.DataObject) -> None:
    pinned = set(data.draw(st.lists(st.sampled_from([i.key for i in items if i.cluster >= 1000] or ["none"]))))
    for test_rows in ("frozen", "growing"):
        chosen = assign(items, SHARES.model_copy(update={"test_rows": test_rows}), pinned)
        sides: dict[int, set[str]] = {}
        for item, name in zip(items, chosen, strict=True):
            sides.setdefault(item.cluster, set()).add(name)
            assert name == "test" or item.key not in pinned
        assert all(len(names) == 1 for names in sides.values())
        assert len(chosen) == len(items)


@pytest.mark.parametrize("count", [100, 101, 997])
def test_shares_hold_for_each_class(count: int) -> None:
    items = plain(count, labels="aab")
    chosen = assign(items, SHARES)
    for label, size in Counter(item.label for item in items).items():
        got = Counter(name for item, name in zip(items, chosen, strict=True) if item.label == label)
        assert abs(got["test"] - 0.15 * size) <= 1
        assert abs(got["valid"] - 0.15 * size) <= 1


def test_another_seed_is_another_split() -> None:
    items = plain(100)
    assert assign(items, SHARES) != assign(items, SHARES.model_copy(update={"seed": 43}))


def test_old_test_rows_stay_when_rows_come() -> None:
    first = plain(1000)
    tested = {item.key for item, name in zip(first, assign(first, SHARES), strict=True) if name == "test"}
    more = plain(1200)
    for mode in ("frozen", "growing"):
        chosen = assign(more, SHARES.model_copy(update={"test_rows": mode}), tested)
        now = {item.key for item, name in zip(more, chosen, strict=True) if name == "test"}
        assert tested <= now
        assert len(now) == (150 if mode == "frozen" else 180)


def test_the_same_rows_split_alike_when_frozen() -> None:
    items = plain(200)
    before = assign(items, SHARES)
    tested = {item.key for item, name in zip(items, before, strict=True) if name == "test"}
    assert assign(items, SHARES, tested) == before


def test_a_cluster_follows_its_pinned_row() -> None:
    items = [*plain(40), Item("old", "a", 99), Item("nearly old", "a", 99)]
    chosen = assign(items, SHARES, {"old"})
    assert chosen[-2:] == ["test", "test"]


def test_rows_of_one_key_are_never_parted() -> None:
    items = [*plain(40), Item("twin", "a", 98), Item("twin", "b", 99)]
    chosen = assign(items, SHARES)
    assert chosen[-1] == chosen[-2]


def test_a_class_too_small_is_refused_with_its_name_and_count() -> None:
    with pytest.raises(Invalid, match="class rare") as caught:
        assign([*plain(40), Item("r1", "rare", 900), Item("r2", "rare", 901)], SHARES)
    assert "2" in str(caught.value.cause)
    assert caught.value.mend


def test_three_copies_of_one_text_are_one_text() -> None:
    with pytest.raises(Invalid, match="class rare"):
        assign([*plain(40), *(Item(f"r{n}", "rare", 900) for n in range(3))], SHARES)


def test_without_a_valid_share_two_rows_are_enough() -> None:
    shares = Split(train=0.8, valid=0, test=0.2)
    assert sorted(assign(plain(2, labels="a"), shares)) == ["test", "train"]
