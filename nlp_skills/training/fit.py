"""The run itself: model, trainer, loop."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import progress
from nlp_skills.i18n import _
from nlp_skills.schema.version import ModelInfo
from nlp_skills.training import (
    adapters,
    arguments,
    base_model,
    health,
    lengths,
    methods,
    order,
    packing,
    pitfalls,
    processes,
    run,
    selection,
    sharing,
    tracking,
    trainer,
)
from nlp_skills.training.device import Device, plain_attention
from nlp_skills.training.estimate import gate
from nlp_skills.training.job import Job
from nlp_skills.training.preflight import Preflight


@dataclass(frozen=True)
class Fitted:
    """A trained model. `valid` is what the kept weights, those of `best_step`, reached on the valid split.

    It is in memory (`state`: its weights, where each device held a part of them), or other processes have written it
    to `made` and leave what is to be said of it: `info`, and the most memory that one of them used.
    """

    model: Any
    tokenizer: Any
    best_step: int | None = None
    valid: dict[str, float] = field(default_factory=dict)
    words: str | None = None
    state: dict[str, Any] | None = field(default=None, repr=False)
    made: Path | None = None
    info: ModelInfo | None = None
    peak_memory_gb: float = 0.0


def run_through(job: Job, checked: Preflight, device: Device, recorder: run.Recorder, stop: run.Stop) -> Fitted:
    """Load, train, and pick the weights to keep.

    Raises:
        Interrupted: the run was asked to stop, and has left a checkpoint.
        Invalid: settings that do not fit the base model, or a run that went wrong.
        Unavailable: the base model, memory or disk space is missing.
    """
    tokenizer = base_model.load_tokenizer(
        job.config.base_model, root=job.folder.root, chat_template=job.config.chat_template
    )
    rows = checked.encoded["train"]
    if job.config.packing:
        rows = packing.packs(rows, checked.max_length or lengths.FAR)
    sampler = order.of(job.config, rows)
    plan = trainer.Plan.of(job.config, len(sampler))
    label = _("training {version}", version=job.version.name)
    with _shown(job, label, plan.total_steps - job.step) as (log, bar), _watched(job, recorder) as moved:
        made = _trainer(job, checked, device, plan, rows, sampler, tokenizer)
        _watch(made, job, recorder, stop, bar, plan, log)
        made.add_callback(trainer.signs(moved))
        made.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    stop.in_loop = False
    recorder.tokens = int(made.state.num_input_tokens_seen)
    recorder.step(made.state.global_step, made.state.max_steps, made.state.epoch, None)
    return _kept(made, job, tokenizer)


@contextlib.contextmanager
def _shown(job: Job, label: str, steps: int) -> Iterator[tuple[tracking.Log, progress.Bar]]:
    """What a person sees of the run: of several processes, the first shows it."""
    if not processes.first():
        yield lambda _line: None, progress.Hidden(label, steps)
        return
    with tracking.following(job) as log, progress.bar(label, steps) as bar:
        yield log, bar


@contextlib.contextmanager
def _watched(job: Job, recorder: run.Recorder) -> Iterator[Callable[[], None]]:
    """What the loop says that it moves to; of several processes each has torch's own patience with the others."""
    if job.processes > 1:
        yield lambda: None
        return
    with health.watching(recorder, job.version.run / "train.log") as watch:
        yield watch.sign


