"""One look at a job over there: what is new of it goes into the task's own run folder, as if it ran here.

What was taken in already is known by the size of the files here, and by nothing else: a look that is killed anywhere
is taken up by the next one, of whatever process. Only whoever holds `working` looks.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem
from nlp_skills.execution import costs
from nlp_skills.execution.ssh.server import Server
from nlp_skills.schema.remote_job import RemoteJob
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace import digest, lifecycle, lock, remote_jobs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# An answer to a look that is not there by then will not come.
LOOK_SECONDS = 20.0
# Clocks that differ by less are taken for the same.
_SAME_CLOCK_SECONDS = 2.0


@contextlib.contextmanager
def working(folder: TaskFolder, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Whether it is us who look at the task's jobs and fetch, out of all who would; within the block.

    Raises:
        Unavailable: the task's folder cannot be written.
    """
    from filelock import FileLock, Timeout

    path = folder.state / "elsewhere.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(path)
        held.acquire(timeout=wait_seconds, poll_interval=0.05)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise files.storage_problem(error, path) from error
    try:
        yield True
    finally:
        held.release()


@dataclass(frozen=True)
class Words:
    """Where what a job says is kept: .nlp-skills/jobs/ID/, and for a training in run/output.log too."""

    folder: TaskFolder
    job: RemoteJob

    @property
    def root(self) -> Path:
        return self.folder.state / "jobs" / self.job.id

    @property
    def out(self) -> Path:
        """What its command printed."""
        return self.root / "out.log"

    @property
    def err(self) -> Path:
        """What it said beside that, as it went."""
        return self.root / "err.log"

    def size(self, path: Path) -> int:
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
        return 0

    def as_here(self, text: str) -> str:
        """With the task's path and name on this computer for those of the other one, in JSON too."""
        here = self.folder.root
        text = text.replace(self.job.folder, str(here))
        # Commands that are proposed name the task by its folder.
        return text.replace(self.job.folder.rpartition("/")[2], here.name)

    def text(self, path: Path, start: int = 0) -> str:
        """What is kept from a byte on."""
        try:
            with open(path, "rb") as stream:
                stream.seek(start)
                return self.as_here(stream.read().decode("utf-8", "replace"))
        except FileNotFoundError:
            return ""

    def lines(self, start: int) -> tuple[list[str], int]:
        """Whole lines of what it said beside the result, from a byte on, and the byte after them."""
        try:
            with open(self.err, "rb") as stream:
                stream.seek(start)
                found = stream.read()
        except FileNotFoundError:
            return [], start
        end = found.rfind(b"\n") + 1
        return self.as_here(found[:end].decode("utf-8", "replace")).splitlines(), start + end

    def last_line(self) -> str | None:
        """The last thing it said that is not the figures of a bar."""
        said = [line.strip() for line in self.text(self.err).splitlines() if line.strip()]
        return said[-1][:300] if said else None


@dataclass(frozen=True)
class Seen:
    """What a look found: the job, and the run as the other side tells of it where the run is this job's."""

    job: RemoteJob
    answer: dict[str, Any] = field(default_factory=dict)
    status: RunStatus | None = None

    @property
    def state(self) -> str:
        """As `agent.jobs` calls it: starting, running, ended, lost, none."""
        return str(self.answer["state"])


def look(folder: TaskFolder, job: RemoteJob, server: Server) -> Seen:
    """Ask how a job stands, and take in what is new. The caller is `working`.

    Raises:
        Unreachable: the link broke; what was taken in by then is taken in.
        Problem: there is an answer, and it is no.
    """
    words, version = Words(folder, job), folder.version(job.version)
    while True:
        found = _ask(job, server, words, version)
        status = _of_this_job(found)
        if job.step == "train":
            _take_output(words, version, found)
        more = _take_words(words, found)
        if job.step == "train" and status is not None:
            more = _take_metrics(version, status, found) or more
        if not more:
            break
    if job.step == "train" and status is not None and found["state"] in ("starting", "running"):
        _show_running(folder, version, job, status, found["late"])
    return Seen(_noted(folder, job, found), found, status)


