"""Live curves in Trackio, for whoever asks for them: a task is a project, a version is a run.

Trackio runs in a program of its own that reads figures from a pipe. It keeps them on this machine and asks the network
for nothing; whatever becomes of it, the training goes on, and metrics.jsonl has the same figures.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from nlp_skills import progress
from nlp_skills.i18n import _
from nlp_skills.training.job import Job
from nlp_skills.workspace import runs

Log = Callable[[dict[str, Any]], None]

# How long a run that is over waits until its figures are where they belong.
PATIENCE_SECONDS = 30.0
# What would have Trackio send figures away, and what keeps it and the Hub's client at home.
_AWAY = ("SPACE_ID", "SERVER_URL", "WRITE_TOKEN", "BUCKET_ID", "DATASET_ID", "WEBHOOK_URL", "REGISTRY_BUCKET_ID")
_HOME = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@contextlib.contextmanager
def following(job: Job) -> Iterator[Log]:
    """A function that takes one line of figures; it does nothing where nobody asked for tracking."""
    if not job.track:
        yield lambda _line: None
        return
    try:
        pipe = _Pipe(job.version.run / "train.log")
    except OSError as error:
        progress.notice(_("Trackio cannot be started, the training can: {error}", error=str(error)))
        yield lambda _line: None
        return
    about = {"project": job.task.task_name, "name": job.version.name, "config": job.config.dump()}
    pipe.send({**about, "resume": "allow" if job.step else "never"})
    for line in runs.metrics(job.version):
        pipe.send(line)
    progress.notice(_("live curves: {command}", command=look(job.task.task_name)))
    try:
        yield pipe.send
    finally:
        pipe.close()


def look(project: str) -> str:
    """The command that shows a project's curves in a browser."""
    program = "trackio" if shutil.which("trackio") else str(Path(sys.executable).with_name("trackio"))
    return shlex.join([program, "show", "--project", project])


class _Pipe:
    """Lines to the program that keeps them. It never waits for it: what it does not take yet is kept here."""

    def __init__(self, log: Path) -> None:
        self.waiting = bytearray()
        variables = {name: value for name, value in os.environ.items() if name not in {f"TRACKIO_{x}" for x in _AWAY}}
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as stream:
            # A session of its own: Ctrl-C is for the training, which ends this one.
            self.program: subprocess.Popen[bytes] | None = subprocess.Popen(
                [sys.executable, "-m", __name__],
                env={**variables, **_HOME},
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                bufsize=0,
                start_new_session=True,
            )
        os.set_blocking(self._end, False)

    @property
    def _end(self) -> int:
        assert self.program is not None and self.program.stdin is not None
        return self.program.stdin.fileno()

    def send(self, line: dict[str, Any]) -> None:
        """Hand on one line, now or later."""
        if self.program is None:
            return
        self.waiting += json.dumps(line).encode() + b"\n"
        try:
            while self.waiting:
                del self.waiting[: os.write(self._end, self.waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._give_up()

    def close(self) -> None:
        """Hand on the rest, and wait a while for it to be kept."""
        if self.program is None:
            return
        os.set_blocking(self._end, True)
        try:
            self.program.communicate(bytes(self.waiting), timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.program.kill()
            self.program.wait()
        except OSError:
            self.program.wait()
        if self.program.returncode:
            self._give_up()

    def _give_up(self) -> None:
        self.program = None
        progress.notice(
            _("Trackio stopped, the training did not: why is in run/train.log, the figures are in run/metrics.jsonl")
        )


def _keep(lines: IO[str]) -> None:
    """The program: the first line says what is run, each further one has figures of a step."""
    trackio: Any = importlib.import_module("trackio")
    about = json.loads(lines.readline())
    made = trackio.init(**about, embed=False, auto_log_gpu=False, auto_log_cpu=False)
    seen = _last_step(about["project"], about["name"], made.id)
    last = seen
    for line in lines:
        figures = json.loads(line)
        step = figures.pop("step")
        if step > seen:
            last = max(last, step)
            trackio.log(figures, step=step)
    trackio.finish()
    if _last_step(about["project"], about["name"], made.id) < last:
        # It does not fail by itself when it can keep nothing: it warns.
        sys.exit("Trackio has not kept all figures")


def _last_step(project: str, name: str, run: str) -> int:
    """The step up to which Trackio has this run: one that went on from a checkpoint repeats a few."""
    storage: Any = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    step = storage.get_max_step_for_run(project, name, run_id=run)
    return -1 if step is None else int(step)


if __name__ == "__main__":
    _keep(sys.stdin)