def _watch(
    made: Any,
    job: Job,
    recorder: run.Recorder,
    stop: run.Stop,
    bar: progress.Bar,
    plan: trainer.Plan,
    log: tracking.Log,
) -> None:
    guard = health.Guard(recorder.losses, plan.total_steps // plan.log_every)
    if job.processes == 1:
        made.add_callback(trainer.watcher(recorder, stop, bar, plan, guard, log))
        return
    agreed = sharing.Agreed()
    heard, decided = sharing.agreement(stop, agreed)
    for callback in (heard, trainer.watcher(recorder, agreed, bar, plan, guard, log), decided):
        made.add_callback(callback)


def _trainer(
    job: Job, checked: Preflight, device: Device, plan: trainer.Plan, rows: Any, sampler: Any, tokenizer: Any
) -> Any:
    from transformers import PrinterCallback

    valid = checked.encoded.get("valid") or None
    longest = max(len(row) for row in rows)
    checkpointing = gate.checkpointing(job, checked, device)
    # A model that is shared out goes to the devices piece by piece.
    model = adapters.load(job, dataclasses.replace(device, type="cpu") if _from_memory(job) else device)
    if plain_attention(device, longest):
        model.set_attn_implementation("eager")
    family = methods.of(job.config.method)
    selected = selection.of(job, tokenizer, device) if valid else None
    if selected is not None and job.processes > 1:
        selected = dataclasses.replace(selected, agreed=processes.broadcast)
    settings = arguments.made(
        job,
        device,
        log_every=plan.log_every,
        validate=valid is not None,
        checkpointing=checkpointing,
        best_by=selected.key if selected else "eval_loss",
    )
    train_rows, valid_rows = (
        family.dataset(rows, job.config),
        None if valid is None else family.dataset(valid, job.config),
    )
    if job.processes > 1:
        train_rows, sampler, valid_rows = _shared(job, settings, train_rows, sampler, valid_rows)
    parts = trainer.Parts(
        sampler=sampler,
        optimizer=lambda model, settings: adapters.optimizer(model, job.config, settings),
        selection=selected,
    )
    with arguments.refusals(job.version.config_path):
        made = trainer.with_parts(sharing.trainer_class(family.trainer_class(job.config)), parts)(
            model=model,
            args=settings,
            train_dataset=train_rows,
            eval_dataset=valid_rows,
            data_collator=family.collator(tokenizer, job.config),
            processing_class=tokenizer,
            peft_config=adapters.settings(job.config),
        )
    adapters.begin(made.model, job, checked.encoded["train"])
    made.remove_callback(PrinterCallback)
    pitfalls.built(made, len(train_rows), job.version.config_path)
    return made


def _from_memory(job: Job) -> bool:
    return job.sharded and job.config.adapter != "qlora"


def _shared(job: Job, settings: Any, train: Any, sampler: Any, valid: Any) -> tuple[Any, Any, Any]:
    """Rows and their order in whole rounds of all processes' batches."""
    if not sharing.takes_blanks(train):
        return train, sampler, valid
    sampler = sharing.Filled(sampler, job.micro_batch * job.processes, blank=len(train))
    if valid is not None:
        in_a_round = settings.per_device_eval_batch_size * job.processes
        valid = sharing.with_blanks(valid, sharing.missing(len(valid), in_a_round))
    return sharing.with_blanks(train), sampler, valid


def _kept(made: Any, job: Job, tokenizer: Any) -> Fitted:
    """The trainer has gone back to the best epoch's weights by itself; say which, and what they reached."""
    state = None
    if job.sharded:
        # Every process has its part in putting them together.
        state = made.accelerator.get_state_dict(made.deepspeed if job.sharding == "zero3" else made.model)
    if job.processes > 1:
        sharing.wait()
    best = made.state.best_global_step
    if not best:
        return Fitted(made.model, tokenizer, state=state)
    by = made.args.metric_for_best_model
    lines = [line for line in made.state.log_history if line["step"] == best]
    valid = {key: value for line in lines for key, value in line.items() if trainer.is_of_valid(key)}
    return Fitted(made.model, tokenizer, best, valid, _why(made, best, by), state=state)


def _why(made: Any, best: int, by: str) -> str:
    if by == "eval_loss":
        return f"kept the weights of step {best}, the lowest loss on valid"
    words = f"kept the weights of step {best}, the highest {by.removeprefix('eval_')} on valid"
    if made.state.global_step < made.state.max_steps:
        words = f"stopped early at step {made.state.global_step}; {words}"
    return words
