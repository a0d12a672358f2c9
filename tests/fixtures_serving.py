"""A gateway of a task with two versions that answer differently, over real llama.cpp, in a thread of this process."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fixtures_models import USER_CACHE

from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Gateway:
    """One that answers. `service` is its inside, to be looked at only; `call` runs something in its loop."""

    address: str
    folder: TaskFolder
    service: Any
    loop: asyncio.AbstractEventLoop

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(30)


@pytest.fixture(scope="session")
def servable_once(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`two_versions` with a GGUF file of each. Copied, never changed."""
    from nlp_skills.deployment import export

    root = tmp_path_factory.mktemp("servable") / "sentiment"
    folder = TaskFolder.at(Path(shutil.copytree(two_versions, root, symlinks=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", USER_CACHE)
        for version in ("v1", "v2"):
            export.gguf(folder, folder.version(version), "q8_0")
    return root


@pytest.fixture
def servable(servable_once: Path, project: Path) -> TaskFolder:
    """A copy of that task, in the project's folder."""
    return TaskFolder.at(Path(shutil.copytree(servable_once, project / "sentiment", symlinks=True)))


@contextmanager
def gateway(folder: TaskFolder, settings: Any = None) -> Iterator[Gateway]:
    """Serve a task on a free port for as long as the block takes."""
    from nlp_skills.deployment.serving import program
    from nlp_skills.deployment.serving.settings import Settings

    settings = settings or Settings(parallel=4, context=512, threads=1)
    listener = program.listening(replace(settings, port=0))
    settings = replace(settings, port=listener.getsockname()[1])
    ready, found = threading.Event(), {}
    thread = threading.Thread(target=_run, args=(folder, settings, listener, ready, found), daemon=True)
    thread.start()
    ready.wait(120)
    if "error" in found:
        raise found["error"]
    assert "service" in found
    try:
        yield Gateway(settings.address, folder, found["service"], found["loop"])
    finally:
        found["loop"].call_soon_threadsafe(found["ending"].set)
        thread.join(60)
        listener.close()
        assert not thread.is_alive()


def _run(
    folder: TaskFolder, settings: Any, listener: socket.socket, ready: threading.Event, found: dict[str, Any]
) -> None:
    from nlp_skills.deployment.serving import program

    async def main() -> None:
        found["loop"], found["ending"] = asyncio.get_running_loop(), asyncio.Event()

        def tell(service: Any) -> None:
            found["service"] = service
            ready.set()

        await program.run(folder, settings, listener, found["ending"], tell)

    try:
        asyncio.run(main())
    except BaseException as error:
        found["error"] = error
    finally:
        ready.set()


@pytest.fixture(scope="module")
def served(servable_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that tests only ask; v2 is active, v1 is loaded when it is asked for."""
    root = tmp_path_factory.mktemp("served") / "sentiment"
    with gateway(TaskFolder.at(Path(shutil.copytree(servable_once, root, symlinks=True)))) as found:
        yield found
