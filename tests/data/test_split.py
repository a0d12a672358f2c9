"""The split's promises, for whatever rows come."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp_skills.data.split import Rows, divide, keyed_hash
from nlp_skills.errors import Invalid
from nlp_skills.schema.data_source import Split
from nlp_skills.schema.version import SPLITS

SHARES = Split(train=0.7, valid=0.15, test=0.15, seed=42)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Item(NamedTuple):
    """A row for the tests: its key, its label (or labels), and what it must stay together with."""

    key: str
    label: str | tuple[str, ...]
    cluster: int


def assign(
    items: Sequence[Item], config: Split, pinned: Collection[str] = (), *, many: bool = False, strict: bool = True
) -> list[str]:
    """The split's name for each item, in the items' order."""
    clusters = list(dict.fromkeys(item.cluster for item in items))
    names = [item.label if isinstance(item.label, tuple) else (item.label,) for item in items]
    rows = Rows(
        order=sorted(range(len(items)), key=lambda index: keyed_hash(config.seed, items[index].key)),
        unit=[clusters.index(item.cluster) for item in items],
        stratum=range(len(items)),
        names=names,
        pinned=[item.key in pinned for item in items],
        many=many,
        strict=strict,
    )
    return [SPLITS[place] for place in divide(rows, config)]


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


def test_too_few_rows_are_refused_without_classes_too() -> None:
    with pytest.raises(Invalid, match="too few rows"):
        assign(plain(2, labels="a"), SHARES, strict=False)
    with pytest.raises(Invalid, match="too few rows"):
        assign([Item(f"k{n}", ("a", "b"), n) for n in range(2)], SHARES, many=True)


def test_a_column_may_have_values_too_rare_to_share_out() -> None:
    """They are taken together; the common values keep their shares, and the whole does."""
    items = [*plain(600), *(Item(f"r{n}", f"city {n % 150}", 1000 + n) for n in range(300))]
    chosen = assign(items, SHARES, strict=False)
    assert Counter(chosen) == {"train": 630, "valid": 135, "test": 135}
    for value in "ab":
        got = Counter(name for item, name in zip(items, chosen, strict=True) if item.label == value)
        assert got == {"train": 210, "valid": 45, "test": 45}


def labelled(rng: random.Random, count: int) -> list[Item]:
    """Rows with none to four of eight labels, the rarest on one row in a hundred; some in clusters of two."""
    shares = {"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.1, "e": 0.05, "f": 0.03, "g": 0.02, "h": 0.01}
    items = []
    for number in range(count):
        labels = tuple(label for label, share in shares.items() if rng.random() < share)[:4]
        items.append(Item(f"key{number}", labels, number - 1 if number % 10 == 0 and number else number))
    return items


def test_every_label_keeps_its_share_when_rows_have_several() -> None:
    items = labelled(random.Random(1), 3000)
    chosen = assign(items, SHARES, many=True)
    totals, got = Counter[str](), Counter[tuple[str, str]]()
    for item, name in zip(items, chosen, strict=True):
        totals.update(item.label)
        got.update((label, name) for label in item.label)
    assert len(totals) == 8
    for label, total in totals.items():
        for name, share in (("valid", 0.15), ("test", 0.15), ("train", 0.7)):
            assert abs(got[label, name] - share * total) <= 2
    assert abs(Counter(chosen)["test"] - 450) <= 10


def test_a_label_of_three_rows_reaches_all_splits() -> None:
    items = [Item(f"k{n}", ("common",), n) for n in range(97)] + [
        Item(f"r{n}", ("common", "rare"), 200 + n) for n in range(3)
    ]
    assert sorted(assign(items, SHARES, many=True)[97:]) == ["test", "train", "valid"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_several_labels_split_alike_in_any_order(seed: int, rng: random.Random) -> None:
    items = labelled(random.Random(seed), 120)
    pinned = {item.key for item in items[:30:10]}
    for config in (SHARES, SHARES.model_copy(update={"test_rows": "growing"})):
        expected = dict(zip((item.key for item in items), assign(items, config, pinned, many=True), strict=True))
        assert all(expected[key] == "test" for key in pinned)
        shuffled = rng.sample(items, len(items))
        got = assign(shuffled, config, pinned, many=True)
        assert dict(zip((item.key for item in shuffled), got, strict=True)) == expected
        sides: dict[int, set[str]] = {}
        for item in items:
            sides.setdefault(item.cluster, set()).add(expected[item.key])
        assert all(len(names) == 1 for names in sides.values())


def test_another_seed_is_another_split_for_several_labels() -> None:
    items = labelled(random.Random(1), 300)
    other = SHARES.model_copy(update={"seed": 43})
    assert assign(items, SHARES, many=True) != assign(items, other, many=True)
