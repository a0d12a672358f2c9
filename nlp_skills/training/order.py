"""The order in which rows are learnt, and how often each, and how much each counts.

It depends on seed and epoch alone, so that a resumed run sees the rows the stopped one had not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from typing import Any

from nlp_skills.data.findings import Finding
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training.encode import Encoded

# A row's labels: one, several, or none.
Classes = tuple[str, ...]


def of(config: Config, rows: Sequence[Any]) -> LengthGrouped:
    """The order for a training; its length is how many rows an epoch has."""
    lengths, batch, seed = [len(row) for row in rows], config.effective_batch, config.seed
    if config.class_balance == "sampling":
        return Balanced(lengths, batch, seed, [row.classes for row in rows])
    return LengthGrouped(lengths, batch, seed)


class LengthGrouped:
    """The order of rows in an epoch: shuffled, yet batches hold rows of similar length, so little is padding."""

    def __init__(self, lengths: list[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def drawn(self, chance: random.Random) -> Sequence[int]:
        """The rows of this epoch, in no order."""
        return range(len(self.lengths))

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed}/{self.epoch}")
        rows = self.drawn(chance)
        order = chance.sample(rows, len(rows))
        # Sorting within windows of a few batches keeps most of the randomness.
        window = self.batch * max(1, min(50, len(order) // (4 * self.batch)))
        batches = []
        for at in range(0, len(order), window):
            alike = sorted(order[at : at + window], key=lambda row: -self.lengths[row])
            batches += [alike[start : start + self.batch] for start in range(0, len(alike), self.batch)]
        *whole, last = batches
        chance.shuffle(whole)
        for batch in [*whole, last]:
            yield from batch


class Balanced(LengthGrouped):
    """An order in which rows of rarer classes come several times, so that an epoch sees every class equally often.

    Every row comes at least once; which ones come once more than others of their class changes from epoch to epoch.
    A row with several labels comes as often as their mean says, and one with none comes once.
    """

    def __init__(self, lengths: list[int], batch: int, seed: int, classes: Sequence[Classes]) -> None:
        super().__init__(lengths, batch, seed)
        self.groups: dict[Classes, list[int]] = {}
        for row, found in enumerate(classes):
            self.groups.setdefault(tuple(sorted(found)), []).append(row)
        self.copies = copies(classes)

    def __len__(self) -> int:
        return sum(self.copies.values())

    def drawn(self, chance: random.Random) -> Sequence[int]:
        rows: list[int] = []
        for group, members in self.groups.items():
            times, more = divmod(self.copies[group], len(members))
            rows += members * times + chance.sample(members, more)
        return rows


def copies(classes: Sequence[Classes]) -> dict[Classes, int]:
    """How many rows an epoch has of each set of labels, once every class is to come as often as the commonest."""
    counts = Counter(label for found in classes for label in found)
    most = max(counts.values(), default=0)
    groups = Counter(tuple(sorted(found)) for found in classes)
    return {
        group: max(size, round(size * _mean([Fraction(most, counts[label]) for label in group])))
        for group, size in groups.items()
    }


def weights(classes: Sequence[Classes], given: Mapping[str, float] | None = None) -> list[float]:
    """How much each row's loss counts, 1 on average over the rows.

    A class weighs as one over its rows, or what is `given` (a class left out: 1), of which only the ratio counts. A
    row with several labels has the mean of their weights; one with none weighs 1 before the average is made 1.
    """
    counts = Counter(label for found in classes for label in found)
    total, kinds = len(classes), len(counts)
    each = {label: float(total) / (kinds * count) for label, count in counts.items()}
    if given is not None:
        each = {label: float(given.get(label, 1.0)) for label in counts}
    plain = [float(_mean([each[label] for label in found])) for found in classes]
    mean = sum(plain) / total if total else 1.0
    return [weight / mean for weight in plain]


def weighed(rows: Sequence[Encoded], config: Config) -> list[float] | None:
    """The weights of training rows as config.yaml wants them; None where it wants none."""
    wanted = config.class_balance
    if wanted is None or wanted == "sampling":
        return None
    return weights([row.classes for row in rows], wanted if isinstance(wanted, dict) else None)


def _mean(values: Sequence[Any]) -> Any:
    return sum(values) / len(values) if values else 1


def check(task: Task, config: Config, path: Path) -> list[Finding]:
    """What is wrong with `class_balance`; `path` is the file it stands in."""
    wanted = config.class_balance
    if wanted is None:
        return []

    def error(code: str, message: str, mend: str) -> Finding:
        return Finding("error", code, message, file=str(path), mend=mend)

    if task.task_type != "classification":
        mend = _("remove class_balance")
        text = _("class_balance is for classification; this task is of type {type}", type=task.task_type)
        return [error("no_classes", text, mend)]
    if config.packing:
        mend = _("remove packing, or class_balance")
        text = _("class_balance and packing do not go together: a pack holds rows of several classes")
        return [error("packed_classes", text, mend)]
    unknown = [label for label in wanted if label not in task.labels] if isinstance(wanted, dict) else []
    return [_unknown(label, task.labels, error) for label in unknown]


def _unknown(label: str, labels: Sequence[str], error: Any) -> Finding:
    close = get_close_matches(label, labels, n=1, cutoff=0.0)
    text = _("class_balance weighs {label}, which is no label of this task", label=label[:80])
    found: Finding = error("unknown_label", text, _("did you mean {name}?", name=close[0]))
    return found
