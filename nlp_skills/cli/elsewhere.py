"""train, evaluate and regenerate where `execution` names another machine: the same commands, the same words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame, run_words
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.execution.elsewhere import Outcome
    from nlp_skills.schema.remote_job import RemoteJob, Step
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder
    from nlp_skills.workspace.runs import Run

# How long a command that only looks waits for a server, and one that was asked to fetch.
GLANCE_SECONDS = 5.0
FETCH_SECONDS = 600.0


def is_meant(folder: TaskFolder, step: Step, version_name: str | None) -> bool:
    """Whether the step runs on another machine.

    Raises:
        Invalid: it is to run here, and goes on elsewhere.
    """
    from nlp_skills.execution import elsewhere

    if not elsewhere.runs_here(folder, step):
        return True
    elsewhere.refuse_open(folder, step, folder.version(version_name).name)
    return False


def carry_out(
    folder: TaskFolder,
    version_name: str | None,
    step: Step,
    arguments: Sequence[str],
    *,
    as_json: bool,
    detach: bool = False,
) -> int:
    """Run a step there and show what it shows; returns its exit code."""
    from nlp_skills.cli import offers
    from nlp_skills.execution import elsewhere

    version = folder.version(version_name)
    words = [*arguments, *["--json"] * (as_json and not detach)]
    showing = _screen(folder, version.name, step, shown=not (as_json or detach))
    with offers.asking(folder, version.name, step), showing as looked:
        try:
            done = elsewhere.carry_out(
                folder,
                version.name,
                step,
                words,
                detach=detach,
                tell=frame.note,
                show=frame.note,
                check=lambda: _check(folder, version.name, step),
                looked=looked,
            )
        except KeyboardInterrupt:
            _say_how_to_go_on(folder, step, version.name)
            return 130
    return _show(folder, done, as_json)


def _check(folder: TaskFolder, version_name: str, step: Step) -> None:
    """What can be refused without the packages that train: the documents, the rows, a task that was put away."""
    from nlp_skills.data import snapshot
    from nlp_skills.data import validate as gate
    from nlp_skills.errors import Invalid
    from nlp_skills.workspace import lifecycle, lock

    lifecycle.refuse_archived(folder, folder.task())
    if step == "regenerate":
        folder.sources()
        return
    version = folder.existing_version(version_name)
    if step == "evaluate":
        return
    report = gate.validate(folder)
    if not report.ok:
        raise Invalid(
            _("the data may not be trained on"),
            file=folder.root,
            cause="\n".join(finding.message for finding in report.findings if finding.severity == "error")[:2000],
            mend=_("see all of it: nlp-skills validate {task}", task=folder.root.name),
        )
    with lock.writing(folder):
        snapshot.write(folder, version)


@contextlib.contextmanager
def _screen(
    folder: TaskFolder, version_name: str, step: Step, *, shown: bool
) -> Iterator[Callable[[RemoteJob], None] | None]:
    """In a terminal, a training elsewhere has the screen of `status --watch`."""
    if step != "train" or not shown or not sys.stdout.isatty():
        yield None
        return
    from nlp_skills.cli import watch
    from nlp_skills.workspace import runs

    with watch.screen() as draw:

        def looked(_job: RemoteJob) -> None:
            run = runs.of(folder, version_name)
            if run is not None and run.status.place is not None:
                draw(run)

        yield looked


def _say_how_to_go_on(folder: TaskFolder, step: Step, version_name: str) -> None:
    from nlp_skills.workspace import remote_jobs

    job = remote_jobs.of(folder, step, version_name)
    task = folder.root.name
    if job is None:
        frame.note(_("stopped; nothing was begun"))
    elif job.state == "starting":
        frame.note(_("stopped before it began on {place}; the same command goes on", place=job.place))
    else:
        which = "" if step == "regenerate" else f" --version {version_name}"
        frame.note(_("it goes on on {place}; the same command follows it again", place=job.place))
        frame.note(_("look:   nlp-skills status {task}", task=task))
        frame.note(_("end it: nlp-skills stop {task}{which}", task=task, which=which))


def _show(folder: TaskFolder, done: Outcome, as_json: bool) -> int:
    job = done.job
    if done.exit_code is None:
        return _detached(folder, job, as_json)
    alike = ("--json" in job.arguments) == as_json
    if job.state == "fetched" and job.how is None and alike:
        if done.out:
            frame.say(done.out.rstrip("\n"))
        return done.exit_code
    return _show_what_is_here(folder, job, as_json, done.exit_code)


def _show_what_is_here(folder: TaskFolder, job: RemoteJob, as_json: bool, exit_code: int) -> int:
    """A step that printed nothing, or what was asked for otherwise: its end, as the files here tell of it."""
    from nlp_skills.workspace import runs

    run = runs.of(folder, job.version) if job.step == "train" else None
    ok = exit_code == 0 and job.state == "fetched"
    if as_json:
        told = run_words.as_dict(run) if run else None
        frame.emit({"ok": ok, "exit_code": exit_code, "job": job.dump(), "run": told})
        return exit_code
    if run is not None and run.status.place is not None:
        run_words.say(run)
        return exit_code
    for line in _trouble(folder, job):
        frame.say(line)
    return exit_code


def _trouble(folder: TaskFolder, job: RemoteJob) -> list[str]:
    """Why a job is lost, or how one ended that said nothing itself."""
    if job.state == "lost":
        return [f"{_named(job)}: {run_words.job_summary(job)}", f"  {_('mend:')} {again(folder, job)}"]
    if job.state == "fetched" and job.how:
        ended = _("{what} on {place} was cut short: {how}", what=_named(job), place=job.place, how=job.how)
        return [ended, f"  {_('mend:')} {again(folder, job)}"]
    return []


def again(folder: TaskFolder, job: RemoteJob) -> str:
    """The command that begins a step again, or goes on with it."""
    step = "resume" if job.step == "train" and job.checkpoint is not None else job.step
    which = "" if job.step == "regenerate" else f" --version {job.version}"
    return f"nlp-skills {step} {folder.root.name}{which}"


def _detached(folder: TaskFolder, job: RemoteJob, as_json: bool) -> int:
    from nlp_skills.workspace import runs

    run = runs.of(folder, job.version) if job.step == "train" else None
    if as_json:
        told: dict[str, Any] = run_words.as_dict(run) if run else {}
        frame.emit({"ok": True, "detached": True, "job": job.dump(), **told})
        return 0
    names = {"name": folder.root.name, "version": job.version}
    frame.say(_("{version} is being trained on {place}, which outlives this terminal",
                version=job.version, place=job.place))  # fmt: skip
    frame.say(_("look:   nlp-skills status {name} --version {version} --watch", **names))
    frame.say(_("read:   nlp-skills logs {name} --version {version} -f", **names))
    frame.say(_("end it: nlp-skills stop {name} --version {version}", **names))
    return 0


def glance(folder: TaskFolder, seconds: float = GLANCE_SECONDS) -> list[RemoteJob]:
    """Take in what is new of the task's jobs elsewhere, for a few seconds at most."""
    from nlp_skills.workspace import remote_jobs

    if not remote_jobs.open_ones(folder):
        return []
    from nlp_skills.execution import elsewhere

    return elsewhere.refresh(folder, seconds=seconds)


