"""One of several processes of a training: it learns its share of the rows and leaves word of how it ended.

Started by `team` with its work on standard input, or by a launcher as a run of the same command (`follow`, `lead`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import secrets
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunStatus
from nlp_skills.training import artefact, base_model, failure, fit, health, processes, run
from nlp_skills.training.device import Device, peak_memory_gb, pick
from nlp_skills.training.job import Job
from nlp_skills.training.preflight import Preflight
from nlp_skills.training.sharing import any_rank
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# How long the first process waits for the one that broke to say why.
WORDS_SECONDS = 5.0
INTERRUPTED, BROKEN = 130, 1
_LAST_WORDS = "nlp-skills/last-words/"


@dataclass(frozen=True)
class Work:
    """What a process started by `team` is given; `status` and `seconds` are the record's so far."""

    job: Job
    checked: Preflight
    status: RunStatus
    seconds: float


class Failed(health.Unhealthy):
    """What another process ran into, said here in its words."""

    def __init__(self, told: dict[str, Any]) -> None:
        parts = told["problem"]
        super().__init__(parts.pop("message"), **{key: parts.get(key) for key in ("file", "line", "cause", "mend")})
        self.exit_code = told["exit_code"]
        self.reason = told["reason"]


class Silent(run.Recorder):
    """Keeps no record: the first process does."""

    def _write(self) -> None:
        self._written = time.monotonic()

    def _append(self, line: dict[str, Any]) -> None:
        pass


class Told(run.Recorder):
    """Tells the process that keeps the record where the run stands; metrics.jsonl is written here."""

    def __init__(self, version: VersionFolder, work: Work, channel: int) -> None:
        self.channel = channel
        before = work.status
        super().__init__(version, before.task, step=before.step, started=before.started, seconds=work.seconds)

    def tell(self) -> None:
        """Tell it now: what is written at the end of a step can be a second old."""
        self._write()

    def _write(self) -> None:
        with self._lock:
            line = json.dumps({"status": self.status.dump(), "tokens": getattr(self, "tokens", 0)}) + "\n"
            with contextlib.suppress(OSError):
                os.write(self.channel, line.encode())
            self._written = time.monotonic()


def main(arguments: list[str]) -> NoReturn:
    """Do the work that stands on standard input. One argument, if any: the descriptor to tell the record on."""
    # Our own parent wrote it, through a pipe that nobody else has.
    work: Work = pickle.load(sys.stdin.buffer)  # noqa: S301
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    version = work.job.version
    recorder: run.Recorder
    recorder = Told(version, work, int(arguments[0])) if arguments else _silent(work.job)
    code = _worked(work.job, work.checked, recorder)
    if isinstance(recorder, Told):
        recorder.tell()
    sys.stderr.flush()
    # Whatever waits for the others on the way out would wait for ever.
    os._exit(code)


def _end_with_the_parent() -> None:
    """Nobody would record or stop what outlives the process that started it."""
    sys.stdin.buffer.read()
    os._exit(BROKEN)


def _silent(job: Job) -> Silent:
    return Silent(job.version, job.task.task_name, step=job.step, started=None, seconds=0.0)


def device_of(job: Job) -> Device:
    """The device of this process, which has met the others."""
    device = pick(cuda_devices=job.task.execution.cuda_devices, train_all_weights=job.config.adapter == "full")
    processes.connect(device)
    return device


def _worked(job: Job, checked: Preflight, recorder: run.Recorder) -> int:
    """Learn, leave word of how it ended, and say with which code to end."""
    with _quietly(job.version) as stop:
        try:
            device = device_of(job)
            fitted = fit.run_through(job, checked, device, recorder, stop)
            leave(
                job.version, {"outcome": "done", "peak_memory_gb": peak_memory_gb(device), **_left(job, device, fitted)}
            )
            return 0
        except run.Interrupted as stopped:
            leave(job.version, {"outcome": "interrupted", "step": stopped.step})
            return INTERRUPTED
        except KeyboardInterrupt:
            leave(job.version, {"outcome": "stopped"})
            return BROKEN
        except BaseException as error:
            leave(job.version, broken(error, job.folder.root))
            return BROKEN


def _left(job: Job, device: Device, fitted: fit.Fitted) -> dict[str, Any]:
    """The model, written where the process that keeps the records finds it, and what is to be said of it."""
    if not processes.first():
        return {}
    artefact.write(fitted.model, fitted.tokenizer, made(job.version), job.config, fitted.state)
    return {
        "best_step": fitted.best_step,
        "valid": fitted.valid,
        "words": fitted.words,
        "info": artefact.model_info(job, device, fitted.model).dump(),
    }


@contextlib.contextmanager
def _quietly(version: VersionFolder) -> Iterator[run.Stop]:
    """Signals heard, and what libraries say in a log: the run's own for the first process."""
    number = processes.rank()
    log = version.run / "train.log" if number == 0 else processes.notes(version) / f"{number}.log"
    # transformers gives itself a handler when it is imported, which is what the first of these does.
    with base_model.without_bars(), run.library_log(log), run.Stop(lambda: None) as stop:
        yield stop


def made(version: VersionFolder) -> Path:
    """Where the first process leaves the trained model."""
    return version.checkpoints / "trained"


