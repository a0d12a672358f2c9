"""Removing from a server what we put there: what it is, how much, and what is in use.

Only what bears a mark of ours goes: a folder that we made or found empty has `.nlp-skills-workdir`, a mirror its
mirror.json, an environment its recipe. The home folder and / are never taken for ours, whatever is in them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.workspace import locate, remote_jobs
from nlp_skills.workspace.folder import TaskFolder

# Walking and removing a few environments with their thousands of files.
_SECONDS = 600.0
# An environment that nobody used for so long is one to look at.
_LONG_DAYS = 30


@dataclass(frozen=True)
class Item:
    """Something that would go: where it is, what it takes on the disk there, and what it is."""

    path: str
    bytes: int
    why: str


@dataclass(frozen=True)
class Cleaning:
    """What would go; what runs there now, which keeps everything where it is; what there is that is not ours.

    `unfetched` are versions whose results this computer has not fetched yet; they too keep everything.
    """

    workdir: str
    everything: bool
    items: list[Item] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unfetched: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """What comes back in all; what several items share is counted once."""
        return sum(item.bytes for item in self.items)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "bytes": self.bytes}


@dataclass(frozen=True)
class Cleaned:
    """What went, and what did not: names of ours that could not be removed, and of others' in our folder."""

    items: list[Item]
    bytes: int
    left: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def plan(server: Server, *, everything: bool = False, folder: TaskFolder | None = None) -> Cleaning:
    """What cleaning would remove; nothing is changed there.

    `everything`: our folder itself, with our programs. `folder`: a task of this computer's; what it and its
    neighbours have not fetched yet is looked for.
    """
    found = server.glance("cleaning", "survey", workdir=server.workdir, everything=everything)
    jobs = server.glance("jobs", "jobs", workdir=server.workdir)["jobs"]
    return Cleaning(
        workdir=server.workdir,
        everything=everything,
        items=[Item(item["path"], item["bytes"], _why(item)) for item in found["items"]],
        running=[job["id"] for job in jobs if job["state"] in ("running", "starting")],
        left=[f"{server.workdir}/{name}" for name in found["left"]],
        unfetched=sorted(_unfetched(server, folder)) if folder else [],
    )


def _unfetched(server: Server, folder: TaskFolder) -> Iterator[str]:
    for root in {folder.root, *locate.find(folder.root.parent)}:
        for job in remote_jobs.every(TaskFolder.at(root)):
            there = (job.host, job.workdir) == (server.link.host, server.workdir)
            if there and job.state in ("running", "ended"):
                yield f"{root.name} {job.version}"


def clean(server: Server, wanted: Cleaning) -> Cleaned:
    """Remove what a plan names; an item that was removed meanwhile is no fault.

    Raises:
        Invalid: something of ours runs there, or made something that was not fetched yet.
    """
    if wanted.running:
        raise _runs(server, ", ".join(wanted.running))
    if wanted.unfetched:
        raise Invalid(
            _("there is something on {host} that was not fetched yet", host=server.link.host),
            cause=", ".join(wanted.unfetched),
            mend=_("fetch it: {command}; or let it go: {all}", command="nlp-skills status TASK",
                   all=f"nlp-skills remote clean --host {server.link.host}"),
        )  # fmt: skip
    paths = [item.path for item in wanted.items]
    done = server.ask("discard", timeout=_SECONDS, workdir=server.workdir, paths=paths, everything=wanted.everything)
    if done["running"]:
        raise _runs(server, ", ".join(done["running"]))
    gone = set(done["removed"])
    items = [item for item in wanted.items if item.path in gone]
    left = [*done["kept"], *(f"{server.workdir}/{name}" for name in done["left"])]
    if wanted.everything:
        # Our program was among it; the next question sends it again.
        server.forget_agent()
    return Cleaned(items, sum(item.bytes for item in items), left)


def _runs(server: Server, names: str) -> Invalid:
    return Invalid(
        _("something of ours runs on {host}", host=server.link.host),
        cause=names,
        mend=_("wait for its end, or stop it first: {command}", command="nlp-skills stop TASK"),
    )


def _why(item: dict[str, Any]) -> str:
    """What an item is, in a line."""
    words = {
        "mirror": _("a task's copy"),
        "environment": _("environment"),
        "code": _("nlp-skills itself"),
        "job": _("records of a job"),
        "model": _("base model"),
        "cache": _("what was downloaded"),
        "leftover": _("what an earlier cleaning left"),
        "program": _("our programs"),
    }
    parts = [words[item["kind"]]]
    if item["about"]:
        parts.append(item["about"])
    elif item["kind"] == "environment":
        parts.append(_("half made"))
    if item["used"] and item["kind"] in ("mirror", "environment", "code", "job"):
        when = dt.datetime.fromtimestamp(item["used"]).astimezone()
        long = dt.datetime.now().astimezone() - when > dt.timedelta(days=_LONG_DAYS)
        day = f"{when:%Y-%m-%d}"
        parts.append(_("not used since {day}", day=day) if long else _("last used {day}", day=day))
    return ", ".join(parts)
