"""Runs as their folders tell of them: whether one goes on, what it has reached, and all runs of a workspace.

A run is judged by the computer it is on, its process and when that process started. One on another computer can
only be heard of: its heartbeat is in status.json every few seconds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunStatus

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# `dead`: it says that it runs, and its process is gone. `unknown`: it is on another computer and says that it runs.
State = Literal["running", "unknown", "dead", "interrupted", "failed", "completed"]

# A heartbeat comes every five seconds; after so many without one, a run that cannot be looked at counts as gone.
HEARD_SECONDS = 120.0
# A checkpoint's last file: without it, it was not written to its end.
COMPLETE = "complete.json"
# In the environment of a run that was started detached: its process group, which is nothing but this run.
GROUP = "NLP_SKILLS_GROUP"


def alive(status: RunStatus | None) -> bool:
    """Whether a run goes on, so that its files are to be left alone.

    One that was sent from here does until its end has been brought home, however long it was not heard of; another
    one on another computer, while it is heard of. Killed processes leave their last words behind.
    """
    if status is None or status.state != "running":
        return False
    if status.place is not None:
        return True
    return _heard(status) if elsewhere(status) else _lives(status)


def over(status: RunStatus) -> bool:
    """Whether a run has ended, and where it was started detached, its process too: that has last words."""
    lingers = status.group is not None and not elsewhere(status) and _lives(status)
    return not alive(status) and not lingers


def elsewhere(status: RunStatus) -> bool:
    """Whether a run is on another computer, whose processes cannot be seen from here."""
    return status.place is not None or (status.host is not None and status.host != socket.gethostname())


def state(status: RunStatus) -> State:
    """Where a run stands, for people: as `RunStatus.state`, with `dead` and `unknown` for what only says it runs."""
    if status.state != "running":
        return status.state
    if elsewhere(status):
        # What was sent from here is looked at; its heartbeat is by this computer's clock.
        return "running" if status.place is not None and _heard(status) else "unknown"
    return "running" if _lives(status) else "dead"


def _heard(status: RunStatus) -> bool:
    return age(status) < HEARD_SECONDS


def age(status: RunStatus) -> float:
    """Seconds since a run was last heard of."""
    return (files.now() - status.updated).total_seconds()


def _lives(status: RunStatus) -> bool:
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    letter, born = _process(status.pid)
    if letter in ("Z", "X"):
        return False  # it has ended; whoever started it has not asked yet how
    if born is None:
        return _heard(status)
    # A process born after the run last wrote has only inherited its number (a second for rounding).
    return born <= status.updated.timestamp() + 1


def _process(pid: int) -> tuple[str | None, float | None]:
    """A process's state letter and when it started, in seconds since the epoch; None where /proc does not tell."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return words[0], int(boot.split()[1]) + int(words[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError, StopIteration):
        return None, None


def silence(status: RunStatus) -> float | None:
    """Seconds without a step where that is much longer than a step takes; None where all is well."""
    if status.stepped is None or state(status) != "running":
        return None
    seconds = (files.now() - status.stepped).total_seconds()
    return seconds if seconds > max(60.0, 10 * (status.step_seconds or 0.0)) else None


def busy(version: VersionFolder, status: RunStatus) -> Invalid:
    """The refusal to touch a version whose run goes on."""
    task = version.task_root.name
    if elsewhere(status):
        return Invalid(
            _("version {name} is being trained on {host}, by process {pid}",
              name=version.name, host=status.place or status.host, pid=status.pid),
            file=version.status_path,
            cause=_("last heard of {seconds:.0f} s ago", seconds=age(status)),
            mend=_("wait until it ends, or stop it there with: nlp-skills stop {task} --version {name}",
                   task=task, name=version.name),
        )  # fmt: skip
    return Invalid(
        _("version {name} is being trained by process {pid}", name=version.name, pid=status.pid),
        file=version.status_path,
        mend=_("wait until it ends, or stop it with: nlp-skills stop {task} --version {name}",
               task=task, name=version.name),
    )  # fmt: skip


