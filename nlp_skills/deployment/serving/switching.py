"""Another version becomes the one that answers: it is loaded first, then written down, then one reference changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass, replace

from nlp_skills import files
from nlp_skills.deployment import following
from nlp_skills.deployment.serving.service import Service
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import active, deployments, digest, lock, promotion, rollback
from nlp_skills.workspace.folder import TaskFolder

_log = logging.getLogger("nlp_skills.serving")
_LOOK_SECONDS = 0.5
_PATIENCE = 60.0


@dataclass(frozen=True)
class Moved:
    """A switch. `left` are names that follow the active version and could not be reached."""

    before: str
    after: str
    left: tuple[str, ...] = ()


async def back(service: Service, name: str | None = None) -> Moved:
    """Go back to a version, by default the one that was active before.

    Raises:
        Usage: not a version name, or none was active before.
        Invalid: it cannot be loaded or made active; nothing has changed then.
        Unavailable: it cannot be loaded now; nothing has changed.
    """
    _refuse_pinned(service)
    async with service.switching:
        folder = service.folder
        wanted = await asyncio.to_thread(lambda: name or rollback.previous(folder))
        version = service.known(wanted)
        async with service.pool.holding(version) as seat:
            if not seat.answers:
                raise _down(version)
            switched = await asyncio.to_thread(rollback.rollback, folder, version)
            return await _arrived(service, version, switched)


async def promoted(service: Service, name: str) -> Moved:
    """Let an experiment become the next version, and answer with it.

    Raises:
        Usage: not an experiment's name.
        Invalid, Unavailable: it cannot be loaded or promoted; the gateway goes on as before.
    """
    _refuse_pinned(service)
    async with service.switching:
        folder = service.folder
        experiment = await asyncio.to_thread(promotion.experiment, folder, name)
        # One that cannot be loaded is not to become a version.
        async with service.pool.holding(experiment.name):
            done = await asyncio.to_thread(promotion.promote, folder, experiment.name)
        version = done.version.name
        async with service.pool.holding(version):
            switched = await asyncio.to_thread(rollback.rollback, folder, version)
            return await _arrived(service, version, switched)


async def followed(service: Service) -> None:
    """Answer with whatever version the task's record of deployments says, from now on."""
    seen: tuple[int, int] | None = None
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = _stamp(service.folder)
        if now == seen:
            continue
        seen = now
        try:
            async with service.switching:
                await _follow(service)
        except Exception:
            _log.exception("the record of deployments could not be followed")


async def _follow(service: Service) -> None:
    entry = await asyncio.to_thread(service.entry)
    before = service.pool.active
    if entry is None or entry.version == before:
        return
    try:
        version = service.known(entry.version)
        async with service.pool.holding(version):
            service.pool.activate(version)
            service.refused = None
    except Problem as problem:
        _log.error("version %s cannot be loaded: %s", entry.version, problem)
        service.refused = {"version": entry.version, "message": problem.message, "cause": problem.cause or ""}
        # What is written is what answers.
        await asyncio.to_thread(put, service, before)


async def _arrived(service: Service, version: str, switched: active.Switched) -> Moved:
    """The last steps of a switch whose version is held by the caller: nothing of them can fail halfway."""
    before = service.pool.active
    service.pool.activate(version)
    service.refused = None
    own = service.settings.address
    others = [one for one in switched.left if (one.target, one.name) != ("api", own)]
    with contextlib.suppress(Problem):
        await asyncio.to_thread(put, service, version)
    left = others
    try:
        left = (await asyncio.to_thread(following.carry_on, service.folder, replace(switched, left=others))).left
    except Problem as problem:
        _log.error("what follows the active version could not be moved: %s", problem)
    return Moved(before, version, tuple(one.name for one in left))


def put(service: Service, version: str) -> None:
    """Write down that this gateway answers with a version.

    Raises:
        Invalid: another command holds the task for very long.
        Unavailable: the disk is full.
    """
    folder, address = service.folder, service.settings.address
    with lock.writing(folder, wait_seconds=_PATIENCE, tell=_log.info):
        known = service.entry()
        if known is not None and known.pid == os.getpid():
            if known.version == version:
                return
            entry = known.model_copy(update={"version": version, "since": files.now()})
        else:
            entry = Deployment(
                target="api",
                name=address,
                version=version,
                since=files.now(),
                follows=service.settings.version is None,
                where=service.pool.maker.name,
                pid=os.getpid(),
                host=socket.gethostname(),
            )
            if known is not None and known.version == version:
                entry = entry.model_copy(update={"since": known.since, "forced": known.forced})
        deployments.put(folder, entry)
        digest.write(folder)


def take_away(folder: TaskFolder, address: str) -> None:
    """This gateway no longer answers; an entry of another process stays."""
    with lock.writing(folder, wait_seconds=_PATIENCE, tell=_log.info):
        known = deployments.load(folder)
        ours = [one for one in known if (one.target, one.name, one.pid) == ("api", address, os.getpid())]
        if ours:
            deployments.save(folder, [one for one in known if one not in ours])
            digest.write(folder)


def _stamp(folder: TaskFolder) -> tuple[int, int] | None:
    try:
        found = folder.deployments_path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _refuse_pinned(service: Service) -> None:
    if service.settings.version is not None:
        raise Invalid(
            _("this API stays with version {version}", version=service.settings.version),
            mend=_("start it without --version, and it follows the active version"),
        )


def _down(version: str) -> Problem:
    from nlp_skills.errors import Unavailable

    return Unavailable(
        _("version {version} does not answer just now", version=version), mend=_("ask again in a moment")
    )
