"""The end of a job over there becomes the end of the run here: fetched, verified, and recorded as if it had run here.

Everything may be done again: a kill between any two of these writes leaves a job that is still open, and whoever
looks next does all of it once more. The job is closed last.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.execution import costs, following
from nlp_skills.execution.following import Seen, Words
from nlp_skills.execution.machine import Machine
from nlp_skills.execution.ssh import fetch
from nlp_skills.execution.ssh.server import Server
from nlp_skills.progress import Tell
from nlp_skills.schema import yaml
from nlp_skills.schema.remote_job import RemoteJob
from nlp_skills.schema.version import Lineage, LineageRun, RunState, RunStatus
from nlp_skills.workspace import active, digest, lifecycle, lineage, lock, remote_jobs, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What is fetched waits for the task's lock: it is worth more than anybody's patience.
LOCK_SECONDS = 3600.0
GONE = "its processes are gone without a word: the machine was started anew, or they were killed"
# With less free space than this, a run cannot even write that there is none.
_FULL_BYTES = 1 << 20
_SECTIONS = ("config", "model", "environment")
_NEXT = {
    "completed": ("evaluating", "trained {version}"),
    "interrupted": ("configuring", "training {message}"),
    "failed": ("configuring", "training failed: {message}"),
    "dead": ("configuring", "training {version}: {message}"),
}


def patterns(job: RemoteJob) -> list[str]:
    """What a step leaves there that comes home, by its path in the task."""
    version = f"versions/{job.version}"
    if job.step == "train":
        run = [f"{version}/run/{name}" for name in ("metrics.jsonl", "train.log", "identity.json", "loss.svg")]
        model = [f"models/{kind}/{job.version}/**" for kind in ("adapter", "merged")]
        return [*run, f"{version}/model_info.json", f"{version}/data_snapshot.json", *model]
    if job.step == "evaluate":
        return [f"{version}/*.json", f"{version}/*.jsonl", "benchmarks/**"]
    return ["data/**"]


def settle(folder: TaskFolder, machine: Machine, seen: Seen, server: Server, tell: Tell) -> RemoteJob:
    """Fetch what an ended job has made, record it, and close the job. The caller is `following.working`.

    Raises:
        Unreachable: the link broke; nothing is recorded yet.
        Problem: what came is not whole, or the disk here is full; the job stays open.
    """
    job, version = seen.job, folder.version(seen.job.version)
    if seen.state == "lost":
        job = job.model_copy(update={"how": GONE, "ended": files.now()})
    if job.step == "regenerate" and job.exit_code == 0:
        _fetch_data(folder, server, job, tell)
    elif job.step != "regenerate":
        fetch.fetch(folder, server, job.folder, patterns(job), tell=tell)
    told = _far_lineage(job, server, Words(folder, job).root)
    with lock.writing(folder, wait_seconds=LOCK_SECONDS):
        if job.step == "train":
            _trained(folder, version, seen, told)
        elif job.step == "evaluate":
            _evaluated(folder, version, job, told)
        digest.write(folder)
    if job.step == "train":
        following.close_output(Words(folder, job), version)
    closed = machine.close(folder, job, tell).model_copy(update={"state": "fetched", "trouble": None})
    costs.record(folder, version, closed)  # once more: now the bill is known
    return remote_jobs.keep(folder, closed)


def lost(folder: TaskFolder, job: RemoteJob, words: str) -> RemoteJob:
    """Close a job of which nothing is left over there; what came home before stays."""
    version = folder.version(job.version)
    with lock.writing(folder, wait_seconds=LOCK_SECONDS):
        status = version.status()
        if job.step == "train" and status is not None and status.state == "running" and status.place == job.place:
            _end(folder, version, _ended(status, "dead", words, None))
        digest.write(folder)
    end = {"state": "lost", "how": words, "trouble": None, "ended": files.now()}
    return remote_jobs.keep(folder, job.model_copy(update=end))


def _fetch_data(folder: TaskFolder, server: Server, job: RemoteJob, tell: Tell) -> None:
    """The files of data/ belong together; until all are here, nobody takes them for whole."""
    from nlp_skills.data import install

    with lock.writing(folder, wait_seconds=LOCK_SECONDS):
        lock_path = folder.raw.parent / "data.lock.yaml"
        before = lock_path.read_bytes() if lock_path.is_file() else b""
        install.begin(folder, [folder.split(name) for name in ("train", "valid", "test")])
        fetch.fetch(folder, server, job.folder, patterns(job), tell=tell)
        if lock_path.is_file() and lock_path.read_bytes() != before:
            yaml.change(folder.sources_path, {("regeneration", "last_run"): files.now().isoformat()})
        if folder.task().status == "created":
            lifecycle.move(folder, "configuring", "data regenerated")
        install.end(folder)


def _far_lineage(job: RemoteJob, server: Server, kept: Path) -> Lineage | None:
    """What the other side has recorded of the version; None where there is nothing to be read."""
    path = f"{job.folder}/versions/{job.version}/lineage.yaml"
    text, at = "", 0
    while True:
        answer = server.ask("poll", workdir=job.workdir, id=job.id, watched=[[path, at]])
        told = answer["watched"][0]
        if not told or not told["text"]:
            break
        text, at = text + told["text"], told["at"]
    if not text:
        return None
    files.write_text(kept / "lineage.yaml", text)
    with contextlib.suppress(Problem):
        return Lineage.load(kept / "lineage.yaml")
    return None


def _trained(folder: TaskFolder, version: VersionFolder, seen: Seen, told: Lineage | None) -> None:
    status = _final_status(folder, seen)
    if status is None:  # it was refused, or was trained already: nothing ran
        if seen.job.exit_code == 0:
            _record(folder, version, seen.job, told)
            _point(folder, version)
        return
    _record(folder, version, seen.job, told)
    _end(folder, version, status)
    if status.state == "completed":
        _point(folder, version)


def _final_status(folder: TaskFolder, seen: Seen) -> RunStatus | None:
    """How the run ended: as it says itself, else as its end was seen."""
    if seen.status is None:
        return None
    status, job = following.as_seen_here(seen.job, seen.status, seen.answer["late"]), seen.job
    if status.state != "running":
        return status
    if seen.state == "lost":
        return _ended(status, "dead", GONE, None)
    step = max(status.step, job.checkpoint or 0)
    status = status.model_copy(update={"step": step})
    if job.how == "stopped":
        return _ended(status, "interrupted", f"stopped at once after step {step}", job.exit_code)
    if job.how is not None and job.how.startswith("SIG"):
        words = f"the process was ended by {job.how}"
        if job.how == "SIGKILL":
            words += ", as the system does where memory runs out"
        return _ended(status, "dead", words, job.exit_code)
    return _without_a_word(status, job, Words(folder, job), seen.answer.get("free"))


def _without_a_word(status: RunStatus, job: RemoteJob, words: Words, free: int | None) -> RunStatus:
    """A run that ended by itself and could not write how: mostly for the reason for which it ended."""
    if free is not None and free < _FULL_BYTES:
        full = _ended(status, "failed", f"no space left on the device of {job.place}", job.exit_code)
        return full.model_copy(update={"reason": "disk_full"})
    said = words.last_line() or f"it ended with exit code {job.exit_code}"
    return _ended(status, "failed", said, job.exit_code)


def _ended(status: RunStatus, state: RunState, message: str, exit_code: int | None) -> RunStatus:
    end = {"state": state, "message": message, "exit_code": exit_code, "ended": files.now(), "eta_seconds": None}
    return status.model_copy(update=end)


def _record(folder: TaskFolder, version: VersionFolder, job: RemoteJob, told: Lineage | None) -> None:
    """The other side's sections of the lineage; events, notes and changes are this side's own."""
    if told is None or told.run is None:
        return
    before = version.lineage() if version.lineage_path.is_file() else None
    parts: dict[str, Any] = {name: found for name in _SECTIONS if (found := getattr(told, name))}
    if _another(before.run if before else None, told.run):
        if told.model is not None and told.model.hashes != _model_hashes(before):
            # What was measured of an earlier model of this name says nothing of this one.
            for stale in (version.results_path, version.report_path, version.markdown_path):
                stale.unlink(missing_ok=True)
            parts["results"] = None
        parts["run"] = told.run
    lineage.record(version, **parts)
    costs.record(folder, version, job)
    for name, digest_of in told.run.pinned.items():
        _keep(folder, name, digest_of)


def _model_hashes(before: Lineage | None) -> dict[str, str] | None:
    return before.model.hashes if before and before.model else None


def _another(before: LineageRun | None, told: LineageRun) -> bool:
    marks = ("state", "started", "ended", "steps")
    return before is None or any(getattr(before, name) != getattr(told, name) for name in marks)


def _keep(folder: TaskFolder, name: str, wanted: str) -> None:
    """A file that the run was made with, in the store of this side too, where it is still the same."""
    with contextlib.suppress(Problem, OSError):
        path = files.inside(folder.root, name)
        if path.is_file() and files.sha256_file(path) == wanted:
            store.keep(folder, path)


def _end(folder: TaskFolder, version: VersionFolder, status: RunStatus) -> None:
    """The life-cycle follows the run's end, and status.json says it last."""
    to, words = _NEXT[status.state]
    task = folder.task()
    if task.version == version.name and task.status != "archived":
        if to == "evaluating" and task.status not in ("training", "evaluating"):
            lifecycle.move(folder, "training", f"training {version.name}")
        if to == "evaluating" or folder.task().status == "training":
            lifecycle.move(folder, to, words.format(version=version.name, message=status.message))  # type: ignore[arg-type]
    status.save(version.status_path)


def _point(folder: TaskFolder, version: VersionFolder) -> None:
    if folder.task().version == version.name:
        active.point(folder)


def _evaluated(folder: TaskFolder, version: VersionFolder, job: RemoteJob, told: Lineage | None) -> None:
    results = version.results()
    if job.exit_code not in (0, 1) or results is None or told is None or told.results is None:
        return
    before = version.lineage() if version.lineage_path.is_file() else None
    if before is not None and before.results == told.results:
        return
    lineage.record(version, results=told.results)
    task = folder.task()
    if task.version == version.name and task.status in ("training", "evaluating"):
        value = results.success.value
        reached = "not measured" if value is None else f"{value:.4f}"
        metric = results.success.primary_metric
        lifecycle.move(folder, "evaluating", f"evaluated {version.name}: {metric} {reached}")
