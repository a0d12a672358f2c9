"""The training of one version, from its configuration to a saved model and its record.

The order is: check, decide where to start, record the beginning; run; save, record the end. The task is locked
while records change, not while the model learns, which takes hours in which other versions can be worked on.
Stopped or killed anywhere, the same command goes on from the last whole checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.version import LineageRun, RunStatus
from nlp_skills.training import (
    artefact,
    base_model,
    curves,
    failure,
    fit,
    health,
    identity,
    preflight,
    processes,
    rank,
    run,
    team,
)
from nlp_skills.training.device import Device, pick
from nlp_skills.training.estimate import gate
from nlp_skills.training.job import Job
from nlp_skills.workspace import active, digest, lifecycle, lineage, lock, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What a finished training waits for the task's lock: its result is worth more than anybody's patience.
LOCK_SECONDS = 3600.0


def train(
    folder: TaskFolder,
    version: str | None = None,
    *,
    resume: bool = True,
    track: bool = False,
    on_checked: Callable[[preflight.Preflight], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> RunStatus:
    """Train a version, or finish a training that was stopped; what is complete already is left as it is.

    Args:
        folder: the task.
        version: its name; the task's current one when left out.
        resume: False starts over, also over a completed version.
        track: show the curves live in Trackio.
        on_checked: called with the preflight's result before the first step.
        on_stop: called when Ctrl-C or SIGTERM has been heard and the run is coming to its end.

    Returns:
        The run's status: completed, or interrupted with a checkpoint to go on from.

    Raises:
        Invalid: the preflight found errors, the checkpoint is of other data or settings, or the run went wrong.
        Unavailable: a package, the base model, memory or disk space is missing.
        KeyboardInterrupt: a second Ctrl-C; the last periodic checkpoint stays.
        SystemExit: a launcher started several processes, this is not the first of them, and its part is done.
    """
    if processes.joined() and not processes.first():
        rank.follow(folder, version)
    found = _found(folder, version)
    with rank.others(folder, found) as tell, lock.writing(folder):
        ready = _ready(folder, found, resume=resume, track=track, on_checked=on_checked)
        if isinstance(ready, RunStatus):
            return ready
        job, checked = ready
        begun = _begin(job, checked)
        begun.job = tell(begun.job, checked)
    return _carry_out(begun, checked, on_stop or (lambda: None))


def check(
    folder: TaskFolder,
    version: str | None = None,
    *,
    resume: bool = True,
    track: bool = False,
    on_checked: Callable[[preflight.Preflight], None] | None = None,
) -> RunStatus | None:
    """Refuse what `train` would refuse, before anything begins.

    Returns:
        The status of a version that is complete already; None where there is something to train.

    Raises:
        Invalid, Unavailable: as `train`, as far as it can be told before the first step.
    """
    found = _found(folder, version)
    with lock.writing(folder):
        ready = _ready(folder, found, resume=resume, track=track, on_checked=on_checked)
    return ready if isinstance(ready, RunStatus) else None


def _found(folder: TaskFolder, version: str | None) -> VersionFolder:
    extras.need("train", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return preflight.configured(folder, version)


def _ready(
    folder: TaskFolder,
    version: VersionFolder,
    *,
    resume: bool,
    track: bool,
    on_checked: Callable[[preflight.Preflight], None] | None,
) -> tuple[Job, preflight.Preflight] | RunStatus:
    """What is to be trained, checked; the status of a version that is complete already. The caller holds the lock."""
    _refuse_a_second_run(version)
    job = _job(folder, version, track=track)
    if resume and _completed(job):
        _point(job)  # a kill may have come between the model and the link
        status = version.status()
        assert status is not None
        return status
    job = _starting_point(job, resume)
    checked = preflight.check(folder, version.name)
    if on_checked is not None:
        on_checked(checked)
    if not checked.ok:
        raise checked.problem()
    _refuse_what_does_not_fit(job, checked)
    return job, checked


def _refuse_what_does_not_fit(job: Job, checked: preflight.Preflight) -> None:
    device = _device(job)
    gate.fits(dataclasses.replace(job, sharding=gate.sharding(job, checked, device)), checked, device)


def _device(job: Job) -> Device:
    return pick(cuda_devices=job.task.execution.cuda_devices, train_all_weights=job.config.adapter == "full")


def _refuse_a_second_run(version: VersionFolder) -> None:
    status = version.status()
    if status is not None and runs.alive(status) and (status.pid != os.getpid() or runs.elsewhere(status)):
        raise runs.busy(version, status)


def _job(folder: TaskFolder, version: VersionFolder, *, track: bool) -> Job:
    if track:
        extras.need("track", "trackio")
    task, config = folder.task(), version.config()
    preflight.refuse_unavailable(task, version)
    if not folder.split("train").is_file():
        raise Invalid(
            _("there is no data to train on"),
            file=folder.split("train"),
            mend=_("make it with: nlp-skills regenerate {task}", task=folder.root.name),
        )
    several = processes.count(task.execution)
    micro_batch, accumulation = processes.divided(config, several, version.config_path)
    return Job(
        folder,
        version,
        task,
        config,
        identity.of(folder, task, config),
        micro_batch=micro_batch,
        accumulation=accumulation,
        processes=several,
        track=track,
    )


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
    # Whoever has lowered the learning rate since wants to begin anew, and nobody to diverge again.
    resume = resume and not health.hopeless(job.version.status())
    checkpoint = runs.last_checkpoint(job.version.checkpoints) if resume else None
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
    return dataclasses.replace(job, checkpoint=checkpoint)


@dataclass
class _Begun:
    """A training that is recorded as running. `job` is replaced when it goes on with smaller batches."""

    job: Job
    device: Device
    record: LineageRun
    recorder: run.Recorder
    expected: gate.Expected | None = None


def _begin(job: Job, checked: preflight.Preflight) -> _Begun:
    """Leave the records saying what starts now, or as they were."""
    from nlp_skills.data import snapshot

    if job.folder.task().status == "training":
        _move(job, "configuring", "the training before was killed")
    _move(job, "training", f"training {job.version.name}" + (f" from step {job.step}" if job.step else ""))
    try:
        device = _device(job)
        job = dataclasses.replace(job, sharding=gate.sharding(job, checked, device))
        snapshot.write(job.folder, job.version)
        expected = gate.expected(job, checked, device)
        setup = artefact.record_setup(job, device).model_copy(update={"max_length": checked.max_length})
        return _Begun(job, device, setup, _recorder(job), expected)
    except BaseException as error:
        _move(job, "configuring", f"training failed: {failure.in_short(error)}")
        raise


def _carry_out(begun: _Begun, checked: preflight.Preflight, on_stop: Callable[[], None]) -> RunStatus:
    """Run it and leave the records right, however it ends."""
    job, recorder = begun.job, begun.recorder
    try:
        log = job.version.run / "train.log"
        with run.Stop(on_stop) as stop, run.library_log(log), base_model.without_bars():
            fitted = _fitted(begun, checked, stop)
            with _records(job):
                _save(job, begun.device, fitted)
        status = _ended(begun, "completed", fitted=fitted)
    except run.Interrupted as stopped:
        status = _ended(begun, "interrupted", f"stopped at step {stopped.step}, checkpoint saved")
    except KeyboardInterrupt:
        _ended(begun, "interrupted", f"stopped at step {recorder.status.step}")
        raise
    except BaseException as error:
        problem = failure.explain(error, job.folder.root)
        _failed(begun, error, problem)
        if problem is None or problem is error:
            raise
        raise problem from error
    return status


def _failed(begun: _Begun, error: BaseException, problem: Problem | None) -> None:
    """The records of a run that broke. On a full disk, what half a checkpoint takes is room enough for them.

    Where there is none even so, the run still says that it goes on; its process gone, it is taken for dead.
    """
    for path in begun.job.version.checkpoints.glob("*"):
        if not (path / runs.COMPLETE).is_file():
            shutil.rmtree(path, ignore_errors=True)
    code = problem.exit_code if problem else 1
    words = failure.in_short(error)
    if problem is not None and problem is not error:
        words = ": ".join(filter(None, [problem.message, problem.cause]))
    with contextlib.suppress(Problem, OSError):
        _ended(begun, "failed", words, reason=failure.reason(error), exit_code=code)


def _fitted(begun: _Begun, checked: preflight.Preflight, stop: run.Stop) -> fit.Fitted:
    """Train; where memory runs out, once more from the last checkpoint with half the rows in memory."""
    job = begun.job
    try:
        return _run(begun, checked, stop)
    except Exception as error:
        # Processes that a launcher started cannot begin again without it.
        smaller = job.halved() if failure.reason(error) == "out_of_memory" and not processes.joined() else None
        if smaller is None:
            raise
        # What the traceback holds on to is what there was no room for.
        error.__traceback__ = None
    gc.collect()
    begun.job = dataclasses.replace(smaller, checkpoint=runs.last_checkpoint(job.version.checkpoints))
    begun.recorder.halve(begun.job.step, run.rewind(job.version, begun.job.step))
    progress.notice(
        _("memory ran out; going on from step {step} with {rows} rows at a time, {times} times a step",
          step=begun.job.step, rows=begun.job.micro_batch, times=begun.job.accumulation)
    )  # fmt: skip
    stop.in_loop = False
    return _run(begun, checked, stop)


def _run(begun: _Begun, checked: preflight.Preflight, stop: run.Stop) -> fit.Fitted:
    """The run itself: here, in processes of our own, or with those that a launcher started."""
    job, recorder = begun.job, begun.recorder
    if job.processes == 1:
        return fit.run_through(job, checked, begun.device, recorder, stop)
    if processes.joined():
        return rank.lead(job, checked, begun.device, recorder, stop)
    return team.run_through(job, checked, recorder, stop)


def _records(job: Job) -> Any:
    """The task's lock, for as long as it takes."""
    return lock.writing(job.folder, wait_seconds=LOCK_SECONDS)


