"""The gateway as a program: the port first, then the model, then requests, until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nlp_skills import extras
from nlp_skills.deployment.serving import app, keys, switching
from nlp_skills.deployment.serving.service import Service
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder

_log = logging.getLogger("nlp_skills.serving")
_INTERRUPTED = 130
Tell = Callable[[Service], None]


def serve(folder: TaskFolder, settings: Settings, tell: Tell = lambda _service: None) -> int:
    """Serve a task until SIGTERM (0) or SIGINT (130); `tell` hears when it is ready.

    Raises:
        Invalid: no such version, or no model of it.
        Unavailable: the port is taken, or an extra is missing.
    """
    extras.need("serve", "fastapi", "uvicorn")
    with contextlib.closing(listening(settings)) as listener:
        # A task's own keys hold wherever it is served, unless others are named.
        guarded = settings.keys_file or keys.place(folder)
        settings = replace(settings, port=listener.getsockname()[1], keys_file=guarded)
        keys.refuse_open(settings, keys.Keys(settings))
        _log_to_stderr()
        with asyncio.Runner(loop_factory=_loop()) as runner:
            return runner.run(_served(folder, settings, listener, tell))


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster event loop, where it is installed."""
    if not extras.installed("uvloop"):
        return None
    import uvloop

    return uvloop.new_event_loop


def _log_to_stderr() -> None:
    """What happens to versions and engines, a line each, where requests are logged too."""
    if not _log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        _log.addHandler(handler)
        _log.setLevel(logging.INFO)


def listening(settings: Settings) -> socket.socket:
    """A socket at the address.

    Raises:
        Unavailable: it is taken, or not ours to take.
    """
    try:
        family, kind, protocol, _name, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM
        )[0]
        # With its protocol named, or asyncio leaves Nagle's delay on: 40 ms an answer.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(1024)
        except BaseException:
            listener.close()
            raise
        return listener
    except OSError as error:
        told = {"host": settings.host, "port": settings.port}
        if error.errno == errno.EADDRINUSE:
            mend = _("choose another: --port N; or see what is there: ss -ltnp 'sport = :{port}'", **told)
            raise Unavailable(_("port {port} of {host} is taken", **told), mend=mend) from error
        raise Unavailable(
            _("cannot listen at port {port} of {host}", **told),
            cause=error.strerror or str(error),
            mend=_("choose another: --port N, --host ADDRESS"),
        ) from error


async def _served(folder: TaskFolder, settings: Settings, listener: socket.socket, tell: Tell) -> int:
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    ended_by: list[int] = []

    def end(number: int) -> None:
        ended_by.append(number)
        ending.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    await run(folder, settings, listener, ending, tell)
    return _INTERRUPTED if signal.SIGINT in ended_by else 0


async def run(
    folder: TaskFolder, settings: Settings, listener: socket.socket, ending: asyncio.Event, tell: Tell
) -> None:
    """Load the model, answer until `ending` is set, finish what is under way, and clear up.

    Raises:
        Invalid, Unavailable: as `serve`.
    """
    import uvicorn

    service = Service.of(folder, settings)
    try:
        if await _unless_ended(service.start(service.first), ending):
            config = uvicorn.Config(
                app.create(service, settings),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=max(1, int(settings.grace_s)),
            )
            await _answering(service, uvicorn.Server(config), listener, ending, tell)
    finally:
        with contextlib.suppress(Problem):
            await asyncio.to_thread(switching.take_away, folder, settings.address)
        await service.close()


async def _unless_ended(work: object, ending: asyncio.Event) -> bool:
    """Whether the work was done before the end came; a problem of it is raised."""
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(ending.wait())  # type: ignore[call-overload]
    await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Problem):
        await task
    return False


async def _answering(service: Service, server: Any, listener: socket.socket, ending: asyncio.Event, tell: Tell) -> None:
    """Answer requests until the end comes; what is under way then is finished."""
    # Signals are ours to hear.
    server.capture_signals = contextlib.nullcontext
    try:
        await asyncio.to_thread(switching.put, service, service.pool.active)
    except Unavailable as problem:
        # In a container, or as another user than the folder's: what cannot be noted can be answered all the same.
        _log.warning("what answers here is not noted in the task: %s", problem)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    following = asyncio.create_task(switching.followed(service))
    try:
        tell(service)
        over = asyncio.create_task(ending.wait())
        await asyncio.wait({running, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        server.should_exit = True
        await running
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
