"""From raw files to train, valid and test: merged, freed of duplicates, split, augmented; in bounded memory.

Rows lie in a file while they are worked on; a million of them cost some hundred bytes each in memory, however
long they are. The same rows give the same bytes, whatever their order in a source.
"""

from __future__ import annotations

import bisect
import hashlib
import time
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.data import duplicates, near, split
from nlp_skills.data import rows as lines
from nlp_skills.data.merge import Row, merged
from nlp_skills.data.workbench import Workbench, ranked, runs
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource, Source
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder

VERSION = 2
DROPPED = "dropped"
_TRAIN = SPLITS.index("train")
_NO_LABEL = ("",)
_SECONDS = 1.0


@dataclass
class Built:
    """What was built, still in the work folder.

    `files`: by split, and `dropped`. `rows`: as merged. `duplicates`: dropped for an equal one. Of near-identical
    rows `near_dropped` were left out and `near_kept` stay beside another. `pinned`: rows in test because another
    version was tested on them; `pinned_gone`: such texts that no source has any more. `splits`: for each its
    `rows` and their `distribution` over the labels, augmented ones included.
    """

    files: dict[str, Path]
    rows: int
    duplicates: int
    near_dropped: int
    near_kept: int
    pinned: int
    pinned_gone: int
    augmented: int
    splits: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)


def build(
    folder: TaskFolder,
    task: Task,
    config: DataSource,
    raw: Sequence[tuple[Source, Path]],
    pinned: Collection[str],
    work: Path,
    bar: progress.Bar,
    tell: Callable[[str], None] | None = None,
) -> Built:
    """Write `work/{train,valid,test,dropped}.jsonl` from the raw files of all sources, in their order.

    `pinned` are keys of rows that other versions were tested on. `work` is an empty folder; whatever happens,
    nothing is written beside it. The bar goes three steps on; `tell` hears what augmentation added and cost.

    Raises:
        Invalid: wrong rows, a class too small to split, a column that no row has.
        Unavailable: the disk is full.
    """
    path = work / "rows.tmp"
    try:
        with Workbench(path) as bench:
            return _Build(folder, task, config, bench, work, bar, tell).run(raw, frozenset(pinned))
    except OSError as error:
        raise files.storage_problem(error, work) if error.errno in files.DISK_FULL else error from error
    finally:
        path.unlink(missing_ok=True)


