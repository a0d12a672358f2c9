"""Which row goes to train, valid or test: by a keyed hash, so that neither order nor new rows reshuffle it.

A unit is a set of rows that must stay together: near-identical ones, those of one group. It is never cut. Units
that contain a row some other version was tested on stay in test, all of them, for ever.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import Split
from nlp_skills.schema.version import SPLITS

Room = dict[str, int]
_TEST = SPLITS.index("test")


@dataclass(frozen=True)
class Rows:
    """What the split sees of rows 0 … n - 1.

    `order`: their numbers in the seed's order. `unit`: for each a number below n that its unit shares. `stratum`:
    for each a place in `names`, where its labels stand; rows may have none, or with `many` several. `pinned`:
    for each whether it must be in test. With `strict` a label too small to reach every split is refused; without,
    labels too small to be shared out are taken together.
    """

    order: Sequence[int]
    unit: Sequence[int]
    stratum: Sequence[int]
    names: Sequence[tuple[str, ...]]
    pinned: Sequence[int]
    many: bool = False
    strict: bool = True


def divide(rows: Rows, config: Split) -> bytearray:
    """For each row the place of its split in `SPLITS`.

    Shares hold for each label, to the row where units allow it; where rows have several labels each, as nearly
    as can be. The result depends on neither how rows nor how units are numbered.

    Raises:
        Invalid: a class (with `strict`; else all rows together) has fewer units than there are splits that need one.
    """
    units = _Units(rows)
    plan = _Plan(units, config)
    if not rows.strict and not rows.many:
        rows = _pooled(rows, plan, config)
        units = _Units(rows)
        plan = _Plan(units, config)
    plan.check(rows.strict and not rows.many)
    chosen = bytearray(len(rows.order))
    for unit, name in _spread(units, plan) if rows.many else _fill(units, plan):
        for row in units.members(unit):
            chosen[row] = SPLITS.index(name)
    for unit in range(len(units)):
        if units.pinned[unit]:
            for row in units.members(unit):
                chosen[row] = _TEST
    return chosen


def keyed_hash(seed: int, key: str) -> str:
    """A row's place in the shuffled order of this seed."""
    return hashlib.blake2b(key.encode("utf-8"), digest_size=12, key=str(seed).encode("ascii")).hexdigest()


class _Units:
    """The units in the seed's order: each stands where the first of its rows does."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        numbers = array("i", [-1]) * len(rows.unit)
        sizes = array("I")
        for row in rows.order:
            unit = rows.unit[row]
            if numbers[unit] < 0:
                numbers[unit] = len(sizes)
                sizes.append(0)
            sizes[numbers[unit]] += 1
        self.pinned = bytearray(len(sizes))
        self._starts = array("I", accumulate(sizes, initial=0))
        self._members = array("I", bytes(4 * len(rows.order)))
        free = array("I", self._starts)
        for row in rows.order:
            unit = numbers[rows.unit[row]]
            self._members[free[unit]] = row
            free[unit] += 1
            self.pinned[unit] |= bool(rows.pinned[row])

    def __len__(self) -> int:
        return len(self.pinned)

    def members(self, unit: int) -> Sequence[int]:
        """The rows of a unit."""
        return self._members[self._starts[unit] : self._starts[unit + 1]]

    def size(self, unit: int) -> int:
        """How many rows a unit has."""
        return self._starts[unit + 1] - self._starts[unit]

    def labels(self, unit: int) -> Mapping[str, int]:
        """How many of a unit's rows have each label."""
        names, stratum, members = self._rows.names, self._rows.stratum, self.members(unit)
        if len(members) == 1:
            return dict.fromkeys(names[stratum[members[0]]], 1)
        return Counter(label for row in members for label in names[stratum[row]])


