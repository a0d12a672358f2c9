"""A step on another machine, seen from the computer that sends it there: the same run, in the same files.

The job is kept before anything is sent, and every look at it goes on from what the files here say. So whoever looks
next, this process or another one days later, goes on where the last one was cut off.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.execution import costs, following, output, settling
from nlp_skills.execution import machine as machines
from nlp_skills.execution.following import Words, working
from nlp_skills.execution.machine import Machine
from nlp_skills.execution.ssh.connection import Unreachable
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.progress import Tell
from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.schema.source import FileImport
from nlp_skills.workspace import mirror, remote_jobs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_FIRST_SECONDS, _LOOK_SECONDS = 0.2, 1.0
_LONGEST_PAUSE_SECONDS = 30.0
# How long another command may take to ask a server for its folders.
_BEGIN_SECONDS = 60.0
CLOSED = ("fetched", "lost")


@dataclass(frozen=True)
class Outcome:
    """A job as it stands when we are done with it, and what its command printed; neither of it while it goes on."""

    job: RemoteJob
    exit_code: int | None = None
    out: str | None = None


def carry_out(
    folder: TaskFolder,
    version_name: str,
    step: Step,
    arguments: Sequence[str],
    *,
    detach: bool,
    tell: Tell,
    show: Tell,
    check: Callable[[], None] | None = None,
    looked: Callable[[RemoteJob], None] | None = None,
) -> Outcome:
    """Run `nlp-skills STEP … ARGUMENTS` where the task's execution says, or go on with one that runs there.

    `detach` returns as soon as it runs there. `tell` hears what we do, `show` what the step says beside its result as
    it says it. `check` refuses what can be refused here, and is called only where something new is to begin; `looked`
    is called after every look.

    Raises:
        Unreachable: the machine could not be reached before anything began.
        Invalid: the job that goes on is on another machine than `execution` names now.
        Problem: it cannot be done there; what runs there goes on.
        KeyboardInterrupt: this was ended; what runs there goes on.
    """
    machine = machines.of(folder)
    assert machine is not None, "execution names no other machine"
    version = folder.version(version_name)
    job, begun_before = _job(folder, version, step, arguments, machine, check)
    follower = Follower(folder, job, machine=machine, tell=tell, show=show)
    if begun_before:
        follower.shown = follower.words.size(follower.words.err)
        tell(_("{step} of {version} was sent to {place} before; going on with it",
               step=job.step, version=job.version, place=job.place))  # fmt: skip
    return follower.follow(detach=detach, looked=looked)


def _job(
    folder: TaskFolder,
    version: VersionFolder,
    step: Step,
    arguments: Sequence[str],
    machine: Machine,
    check: Callable[[], None] | None,
) -> tuple[RemoteJob, bool]:
    """The job that is open, else a new one, kept; and whether it was open."""
    with working(folder, wait_seconds=_BEGIN_SECONDS) as ours:
        job = remote_jobs.of(folder, step, version.name)
        if job is not None and job.state not in CLOSED:
            _refuse_another_place(folder, job)
            return job, True
        if not ours:
            raise Invalid(
                _("another command is at work on this task and its server"),
                file=folder.root,
                mend=_("wait until it ends, or stop it, then run this command again"),
            )
        if check is not None:
            check()
        before, job = job, machine.propose(folder, version, step, arguments)
        if before is not None:
            shutil.rmtree(Words(folder, before).root, ignore_errors=True)
        if step == "train":
            job = job.model_copy(update={"cost_before_usd": costs.before(version)})
        return remote_jobs.keep(folder, job), False


def runs_here(folder: TaskFolder, step: Step) -> bool:
    """Whether a step runs on this machine. Rows that are all in files of it are read here wherever it is trained."""
    return mirror.runs_here(folder) or (step == "regenerate" and _only_files_of_here(folder))


def _only_files_of_here(folder: TaskFolder) -> bool:
    sources = folder.sources().sources if folder.sources_path.is_file() else []
    return bool(sources) and all(isinstance(one, FileImport) and _found(folder, one.path) for one in sources)


def _found(folder: TaskFolder, path: str) -> bool:
    place = folder.root / path
    return place.exists() or any(Path(place.anchor).glob(str(place.relative_to(place.anchor))))


def _refuse_another_place(folder: TaskFolder, job: RemoteJob) -> None:
    wanted = folder.task().execution
    if wanted.type != job.type or (job.type == "remote_ssh" and wanted.host != job.host):
        raise open_elsewhere(folder, job)


def open_elsewhere(folder: TaskFolder, job: RemoteJob) -> Invalid:
    """The refusal to begin what another machine is at work on."""
    return Invalid(
        _("{step} of {version} goes on on {place}", step=job.step, version=job.version, place=job.place),
        file=folder.task_path,
        cause=_("execution in task.yaml names another place now"),
        mend=_("put it back, or end it there: nlp-skills stop {task} --version {version}",
               task=folder.root.name, version=job.version),
    )  # fmt: skip


def refuse_open(folder: TaskFolder, step: Step, version_name: str) -> None:
    """Refuse to begin a step here that another machine is at work on.

    Raises:
        Invalid: with how to end it there.
    """
    job = remote_jobs.of(folder, step, version_name)
    if job is not None and job.state not in CLOSED:
        raise open_elsewhere(folder, job)


@dataclass
class Follower:
    """Looks at one job again and again over one link, until it is over and everything of it is here."""

    folder: TaskFolder
    job: RemoteJob
    machine: Machine
    tell: Tell
    show: Tell
    shown: int = 0
    _server: Server | None = None
    _failures: int = 0
    _cut: float | None = None

    @property
    def words(self) -> Words:
        return Words(self.folder, self.job)

    @property
    def closed(self) -> bool:
        """Whether there is nothing left to look at."""
        return self.job.state in CLOSED

    def follow(self, *, detach: bool = False, looked: Callable[[RemoteJob], None] | None = None) -> Outcome:
        """Look until the end, or until it runs; a link that drops is waited for."""
        pause = _FIRST_SECONDS
        try:
            while True:
                self.step(begin=True)
                if looked is not None:
                    looked(self.job)
                if self.closed:
                    return self.outcome()
                if detach and self._runs():
                    return Outcome(self.job)
                pause = min(_LOOK_SECONDS, pause * 1.5)
                time.sleep(self._pause() if self._failures else pause)
        finally:
            self.close()

    def step(self, *, begin: bool = False) -> RemoteJob:
        """One look, with its words shown; trouble with the link is told once, and noted in the job.

        Raises:
            Problem: it is no trouble that goes away.
        """
        with working(self.folder) as ours:
            self.job = remote_jobs.of(self.folder, self.job.step, self.job.version) or self.job
            if ours and not self.closed:
                try:
                    self.job = self._look(begin)
                except Unreachable as problem:
                    self._broken(problem, begin)
                except Problem as problem:
                    self.job = following.note_trouble(self.folder, self.job, problem)
                    raise
                else:
                    self._mended()
        self._say()
        return self.job

    def _say(self) -> None:
        lines, self.shown = self.words.lines(self.shown)
        for line in lines:
            self.show(output.shown(line))

    def outcome(self) -> Outcome:
        """How a closed job ended."""
        words, job = self.words, self.job
        code = job.exit_code if job.exit_code is not None else 1
        return Outcome(job, code, words.text(words.out))

    def close(self) -> None:
        """Hang up."""
        server, self._server = self._server, None
        if server is not None:
            server.link.close()

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = self.machine.server(self.job)
        return self._server

    def _look(self, begin: bool) -> RemoteJob:
        seen = following.look(self.folder, self.job, self.server)
        if seen.state == "none":
            return self._never_heard_of(begin)
        if seen.state == "lost" or seen.state == "ended":
            # Of several machines, one that is taken back breaks what runs on the others.
            broke = seen.state == "lost" or seen.job.exit_code not in (0, 130)
            if broke and (gone := self.machine.gone(seen.job)) is not None:
                self._replace(gone, begin)
                return self.job
            if self.job.state != "ended":
                self._say()
                self.tell(_("over on {place}; fetching what it made", place=seen.job.place))
            self.job = seen.job
            return settling.settle(self.folder, self.machine, seen, self.server, self.tell)
        return seen.job

    def _never_heard_of(self, begin: bool) -> RemoteJob:
        if self.job.state == "starting":
            return self._begin() if begin else self.job
        return settling.lost(self.folder, self.job, f"nothing on {self.job.place} knows of it any more")

    def _begin(self) -> RemoteJob:
        job = self.job
        version = self.folder.version(job.version)
        try:
            begun = self.machine.begin(self.folder, version, job.step, job.arguments, job, self.tell)
        except Unreachable:
            raise
        except Problem as problem:
            settling.lost(self.folder, job, problem.message)
            raise
        return remote_jobs.keep(self.folder, begun)

    def _runs(self) -> bool:
        """Whether it goes on by itself; of a training, whether the run folder here says so."""
        if self.job.state != "running":
            return False
        version = self.folder.version(self.job.version)
        return self.job.step != "train" or following.followed(version, self.job)

    def _broken(self, problem: Unreachable, begin: bool) -> None:
        self.close()
        gone = self.machine.gone(self.job)
        if gone is not None:
            self._replace(gone, begin)
            return
        self.job = following.note_trouble(self.folder, self.job, problem)
        self._failures += 1
        if self._cut is None:
            self._cut = time.monotonic()
            words = f"{problem.message} ({problem.cause})" if problem.cause else problem.message
            self.tell(_("{problem}; what runs there goes on, and this tries again", problem=words))

    def _replace(self, gone: str, begin: bool) -> None:
        """A rented machine that is no more, or not yet, is rented; what outlives it is there again then."""
        if not begin:
            if self.job.state != "starting":
                self.job = following.note_trouble(self.folder, self.job, Unavailable(gone))
            return
        if self.job.state != "starting":
            self.tell(_("{place}: {gone}; another one goes on from what outlives it", place=self.job.place, gone=gone))
            self.job = remote_jobs.keep(self.folder, self.job.model_copy(update={"state": "starting"}))
            # What the other one says begins anew too.
            words, self.shown = self.words, 0
            for path in (words.out, words.err, words.root / "output.json"):
                path.unlink(missing_ok=True)
        try:
            self.job = self._begin()
        except Unreachable as problem:
            self.job = following.note_trouble(self.folder, self.job, problem)
            self._failures += 1

    def _mended(self) -> None:
        if self._cut is not None:
            seconds = time.monotonic() - self._cut
            self.tell(_("{place} answers again after {seconds:.0f} s", place=self.job.place, seconds=seconds))
        self._cut, self._failures = None, 0

    def _pause(self) -> float:
        return min(_LONGEST_PAUSE_SECONDS, 2.0 ** (self._failures - 1))


def checkpoint_there(folder: TaskFolder, version_name: str) -> int | None:
    """The step of the newest whole checkpoint where the last training of a version was sent, as it says now.

    Raises:
        Unavailable: it cannot be asked.
    """
    job = remote_jobs.of(folder, "train", version_name)
    if job is None or job.type != "remote_ssh":
        return job.checkpoint if job else None
    if job.host != folder.task().execution.host:
        return None
    looker = follower(folder, job)
    try:
        place = f"{job.folder}/models/checkpoints/{version_name}"
        found = looker.server.ask("poll", workdir=job.workdir, id=job.id, checkpoints=place)["checkpoint"]
        return None if found is None else int(found)
    finally:
        looker.close()


def _nobody(text: str) -> None:
    """Nobody listens."""


def follower(folder: TaskFolder, job: RemoteJob, *, tell: Tell = _nobody, show: Tell = _nobody) -> Follower:
    """What looks at a job that was sent before, wherever `execution` points now."""
    return Follower(folder, job, machines.of_job(folder, job), tell, show)


def refresh(folder: TaskFolder, *, seconds: float) -> list[RemoteJob]:
    """Look at the task's open jobs and take in what is new, for so many seconds at most.

    Trouble is noted in the jobs, never raised; what has ended is fetched where the time suffices, else by the next
    command. Nothing is begun.
    """
    found = remote_jobs.open_ones(folder)
    lookers = [_Look(folder, job) for job in found]
    until = time.monotonic() + seconds
    for one in lookers:
        one.thread.join(max(0.0, until - time.monotonic()))
    return [one.result(seconds) for one in lookers]


@dataclass
class _Look:
    """One job looked at in a thread of its own: it may hang, and nobody waits for it then."""

    folder: TaskFolder
    job: RemoteJob
    done: RemoteJob | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            looker = follower(self.folder, self.job)
            try:
                self.done = looker.step()
            except Problem as problem:
                self.done = following.note_trouble(self.folder, self.job, problem)
            finally:
                looker.close()

    def result(self, seconds: float) -> RemoteJob:
        if self.done is not None:
            return self.done
        late = Unavailable(_("{place} did not answer within {seconds:.0f} s", place=self.job.place, seconds=seconds))
        now = remote_jobs.of(self.folder, self.job.step, self.job.version) or self.job
        return now.model_copy(update={"trouble": late.message})


def stop(folder: TaskFolder, job: RemoteJob, now: bool, timeout: float, tell: Tell) -> RemoteJob:
    """End a job over there, wait for its end, and settle it here.

    Raises:
        Invalid: it has not ended after `timeout` seconds.
        Unreachable: the machine cannot be reached; the job goes on.
    """
    looker = follower(folder, job, tell=tell)
    try:
        try:
            state = looker.server.ask("stop", workdir=job.workdir, id=job.id, now=now)["state"]
        except Unreachable:
            gone = looker.machine.gone(job)
            if gone is None:
                raise
            with working(folder, wait_seconds=_BEGIN_SECONDS):
                return settling.lost(folder, job, gone)
        if state == "none" and job.state == "starting":
            return _given_up(folder, job)
        if not now:
            tell(_("{place} was asked to save a checkpoint after the step and to end; waiting", place=job.place))
        until = time.monotonic() + timeout
        while not looker.closed:
            looker.step()
            if not looker.closed and time.monotonic() > until:
                raise _still_going(folder, job, timeout)
            time.sleep(0 if looker.closed else _FIRST_SECONDS)
        return looker.job
    finally:
        looker.close()


def _given_up(folder: TaskFolder, job: RemoteJob) -> RemoteJob:
    with working(folder) as ours:
        if not ours:
            raise Invalid(
                _("{version} is being sent to {place} by another command", version=job.version, place=job.place),
                mend=_("end that command with Ctrl-C, then run this one again"),
            )
        return settling.lost(folder, job, "stopped before it began")


def _still_going(folder: TaskFolder, job: RemoteJob, seconds: float) -> Invalid:
    return Invalid(
        _("the run has not ended after {seconds:.0f} s", seconds=seconds),
        file=folder.version(job.version).status_path,
        mend=_("wait for its step, or end it at once: nlp-skills stop {task} --version {version} --now",
               task=folder.root.name, version=job.version),
    )  # fmt: skip
