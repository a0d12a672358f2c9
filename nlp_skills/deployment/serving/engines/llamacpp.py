"""An engine of llama.cpp: one server process a version, from its GGUF file, which is made where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from nlp_skills import extras, files
from nlp_skills.data.render import Renderer
from nlp_skills.deployment.serving.engines.http import Broken, Client
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Unavailable
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering import llamacpp
from nlp_skills.evaluation.answering.scorer import Scorer
from nlp_skills.i18n import _
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace.folder import TaskFolder

# Of the server's inner life; the scorer and the server see to it.
_NOT_THEIRS = ("id_slot", "slot_id", "lora", "cache_prompt", "n_cache_reuse")


# Of an event in a stream.
_END = b"\n\n"


@dataclass(frozen=True)
class Reply:
    """As `ChatAnswer`."""

    status: int
    body: dict[str, Any] | bytes | None = None
    events: AsyncIterator[bytes] | None = None


@dataclass(frozen=True)
class _Loaded:
    """A version and its server."""

    scorer: llamacpp.LlamaCpp
    client: Client
    info: ModelInfo
    renderer: Renderer = field(repr=False)

    @property
    def told(self) -> bytes:
        """What the server calls the model: the path of its file, which is nobody's business."""
        return _told(str(self.scorer.gguf.resolve()))

    @property
    def alive(self) -> bool:
        return self.scorer.server.process.poll() is None

    def close(self) -> None:
        self.scorer.close()


class LlamaCpp:
    """An `Engine`."""

    name = "llama.cpp"

    def __init__(self, folder: TaskFolder, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self._loaded: dict[str, _Loaded] = {}

    @property
    def alive(self) -> bool:
        """Whether every server still runs."""
        return all(one.alive for one in self._loaded.values())

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that have a server."""
        return tuple(self._loaded)

    @property
    def pids(self) -> list[int]:
        """The servers' processes."""
        return [one.scorer.server.process.pid for one in self._loaded.values()]

    async def start(self) -> None:
        """Nothing is started before a version is loaded.

        Raises:
            Unavailable: the extra is missing.
        """
        extras.need("llamacpp", "xllamacpp")

    async def close(self) -> None:
        """End all servers."""
        for version in self.versions:
            await self.unload(version)

    async def load(self, version: str) -> None:
        """Start a server for a version.

        Raises:
            Invalid: it has no model, or llama.cpp does not know its architecture.
            Unavailable: its GGUF file is not there and cannot be made.
        """
        if version not in self._loaded:
            self._loaded[version] = await asyncio.to_thread(self._opened, version)

    async def unload(self, version: str) -> None:
        """End a version's server."""
        gone = self._loaded.pop(version, None)
        if gone is not None:
            gone.client.close()
            await asyncio.to_thread(gone.close)

    def scorer(self, version: str) -> Scorer:
        """What answers rows for a version.

        Raises:
            Unavailable: it is not loaded.
        """
        return self._one(version).scorer

    async def chat(self, version: str, body: dict[str, Any]) -> Reply:
        """The server's own chat completion, with the version's system prompt where the caller has none.

        Raises:
            Unavailable: the server is gone.
        """
        one = self._one(version)
        sent = json.dumps(self._completed(one, body), ensure_ascii=False).encode("utf-8", "replace")
        try:
            status, pieces = await one.client.post("/v1/chat/completions", sent)
            named = partial(_named, one.told, _told(body.get("model") or version))
            if status == 200 and body.get("stream") is True:
                return Reply(200, events=self._events(pieces, named))
            return Reply(status, named(b"".join([piece async for piece in pieces])))
        except Broken as error:
            raise self._gone(error) from error

    async def _events(self, pieces: AsyncGenerator[bytes], named: Callable[[bytes], bytes]) -> AsyncIterator[bytes]:
        begun = b""
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    whole, end, begun = (begun + piece).rpartition(_END)
                    if end:
                        yield named(whole + end)
            if begun:
                yield named(begun)
        except Broken as error:
            raise self._gone(error) from error

    def _completed(self, one: _Loaded, body: dict[str, Any]) -> dict[str, Any]:
        told = {name: value for name, value in body.items() if name not in _NOT_THEIRS}
        # As versions are evaluated: the likeliest answer, unless another is asked for.
        if told.get("temperature") is None:
            told["temperature"] = 0.0
        told.setdefault("chat_template_kwargs", one.info.chat_template_kwargs)
        messages = told.get("messages")
        if isinstance(messages, list) and messages and all(isinstance(turn, dict) for turn in messages):
            begins = messages[0].get("role") in ("system", "developer")
            told["messages"] = messages if begins else one.renderer.conversation(messages)
        return told

    def _gone(self, error: Broken) -> Unavailable:
        return Unavailable(_("llama.cpp has stopped"), cause=str(error) or None, mend=_("ask again in a moment"))

    def _one(self, version: str) -> _Loaded:
        found = self._loaded.get(version)
        if found is None:
            raise Unavailable(_("version {version} is not loaded", version=version))
        return found

    def _opened(self, name: str) -> _Loaded:
        from nlp_skills.deployment import export

        version = self.folder.existing_version(name)
        info = model.info(version)
        quantization = self.settings.quantization or self.folder.task().deploy.quantization
        made = export.gguf(self.folder, version, quantization)
        scorer = llamacpp.open(
            files.inside(self.folder.root, made.path),
            chat_template_kwargs=info.chat_template_kwargs,
            parallel=self.settings.parallel,
            context=self.settings.context,
            threads=self.settings.threads,
        )
        place = urlsplit(scorer.server.address)
        client = Client(place.hostname or "127.0.0.1", place.port or 80)
        return _Loaded(scorer, client, info, Renderer.from_model_info(info))


def _told(name: Any) -> bytes:
    """The model's name as it stands in JSON; no text of a user can hold that, since its quotes would be escaped."""
    return b'"model":' + json.dumps(str(name), ensure_ascii=False).encode("utf-8", "surrogateescape")


def _named(theirs: bytes, ours: bytes, content: bytes) -> bytes:
    return content.replace(theirs, ours)
