"""What the gateway asks of an engine: a process, or several, that answer for one version or more.

The pool starts engines, watches them, makes new ones where they died, and closes them. An engine restarts nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from nlp_skills.evaluation.answering.scorer import Scorer


class ChatAnswer(Protocol):
    """The reply to a chat completion: a body, or the events of a stream.

    `body` is an object, or its bytes as the engine wrote them. The status and the form of errors are OpenAI's. An
    asynchronous iterator of events is closed by whoever stops reading it.
    """

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> dict[str, Any] | bytes | None: ...

    @property
    def events(self) -> AsyncIterator[bytes] | Iterator[bytes] | None: ...


class Engine(Protocol):
    """What answers. Everything but `scorer` is called from the gateway's one event loop, and must not hold it up."""

    @property
    def name(self) -> str: ...

    @property
    def alive(self) -> bool:
        """Whether all it started still runs; false once it has died."""
        ...

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that it answers for now."""
        ...

    async def start(self) -> None:
        """Be ready to load versions.

        Raises:
            Unavailable: what it needs is missing.
        """
        ...

    async def close(self) -> None:
        """End all it started; fine where it has died."""
        ...

    async def load(self, version: str) -> None:
        """Be able to answer for a version; nothing else stops meanwhile.

        Raises:
            Invalid: no such version, or no model of it.
            Unavailable: memory, a package or the process.
        """
        ...

    async def unload(self, version: str) -> None:
        """Give a version's memory back; nobody asks it any more."""
        ...

    def scorer(self, version: str) -> Scorer:
        """What scores and generates for a version; blocking, and called from several threads at once.

        Raises:
            Unavailable: it is not loaded.
        """
        ...

    async def chat(self, version: str, body: dict[str, Any]) -> ChatAnswer:
        """A chat completion in OpenAI's form, as a stream of events where the body asks for one.

        Raises:
            Unavailable: the process is gone or broken.
        """
        ...