def _ask(job: RemoteJob, server: Server, words: Words, version: VersionFolder) -> dict[str, Any]:
    given: dict[str, Any] = {"out": words.size(words.out), "err": words.size(words.err)}
    if job.step == "train":
        run = f"{job.folder}/versions/{job.version}/run"
        at = words.size(version.metrics_path) if followed(version, job) else 0
        given["watched"] = [[f"{run}/status.json", 0], [f"{run}/metrics.jsonl", at]]
        given["checkpoints"] = f"{job.folder}/models/checkpoints/{job.version}"
    found = server.ask("poll", timeout=LOOK_SECONDS, workdir=job.workdir, id=job.id, **given)
    return {**found, "late": dt.datetime.now().timestamp() - found["now"]}


def followed(version: VersionFolder, job: RemoteJob) -> bool:
    """Whether the run folder here tells of this job already, and not of an earlier run."""
    with contextlib.suppress(Problem):
        status = version.status()
        return status is not None and status.place == job.place and _mark(status) == _kept_mark(version, job)
    return False


def _mark(status: RunStatus) -> list[Any]:
    return [status.pid, status.group, status.host]


def _kept_mark(version: VersionFolder, job: RemoteJob) -> list[Any] | None:
    with contextlib.suppress(Problem, KeyError, TypeError):
        found: dict[str, Any] = files.read_json(_mark_path(version, job))
        return list(found["run"])
    return None


def _mark_path(version: VersionFolder, job: RemoteJob) -> Path:
    return version.task_root / ".nlp-skills" / "jobs" / job.id / "run.json"


def _of_this_job(found: dict[str, Any]) -> RunStatus | None:
    """The run's status there, where it was written by this job's process and not by an earlier one."""
    watched = (found.get("watched") or [None])[0]
    if not watched or found.get("group") is None:
        return None
    with contextlib.suppress(ValueError, Problem):
        status = RunStatus.check(json.loads(watched["text"]), Path("status.json"), {})
        return status if status.group == found["group"] else None
    return None


def _take_words(words: Words, found: dict[str, Any]) -> bool:
    """Append what the job said; whether there may be more of it."""
    more = False
    for path, key in ((words.out, "out"), (words.err, "err")):
        told = found[key]
        if told and told["text"]:
            _append(path, told["text"], told["from"])
            more = True
    return more


def _take_output(words: Words, version: VersionFolder, found: dict[str, Any]) -> None:
    """What a training says, in run/output.log too, under a line with its time, as of one that was detached here."""
    told = found["err"]
    if told and told["text"]:
        _append(version.output_path, told["text"], _output_at(words, version) + told["from"])


def _output_at(words: Words, version: VersionFolder) -> int:
    """The byte of run/output.log at which this job's words begin."""
    path = words.root / "output.json"
    with contextlib.suppress(Problem, KeyError, TypeError):
        return int(files.read_json(path)["at"])
    task, size = words.folder.root.name, words.size(version.output_path)
    header = f"--- {words.job.created.isoformat()} nlp-skills train {task} {version.name} · {words.job.place}\n"
    _append(version.output_path, header, size)
    files.write_json(path, {"at": size + len(header.encode())})
    return size + len(header.encode())


def close_output(words: Words, version: VersionFolder) -> None:
    """The result that the command printed comes last in run/output.log."""
    with contextlib.suppress(FileNotFoundError):
        said = words.out.read_bytes().decode("utf-8", "surrogateescape")
        _append(version.output_path, said, _output_at(words, version) + words.size(words.err))