class _Build:
    """One run of `build`, step by step."""

    def __init__(
        self,
        folder: TaskFolder,
        task: Task,
        config: DataSource,
        bench: Workbench,
        work: Path,
        bar: progress.Bar,
        tell: Callable[[str], None] | None,
    ) -> None:
        self.folder, self.task, self.config, self.tell = folder, task, config, tell
        self.bench, self.work, self.bar = bench, work, bar
        self.files = {name: work / f"{name}.jsonl" for name in (*SPLITS, DROPPED)}
        self.warnings: list[str] = []
        self.shown = time.monotonic()

    def run(self, raw: Sequence[tuple[Source, Path]], pinned: AbstractSet[str]) -> Built:
        """All the steps."""
        bench = self.bench
        columns = self._lay_out(raw)
        rows = len(bench)
        self.bar.advance(note=_("rows {rows}", rows=rows))
        distinct, found, forest = self._clear([str(source.name) for source, _path in raw], pinned)
        near_kept = sum(len(members) - 1 for members in forest.groups().values())
        if self.config.split.group:
            self._join_groups(forest)
        flags = self._flags(pinned)
        order = self._order()
        units = array("I", map(forest.root, range(len(bench))))
        chosen = split.divide(
            split.Rows(order, units, bench.strata, bench.names.lists, flags, columns.many, columns.strict),
            self.config.split,
        )
        self.bar.advance(note=_("split"))
        splits = self._write(order, chosen)
        augmented = self._augment(order, chosen, splits) if self.config.augmentation else 0
        self._warn(splits, len(pinned) - found)
        self.bar.advance(note="")
        return Built(
            files=self.files,
            rows=rows,
            duplicates=rows - distinct,
            near_dropped=distinct - len(bench),
            near_kept=near_kept,
            pinned=sum(flags),
            pinned_gone=len(pinned) - found,
            augmented=augmented,
            splits=splits,
            warnings=self.warnings,
        )

    def _lay_out(self, raw: Sequence[tuple[Source, Path]]) -> _Columns:
        """Merge the sources onto the bench.

        Raises:
            Invalid: wrong rows, or a column of `split` that no row has.
        """
        bench, columns = self.bench, _Columns(self.task, self.config)
        inputs, outputs = self.task.input_fields, self.task.output_fields
        for found in merged(self.folder, self.task, raw):
            text = near.normalised(found.row, inputs)
            answer = lines.canonical({name: found.row[name] for name in outputs})
            bench.put(found.body, text, near.text_key(text) + hashlib.blake2b(answer, digest_size=8).digest())
            bench.sources.append(found.source)
            bench.lines.append(found.line)
            bench.labels.append(bench.names.number(columns.label(found.row)))
            bench.strata.append(bench.names.number(columns.stratum(found.row)))
            bench.groups.append(columns.group(found.row))
            self._tell(lambda: _("rows {rows}", rows=len(bench)))
        bench.flush()
        for key in columns.unseen() if len(bench) else ():
            raise self._no_column(key)
        return columns

    def _clear(self, sources: Sequence[str], pinned: AbstractSet[str]) -> tuple[int, int, near.Forest]:
        """Drop what is said twice: how many rows were distinct, how many of the pinned keys are among them, and
        which of those that stay are near to each other.
        """
        bench, fields = self.bench, self.task.input_fields
        with open(self.files[DROPPED], "wb") as stream:

            def drop(one: duplicates.Dropped) -> None:
                stream.write(lines.dump(one.record(bench, sources, fields)))
                self._tell(lambda: _("dropping duplicates"))

            bench.arrange(duplicates.exact(bench, drop))
            distinct = len(bench)
            keys = (bench.key(number).hex() for number in range(distinct if pinned else 0))
            found = len({key for key in keys if key in pinned})
            threshold = self.config.dedup.near
            forest = duplicates.clusters(bench, threshold, self.work, self._compared)
            if self.config.dedup.near_duplicates == "drop" and near.available() and threshold < 1:
                groups = forest.groups()
                gone = duplicates.near_duplicates(bench, groups.values(), threshold, self._flags(pinned))
                for one in gone:
                    drop(one)
                forest = self._without({one.row for one in gone}, groups)
        return distinct, found, forest

    def _without(self, gone: AbstractSet[int], groups: Mapping[int, Sequence[int]]) -> near.Forest:
        """Take rows off the bench; what remains of the groups, by the new numbers."""
        stay = array("I", (number for number in range(len(self.bench)) if number not in gone))
        self.bench.arrange(stay)
        forest = near.Forest(len(stay))
        for members in groups.values():
            left = [bisect.bisect_left(stay, number) for number in members if number not in gone]
            for number in left[1:]:
                forest.join(left[0], number)
        return forest

    def _join_groups(self, forest: near.Forest) -> None:
        """Rows of one group share a side; said where one is too large for that to go well."""
        bench = self.bench
        largest: Sequence[int] = ()
        for members in runs(sorted(range(len(bench)), key=bench.groups.__getitem__), bench.groups):
            if bench.groups[members[0]]:
                largest = max(largest, members, key=len)
                for number in members[1:]:
                    forest.join(members[0], number)
        shares = self.config.split
        name = min(
            (name for name in SPLITS if getattr(shares, name) > 0), key=lambda name: float(getattr(shares, name))
        )
        target = round(getattr(shares, name) * len(bench))
        if len(largest) > target:
            value = bench.row(largest[0])[str(shares.group)]
            self.warnings.append(
                _(
                    "a group is larger than {split} should be: {column} = {value} has {rows} rows, wanted {target}",
                    split=name,
                    column=str(shares.group),
                    value=lines.shown(value),
                    rows=len(largest),
                    target=target,
                )
            )

    def _flags(self, pinned: AbstractSet[str]) -> bytearray:
        """For each row whether its key is pinned."""
        bench = self.bench
        if not pinned:
            return bytearray(len(bench))
        return bytearray(bench.key(number).hex() in pinned for number in range(len(bench)))

    def _order(self) -> array[int]:
        """The rows' numbers in the seed's order."""
        bench, seed = self.bench, self.config.split.seed
        return ranked(len(bench), lambda number: bytes.fromhex(split.keyed_hash(seed, bench.key(number).hex())))

    def _write(self, order: Sequence[int], chosen: Sequence[int]) -> dict[str, dict[str, Any]]:
        """The splits' files; their rows and labels, counted."""
        bench = self.bench
        counts = [Counter[int]() for _name in SPLITS]
        with ExitStack() as stack:
            streams = [stack.enter_context(open(self.files[name], "wb")) for name in SPLITS]
            for number in order:
                side = chosen[number]
                streams[side].write(bench.body(number))
                counts[side][bench.labels[number]] += 1
                self._tell(lambda: _("writing the splits"))
        return {name: self._counted(found) for name, found in zip(SPLITS, counts, strict=True)}

    def _counted(self, found: Counter[int]) -> dict[str, Any]:
        distribution = {lines.label_key(label): 0 for label in self.task.labels}
        for number, count in found.items():
            for label in self.bench.names.lists[number] if self.task.label_field else ():
                distribution[label] += count
        return {"rows": found.total(), "distribution": distribution}

    def _augment(self, order: Sequence[int], chosen: Sequence[int], splits: dict[str, dict[str, Any]]) -> int:
        """Add the extra rows to train, each at a place of its own in the seed's order; how many there are."""
        from nlp_skills.data import augment, sources

        bench, seed = self.bench, self.config.split.seed
        held_out = frozenset(bench.key(number).hex() for number in order if chosen[number] != _TRAIN)
        fetching = sources.Fetching(self.folder, note=lambda text: self.bar.advance(0, note=text))
        train, own = self.files["train"], len(bench)
        places = [(split.keyed_hash(seed, bench.key(n).hex()), n) for n in order if chosen[n] == _TRAIN]
        columns = _Columns(self.task, self.config)
        extra: Counter[int] = Counter()
        for row in augment.apply(train, self.config, self.task, self.folder, held_out, fetching):
            number = len(bench)
            key = near.row_key(row, self.task.input_fields)
            bench.put(lines.dump(row), "", bytes(24))
            places.append((split.keyed_hash(seed, f"{key}+{number - own}"), number))
            extra[bench.names.number(columns.label(row))] += 1
        bench.flush()
        with open(train, "wb") as stream:
            for _place, number in sorted(places):
                stream.write(bench.body(number))
        more = self._counted(extra)
        splits["train"]["rows"] += more["rows"]
        for label, count in more["distribution"].items():
            splits["train"]["distribution"][label] += count
        self.warnings += fetching.warnings
        for done in fetching.record.get("augmentation", []):
            if self.tell:
                self.tell(augment.summary(done))
        return len(bench) - own

    def _warn(self, splits: Mapping[str, Mapping[str, Any]], gone: int) -> None:
        if self.config.dedup.near < 1 and not near.available():
            self.warnings.append(f"{near.missing_words()}; {extras.install_command('data')}")
        if gone:
            self.warnings.append(_("test rows of other versions that no source has any more: {count}", count=gone))
        for name in SPLITS:
            distribution = splits[name]["distribution"]
            lacking = [label for label, count in distribution.items() if not count]
            lacking = [label for label in lacking if any(part["distribution"][label] for part in splits.values())]
            if lacking and splits[name]["rows"]:
                shown = lines.cut(", ".join(lines.shown_name(label) for label in lacking), 200)
                self.warnings.append(_("classes without a row in {split}: {labels}", split=name, labels=shown))

    def _compared(self, done: int) -> None:
        total = len(self.bench)
        self._tell(lambda: _("compared {done} of {total}", done=min(done, total), total=total))

    def _tell(self, words: Callable[[], str]) -> None:
        """Say how far we are, about once a second."""
        now = time.monotonic()
        if now - self.shown >= _SECONDS:
            self.shown = now
            self.bar.advance(0, note=words())

    def _no_column(self, key: str) -> Invalid:
        column = str(getattr(self.config.split, key))
        path = self.folder.sources_path
        line = yaml.read(path).lines.get(("split", key)) if path.is_file() else None
        columns = ", ".join(lines.shown_name(name) for name in self.bench.row(0))
        return Invalid(
            _("split.{key} names a column that no row has: {column}", key=key, column=lines.shown_name(column)),
            file=path,
            line=line,
            cause=_("the first row's columns: {columns}", columns=lines.cut(columns, 200)),
            mend=_("name one of these columns, or have the source give that column too"),
        )