def metrics(version: VersionFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a line cut off by a kill is left out."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for line in version.metrics_path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
    return lines


def last_checkpoint(checkpoints: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [path.parent for path in checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=checkpoint_step, default=None)


def checkpoint_step(checkpoint: Path) -> int:
    """The step that a checkpoint was saved after."""
    return int(checkpoint.name.rpartition("-")[2])


def reached(version: VersionFolder, status: RunStatus) -> int:
    """The step a run came to. status.json is written every few seconds, so that a checkpoint may be further."""
    path = last_checkpoint(version.checkpoints) if status.kind == "train" and status.place is None else None
    return max(status.step, checkpoint_step(path) if path else 0)


@dataclass(frozen=True)
class Run:
    """The last run of one version, and how it stands at this moment."""

    folder: TaskFolder
    version: VersionFolder
    status: RunStatus
    state: State

    @property
    def alive(self) -> bool:
        """See the function of this name."""
        return alive(self.status)

    @property
    def checkpoint(self) -> int | None:
        """The step of the last whole checkpoint; of a run on another machine, where it stays."""
        if self.status.place is not None:
            return _checkpoint_elsewhere(self.folder, self.version)
        path = last_checkpoint(self.version.checkpoints)
        return checkpoint_step(path) if path else None

    @property
    def stopped(self) -> bool:
        """Whether it ended before its end, and can go on from a checkpoint."""
        return self.state in ("dead", "interrupted") and self.checkpoint is not None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: status.json, with the state as seen from here."""
        return {
            "task": self.folder.root.name,
            "path": str(self.folder.root),
            **{key: value for key, value in self.status.dump().items() if key not in ("task", "state")},
            "state": self.state,
            "elsewhere": elsewhere(self.status),
            "no_step_for_seconds": silence(self.status),
            "checkpoint": self.checkpoint,
        }


@dataclass(frozen=True)
class Runs:
    """Runs, those that go on first, then the newest; and what could not be read."""

    all: list[Run] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _checkpoint_elsewhere(folder: TaskFolder, version: VersionFolder) -> int | None:
    from nlp_skills.workspace import remote_jobs

    with contextlib.suppress(Problem):
        job = remote_jobs.of(folder, "train", version.name)
        return job.checkpoint if job else None
    return None


def of(folder: TaskFolder, name: str) -> Run | None:
    """The last run of a version, or None.

    Raises:
        Usage: not a version name.
        Invalid: its status.json cannot be read.
    """
    version = folder.version(name)
    status = version.status()
    if status is None:
        return None
    seen = state(status)
    if seen == "dead":
        status = status.model_copy(update={"step": reached(version, status)})
    return Run(folder, version, status, seen)


def of_task(folder: TaskFolder) -> Runs:
    """The last run of every version of a task."""
    found = Runs()
    _collect(folder, found)
    return Runs(sorted(found.all, key=_order), found.problems)


def every(root: Path) -> Runs:
    """The last run of every version of every task under `root`."""
    from nlp_skills.workspace import locate
    from nlp_skills.workspace.folder import TaskFolder

    found = Runs()
    for path in locate.find(root):
        _collect(TaskFolder(path.resolve()), found)
    return Runs(sorted(found.all, key=_order), found.problems)


def _collect(folder: TaskFolder, found: Runs) -> None:
    for name in _names(folder):
        try:
            run = of(folder, name)
        except Problem as problem:
            found.problems.append(problem)
        except OSError as error:
            found.problems.append(Invalid(_("cannot be read"), file=error.filename, cause=error.strerror))
        else:
            found.all.extend([run] if run else [])


def _names(folder: TaskFolder) -> Iterator[str]:
    with contextlib.suppress(OSError):
        yield from folder.version_names()


_RANK: dict[State, int] = {"running": 0, "unknown": 1}


def _order(run: Run) -> tuple[int, float]:
    return _RANK.get(run.state, 2), -(run.status.ended or run.status.updated).timestamp()


def chosen(folder: TaskFolder, name: str | None = None) -> Run | None:
    """The run that a command means: of the version named; else of the current one, or the only one that goes on.

    Raises:
        Invalid: several others go on and none is named; or a status.json cannot be read.
    """
    if name is not None:
        return of(folder, folder.existing_version(name).name)
    current = of(folder, folder.task().version)
    if current and current.alive:
        return current
    going = [run for run in of_task(folder).all if run.alive]
    if len(going) > 1:
        raise Invalid(
            _("several versions are being trained: {names}", names=", ".join(run.version.name for run in going)),
            mend=_("name one with --version"),
        )
    return going[0] if going else current


def needed(folder: TaskFolder, name: str | None = None) -> Run:
    """As `chosen`, where there has to be a run.

    Raises:
        Invalid: as `chosen`, or there was none.
    """
    run = chosen(folder, name)
    if run is None:
        version = folder.existing_version(name).name
        raise Invalid(
            _("there was no run of {version} yet", version=version),
            mend=_("train it: nlp-skills train {task} --version {version}", task=folder.root.name, version=version),
        )
    return run


def beside(folder: TaskFolder, version: VersionFolder) -> list[Run]:
    """The other runs that go on on this machine, in the project the task is in."""
    from nlp_skills.workspace import locate

    found = every(locate.project_root(folder.root)).all
    return [run for run in found if run.state == "running" and not elsewhere(run.status) and run.version != version]


def recent(found: Iterable[Run], days: float) -> list[Run]:
    """Those that go on, or ended within so many days."""
    since = files.now() - dt.timedelta(days=days)
    return [run for run in found if run.alive or (run.status.ended or run.status.updated) > since]