def _take_metrics(version: VersionFolder, status: RunStatus, found: dict[str, Any]) -> bool:
    """Append the whole lines of metrics.jsonl; a file that was begun anew there is begun anew here."""
    told = found["watched"][1]
    text = told["text"][: told["text"].rfind("\n") + 1] if told else ""
    if not told or (not text and told["from"]):
        return False
    before = version.metrics_path.stat().st_size if version.metrics_path.is_file() else 0
    _append(version.metrics_path, text, told["from"])
    return bool(text) and version.metrics_path.stat().st_size != before


def _append(path: Path, text: str, at: int) -> None:
    """Text at a byte of a file, which ends with it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "r+b" if path.exists() else "w+b") as stream:
            stream.truncate(at)
            stream.seek(at)
            stream.write(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise files.storage_problem(error, path) from error


def _show_running(folder: TaskFolder, version: VersionFolder, job: RemoteJob, status: RunStatus, late: float) -> None:
    """status.json here, as long as the run goes on; its end is written when everything of it is here."""
    told = as_seen_here(job, status, late)
    if told.state != "running":
        told = told.model_copy(update={"state": "running", "ended": None, "exit_code": None, "reason": None})
    if not followed(version, job):
        with contextlib.suppress(Invalid):  # another command has the task; the next look comes soon
            _begun(folder, version, job, told)
        return
    told.save(version.status_path)


def _begun(folder: TaskFolder, version: VersionFolder, job: RemoteJob, told: RunStatus) -> None:
    """The run has begun over there: the task stands in training, as where it runs here."""
    with lock.writing(folder, wait_seconds=2.0, tell=lambda _text: None):
        task = folder.task()
        if task.version == version.name and task.status not in ("archived", "training"):
            at = f" from step {told.step}" if told.step else ""
            lifecycle.move(folder, "training", f"training {version.name}{at} on {job.place}")
        files.write_json(_mark_path(version, job), {"run": _mark(told)})
        told.save(version.status_path)
        digest.write(folder)


def as_seen_here(job: RemoteJob, status: RunStatus, late: float) -> RunStatus:
    """A status of the other side with its place and cost, and its heartbeat by this computer's clock, which is so many
    seconds later.
    """
    shift = dt.timedelta(seconds=round(late) if abs(late) > _SAME_CLOCK_SECONDS else 0)
    return status.model_copy(
        update={
            "place": job.place,
            "cost_usd": costs.so_far(job),
            "updated": status.updated + shift,
            "stepped": status.stepped + shift if status.stepped else None,
        }
    )


def _noted(folder: TaskFolder, job: RemoteJob, found: dict[str, Any]) -> RemoteJob:
    """The job as it is known now. That it is over is noted at once; that nothing is left of it, by who settles it."""
    news: dict[str, Any] = {"seen": files.now(), "trouble": None, "checkpoint": found.get("checkpoint")}
    if found["state"] == "running" and job.state == "starting":
        news |= {"state": "running", "started": job.started or files.now()}
    if found["state"] == "ended":
        ended = dt.datetime.fromtimestamp(found["ended"]).astimezone().replace(microsecond=0)
        news |= {"state": "ended", "exit_code": found["exit_code"], "how": found["how"], "ended": ended}
    return remote_jobs.keep(folder, job.model_copy(update=news))


def note_trouble(folder: TaskFolder, job: RemoteJob, problem: Problem) -> RemoteJob:
    """Keep why a job could not be looked at; where that cannot be written, whoever asked knows all the same."""
    words = ": ".join(filter(None, [problem.message, problem.cause]))
    noted = job.model_copy(update={"trouble": words[:500]})
    with contextlib.suppress(Problem, OSError):
        remote_jobs.keep(folder, noted)
    return noted


def goes_on(folder: TaskFolder, version: VersionFolder) -> RemoteJob | None:
    """The training of this version that another machine has; None where none is open."""
    with contextlib.suppress(Problem):
        job = remote_jobs.of(folder, "train", version.name)
        return job if job is not None and job.state in ("starting", "running", "ended") else None
    return None
