"""Which row goes to train, valid or test: by a keyed hash, so that neither order nor new rows reshuffle it.

A unit is a cluster of near-identical rows; it is never cut. Units that contain a row some other version
was tested on stay in test, all of them, for ever.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import Split
from nlp_skills.schema.version import SPLITS

Room = dict[str, int]


@dataclass(frozen=True)
class Item:
    """A row as the split sees it: its key, its class (empty for tasks without), and its cluster's number."""

    key: str
    label: str
    cluster: int


@dataclass(frozen=True)
class _Unit:
    order: str
    members: tuple[int, ...]
    labels: Mapping[str, int]
    pinned: bool


def assign(items: Sequence[Item], config: Split, pinned: Collection[str] = ()) -> list[str]:
    """The split's name for each item, in the items' order.

    `pinned` are keys of rows that other versions were tested on. Shares hold for each class, to the row
    where clusters allow it. The result depends on neither the order of the items nor the clusters' numbers.

    Raises:
        Invalid: a class has fewer distinct texts than there are splits that need one.
    """
    units = _units(items, config.seed, frozenset(pinned))
    room = _room(units, config)
    chosen: dict[int, str] = {}
    for unit in units:
        name = "test" if unit.pinned else _place(unit, room)
        for label, count in unit.labels.items():
            if not unit.pinned:
                room[label][name] -= count
        chosen.update(dict.fromkeys(unit.members, name))
    return [chosen[index] for index in range(len(items))]


def keyed_hash(seed: int, key: str) -> str:
    """A row's place in the shuffled order of this seed."""
    return hashlib.blake2b(key.encode("utf-8"), digest_size=12, key=str(seed).encode("ascii")).hexdigest()


def _units(items: Sequence[Item], seed: int, pinned: Collection[str]) -> list[_Unit]:
    groups: dict[object, list[int]] = {}
    by_cluster = _merged_clusters(items)
    for index, item in enumerate(items):
        groups.setdefault(by_cluster[item.cluster], []).append(index)
    units = [
        _Unit(
            order=min(keyed_hash(seed, items[index].key) for index in members),
            members=tuple(members),
            labels=Counter(items[index].label for index in members),
            pinned=any(items[index].key in pinned for index in members),
        )
        for members in groups.values()
    ]
    return sorted(units, key=lambda unit: unit.order)


def _merged_clusters(items: Sequence[Item]) -> dict[int, int]:
    """Rows of one key are one text whatever the clusters say: such clusters are taken as one."""
    leader: dict[int, int] = {item.cluster: item.cluster for item in items}

    def find(cluster: int) -> int:
        while leader[cluster] != cluster:
            cluster = leader[cluster]
        return cluster

    first: dict[str, int] = {}
    for item in items:
        leader[find(item.cluster)] = find(first.setdefault(item.key, item.cluster))
    return {cluster: find(cluster) for cluster in leader}


def _room(units: Sequence[_Unit], config: Split) -> dict[str, Room]:
    """For each class, how many unpinned rows each split should get."""
    free: Counter[str] = Counter()
    held: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for unit in units:
        (held if unit.pinned else free).update(unit.labels)
        texts.update(() if unit.pinned else unit.labels.keys())
    frozen = config.test_rows == "frozen" and bool(held)
    needed = [name for name in SPLITS if getattr(config, name) > 0 and not (name == "test" and frozen)]
    for label in sorted(set(free) | set(held)):
        if texts[label] < len(needed) - (label in held and "test" in needed):
            raise _too_few(label, texts[label], free[label], needed)
    return {label: _targets(count, held[label], config, needed) for label, count in free.items()}


def _targets(free: int, held: int, config: Split, needed: Sequence[str]) -> Room:
    """Rounded shares that add up, each at least one; splits that take no new row are left out."""
    room: Room = {}
    if "test" in needed:
        room["test"] = max(0 if held else 1, min(round(config.test * (free + held)) - held, free))
    rest = free - room.get("test", 0)
    if "valid" in needed:
        room["valid"] = min(max(1, round(rest * config.valid / (config.train + config.valid))), rest - 1)
    return {"train": rest - room.get("valid", 0), **room}


def _place(unit: _Unit, room: Mapping[str, Room]) -> str:
    """The first split, smallest first, that has room for the whole unit; else the one with most room."""
    label = max(sorted(unit.labels), key=lambda label: unit.labels[label])
    open_splits = [name for name in reversed(SPLITS) if name in room[label]]
    for name in open_splits:
        if all(room[label][name] >= count for label, count in unit.labels.items()):
            return name
    return max(reversed(open_splits), key=lambda name: room[label][name])


def _too_few(label: str, texts: int, count: int, needed: Sequence[str]) -> Invalid:
    what = (
        _("class {label} has too few rows for the split", label=label)
        if label
        else _("there are too few rows for the split")
    )
    return Invalid(
        what,
        cause=_(
            "free rows: {rows}, distinct texts among them: {texts}, needed: {needed} (one each for {splits})",
            rows=count,
            texts=texts,
            needed=len(needed),
            splits=", ".join(needed),
        ),
        mend=_("add rows of this class, remove the class from task.yaml, or change the shares of the split"),
    )
