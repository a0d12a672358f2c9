"""The versions that are loaded, each with the engine that answers for it, watched and made anew where it died.

A request holds its version from its first moment to its last, so that no switch takes it away. The states of a version
are: ready, restarting (its engine died), and gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal

from nlp_skills.deployment.asker import Asker
from nlp_skills.deployment.serving.engines.choosing import Maker
from nlp_skills.deployment.serving.engines.engine import Engine
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _

_log = logging.getLogger("nlp_skills.serving")
_LOOK_SECONDS = 0.2
_WAITS = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
_WARM = "?"


@dataclass(eq=False)
class Seat:
    """A version that is loaded. `users` is how many requests hold it; `generation` counts its engines."""

    version: str
    engine: Engine
    asker: Asker
    state: Literal["ready", "restarting"] = "ready"
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    generation: int = 0

    @property
    def answers(self) -> bool:
        """Whether it can be asked now."""
        return self.state == "ready" and self.engine.alive


class Pool:
    """Of one task. Everything here runs in one event loop; only loading and asking leave it."""

    def __init__(self, maker: Maker, choose: Callable[[str], Subject], keep: int) -> None:
        self.maker, self.choose, self.keep = maker, choose, max(1, keep)
        self.active = ""
        self.seats: dict[str, Seat] = {}
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def holding(self, version: str | None = None) -> AsyncIterator[Seat]:
        """A version, the active one by default, for as long as the block takes; it is loaded where it is not yet.

        Raises:
            Invalid, Unavailable: it cannot be loaded.
        """
        seat = await self.take(version)
        try:
            yield seat
        finally:
            self.give_back(seat)

    async def take(self, version: str | None = None) -> Seat:
        """As `holding`, for whoever gives it back himself."""
        name = version or self.active
        seat = self.seats.get(name)
        if seat is None:
            # A client that goes away meanwhile stops nothing: others wait for the same.
            loading = asyncio.ensure_future(self._loaded(name))
            try:
                return await asyncio.shield(loading)
            except asyncio.CancelledError:
                loading.add_done_callback(self._unwanted)
                raise
        seat.users += 1
        seat.used = time.monotonic()
        return seat

    def give_back(self, seat: Seat) -> None:
        """The request that took it is over."""
        seat.users -= 1
        self._trim()

    def activate(self, version: str) -> None:
        """From now on, whoever names no version is answered by this one, which is loaded."""
        if version not in self.seats:
            raise RuntimeError("a version is made active before it is loaded")
        before, self.active = self.active, version
        if before != version:
            _log.info("active version: %s -> %s", before or "none", version)
        self._trim()

    def watch(self) -> None:
        """Begin to look after engines."""
        self._watching = asyncio.create_task(self._watch())

    @property
    def ready(self) -> bool:
        """Whether the active version answers."""
        seat = self.seats.get(self.active)
        return seat is not None and seat.answers

    async def again(self, seat: Seat, generation: int, seconds: float) -> bool:
        """Wait until a seat's engine was replaced; whether it was."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if seat.generation != generation and seat.answers:
                return True
            await asyncio.sleep(_LOOK_SECONDS / 4)
        return False

    async def close(self) -> None:
        """End all engines."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        async with self._loading:
            engines = {id(seat.engine): seat.engine for seat in self.seats.values()}
            self.seats.clear()
            await asyncio.gather(*(engine.close() for engine in engines.values()), return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _loaded(self, name: str) -> Seat:
        async with self._loading:
            seat = self.seats.get(name)
            if seat is None:
                began = time.monotonic()
                chosen = await asyncio.to_thread(self.choose, name)
                engine = await self._engine_with(name)
                try:
                    asker = await asyncio.to_thread(_warmed, chosen, engine, name)
                except BaseException:
                    await self._let_go(engine, name)
                    raise
                seat = self.seats[name] = Seat(name, engine, asker)
                _log.info("version %s: loaded by %s in %.1f s", name, engine.name, time.monotonic() - began)
            seat.users += 1
            seat.used = time.monotonic()
        return seat

    def _unwanted(self, loading: asyncio.Future[Seat]) -> None:
        if not loading.cancelled() and loading.exception() is None:
            self.give_back(loading.result())

    async def _engine_with(self, name: str) -> Engine:
        shared = next((seat.engine for seat in self.seats.values() if seat.engine.alive), None)
        engine = shared if self.maker.shared and shared is not None else await self._new_engine()
        try:
            await engine.load(name)
        except BaseException:
            await self._let_go(engine, name)
            raise
        return engine

    async def _new_engine(self) -> Engine:
        engine = self.maker.make()
        await engine.start()
        return engine

    async def _let_go(self, engine: Engine, name: str) -> None:
        """A version leaves its engine, which ends with its last one."""
        with contextlib.suppress(Problem):
            if any(seat.engine is engine for seat in self.seats.values()):
                await engine.unload(name)
            else:
                await engine.close()

    def _trim(self) -> None:
        """More versions than are to be kept: those that nobody holds go, the one that was asked longest ago first."""
        idle = [seat for seat in self.seats.values() if not seat.users and seat.version != self.active]
        for seat in sorted(idle, key=lambda one: one.used)[: max(0, len(self.seats) - self.keep)]:
            del self.seats[seat.version]
            self._later(self._unloaded(seat))

    async def _unloaded(self, seat: Seat) -> None:
        async with self._loading:
            await self._let_go(seat.engine, seat.version)
        _log.info("version %s: unloaded", seat.version)

    def _later(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        failed, not_before = 0, 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            dead = [seat for seat in self.seats.values() if not seat.engine.alive or seat.state == "restarting"]
            if not dead:
                if failed and time.monotonic() > not_before + _WAITS[-1]:
                    failed = 0
                continue
            for seat in dead:
                if seat.state == "ready":
                    seat.state = "restarting"
                    _log.error("version %s: its engine has died; it is restarted", seat.version)
            if time.monotonic() < not_before:
                continue
            failed, not_before = failed + 1, time.monotonic() + _WAITS[min(failed + 1, len(_WAITS) - 1)]
            async with self._loading:
                for engine in {id(seat.engine): seat.engine for seat in dead}.values():
                    await self._replaced(engine)

    async def _replaced(self, old: Engine) -> None:
        """A new engine for all that one answered for."""
        seats = [seat for seat in self.seats.values() if seat.engine is old]
        fresh: Engine | None = None
        try:
            with contextlib.suppress(Exception):
                await old.close()
            if not seats:
                return
            fresh = await self._new_engine()
            for seat in seats:
                await fresh.load(seat.version)
            askers = [await asyncio.to_thread(_warmed, seat.asker.chosen, fresh, seat.version) for seat in seats]
        except Exception as error:
            _log.error("the engine could not be restarted: %s", error)
            if fresh is not None:
                with contextlib.suppress(Exception):
                    await fresh.close()
            return
        for seat, asker in zip(seats, askers, strict=True):
            seat.engine, seat.asker, seat.state = fresh, asker, "ready"
            seat.generation += 1
            _log.info("version %s: answers again", seat.version)


def _warmed(chosen: Subject, engine: Engine, version: str) -> Asker:
    """What asks a version, after a first question."""
    asker = Asker(chosen, engine.scorer(version))
    asker.answers([dict.fromkeys(asker.fields, _WARM)])
    return asker


def refuse_down(seat: Seat) -> None:
    """Stop where a version's engine is down.

    Raises:
        Unavailable: it is being restarted.
    """
    if not seat.answers:
        raise Unavailable(
            _("version {version} does not answer just now", version=seat.version),
            cause=_("its engine has died and is restarted"),
            mend=_("ask again in a moment"),
        )
