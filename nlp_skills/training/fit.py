"""The run itself: model, trainer, loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nlp_skills import progress
from nlp_skills.i18n import _
from nlp_skills.training import adapters, arguments, base_model, methods, order, run, selection, tracking, trainer
from nlp_skills.training.device import Device, needs_checkpointing, plain_attention
from nlp_skills.training.health import Guard
from nlp_skills.training.job import Job
from nlp_skills.training.preflight import Preflight


@dataclass(frozen=True)
class Fitted:
    """A trained model in memory. `valid` is what the kept weights, those of `best_step`, reached on the valid split."""

    model: Any
    tokenizer: Any
    best_step: int | None = None
    valid: dict[str, float] = field(default_factory=dict)
    words: str | None = None


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
    rows = order.of(job, checked.encoded["train"])
    plan = trainer.Plan.of(job.config, len(rows))
    label = _("training {version}", version=job.version.name)
    with tracking.following(job) as log, progress.bar(label, plan.total_steps - job.step) as bar:
        made = _trainer(job, checked, device, plan, rows, tokenizer)
        made.add_callback(trainer.watcher(recorder, stop, bar, plan, Guard(), log))
        made.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    stop.in_loop = False
    recorder.tokens = int(made.state.num_input_tokens_seen)
    recorder.step(made.state.global_step, made.state.max_steps, made.state.epoch, None)
    return _kept(made, tokenizer)


def _trainer(job: Job, checked: Preflight, device: Device, plan: trainer.Plan, sampler: Any, tokenizer: Any) -> Any:
    from transformers import PrinterCallback

    rows, valid = checked.encoded["train"], checked.encoded.get("valid") or None
    longest = max(len(row) for row in rows)
    model = adapters.load(job, device)
    if plain_attention(device, longest):
        model.set_attn_implementation("eager")
    family = methods.of(job.config.method)
    selected = selection.of(job, tokenizer) if valid else None
    settings = arguments.made(
        job,
        device,
        log_every=plan.log_every,
        validate=valid is not None,
        checkpointing=needs_checkpointing(device, model, job.micro_batch, longest),
        best_by=selected.key if selected else "eval_loss",
    )
    parts = trainer.Parts(
        sampler=sampler,
        optimizer=lambda model, settings: adapters.optimizer(model, job.config, settings),
        selection=selected,
    )
    with arguments.refusals(job.version.config_path):
        made = trainer.with_parts(family.trainer_class(job.config), parts)(
            model=model,
            args=settings,
            train_dataset=family.dataset(rows, job.config),
            eval_dataset=None if valid is None else family.dataset(valid, job.config),
            data_collator=family.collator(tokenizer, job.config),
            processing_class=tokenizer,
            peft_config=adapters.settings(job.config),
        )
    adapters.begin(made.model, job, rows)
    made.remove_callback(PrinterCallback)
    return made


def _kept(made: Any, tokenizer: Any) -> Fitted:
    """The trainer has gone back to the best epoch's weights by itself; say which, and what they reached."""
    best = made.state.best_global_step
    if not best:
        return Fitted(made.model, tokenizer)
    by = made.args.metric_for_best_model
    lines = [line for line in made.state.log_history if line["step"] == best]
    valid = {key: value for line in lines for key, value in line.items() if trainer.is_of_valid(key)}
    if by == "eval_loss":
        words = f"kept the weights of step {best}, the lowest loss on valid"
    else:
        words = f"kept the weights of step {best}, the highest {by.removeprefix('eval_')} on valid"
        if made.state.global_step < made.state.max_steps:
            words = f"stopped early at step {made.state.global_step}; {words}"
    return Fitted(made.model, tokenizer, best, valid, words)
