"""What there is: every task of a project in one row, every version of a task in one row.

A task whose digest is up to date is listed without parsing YAML; what is shown is the same either way.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.errors import Invalid, Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.workspace import digest, locate

if TYPE_CHECKING:
    from nlp_skills.schema.version import Lineage
    from nlp_skills.schema.yaml import Read
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# The order of the life cycle.
STATES = ("created", "configuring", "training", "evaluating", "deployed", "archived")
_TRAINED = STATES[2:5]

# The rest of task.yaml after `history:`, as our commands write it; whatever else stands there is parsed.
_STATE = f"(?:{'|'.join(STATES)})"
_DAY = r"(?!\d{4}-(?:02-(?:29|3)|(?:04|06|09|11)-31))[1-9]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = rf"{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d[+-](?:0\d|1[0-4]):[0-5]\d"
_PLAIN = r"(?!(?:null|Null|NULL|true|True|TRUE|false|False|FALSE) *\n)[^\W\d_][\w ,;./()→+-]*"
_LOG = re.compile(
    rf"(?:  - time: '{_TIME}'\n    from: {_STATE}\n    to: {_STATE}\n    version: (?:v[\w.-]*|'[\w.-]+')\n"
    rf"    reason: (?:{_PLAIN}|'(?:[\w ,;:#./()→+-]|'')+')\n)+\Z"
)


@dataclass(frozen=True)
class TaskRow:
    """One task; `problem` says why the other fields could not be read. `value` is a fraction.

    `run` is how the run of a task stands that is being trained: running, unknown (elsewhere), or dead; starting, ended
    (not fetched yet) or lost where it was sent to another machine, which `place` names.
    """

    name: str
    path: Path
    status: str | None = None
    version: str | None = None
    task_type: str | None = None
    domain: str | None = None
    primary_metric: str | None = None
    value: float | None = None
    updated: dt.datetime | None = None
    run: str | None = None
    place: str | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Tasks:
    """The tasks under a folder, and the folders that could not be looked into."""

    rows: list[TaskRow]
    refused: list[Path]

    @property
    def readable(self) -> list[TaskRow]:
        return [row for row in self.rows if row.problem is None]

    @property
    def broken(self) -> list[TaskRow]:
        return [row for row in self.rows if row.problem is not None]


@dataclass(frozen=True)
class VersionRow:
    """One version; `value` is its primary metric, a fraction, `gpu_hours` and `cost_usd` what its training took."""

    version: str
    current: bool
    parent: str | None = None
    promoted_from: str | None = None
    created: dt.datetime | None = None
    value: float | None = None
    changes: list[str] = field(default_factory=list)
    problem: Problem | None = None
    gpu_hours: float | None = None
    cost_usd: float | None = None


def tasks(root: Path) -> Tasks:
    """Every task under `root`, newest first; a broken one is listed with its problem."""
    refused: list[Path] = []
    rows = [_task_row(path) for path in locate.find(root, refused=refused.append)]
    return Tasks(ordered(rows, "updated"), refused)


def _task_row(path: Path) -> TaskRow:
    try:
        brief = digest.brief(path) or _parsed(path)
        value = _active_value(path, brief)
    except Problem as problem:
        return TaskRow(path.name, path, problem=problem)
    except OSError as error:
        return TaskRow(path.name, path, problem=_unreadable(error, path))
    return TaskRow(
        brief.name, path, brief.status, brief.version, brief.task_type, brief.domain,
        brief.primary_metric, value, brief.updated, *_run(path, brief),
    )  # fmt: skip


def _run(path: Path, brief: digest.Brief) -> tuple[str | None, str | None]:
    """How the run of a task stands that is being trained, and where it was sent to."""
    if brief.status != "training":
        return None, None
    sent = (path / ".nlp-skills" / "jobs" / f"train-{brief.version}.json").exists()
    if not sent and not (path / "versions" / brief.version / "run" / "status.json").exists():
        return None, None
    from nlp_skills.workspace import remote_jobs, runs

    with contextlib.suppress(Problem, OSError):
        folder = _folder(path)
        status = folder.version(brief.version).status()
        job = remote_jobs.of(folder, "train", brief.version) if sent else None
        if job and job.state not in ("running", "fetched"):
            return job.state, job.place
        if job and job.state == "running":
            return "unknown" if job.trouble else "running", job.place
        return (runs.state(status), status.place) if status else (None, None)
    return None, None


def _parsed(path: Path) -> digest.Brief:
    from nlp_skills.schema.task import Task

    document = path / "task.yaml"
    if not document.is_file():
        raise _no_file(document)
    data, lines = _read_without_log(document)
    task = Task.check(data, document, lines)
    try:
        _version(path, task.version)
    except Usage as error:
        line = lines.get(("version",))
        raise Invalid(error.message, file=document, line=line, cause=error.cause, mend=error.mend) from error
    return digest.Brief.of(task)


def _read_without_log(document: Path) -> Read:
    """task.yaml, sparing the parser a log that is as we wrote it: in a task of many versions it is most of the file."""
    from nlp_skills.schema import yaml

    with contextlib.suppress(UnicodeDecodeError):
        head, _key, log = document.read_bytes().decode("utf-8-sig").partition("\nhistory:\n")
        if _LOG.match(log):
            return yaml.loads(f"{head}\n", document)
    return yaml.read(document)


def _no_file(path: Path) -> Invalid:
    """Something stands where a file should: a folder, a link to nowhere."""
    if path.is_symlink() and not path.exists():
        mend = _("put the file where it points")
        return Invalid(_("the link leads nowhere"), file=path, cause=str(path.readlink()), mend=mend)
    what = _("{name} is a folder", name=path.name) if path.is_dir() else _("{name} is no file", name=path.name)
    return Invalid(what, file=path, mend=_("put the document in its place"))


def _unreadable(error: OSError, path: Path) -> Invalid:
    mend = _("look at the path and its permissions, then run the command again")
    return Invalid(_("cannot be read"), file=error.filename or path, cause=error.strerror or str(error), mend=mend)


def _version(path: Path, name: str) -> VersionFolder:
    return _folder(path).version(name)


def _folder(path: Path) -> TaskFolder:
    from nlp_skills.workspace.folder import TaskFolder

    return TaskFolder(path)


def _active_value(path: Path, brief: digest.Brief) -> float | None:
    """The primary metric of the active version; only what cannot be told at a glance is read by the schema."""
    place = f"{path}/versions/{brief.version}"
    try:
        with open(f"{place}/results.json", "rb") as stream:
            found = json.loads(stream.read())
        value = found["metrics"].get(brief.primary_metric)
        if found["version"] == brief.version and (value is None or (type(value) is float and math.isfinite(value))):
            return value
    except FileNotFoundError:
        _expect_version(path, brief)
        if not _speaks_of_results(f"{place}/lineage.yaml"):
            return None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return metric_value(_version(path, brief.version), brief.primary_metric)


def _speaks_of_results(lineage: str) -> bool:
    try:
        with open(lineage, "rb") as stream:
            return b"results" in stream.read()
    except FileNotFoundError:
        return False


def _expect_version(path: Path, brief: digest.Brief) -> None:
    """Refuse an active version whose folder is gone; before the first training there may be none yet.

    Raises:
        Invalid: with the versions there are; also where results.json is a link to nowhere.
    """
    place = path / "versions" / brief.version
    if os.path.lexists(place / "results.json"):
        raise _no_file(place / "results.json")
    if place.is_dir() or not (brief.status in _TRAINED or (path / "versions").is_dir()):
        return
    others = _folder(path).version_names()
    if not others and brief.status not in _TRAINED:
        return
    mend = _("put the folder back, or set version: in task.yaml to one that is there")
    known = ", ".join(others) or _("none")
    raise Invalid(
        _("the active version {name} has no folder", name=brief.version),
        file=place,
        cause=_("versions here: {known}", known=known),
        mend=mend,
    )


def metric_value(version: VersionFolder, metric: str) -> float | None:
    """A metric from results.json, or from the lineage of a version whose results were cleaned up."""
    if results := version.results():
        return results.metrics.get(metric)
    lineage = version.lineage()
    return lineage_metrics(lineage).get(metric) if lineage else None


def lineage_metrics(lineage: Lineage) -> dict[str, float]:
    """The scalar metrics of a lineage, by name."""
    return dict(lineage.results.model_extra or {}) if lineage.results else {}


def matching(rows: Iterable[TaskRow], wanted: Mapping[str, Collection[str]]) -> list[TaskRow]:
    """The rows whose fields have one of the values wanted of each; those that cannot be read stay in the list."""
    return [row for row in rows if row.problem or all(_has(row, name, values) for name, values in wanted.items())]


def alone(rows: Iterable[TaskRow], wanted: Mapping[str, Collection[str]]) -> dict[str, int]:
    """How many readable rows each wish would leave by itself."""
    readable = [row for row in rows if row.problem is None]
    return {name: sum(_has(row, name, values) for row in readable) for name, values in wanted.items()}


def _has(row: TaskRow, name: str, values: Collection[str]) -> bool:
    found = getattr(row, name)
    return found is not None and found.casefold() in {value.casefold() for value in values}


def titles(rows: Iterable[TaskRow], root: Path) -> dict[Path, str]:
    """What each task is called in a list: its name, and where it is when the name alone would mislead."""
    rows = list(rows)
    count = Counter(row.name for row in rows)
    return {
        row.path: row.name
        if row.path in (root, root / row.name) or (count[row.name] == 1 and row.path.name == row.name)
        else f"{row.name} ({row.path.relative_to(root)})"
        for row in rows
    }


def ordered(rows: Iterable[TaskRow], by: str) -> list[TaskRow]:
    """Rows by one of `ORDERS`; what has no value to go by comes last, and equals are by name."""
    first = sorted(rows, key=lambda row: (row.name, str(row.path)))
    key, newest_first = ORDERS[by]
    known = [row for row in first if row.problem is None and key(row) is not None]
    known_paths = {row.path for row in known}
    known.sort(key=key, reverse=newest_first)
    return known + [row for row in first if row.path not in known_paths]


def _by_version(row: TaskRow) -> Any:
    from nlp_skills.workspace import naming

    return naming.sort_key(row.version or "")


def _by_status(row: TaskRow) -> Any:
    return STATES.index(row.status) if row.status in STATES else None


# How to sort, and whether the greatest comes first.
ORDERS: dict[str, tuple[Callable[[TaskRow], Any], bool]] = {
    "name": (lambda row: row.name, False),
    "status": (_by_status, False),
    "version": (_by_version, True),
    "metric": (lambda row: row.value, True),
    "updated": (lambda row: row.updated and row.updated.astimezone(), True),
}


def versions(folder: TaskFolder) -> list[VersionRow]:
    """Every version, newest first."""
    task = folder.task()
    metric = task.metric
    return [
        _version_row(folder.version(name), metric, current=name == task.version)
        for name in reversed(folder.version_names())
    ]


def _version_row(version: VersionFolder, metric: str, *, current: bool) -> VersionRow:
    lineage, value, problem = None, None, None
    try:
        lineage = version.lineage()
    except Problem as found:
        problem = found
    except OSError as error:
        problem = _unreadable(error, version.lineage_path)
    try:
        value = metric_value(version, metric)
    except Problem as found:
        problem = problem or found
    except OSError as error:
        problem = problem or _unreadable(error, version.results_path)
    if lineage is None:
        return VersionRow(version.name, current, value=value, problem=problem)
    gpu_hours, cost_usd = (lineage.run.gpu_hours, lineage.run.cost_usd) if lineage.run else (None, None)
    return VersionRow(
        version.name, current, lineage.parent, lineage.promoted_from, lineage.created, value, lineage.changes, problem,
        gpu_hours, cost_usd,
    )  # fmt: skip


@dataclass(frozen=True)
class Branch:
    """Versions that follow each other one by one, and the branches that start from the last of them.

    A version without a `row` is gone: only those that came from it still name it.
    """

    chain: list[tuple[str, VersionRow | None]]
    branches: list[Branch]


def tree(rows: Iterable[VersionRow]) -> list[Branch]:
    """Which version came from which, oldest first; empty while they follow each other in one line."""
    from nlp_skills.workspace import naming

    known = {row.version: row for row in sorted(rows, key=lambda row: naming.sort_key(row.version))}
    children: dict[str, list[str]] = {}
    for row in known.values():
        if row.parent is not None:
            children.setdefault(row.parent, []).append(row.version)
    experiments = any(naming.is_experiment(name) or row.promoted_from for name, row in known.items())
    if not experiments and all(len(names) < 2 for names in children.values()):
        return []
    gone = [name for name in children if name not in known]
    origins = [*gone, *(name for name, row in known.items() if row.parent is None)]
    drawn: set[str] = set()
    found = [_branch(name, known, children, drawn) for name in origins]
    # Parents that a hand made go round in a circle have no beginning; any of them serves.
    return found + [_branch(name, known, children, drawn) for name in known if name not in drawn]


def _branch(name: str, known: Mapping[str, VersionRow], children: Mapping[str, list[str]], drawn: set[str]) -> Branch:
    chain: list[tuple[str, VersionRow | None]] = []
    following = [name]
    while len(following) == 1:
        (name,) = following
        drawn.add(name)
        chain.append((name, known.get(name)))
        following = [child for child in children.get(name, ()) if child not in drawn]
    return Branch(chain, [_branch(child, known, children, drawn) for child in following])
