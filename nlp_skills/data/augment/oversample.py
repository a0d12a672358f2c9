"""Small classes, repeated."""

from __future__ import annotations

from collections.abc import Iterator

from nlp_skills.data.augment.rooms import Original, Row, Work
from nlp_skills.schema.data_source import Oversample


def rows(settings: Oversample, work: Work) -> Iterator[Row]:
    """Rows of each small class again until it has `to` times the rows of the largest; rows made before count.

    Every row of a class is repeated once before one is repeated twice; who goes first is drawn by keyed hash.
    """
    members: dict[str, list[Original]] = {label: [] for label in work.task.labels}
    for entry in work.originals.entries:
        members[entry.labels[0]].append(entry)
    made_before = work.produced + work.originals.others
    counts = {label: len(own) + made_before[label] for label, own in members.items()}
    target = round(settings.to * max(counts.values()))
    for label in work.task.labels:
        own = members[label]
        # A class without a row has nothing to repeat.
        missing = max(0, target - counts[label]) if own else 0
        rounds = [(own[at % len(own)], at // len(own) + 1) for at in range(missing)]
        numbers = iter([number for _entry, number in rounds])
        for entry, row in work.originals.read(entry for entry, _number in rounds):
            made = work.marked(row, entry, "oversample", next(numbers))
            if entry.key in work.held_out:
                work.refused["held_out"] += 1
                continue
            work.count(made)
            yield made
