"""Supervised fine-tuning of one version, from its configuration to a saved model and its record.

The order is: check, take the lock, decide where to start, run, save, record. Stopped or killed anywhere,
the same command goes on from the last whole checkpoint.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import RunStatus
from nlp_skills.training import artefact, base_model, failure, identity, preflight, run, trainer
from nlp_skills.training.device import Device, needs_checkpointing, pick, plain_attention
from nlp_skills.workspace import active, digest, lifecycle, lineage, lock, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Job:
    """One training: what, with which settings, and from which checkpoint (None: from the start)."""

    folder: TaskFolder
    version: VersionFolder
    task: Task
    config: Config
    identity: identity.Identity
    checkpoint: Path | None = None

    @property
    def step(self) -> int:
        """The step to go on from."""
        return int(self.checkpoint.name.rpartition("-")[2]) if self.checkpoint else 0


def train(
    folder: TaskFolder,
    version: str | None = None,
    *,
    resume: bool = True,
    on_checked: Callable[[preflight.Preflight], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> RunStatus:
    """Train a version, or finish a training that was stopped; what is complete already is left as it is.

    Args:
        folder: the task.
        version: its name; the task's current one when left out.
        resume: False starts over, also over a completed version.
        on_checked: called with the preflight's result before the first step.
        on_stop: called when Ctrl-C or SIGTERM has been heard and the run is coming to its end.

    Returns:
        The run's status: completed, or interrupted with a checkpoint to go on from.

    Raises:
        Invalid: the preflight found errors, or the checkpoint is of other data or settings.
        Unavailable: a package, the base model, memory or disk space is missing.
        KeyboardInterrupt: a second Ctrl-C; the last periodic checkpoint stays.
    """
    extras.need("train", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = preflight.configured(folder, version)
    _refuse_a_second_run(found)
    with lock.writing(folder):
        job = _job(folder, found)
        if resume and _completed(job):
            _point(job)  # a kill may have come between the model and the link
            status = found.status()
            assert status is not None
            return status
        job = _starting_point(job, resume)
        checked = preflight.check(folder, found.name)
        if on_checked is not None:
            on_checked(checked)
        if not checked.ok:
            raise checked.problem()
        return _recorded(job, checked, on_stop or (lambda: None))


def _refuse_a_second_run(version: VersionFolder) -> None:
    status = version.status()
    if status is not None and status.pid != os.getpid() and runs.alive(status):
        raise Invalid(
            _("version {name} is being trained by process {pid}", name=version.name, pid=status.pid),
            file=version.status_path,
            mend=_("wait until it ends, or stop it with: kill {pid}", pid=status.pid),
        )


def _job(folder: TaskFolder, version: VersionFolder) -> Job:
    task, config = folder.task(), version.config()
    preflight.refuse_unavailable(task, config, version)
    if not folder.split("train").is_file():
        raise Invalid(
            _("there is no data to train on"),
            file=folder.split("train"),
            mend=_("make it with: nlp-skills regenerate {task}", task=folder.root.name),
        )
    return Job(folder, version, task, config, identity.of(folder, task, config))


def _completed(job: Job) -> bool:
    """Whether the version is trained with exactly this.

    Raises:
        Invalid: it is trained, but with something else.
    """
    status = job.version.status()
    saved = artefact.place(job.version, job.config).is_dir() and job.version.model_info_path.is_file()
    if status is None or status.state != "completed" or not saved:
        return False
    changed = identity.changed(job.version, job.identity)
    if changed:
        raise Invalid(
            _("version {name} was trained with something else", name=job.version.name),
            cause=_("changed since: {names}", names=", ".join(changed)),
            mend=_("make a new version with nlp-skills new-version, or replace this one with --again"),
        )
    return changed is not None


def _starting_point(job: Job, resume: bool) -> Job:
    """The job with the checkpoint it goes on from; older checkpoints of no use are removed.

    Raises:
        Invalid: there is a checkpoint, but data, settings or base model are no longer the same.
    """
    checkpoint = trainer.last_checkpoint(job.version.checkpoints) if resume else None
    changed = identity.changed(job.version, job.identity)
    if checkpoint is None or changed is None:
        shutil.rmtree(job.version.checkpoints, ignore_errors=True)
        return job
    if changed:
        raise Invalid(
            _("the stopped training of {name} cannot go on", name=job.version.name),
            file=checkpoint,
            cause=_("changed since: {names}", names=", ".join(changed)),
            mend=_("put these back as they were, or start over with --again"),
        )
    return Job(job.folder, job.version, job.task, job.config, job.identity, checkpoint)


def _recorded(job: Job, checked: preflight.Preflight, on_stop: Callable[[], None]) -> RunStatus:
    """Run the job and leave the records right, however it ends."""
    from nlp_skills.data import snapshot

    full = job.config.adapter == "full"
    if job.folder.task().status == "training":
        _move(job, "configuring", "the training before was killed")
    _move(job, "training", f"training {job.version.name}" + (f" from step {job.step}" if job.step else ""))
    device = pick(cuda_devices=job.task.execution.cuda_devices, train_all_weights=full)
    try:
        snapshot.write(job.folder, job.version)
        begun = artefact.record_setup(
            job.folder, job.version, job.config, device, base=job.identity[job.config.base_model], step=job.step
        )
        recorder = _recorder(job)
    except BaseException as error:
        _move(job, "configuring", f"training failed: {failure.in_short(error)}")
        raise
    try:
        log = job.version.run / "train.log"
        with run.Stop(on_stop) as stop, run.library_log(log), base_model.without_bars():
            message = _run(job, checked, device, recorder, stop)
        status = recorder.end("completed", message)
        _move(job, "evaluating", f"trained {job.version.name}")
    except run.Interrupted as stopped:
        status = recorder.end("interrupted", f"stopped at step {stopped.step}, checkpoint saved")
        _move(job, "configuring", f"training {stopped}")
    except BaseException as error:
        problem = _failed(job, recorder, error)
        artefact.record_run(job.version, begun, device, recorder)
        if problem is None or problem is error:
            raise
        raise problem from error
    artefact.record_run(job.version, begun, device, recorder)
    if status.state == "completed":
        _point(job)
    return status


def _failed(job: Job, recorder: run.Recorder, error: BaseException) -> Exception | None:
    stopped = isinstance(error, KeyboardInterrupt)
    text = f"stopped at step {recorder.status.step}" if stopped else failure.in_short(error)
    recorder.end("interrupted" if stopped else "failed", text)
    _move(job, "configuring", f"training {text}" if stopped else f"training failed: {text}")
    return failure.explain(error, job.folder.root)


def _move(job: Job, to: Any, reason: str) -> None:
    """The task's state follows its current version; training an older one again leaves it alone."""
    if job.folder.task().version == job.version.name:
        lifecycle.move(job.folder, to, reason)
    digest.write(job.folder)