def lines(folder: TaskFolder, jobs: Sequence[RemoteJob]) -> list[str]:
    """What is to be known of jobs elsewhere that no run tells of: those on their way, evaluations, regenerations."""
    from nlp_skills.workspace import runs

    found = []
    for job in jobs:
        if job.step == "train" and runs.of(folder, job.version) is not None:
            continue
        found.append(f"{_named(job)}: {run_words.job_summary(job)}")
        found += [f"  {hint}" for hint in run_words.job_hints(job)]
        if job.state in ("starting", "ended", "lost"):
            found.append("  " + _("go on with: {command}", command=again(folder, job)))
    return found


def _named(job: RemoteJob) -> str:
    names = {"train": _("training"), "evaluate": _("evaluation"), "regenerate": _("data")}
    return names[job.step] if job.step == "regenerate" else f"{names[job.step]} {job.version}"


def looks_of(run: Run) -> Callable[[], None]:
    """What brings the run folder up to date before each look at it; nothing where the run is of this computer."""
    from nlp_skills.execution import following

    job = following.goes_on(run.folder, run.version) if run.status.place else None
    if job is None:
        return lambda: None
    from nlp_skills.execution import elsewhere

    follower = elsewhere.follower(run.folder, job, tell=frame.note)
    return lambda: None if follower.closed else (follower.step(), None)[1]


def meant(folder: TaskFolder, version_name: str | None) -> RemoteJob | None:
    """The open job that a command about runs means: of the version named, else of any; trainings first.

    Raises:
        Invalid: several are open and none is named.
    """
    from nlp_skills.errors import Invalid
    from nlp_skills.workspace import remote_jobs

    jobs = [job for job in remote_jobs.open_ones(folder) if version_name in (None, job.version)]
    trainings = [job for job in jobs if job.step == "train"] or jobs
    current = [job for job in trainings if job.version == folder.task().version] or trainings
    if len(current) > 1:
        names = ", ".join(f"{job.step} {job.version}" for job in current)
        raise Invalid(_("several go on elsewhere: {names}", names=names), mend=_("name one with --version"))
    return current[0] if current else None


def stop(folder: TaskFolder, job: RemoteJob, now: bool, timeout: float, as_json: bool) -> None:
    """End a job elsewhere and show how it ended."""
    from nlp_skills.execution import elsewhere
    from nlp_skills.workspace import runs

    ended = elsewhere.stop(folder, job, now, timeout, frame.note)
    run = runs.of(folder, job.version) if job.step == "train" else None
    if as_json:
        frame.emit({"ok": True, "job": ended.dump(), **(run_words.as_dict(run) if run else {})})
    elif run is not None:
        run_words.say(run)
    else:
        frame.say(_("{what} on {place} has ended", what=_named(job), place=job.place))


def refuse_to_resume(version: VersionFolder) -> None:
    """Refuse what has nothing to go on from, as far as this computer knows; the other one looks again.

    Raises:
        Invalid: the training is complete, or there never was one.
    """
    from nlp_skills.errors import Invalid
    from nlp_skills.execution import elsewhere, following
    from nlp_skills.workspace import runs
    from nlp_skills.workspace.folder import TaskFolder

    folder = TaskFolder(version.task_root)
    if following.goes_on(folder, version):
        return
    run, names = runs.of(folder, version.name), {"task": folder.root.name, "version": version.name}
    if run is not None and run.state == "completed":
        raise Invalid(
            _("the training of {version} is complete; there is nothing to go on with", version=version.name),
            mend=_("measure it: nlp-skills evaluate {task} --version {version}", **names),
        )
    if run is None or elsewhere.checkpoint_there(folder, version.name) is None:
        raise Invalid(
            _(
                "there is no checkpoint of {version} on {place} to go on from",
                version=version.name,
                place=folder.task().execution.host or folder.task().execution.provider,
            ),
            file=version.status_path,
            mend=_("train it from the start: nlp-skills train {task} --version {version}", **names),
        )
