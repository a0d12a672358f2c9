"""How several processes learn what one would: the same rows in every step, the same figures, the same decisions.

Each process ("rank") takes every Nth micro-batch of the one order of rows. What one of them decides or hears, such as
Ctrl-C, holds for all from the end of that step on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nlp_skills.training import run
from nlp_skills.training.encode import IGNORED


class Filled:
    """An order of rows, filled up to whole rounds of micro-batches with `blank`, a row without anything to learn.

    Left to itself, accelerate fills with rows that were learnt already.
    """

    def __init__(self, order: Any, round_rows: int, blank: int) -> None:
        self.order, self.round_rows, self.blank = order, round_rows, blank

    def __len__(self) -> int:
        return -(-len(self.order) // self.round_rows) * self.round_rows

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from [self.blank] * (len(self) - len(self.order))

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.order.set_epoch(epoch)


def with_blanks(dataset: Any, count: int = 1) -> Any:
    """A data set with `count` more rows of one token each that nothing is learnt from.

    Methods that learn from pairs know no such row; their data set comes back as it is.
    """
    from datasets import Dataset, concatenate_datasets

    if not takes_blanks(dataset) or not count:
        return dataset
    first = dataset[0]
    blank = {
        **first,
        "input_ids": first["input_ids"][:1],
        "labels": [IGNORED],
        **({"seq_lengths": [1]} if "seq_lengths" in first else {}),
    }
    return concatenate_datasets([dataset, Dataset.from_list([blank] * count, features=dataset.features)])


def takes_blanks(dataset: Any) -> bool:
    """Whether rows are single answers, whose loss is a mean over tokens."""
    return {"input_ids", "labels"} <= set(dataset.column_names)


def missing(rows: int, round_rows: int) -> int:
    """Rows that are missing in the last round."""
    return -rows % round_rows


def trainer_class(base: type[Any]) -> type[Any]:
    """One of TRL's trainers whose figures and checkpoints do not depend on how many processes there are."""

    class Shared(base):  # type: ignore[misc]
        def prediction_step(self, model: Any, inputs: Any, *arguments: Any, **settings: Any) -> Any:
            loss, *rest = super().prediction_step(model, inputs, *arguments, **settings)
            if loss is not None and "labels" in inputs:
                tokens = int((inputs["labels"][..., 1:] != IGNORED).sum())
                # A batch of blanks has no mean.
                self._of_valid.append((float(loss.mean()) * tokens if tokens else 0.0, tokens))
            return (loss, *rest)

        def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
            self._of_valid: list[tuple[float, int]] = []
            output = super().evaluation_loop(*arguments, **settings)
            if self._of_valid:
                prefix = settings.get("metric_key_prefix", "eval")
                output.metrics[f"{prefix}_loss"] = _mean_over_tokens(self._of_valid)
            return output

        def _run_epoch(self, *, epoch: int, **settings: Any) -> None:
            # Where a resumed epoch goes on, the order lies a sampler deeper than set_epoch of accelerate reaches:
            # it would go on with the rows of the first epoch.
            self._get_train_sampler().set_epoch(epoch)
            super()._run_epoch(epoch=epoch, **settings)

        def _track_num_input_tokens(self, inputs: Any) -> None:
            if "labels" in inputs and "attention_mask" in inputs:
                rows = (inputs["labels"] != IGNORED).any(1, keepdim=True)
                inputs = {**inputs, "attention_mask": inputs["attention_mask"] * rows}
            super()._track_num_input_tokens(inputs)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            # What follows says that the checkpoint is whole, every rank's part of it.
            self.accelerator.wait_for_everyone()

    return Shared


def _mean_over_tokens(measured: Sequence[tuple[float, int]]) -> float:
    """The mean loss of all answer tokens: a mean of batches would depend on how rows fall into batches."""
    import torch

    sums = torch.tensor(
        [sum(loss for loss, _tokens in measured), sum(tokens for _loss, tokens in measured)], dtype=torch.float64
    )
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    total, count = sums.tolist()
    return float(total / count)


class Agreed(run.Stop):
    """A request to stop that every rank has heard of; each rank's own signals stay with its own `Stop`."""

    def __init__(self) -> None:
        super().__init__(lambda: None)


def agreement(stop: run.Stop, agreed: Agreed) -> tuple[Any, Any]:
    """Two callbacks, one before all others and one after them: who heard what, and what all do next."""
    from transformers import TrainerCallback

    class Heard(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            stop.in_loop = True

        def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            (agreed.requested,) = any_rank(stop.requested)

    class Decided(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            control.should_save, control.should_evaluate, control.should_training_stop = any_rank(
                control.should_save, control.should_evaluate, control.should_training_stop
            )

    return Heard(), Decided()


def any_rank(*answers: bool) -> list[bool]:
    """Each answer, true where any rank says so."""
    import torch

    flags = torch.tensor([int(answer) for answer in answers])
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def wait() -> None:
    """Until every rank has come here."""
    import torch

    torch.distributed.barrier()