def _point(job: Job) -> None:
    """models/current leads to what was trained, when that is the active version."""
    if job.folder.task().version == job.version.name:
        active.point(job.folder)


def _recorder(job: Job) -> run.Recorder:
    before = job.version.status() if job.checkpoint else None
    kept = run.rewind(job.version, job.step)
    files.write_json(identity.path(job.version), job.identity)
    seconds = max(kept[-1]["seconds"] if kept else 0.0, _seconds_recorded(job))
    started = before.started if before else None
    recorder = run.Recorder(job.version, job.task.task_name, step=job.step, started=started, seconds=seconds)
    recorder.losses = [line["loss"] for line in kept if "loss" in line]
    recorder.tokens = kept[-1].get("tokens", 0) if kept else 0
    return recorder


def _seconds_recorded(job: Job) -> float:
    """The seconds that a run stopped at this very step had taken, saving included."""
    earlier = job.version.lineage() if job.checkpoint else None
    ran = earlier.run if earlier else None
    return (ran.seconds if ran and ran.steps == job.step else None) or 0.0


def _run(job: Job, checked: preflight.Preflight, device: Device, recorder: run.Recorder, stop: run.Stop) -> str | None:
    """Load, train, save. Returns a sentence on which weights were kept."""
    plan = trainer.Plan.of(job.config, len(checked.encoded["train"]))
    tokenizer = base_model.load_tokenizer(job.config.base_model, root=job.folder.root)
    model = base_model.load_model(job.config.base_model, device, root=job.folder.root)
    label = _("training {version}", version=job.version.name)
    with progress.bar(label, plan.total_steps - job.step) as bar:
        made = _trainer(job, checked, device, plan, model, tokenizer)
        made.add_callback(trainer.watcher(recorder, stop, bar, plan))
        made.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    stop.in_loop = False
    _save(job, device, made.model, tokenizer)
    recorder.tokens = int(made.state.num_input_tokens_seen)
    recorder.step(made.state.global_step, made.state.max_steps, made.state.epoch, None)
    best = made.state.best_global_step
    return f"kept the weights of step {best}, the lowest loss on valid" if best else None


def _trainer(
    job: Job, checked: preflight.Preflight, device: Device, plan: trainer.Plan, model: Any, tokenizer: Any
) -> Any:
    from transformers import PrinterCallback

    rows, valid = checked.encoded["train"], checked.encoded.get("valid") or None
    longest = max(len(row) for row in rows)
    if plain_attention(device, longest):
        model.set_attn_implementation("eager")
    crowded = needs_checkpointing(device, model, job.config.batch_size, longest)
    arguments = trainer.settings(
        job.config, device, plan, job.version.checkpoints, validate=valid is not None, checkpointing=crowded
    )
    with trainer.refusals(job.version.config_path):
        made = trainer.trainer_class()(
            model=model,
            args=arguments,
            train_dataset=trainer.dataset(rows),
            eval_dataset=None if valid is None else trainer.dataset(valid),
            processing_class=tokenizer,
            peft_config=trainer.lora(job.config),
        )
    made.remove_callback(PrinterCallback)
    return made


def _save(job: Job, device: Device, model: Any, tokenizer: Any) -> None:
    """The model, its description, and nothing that speaks of an earlier model of this name."""
    artefact.save_model(model, tokenizer, job.version, job.config)
    info = artefact.model_info(job.version, job.task, job.config, device, model, job.identity[job.config.base_model])
    artefact.record_model(job.version, info)
    for stale in (job.version.results_path, job.version.report_path):
        stale.unlink(missing_ok=True)
    lineage.record(job.version, results=None)
    shutil.rmtree(job.version.checkpoints, ignore_errors=True)
