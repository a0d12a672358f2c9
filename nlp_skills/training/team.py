"""A training of several processes on this machine, started, watched and ended together.

They compute; this process, which a person started, keeps the records. One that dies ends the others, so that nothing
waits for ever, and a run that ran out of memory can begin again with smaller batches and an empty GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.version import ModelInfo, RunStatus
from nlp_skills.training import fit, processes, rank, run
from nlp_skills.training.job import Job
from nlp_skills.training.preflight import Preflight
from nlp_skills.workspace import runs

LOOK_SECONDS = 0.2
# What the others get to end by themselves once one has broken.
GRACE_SECONDS = 10.0
# What the first process knows and the record's keeper does not.
_TOLD = ("step", "total_steps", "stepped", "step_seconds", "epoch", "loss", "metric", "tokens_per_second",
         "memory_gb", "eta_seconds")  # fmt: skip


def run_through(job: Job, checked: Preflight, recorder: run.Recorder, stop: run.Stop) -> fit.Fitted:
    """`fit.run_through` on `job.processes` devices.

    Raises:
        Interrupted: the run was asked to stop, and has left a checkpoint.
        KeyboardInterrupt: it was stopped at once.
        Invalid, Unavailable: what the process that broke first ran into.
    """
    _cleared(job)
    stop.in_loop = True
    with _started(job, checked, recorder) as team:
        killed = _watched(team, recorder, stop)
    stop.in_loop = False
    return _outcome(job, recorder, killed)


@dataclass
class _Team:
    """The processes, and the pipe on which the first tells the record."""

    programs: list[subprocess.Popen[bytes]]
    channel: int
    unread: bytes = field(default=b"")

    def told(self, seconds: float) -> Iterator[dict[str, Any]]:
        """What has been told within so many seconds."""
        ready, _out, _err = select.select([self.channel], [], [], seconds)
        if not ready:
            return
        heard = os.read(self.channel, 1 << 20)
        if not heard:  # the first has ended
            time.sleep(seconds)
        *lines, self.unread = (self.unread + heard).split(b"\n")
        yield from (json.loads(line) for line in lines)

    def running(self) -> list[subprocess.Popen[bytes]]:
        """Those that have not ended."""
        return [program for program in self.programs if program.poll() is None]


def _cleared(job: Job) -> None:
    shutil.rmtree(processes.notes(job.version), ignore_errors=True)
    processes.notes(job.version).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _started(job: Job, checked: Preflight, recorder: run.Recorder) -> Iterator[_Team]:
    """The processes, given their work; none of them outlives the block, nor this process."""
    reads, writes = os.pipe()
    port = processes.free_port()
    team = _Team([], reads)
    try:
        for number in range(job.processes):
            team.programs.append(_program(job, number, port, writes))
        os.close(writes)
        work = pickle.dumps(rank.Work(job, checked, recorder.status, recorder.seconds))
        for program in team.programs:
            assert program.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                program.stdin.write(work)
                program.stdin.flush()
        yield team
    finally:
        for program in team.running():
            program.kill()
        for program in team.programs:
            program.wait()
            assert program.stdin is not None
            with contextlib.suppress(OSError):
                program.stdin.close()
        os.close(reads)


def _program(job: Job, number: int, port: int, channel: int) -> subprocess.Popen[bytes]:
    """One process. Standard input stays open: its end is how a process learns that this one is gone."""
    command = [sys.executable, "-m", "nlp_skills.training.rank", *([str(channel)] if number == 0 else [])]
    log = processes.notes(job.version) / f"{number}.out"
    with contextlib.ExitStack() as stack:
        # What the first one shows (its bar) is this run's; the others have nothing to say to a person.
        out: Any = sys.stderr.fileno() if number == 0 else stack.enter_context(open(log, "wb"))
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=processes.environment(number, job.processes, port),
            pass_fds=[channel] if number == 0 else [],
            # Ctrl-C in a terminal reaches them through us alone, once.
            process_group=0,
        )


def _watched(team: _Team, recorder: run.Recorder, stop: run.Stop) -> list[tuple[int, int]]:
    """Keep the record until all have ended; returns those that a signal killed, with the signal."""
    asked, until = False, None
    killed: list[tuple[int, int]] = []
    while team.running():
        _record(team, recorder, LOOK_SECONDS)
        if stop.requested and not asked:
            asked = True
            team.programs[0].send_signal(signal.SIGTERM)
        broke = [(n, p.returncode) for n, p in enumerate(team.programs) if p.poll() not in (None, 0, rank.INTERRUPTED)]
        if broke and until is None:
            until = time.monotonic() + GRACE_SECONDS
            killed = [(number, -code) for number, code in broke if code < 0]
        if until is not None and time.monotonic() > until:
            break
    while _record(team, recorder, 0.0):
        pass
    return killed


def _record(team: _Team, recorder: run.Recorder, seconds: float) -> bool:
    """Record what is told within so many seconds; whether anything was."""
    lines = list(team.told(seconds))
    for line in lines:
        theirs = RunStatus.model_validate(line["status"])
        recorder.adopt({name: getattr(theirs, name) for name in _TOLD}, line["tokens"])
    return bool(lines)


def _outcome(job: Job, recorder: run.Recorder, killed: list[tuple[int, int]]) -> fit.Fitted:
    """What has become of it, by the words that the processes left."""
    left = rank.words(job.version)
    by_outcome = {word["outcome"]: word for word in reversed(left)}
    # One that breaks off because others are gone may be ended by an abort of its own.
    violent = [(number, by) for number, by in killed if by != signal.SIGABRT]
    if violent:
        raise _killed(*violent[0])
    if "failed" in by_outcome:
        raise rank.raised(by_outcome["failed"])
    if killed:
        raise _killed(*killed[0])
    if "stopped" in by_outcome:
        raise KeyboardInterrupt
    if "interrupted" in by_outcome:
        raise run.Interrupted(by_outcome["interrupted"]["step"])
    done = {word["rank"]: word for word in left}
    if len(done) < job.processes:
        missing = next(number for number in range(job.processes) if number not in done)
        raise _killed(missing, None)
    shutil.rmtree(processes.notes(job.version), ignore_errors=True)
    recorder.losses = [line["loss"] for line in runs.metrics(job.version) if "loss" in line]
    first = done[0]
    return fit.Fitted(
        None,
        None,
        first["best_step"],
        first["valid"],
        first["words"],
        made=rank.made(job.version),
        info=ModelInfo.model_validate(first["info"]),
        peak_memory_gb=max(word["peak_memory_gb"] for word in left),
    )


def _killed(number: int, by: int | None) -> rank.Failed:
    cause = None
    if by is not None:
        cause = _("signal {number} ({name})", number=by, name=signal.Signals(by).name)
    if by == signal.SIGKILL:
        cause = _("signal 9 (SIGKILL), which the system sends where the computer's memory runs out")
    said = {
        "message": _("process {rank} of this training died", rank=number),
        "cause": cause,
        "mend": _("go on from the last checkpoint with nlp-skills train; its output is in run/ranks/"),
    }
    return rank.Failed({"problem": said, "exit_code": Unavailable.exit_code, "reason": "process_died"})
