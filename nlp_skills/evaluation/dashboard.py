"""One page over all tasks of a project and their versions: where each stands, and which reports there are.

Of each version only results.json is read, and no more of it than is shown: a thousand tasks are a matter of seconds.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nlp_skills.errors import Usage
from nlp_skills.evaluation import charts, report, shown, words
from nlp_skills.i18n import _
from nlp_skills.workspace import listing, locate, naming
from nlp_skills.workspace.listing import TaskRow

_SCRIPT = Path(__file__).parent / "templates" / "dashboard.js"
_VERDICTS = ("met", "cannot_tell", "not_met", "")


@dataclass(frozen=True)
class Version:
    """A version as its results have it; without any, only its name. `test` is the hash of the rows it was tested on,
    `metric` the one that decided.
    """

    name: str
    metric: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    verdict: str = ""
    created: str = ""
    test: str = ""
    report: Path | None = None


@dataclass(frozen=True)
class Line:
    """A task with its versions, oldest first."""

    row: TaskRow
    versions: list[Version]

    @property
    def active(self) -> Version:
        found = (one for one in self.versions if one.name == self.row.version)
        return next(found, Version(self.row.version or ""))

    @property
    def best(self) -> Version | None:
        """The highest of those measured as the active one was, or the last: by the same metric on the same rows."""
        measured = [one for one in self.versions if one.value is not None]
        if not measured:
            return None
        like = self.active if self.active.value is not None else measured[-1]
        alike = [one for one in measured if (one.test, one.metric) == (like.test, like.metric)]
        return max(alike, key=lambda one: one.value or 0.0)


@dataclass(frozen=True)
class Dashboard:
    """The tasks under a folder, newest first, and those that cannot be read."""

    root: Path
    tasks: list[Line]
    broken: list[TaskRow]

    @property
    def versions(self) -> int:
        return sum(len(line.versions) for line in self.tasks)


def write(root: Path | None = None, out: Path | None = None) -> tuple[Path, Dashboard]:
    """Write the page of the tasks under `root`, the project when left out, and return its path and what it shows.

    Raises:
        Usage: `root` is no folder; `out` is not a file, or a file that is not a page of ours.
        Unavailable: it cannot be written there.
    """
    if root is not None and not root.is_dir():
        raise Usage(_("this is not a folder"), file=root, mend=_("name the folder that holds the tasks"))
    found = gather((root or locate.project_root()).resolve())
    path = out or found.root / "dashboard.html"
    report.check_place(path)
    page = report.render("dashboard.html.j2", words.dashboard(), context(found, path))
    return report.put(path, page), found


def gather(root: Path) -> Dashboard:
    """What there is under a folder."""
    tasks = listing.tasks(root)
    return Dashboard(root, [Line(row, _versions(row)) for row in tasks.readable], tasks.broken)


def _versions(row: TaskRow) -> list[Version]:
    try:
        with os.scandir(row.path / "versions") as entries:
            names = [entry.name for entry in entries if naming.is_version(entry.name) and entry.is_dir()]
    except OSError:
        return []
    return [_version(row, name) for name in sorted(names, key=naming.sort_key)]


def _version(row: TaskRow, name: str) -> Version:
    place = row.path / "versions" / name
    there = place / "report.html"
    page = there if there.is_file() else None
    try:
        with open(place / "results.json", "rb") as stream:
            found = json.loads(stream.read())
        return Version(name, report=page, **_figures(found))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Version(name, report=page)


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a results.json; what is not a figure is left out."""
    success = found["success"]
    metric = str(success["primary_metric"])
    verdict = success.get("verdict") or {True: "met", False: "not_met"}.get(success.get("met"), "")
    edges = [_number(edge) for edge in found.get("intervals", {}).get(metric) or ()]
    low, high = edges if len(edges) == 2 else (None, None)
    return {
        "metric": metric,
        "value": _number(found["metrics"].get(metric)),
        "interval": (low, high) if low is not None and high is not None else None,
        "verdict": verdict if verdict in _VERDICTS else "",
        "created": dt.datetime.fromisoformat(found["created"]).strftime("%Y-%m-%d"),
        "test": str(found["test_sha256"]),
    }


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def context(found: Dashboard, page: Path) -> dict[str, Any]:
    """Everything templates/dashboard.html.j2 prints; links lead from where the page lies."""
    from markupsafe import Markup

    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    folder, titles = page.resolve().parent, listing.titles([line.row for line in found.tasks], found.root)
    problems = [{"name": shown.cut(row.name, 80), "problem": shown.cut(str(row.problem), 400)} for row in found.broken]
    return {
        "task": {"task_name": found.root.name, "goal": ""},
        "lines": [_line(line, titles[line.row.path], folder) for line in found.tasks],
        "broken": problems,
        "counts": _counts(found),
        "script": Markup(script),  # noqa: S704 - a file of ours
        "script_policy": f"; script-src 'sha256-{digest}'",
    }


def _counts(found: Dashboard) -> list[str]:
    verdicts = [line.active.verdict for line in found.tasks]
    return [
        _("tasks: {count}", count=len(found.tasks)),
        _("versions: {count}", count=found.versions),
        *(f"{_verdict(name)}: {verdicts.count(name)}" for name in _VERDICTS[:3] if name in verdicts),
    ]


def _line(line: Line, title: str, folder: Path) -> dict[str, Any]:
    row, active, best = line.row, line.active, line.best
    metric = active.metric or str(row.primary_metric)
    points, dots = charts.sparkline([one.value if one.metric == metric else None for one in line.versions])
    return {
        "name": shown.cut(title, 80),
        "domain": shown.cut(row.domain or "", 40),
        "status": row.status,
        "order": listing.STATES.index(row.status) if row.status in listing.STATES else 9,
        "run": row.run == "dead",
        "active": _shown(active, folder),
        "metric": words.metric(metric),
        "best": _shown(best, folder) if best and best.name != active.name else None,
        "spark": points,
        "spark_end": dots,
        "course": _course(line.versions, metric),
        "versions": [_shown(one, folder) for one in reversed(line.versions)],
        "updated": row.updated.astimezone().strftime("%Y-%m-%d") if row.updated else "",
        "updated_at": f"{row.updated.timestamp():.0f}" if row.updated else "",
    }


def _course(versions: Sequence[Version], metric: str) -> str:
    known = [one for one in versions if one.value is not None and one.metric == metric]
    ends = [f"{one.name} {words.figure(metric, one.value)}" for one in (known[:1] + known[-1:])]
    return " → ".join(dict.fromkeys(ends))


def _shown(one: Version, folder: Path) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": words.figure(one.metric, one.value) if one.value is not None else "",
        "number": "" if one.value is None else f"{one.value:.6f}",
        "interval": " – ".join(words.figure(one.metric, edge) for edge in one.interval) if one.interval else "",
        "verdict": _verdict(one.verdict),
        "state": {"met": "good", "not_met": "bad"}.get(one.verdict, "open"),
        "order": _VERDICTS.index(one.verdict),
        "created": one.created,
        "href": quote(Path(os.path.relpath(one.report, folder)).as_posix()) if one.report else "",
    }


def _verdict(code: str) -> str:
    return {"met": _("met"), "not_met": _("not met"), "cannot_tell": _("cannot tell")}.get(code, "")