class _Columns:
    """What the split wants to know of a row."""

    def __init__(self, task: Task, config: DataSource) -> None:
        self.field, self.by, self.by_group = task.label_field, config.split.stratify, config.split.group
        self.strict = self.by in (None, self.field)
        self.many = False
        self.seen: set[str] = set()

    def label(self, row: Row) -> tuple[str, ...]:
        """The row's class or classes, by name."""
        return self._names(row.get(self.field)) if self.field else _NO_LABEL

    def stratum(self, row: Row) -> tuple[str, ...]:
        """What its shares are held for."""
        column = self.by or self.field
        value = row.get(column) if column else None
        if value is not None and self.by:
            self.seen.add("stratify")
        self.many = self.many or isinstance(value, list)
        return self._names(value)

    def group(self, row: Row) -> int:
        """64 bits that stand for the row's group; 0 where it has none."""
        value = row.get(self.by_group) if self.by_group else None
        if value is None:
            return 0
        self.seen.add("group")
        return int.from_bytes(hashlib.blake2b(lines.canonical(value), digest_size=8).digest()) or 1

    def unseen(self) -> list[str]:
        """The settings of `split` that name a column no row has."""
        asked = {"stratify": self.by, "group": self.by_group}
        return [key for key, column in asked.items() if column and key not in self.seen]

    @staticmethod
    def _names(value: Any) -> tuple[str, ...]:
        if isinstance(value, list):
            return tuple(sorted({lines.label_key(item) for item in value}))
        return _NO_LABEL if value is None else (lines.label_key(value),)
