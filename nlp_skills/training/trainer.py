"""TRL's trainers, made to measure: a reproducible order of rows, whole checkpoints, records as it goes.

torch and TRL are imported inside the functions, so the classes made on theirs are made there too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.i18n import _
from nlp_skills.progress import Bar
from nlp_skills.schema.training import Config
from nlp_skills.training import run
from nlp_skills.training.health import Guard
from nlp_skills.training.selection import Selection, choosing
from nlp_skills.training.tracking import Log
from nlp_skills.workspace import runs

SAVE_EVERY_STEPS = 50
LOGGED_POINTS = 500


@dataclass(frozen=True)
class Plan:
    """How many optimiser steps a run has."""

    steps_per_epoch: int
    total_steps: int

    @classmethod
    def of(cls, config: Config, rows: int) -> Plan:
        batches = math.ceil(rows / config.batch_size)
        steps = max(1, math.ceil(batches / config.gradient_accumulation))
        return cls(steps, math.ceil(config.epochs * steps))

    @property
    def log_every(self) -> int:
        """Steps between two lines of metrics.jsonl: every step of a short run, some 500 lines of a long one."""
        return max(1, self.total_steps // LOGGED_POINTS)


@dataclass(frozen=True)
class Parts:
    """What is ours in a trainer: the order of rows, the optimiser, and what decides which epoch is kept."""

    sampler: Any
    optimizer: Callable[[Any, Any], Any]
    selection: Selection | None = None


def with_parts(base: type[Any], parts: Parts) -> type[Any]:
    """One of TRL's trainers with our order of rows, complete-or-absent checkpoints, and no model cards."""
    if parts.selection is not None:
        base = choosing(base, parts.selection)

    class Trainer(base):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return parts.sampler

        def create_model_card(self, *_arguments: Any, **_settings: Any) -> None:
            """None: lineage.yaml says what this model is."""

        def create_optimizer(self, model: Any = None) -> Any:
            ours = parts.optimizer(model or self.model, self.args) if getattr(self, "optimizer", None) is None else None
            if ours is not None:
                self.optimizer = ours
            return super().create_optimizer(model)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                step = self.state.global_step
                files.write_json(Path(self.args.output_dir) / f"checkpoint-{step}" / runs.COMPLETE, {"step": step})

    return Trainer


def watcher(recorder: run.Recorder, stop: run.Stop, bar: Bar, plan: Plan, guard: Guard, log: Log) -> Any:
    """The callback that records, shows progress, saves now and then, and stops when asked or when it must."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            stop.in_loop = True

        def on_step_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            recorder.begin_step()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_more: Any) -> None:
            recorder.tokens = int(state.num_input_tokens_seen)
            measured = {key: value for key, value in logs.items() if _is_a_measure(key, value)}
            guard.look(state.global_step, measured)
            if measured:
                log(recorder.measure(step=state.global_step, epoch=round(state.epoch, 4), **measured))

        def on_step_end(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            loss = recorder.status.loss
            bar.advance(1, "" if loss is None else _("loss {loss:.3f}", loss=loss))
            recorder.step(state.global_step, state.max_steps, state.epoch, bar.eta_seconds())
            # At an epoch's end a checkpoint follows by itself, after the evaluation that belongs to the epoch.
            if state.global_step % plan.steps_per_epoch and state.global_step < state.max_steps:
                control.should_save |= stop.requested or state.global_step % SAVE_EVERY_STEPS == 0

        def on_save(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            if stop.requested and state.global_step < state.max_steps:
                raise run.Interrupted(state.global_step)

    return Watcher()


def signs(moved: Callable[[], None]) -> Any:
    """The callback that says whenever the loop has moved, be it within an evaluation."""
    from transformers import TrainerCallback

    class Signs(TrainerCallback):  # type: ignore[misc]
        def _sign(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            moved()

        on_train_begin = on_step_begin = on_substep_end = on_step_end = _sign
        on_prediction_step = on_evaluate = on_log = on_save = _sign

    return Signs()


# What trainers log besides figures of the model: how fast they were.
_PACE = ("_runtime", "_per_second", "_flos", "epoch", "num_tokens", "num_input_tokens_seen")


def is_of_valid(key: str) -> bool:
    """Whether a figure of the log is one of the valid split."""
    return key.startswith("eval_") and not key.endswith(_PACE)


def _is_a_measure(key: str, value: Any) -> bool:
    return isinstance(value, int | float) and not key.startswith("train_") and not key.endswith(_PACE)