_NEXT: dict[str, tuple[Any, str]] = {
    "completed": ("evaluating", "trained {version}"),
    "interrupted": ("configuring", "training {message}"),
    "failed": ("configuring", "training failed: {message}"),
}


def _ended(
    begun: _Begun,
    state: Any,
    message: str | None = None,
    *,
    reason: Any = None,
    fitted: fit.Fitted | None = None,
    exit_code: int | None = None,
) -> RunStatus:
    """The records of a run that is over; a completed one leads to the model it left."""
    job = begun.job
    with _records(job):
        words = message or (fitted.words if fitted else None)
        status = begun.recorder.end(state, words, reason=reason, exit_code=exit_code)
        to, told = _NEXT[state]
        _move(job, to, told.format(version=job.version.name, message=message))
        artefact.record_run(job, begun.record, begun.device, begun.recorder, fitted)
        curves.draw(job.version)
        if state == "completed":
            _point(job)
    gate.learn(begun.expected, begun.device, status)
    return status


def _move(job: Job, to: Any, reason: str) -> None:
    """The task's state follows its current version; training an older one again leaves it alone."""
    task = job.folder.task()
    if task.version == job.version.name and task.status != "archived":
        if to == "evaluating" and task.status != "training":
            # While this was learning, the task stood with another version for a time.
            lifecycle.move(job.folder, "training", f"training {job.version.name}")
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
    recorder.processes(job.processes)
    recorder.losses = [line["loss"] for line in kept if "loss" in line]
    recorder.tokens = kept[-1].get("tokens", 0) if kept else 0
    return recorder


def _seconds_recorded(job: Job) -> float:
    """The seconds that a run stopped at this very step had taken, saving included."""
    earlier = job.version.lineage() if job.checkpoint else None
    ran = earlier.run if earlier else None
    return (ran.seconds if ran and ran.steps == job.step else None) or 0.0


def _save(job: Job, device: Device, fitted: fit.Fitted) -> None:
    """The model, its description, and nothing that speaks of an earlier model of this name."""
    if fitted.made is not None:
        artefact.install(fitted.made, job.version, job.config)
    else:
        artefact.save_model(fitted.model, fitted.tokenizer, job.version, job.config, fitted.state)
    info = fitted.info or artefact.model_info(job, device, fitted.model)
    artefact.record_model(job.version, info)
    for stale in (job.version.results_path, job.version.report_path, job.version.markdown_path):
        stale.unlink(missing_ok=True)
    lineage.record(job.version, results=None)
    shutil.rmtree(job.version.checkpoints, ignore_errors=True)