class _Plan:
    """How many rows each split should still get: of each label (`room`), and of all (`whole`)."""

    def __init__(self, units: _Units, config: Split) -> None:
        self.free: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self.rows, self.units = [0, 0], 0
        for unit in range(len(units)):
            labels, pinned = units.labels(unit), units.pinned[unit]
            (self.held if pinned else self.free).update(labels)
            self.texts.update(() if pinned else labels.keys())
            self.rows[pinned] += units.size(unit)
            self.units += not pinned
        frozen = config.test_rows == "frozen" and any(units.pinned)
        self.needed = [name for name in SPLITS if getattr(config, name) > 0 and not (name == "test" and frozen)]
        self.config = config
        self.room = {label: self._targets(count, self.held[label]) for label, count in self.free.items()}
        self.whole = self._targets(*self.rows)

    def check(self, each: bool) -> None:
        """Whether there is enough to share out, of `each` label too.

        Raises:
            Invalid: there is not.
        """
        for label in sorted({*self.free, *self.held}) if each else ():
            if self.texts[label] < len(self.needed) - (label in self.held and "test" in self.needed):
                raise _too_few(label, self.texts[label], self.free[label], self.needed)
        if self.units < len(self.needed) - (self.rows[1] > 0 and "test" in self.needed):
            raise _too_few("", self.units, self.rows[0], self.needed)

    def _targets(self, free: int, held: int) -> Room:
        """Rounded shares that add up, each at least one; splits that take no new row are left out."""
        config, room = self.config, {}
        if "test" in self.needed:
            room["test"] = max(0 if held else 1, min(round(config.test * (free + held)) - held, free))
        rest = free - room.get("test", 0)
        if "valid" in self.needed:
            room["valid"] = min(max(1, round(rest * config.valid / (config.train + config.valid))), rest - 1)
        return {"train": rest - room.get("valid", 0), **room}


def _pooled(rows: Rows, plan: _Plan, config: Split) -> Rows:
    """With labels that have no whole row for the smallest split as one label."""
    enough = 1 / min(getattr(config, name) for name in plan.needed)
    names = [labels if all(plan.free[label] >= enough for label in labels) else ("",) for labels in rows.names]
    return replace(rows, names=names)


def _fill(units: _Units, plan: _Plan) -> Iterator[tuple[int, str]]:
    """A split for each unpinned unit, in the seed's order: test fills first, then valid, then train."""
    for unit in range(len(units)):
        if not units.pinned[unit]:
            labels = units.labels(unit)
            name = _place(labels, plan.room)
            for label, count in labels.items():
                plan.room[label][name] -= count
            yield unit, name


def _place(labels: Mapping[str, int], room: Mapping[str, Room]) -> str:
    """The first split, smallest first, that has room for the whole unit; else the one with most room."""
    label = max(sorted(labels), key=lambda label: labels[label])
    open_splits = [name for name in reversed(SPLITS) if name in room[label]]
    for name in open_splits:
        if all(room[label][name] >= count for label, count in labels.items()):
            return name
    return max(reversed(open_splits), key=lambda name: room[label][name])


def _spread(units: _Units, plan: _Plan) -> Iterator[tuple[int, str]]:
    """A split for each unpinned unit whose rows have many labels, by iterative stratification.

    The label that fewest of the rows left have is shared out next, each of its units to the split that lacks
    that label most, then lacks rows most: what is rare is placed while there is a choice. (Sechidis, Tsoumakas
    and Vlahavas, 2011: On the stratification of multi-label data.)
    """
    holders: dict[str, array[int]] = {}
    bare = []
    for unit in range(len(units)):
        labels = () if units.pinned[unit] else units.labels(unit)
        for label in labels:
            holders.setdefault(label, array("I")).append(unit)
        if not labels and not units.pinned[unit]:
            bare.append(unit)
    left, placed = dict(plan.free), bytearray(len(units))
    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        for unit in holders[rarest]:
            if not placed[unit]:
                placed[unit] = 1
                labels = units.labels(unit)
                yield unit, _lacking(plan, plan.room[rarest], labels, units.size(unit))
                for label, count in labels.items():
                    left[label] -= count
        del left[rarest]
    for unit in bare:
        yield unit, _lacking(plan, plan.whole, {}, units.size(unit))


def _lacking(plan: _Plan, room: Room, labels: Mapping[str, int], size: int) -> str:
    """The split that lacks most, which then lacks less."""
    name = max(room, key=lambda name: (room[name], plan.whole[name], -SPLITS.index(name)))
    for label, count in labels.items():
        plan.room[label][name] -= count
    plan.whole[name] -= size
    return name


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
