"""TRL's trainer, made to measure: its settings from config.yaml, a reproducible order of rows, records as it goes.

torch and TRL are imported inside the functions, so the classes made on theirs are made there too.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.progress import Bar
from nlp_skills.schema.training import Config
from nlp_skills.training import run
from nlp_skills.training.device import Device
from nlp_skills.training.encode import IGNORED, Encoded

SAVE_EVERY_STEPS = 50
LOGGED_POINTS = 500
COMPLETE = "complete.json"


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


def settings(config: Config, device: Device, plan: Plan, out: Path, *, validate: bool, checkpointing: bool) -> Any:
    """config.yaml as TRL's SFTConfig; the only place that knows TRL's names."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size * 2,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_ratio,
        lr_scheduler_type=config.scheduler,
        weight_decay=config.weight_decay,
        seed=config.seed,
        data_seed=config.seed,
        bf16=device.autocast == "bfloat16",
        fp16=device.autocast == "float16",
        use_cpu=device.type == "cpu",
        gradient_checkpointing=False,
        activation_checkpointing=checkpointing,
        dataloader_pin_memory=device.type == "cuda",
        # Rows come encoded; TRL would cut at max_length and drop what has no loss left, saying nothing.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        include_num_input_tokens_seen="non_padding",
        logging_steps=plan.log_every,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        save_strategy="epoch",
        save_total_limit=2,
        eval_strategy="epoch" if validate else "no",
        load_best_model_at_end=validate,
        metric_for_best_model="eval_loss" if validate else None,
        greater_is_better=False if validate else None,
    )


def dataset(rows: list[Encoded]) -> Any:
    """Encoded rows as the columns TRL's collator pads."""
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})


def lora(config: Config) -> Any:
    """The adapter's settings for PEFT; None when every weight is trained."""
    if config.adapter == "full" or config.lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.target_modules,
        task_type="CAUSAL_LM",
    )


class LengthGrouped:
    """The order of rows in an epoch: shuffled, yet batches hold rows of similar length, so little is padding.

    It depends on seed and epoch alone, so that a resumed run sees the rows the stopped one had not.
    """

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


def trainer_class() -> type[Any]:
    """SFTTrainer with our order of rows, complete-or-absent checkpoints, no model cards, and a cheaper CPU loss."""
    import torch
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> LengthGrouped:
            rows = self.train_dataset if train_dataset is None else train_dataset
            size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            return LengthGrouped([len(ids) for ids in rows["input_ids"]], size, self.args.data_seed)

        def create_model_card(self, *_arguments: Any, **_settings: Any) -> None:
            """None: lineage.yaml says what this model is."""

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            step = self.state.global_step
            files.write_json(Path(self.args.output_dir) / f"checkpoint-{step}" / COMPLETE, {"step": step})

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            """On a CPU, TRL scores the whole vocabulary at every position; we do where an answer stands."""
            if inputs["labels"].device.type != "cpu" or return_outputs or self.aux_loss_enabled:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            targets = inputs["labels"][:, 1:]
            columns = (targets != IGNORED).any(0).nonzero().squeeze(1)
            logits = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                use_cache=False,
                logits_to_keep=columns,
            ).logits
            wanted = targets[:, columns].flatten()
            total = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), wanted, ignore_index=IGNORED, reduction="sum"
            )
            return total / ((wanted != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)

    return Trainer


def watcher(recorder: run.Recorder, stop: run.Stop, bar: Bar, plan: Plan) -> Any:
    """The callback that records, shows progress, saves now and then, and stops when asked."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_more: Any) -> None:
            stop.in_loop = True

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_more: Any) -> None:
            recorder.tokens = int(state.num_input_tokens_seen)
            measured = {key: logs[key] for key in _MEASURES if key in logs}
            if any(not math.isfinite(value) for value in measured.values()):
                raise _diverged(state.global_step)
            if measured:
                recorder.measure(step=state.global_step, epoch=round(state.epoch, 4), **measured)

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


_MEASURES = ("loss", "eval_loss", "learning_rate", "grad_norm")


def _diverged(step: int) -> Invalid:
    return Invalid(
        _("training diverged: the loss is not a number at step {step}", step=step),
        mend=_("lower learning_rate (a tenth is a good next try), then train again"),
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


@contextlib.contextmanager
def refusals(config_path: Path) -> Iterator[None]:
    """What PEFT and TRL refuse on construction is a wrong setting; say which file it is in."""
    try:
        yield
    except ValueError as error:
        raise Invalid(
            _("these training settings do not fit the base model"),
            file=config_path,
            cause=str(error).splitlines()[0][:300],
            mend=_("correct the file; lora.target_modules: all-linear suits every model"),
        ) from error