def leave(version: VersionFolder, word: dict[str, Any]) -> None:
    """Leave this process's last words: in a file, and where the first process finds them from another machine."""
    number = processes.rank()
    word = {"rank": number, "time": time.time(), **word}
    with contextlib.suppress(Problem, OSError):
        files.write_json(processes.notes(version) / f"{number}.json", word)
    with contextlib.suppress(Exception):
        processes.store().set(f"{_LAST_WORDS}{number}", json.dumps(word))


def words(version: VersionFolder) -> list[dict[str, Any]]:
    """What the processes left, the first to end first."""
    found = [files.read_json(path) for path in processes.notes(version).glob("*.json")]
    return sorted(found, key=lambda word: float(word["time"]))


def _heard() -> list[dict[str, Any]]:
    """What processes on other machines left."""
    store = processes.store()
    names = [f"{_LAST_WORDS}{number}" for number in range(1, processes.world())]
    return [json.loads(store.get(name)) for name in names if store.check([name])]


def broken(error: BaseException, root: Path) -> dict[str, Any]:
    """An error as it is told to the other processes."""
    problem = failure.explain(error, root)
    return {
        "outcome": "failed",
        "reason": failure.reason(error),
        "exit_code": problem.exit_code if problem else BROKEN,
        "problem": problem.as_dict() if problem else None,
        "trace": None if problem else "".join(traceback.format_exception(error)),
    }


def raised(word: dict[str, Any]) -> Exception:
    """The error that a process left, to be raised here. One of our own bugs keeps its traceback."""
    if word["problem"] is None:
        return RuntimeError(_("process {rank} of this training broke", rank=word["rank"]) + f"\n{word['trace']}")
    return Failed(word)


@contextlib.contextmanager
def others(folder: TaskFolder, version: VersionFolder) -> Iterator[Callable[[Job, Preflight], Job]]:
    """A function that gives the work to the processes a launcher started beside this one, if it did.

    They wait for it; where the block ends without it, they end with the code that this one ends with. The work comes
    back with what is known once all have it: whether they see each other's files.
    """
    if not processes.joined():
        yield lambda job, _checked: job
        return
    full = version.config().adapter == "full"
    processes.connect(pick(cuda_devices=folder.task().execution.cuda_devices, train_all_weights=full))
    given: list[Job] = []

    def tell(job: Job, checked: Preflight) -> Job:
        shutil.rmtree(processes.notes(version), ignore_errors=True)
        given.append(job)
        mark = f"disk-{secrets.token_hex(8)}"
        files.write_text(processes.notes(version) / mark, "")
        processes.broadcast((job, checked, mark))
        return _on_disks(job, version, mark)

    code = 0
    try:
        yield tell
    except BaseException as error:
        code = getattr(error, "exit_code", INTERRUPTED if isinstance(error, KeyboardInterrupt) else BROKEN)
        raise
    finally:
        if not given:
            processes.broadcast(code)


def _on_disks(job: Job, version: VersionFolder, mark: str) -> Job:
    """The work, with whether every process sees the file that the first one has just written. All of them ask."""
    (own,) = any_rank(not (processes.notes(version) / mark).exists())
    return dataclasses.replace(job, own_disks=own)


def lead(job: Job, checked: Preflight, device: Device, recorder: run.Recorder, stop: run.Stop) -> fit.Fitted:
    """Learn as the first of the processes that a launcher started."""
    try:
        return fit.run_through(job, checked, device, recorder, stop)
    except Exception as error:
        if isinstance(error, Problem | run.Interrupted):
            raise
        cause = _said_by_another(job.version)
        if cause is None:
            raise
        raise cause from error


def _said_by_another(version: VersionFolder) -> Exception | None:
    """Where another process broke first, what it said."""
    until = time.monotonic() + WORDS_SECONDS
    while time.monotonic() < until:
        left = words(version)
        with contextlib.suppress(Exception):
            left += _heard()
        failed = [word for word in left if word["outcome"] == "failed"]
        if failed:
            return raised(failed[0])
        time.sleep(0.1)
    return None


def follow(folder: TaskFolder, version: str | None) -> NoReturn:
    """Learn as one of the other processes that a launcher started, and end: the first one says what there is to say."""
    config = folder.existing_version(version).config()
    full = config.adapter == "full"
    processes.connect(pick(cuda_devices=folder.task().execution.cuda_devices, train_all_weights=full))
    word = processes.broadcast()
    if isinstance(word, int):
        raise SystemExit(word)
    job, checked, mark = word
    # The folder may stand elsewhere on this computer.
    found = folder.version(job.version.name)
    checkpoint = job.checkpoint and found.checkpoints / job.checkpoint.name
    job = dataclasses.replace(job, folder=folder, version=found, checkpoint=checkpoint)
    job = _on_disks(job, found, mark)
    if job.own_disks and checkpoint is None and processes.first_here():
        shutil.rmtree(found.checkpoints, ignore_errors=True)
    code = _worked(job, checked, _silent(job))
    if job.own_disks and code == 0 and processes.first_here():
        shutil.rmtree(found.checkpoints, ignore_errors=True)
    sys.stderr.flush()
    # A launcher takes any other code for a break, and ends the first process before it has kept its records.
    os._exit(0 if code == INTERRUPTED else code)


if __name__ == "__main__":
    main(sys.argv[1:])
