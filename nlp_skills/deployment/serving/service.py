"""What the gateway does for its callers: rows are answered, conversations passed on, versions listed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.data.rows import cut
from nlp_skills.deployment.asker import Prediction, Row
from nlp_skills.deployment.serving.engines import choosing
from nlp_skills.deployment.serving.pool import Pool, Seat, refuse_down
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Problem, Unavailable, Usage
from nlp_skills.evaluation import subject
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import deployments, naming
from nlp_skills.workspace.folder import TaskFolder

# How long a row waits for an engine that died under it, before it is asked a second time.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Answered:
    """The answers to rows, and the version that gave them."""

    version: str
    predictions: list[Prediction]
    seconds: float


@dataclass
class Chatting:
    """The reply to a conversation. Where it is a stream, its version is held until it ends or is closed."""

    version: str
    status: int
    body: dict[str, Any] | bytes | None = None
    events: AsyncIterator[bytes] | None = None


@dataclass
class Service:
    """One task behind one gateway. `task` is its name, which is also the model's.

    `refused` is the last switch that could not be made, and why.
    """

    folder: TaskFolder
    settings: Settings
    pool: Pool
    task: str
    refused: dict[str, str] | None = None
    # Switches come one after another.
    switching: asyncio.Lock = field(default_factory=asyncio.Lock)
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(64, thread_name_prefix="asked"), repr=False
    )

    @classmethod
    def of(cls, folder: TaskFolder, settings: Settings) -> Service:
        """A task's, nothing loaded yet.

        Raises:
            Unavailable: the engine's extra is missing.
        """
        maker = choosing.chosen(folder, settings)
        pool = Pool(maker, lambda name: subject.asked(folder, name), settings.keep)
        return cls(folder, settings, pool, folder.task().task_name)

    async def start(self, version: str) -> None:
        """Load the version that answers.

        Raises:
            Invalid, Unavailable: it cannot be loaded.
        """
        async with self.pool.holding(version):
            self.pool.activate(version)
        self.pool.watch()

    async def close(self) -> None:
        """End the engines."""
        await self.pool.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    def known(self, version: str | None) -> str:
        """A version by name, or the active one, that could be asked.

        Raises:
            Usage: not a version name.
            Invalid: no such version, or no model of it.
        """
        if version is None or version in self.pool.seats:
            return version or self.pool.active
        if not naming.is_version(version):
            raise Usage(_("{name} is not a version name", name=cut(version, 64)))
        return subject.asked(self.folder, version).version.name

    @property
    def first(self) -> str:
        """The version that answers, or that is to be loaded first."""
        return self.pool.active or self.settings.version or self.folder.task().version

    def created(self) -> list[tuple[str, int]]:
        """Each model's name, and when it was made."""
        chosen = [subject.asked(self.folder, name) for name in self.servable()]
        times = {one.version.name: int(one.info.created.timestamp()) for one in chosen}
        active = times.get(self.pool.active, 0)
        return [(self.task, active), *((f"{self.task}@{name}", at) for name, at in times.items())]

    def servable(self) -> list[str]:
        """The versions that have a model."""
        found = []
        for name in self.folder.version_names():
            with contextlib.suppress(Problem):
                found.append(subject.asked(self.folder, name).version.name)
        return found

    async def predict(self, read: Callable[[list[str]], list[Row]], version: str | None = None) -> Answered:
        """The answers to rows, all by one version; `read` makes them, for the fields of its prompt.

        Raises:
            Usage, Invalid: no such version; or a row that cannot be asked.
            Unavailable: what answers is down.
        """
        name = self.known(version)
        async with self.pool.holding(name) as seat:
            began = time.monotonic()
            predictions = await self._answers(seat, read(seat.asker.fields))
            return Answered(seat.version, predictions, time.monotonic() - began)

    async def chat(self, body: dict[str, Any], version: str | None = None) -> Chatting:
        """The reply to a conversation in OpenAI's form.

        Raises:
            Usage, Invalid, Unavailable: as `predict`.
        """
        async with contextlib.AsyncExitStack() as stack:
            seat = await stack.enter_async_context(self.pool.holding(self.known(version)))
            refuse_down(seat)
            found = await seat.engine.chat(seat.version, body)
            if found.events is None:
                return Chatting(seat.version, found.status, found.body)
            return Chatting(seat.version, found.status, events=_held(found.events, stack.pop_all()))

    def entry(self) -> Deployment | None:
        """This gateway, as the task knows it.

        Raises:
            Invalid: versions/deployments.json cannot be read.
        """
        address = self.settings.address
        known = deployments.load(self.folder)
        return next((one for one in known if (one.target, one.name) == ("api", address)), None)

    def versions(self) -> list[dict[str, Any]]:
        """What can be asked here, and how each stands."""
        placed = deployments.load(self.folder)
        return [self._told(subject.asked(self.folder, name), placed) for name in self.servable()]

    async def _answers(self, seat: Seat, rows: Sequence[Row]) -> list[Prediction]:
        refuse_down(seat)
        generation = seat.generation
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.threads, seat.asker.answers, rows)
        except Unavailable:
            # Rows are asked a second time: nothing was changed by the first.
            if not await self.pool.again(seat, generation, _PATIENCE):
                raise
        return await loop.run_in_executor(self.threads, seat.asker.answers, rows)

    def _told(self, chosen: Subject, placed: list[Deployment]) -> dict[str, Any]:
        name, info = chosen.version.name, chosen.info
        seat = self.pool.seats.get(name)
        results = None
        with contextlib.suppress(Problem):
            results = chosen.version.results()
        metric = None
        if results is not None:
            primary = chosen.task.success_criteria.primary_metric
            wanted = {primary: results.metrics.get(primary)} if primary else {}
            metric = {key: value for key, value in wanted.items() if value is not None} or None
        since = [one.since for one in placed if one.version == name]
        return {
            "version": name,
            "model": f"{self.task}@{name}",
            "state": seat.state if seat is not None else "not_loaded",
            "loaded": seat is not None,
            "active": name == self.pool.active,
            "metric": metric,
            "created": info.created.isoformat(),
            "deployed": min(since).isoformat() if since else None,
        }


async def _held(
    events: AsyncIterator[bytes] | Iterator[bytes], stack: contextlib.AsyncExitStack
) -> AsyncIterator[bytes]:
    """A stream that keeps its version until it is over."""
    async with stack:
        if isinstance(events, AsyncIterator):
            try:
                async for event in events:
                    yield event
            finally:
                close = getattr(events, "aclose", None)
                if close is not None:
                    await close()
        else:
            for event in events:
                yield event
