"""Several short rows as one sequence, so that next to nothing of a batch is padding; no row sees another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nlp_skills.training.encode import IGNORED, Encoded


@dataclass(frozen=True)
class Pack:
    """Rows one after another: token ids, labels, and how long each row is. A batch counts packs."""

    ids: list[int]
    labels: list[int]
    lengths: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def learnt(self) -> int:
        """Tokens the loss is on."""
        return sum(label != IGNORED for label in self.labels)


def packs(rows: Sequence[Encoded], most: int) -> list[Pack]:
    """The rows in packs of at most `most` tokens, each row whole, by TRL's best fit; none of them may be longer."""
    from datasets import Dataset
    from trl import pack_dataset

    given = Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})
    with _without_bar():
        packed = pack_dataset(given, most, "bfd")
    return [Pack(one["input_ids"], one["labels"], one["seq_lengths"]) for one in packed]


@contextlib.contextmanager
def _without_bar() -> Iterator[None]:
    import datasets

    before = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if before:
            datasets.enable_progress_bars()
