"""The order in which rows are learnt.

It depends on seed and epoch alone, so that a resumed run sees the rows the stopped one had not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from nlp_skills.training.job import Job


def of(job: Job, rows: Sequence[Any]) -> LengthGrouped:
    """The order for this training; its length is how many rows an epoch has."""
    return LengthGrouped([len(row) for row in rows], job.config.effective_batch, job.config.seed)


class LengthGrouped:
    """The order of rows in an epoch: shuffled, yet batches hold rows of similar length, so little is padding."""

    def __init__(self, lengths: list[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed}/{self.epoch}")
        order = chance.sample(range(len(self.lengths)), len(self.lengths))
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
