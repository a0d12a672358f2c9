"""An engine of vLLM: one server a base model, with the adapters of all its versions on it, or one a whole model.

It never ran for real here: see `vllm_server`. Prompts are made by our own renderer and travel as token ids, so that
they are those of training; conversations are rendered by the server with the version's chat template.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import threading
import time
import urllib.error
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import extras, files
from nlp_skills.data.render import Renderer, tokenise
from nlp_skills.deployment.serving.engines import chat as chats
from nlp_skills.deployment.serving.engines.vllm_server import Server, Wanted
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Scorer, Way
from nlp_skills.evaluation.answering.vllm import constraint, lora_rank
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import ModelInfo, Sampling
from nlp_skills.workspace.folder import TaskFolder

# Adapters that one batch of the server may hold.
_ADAPTERS = 4
_Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Loaded:
    """A version, the server that answers for it, and how its prompts are made."""

    server: Server
    renderer: Renderer
    tokenizer: Any
    fingerprint: str
    adapter: bool


class Vllm:
    """An `Engine`."""

    name = "vllm"

    def __init__(self, folder: TaskFolder) -> None:
        extras.need("train", "transformers")
        self.folder = folder
        self._servers: dict[_Key, Server] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._loading = threading.Lock()

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that can be asked."""
        return tuple(self._loaded)

    @property
    def alive(self) -> bool:
        """Whether every server that was started still runs."""
        return all(server.alive for server in [*self._servers.values()])

    async def start(self) -> None:
        """Nothing is started before a version is loaded."""

    async def close(self) -> None:
        """End all servers."""
        await asyncio.to_thread(self._close)

    async def load(self, version: str) -> None:
        """Be able to answer for a version; those that answer go on meanwhile.

        Raises:
            Invalid: it was not trained, its base model is another by now or in four bits, or its rank is too high.
            Unavailable: vLLM is not installed or cannot load the model.
        """
        await asyncio.to_thread(self._load, version)

    async def unload(self, version: str) -> None:
        """Forget a version."""
        await asyncio.to_thread(self._unload, version)

    def scorer(self, version: str) -> Scorer:
        """What answers for a version; it may be asked by several threads.

        Raises:
            Unavailable: the version is not loaded.
        """
        return Asked(version, self._one(version))

    async def chat(self, version: str, body: dict[str, Any]) -> chats.Reply:
        """OpenAI's chat completion, as the server gives it."""
        one = self._one(version)
        try:
            messages = chats.messages(body.get("messages"))
        except chats.Refused as refused:
            return chats.Reply(refused.status, refused.body)
        asked = {**body, "model": version, "messages": one.renderer.conversation(messages)}
        asked["chat_template_kwargs"] = one.renderer.chat_template_kwargs
        return await asyncio.to_thread(_chat, one.server, asked)

    def _one(self, version: str) -> _Loaded:
        found = self._loaded.get(version)
        if found is None:
            raise Unavailable(_("version {version} is not loaded", version=version))
        return found

    def _load(self, version: str) -> None:
        with self._loading:
            if version in self._loaded:
                return
            found = model.info(self.folder.existing_version(version))
            key, server = _key(version, found), self._servers.get(_key(version, found))
            fresh = server is None
            if server is None:
                server = self._servers[key] = Server(self._wanted(version, found))
            try:
                if found.adapter_path is not None:
                    server.put_on(version, model.weights(self.folder.root, found))
                tokenizer = model.tokenizer(self.folder, found)
            except Problem:
                if fresh:
                    self._servers.pop(key).close()
                raise
            decisive, renderer = model.fingerprint(self.folder.root, found), Renderer.from_model_info(found)
            self._loaded[version] = _Loaded(server, renderer, tokenizer, decisive, found.adapter_path is not None)

    def _wanted(self, version: str, found: ModelInfo) -> Wanted:
        trained = model.weights(self.folder.root, found)
        if found.adapter_path is None:
            return Wanted(trained, version, found.dtype, None, 0, found.chat_template)
        if found.quantization is not None:
            raise Invalid(
                _("version {version} has a base model in four bits, which vLLM reads in another way", version=version),
                mend=_("ask it through transformers"),
            )
        from nlp_skills.training import base_model

        pinned: Any = {"root": self.folder.root, "revision": found.base_model_revision}
        model.same_base(found, pinned)
        whole = Path(base_model.locate(found.base_model, **pinned))
        return Wanted(whole, "base", found.dtype, self._rank(_key(version, found)), _ADAPTERS, found.chat_template)

    def _rank(self, key: _Key) -> int:
        """The rank that holds those of all versions on this base model, which may come to be loaded."""
        ranks = []
        for name in self.folder.version_names():
            version = self.folder.version(name)
            found = version.model_info()
            if found is None or _key(name, found) != key:
                continue
            trained = model.weights(self.folder.root, found)
            if (trained / "adapter_config.json").is_file():
                ranks.append(lora_rank(trained))
        return max(ranks)

    def _unload(self, version: str) -> None:
        with self._loading:
            gone = self._loaded.pop(version, None)
            if gone is None:
                return
            if any(one.server is gone.server for one in self._loaded.values()):
                gone.server.take_off(version)
                return
            self._servers = {key: server for key, server in self._servers.items() if server is not gone.server}
            gone.server.close()

    def _close(self) -> None:
        with self._loading:
            self._loaded.clear()
            for server in self._servers.values():
                server.close()
            self._servers.clear()


class Asked:
    """A `Scorer` over the server's completions."""

    backend = "vllm"
    ways: tuple[Way, ...] = ("likelihood", "constrained", "free")

    def __init__(self, version: str, loaded: _Loaded) -> None:
        self.model, self.fingerprint = version, loaded.fingerprint
        self._server, self._renderer, self._tokenizer = loaded.server, loaded.renderer, loaded.tokenizer

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """As `Scorer.likelihood`: of prompts that end with the answers, which the server tells the likelihood of.

        Raises:
            Invalid: the server refuses a row, or its prompt cannot be rendered.
            Unavailable: the server is gone.
        """
        for question in questions:
            started = time.monotonic()
            pairs = [self._renderer.texts_after(self._tokenizer, question.messages, text) for text in answers]
            tails = [tokenise(self._tokenizer, end) for _prompt, end in pairs]
            prompt = tokenise(self._tokenizer, pairs[0][0])
            # It always makes a token more; nobody looks at it.
            settings = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
            choices = self._completed([[*prompt, *tail] for tail in tails], settings)
            logs = [_tail_log(one["prompt_logprobs"], tail) for one, tail in zip(choices, tails, strict=True)]
            hashed = files.sha256_bytes(pairs[0][0].encode())
            yield Likely(question.row, logs, hashed, time.monotonic() - started)

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `Scorer.generate`; `probability` is among the texts that the schema allows.

        Raises:
            Invalid, Unavailable: as `likelihood`.
        """
        form = constraint(output)
        settings: dict[str, Any] = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "logprobs": 0,
            **({"structured_outputs": form} if form is not None else {}),
        }
        for question in questions:
            started = time.monotonic()
            prompt = self._renderer.prompt_after(self._tokenizer, question.messages)
            (said,) = self._completed([tokenise(self._tokenizer, prompt)], settings)
            logs = (said.get("logprobs") or {}).get("token_logprobs")
            yield Said(
                row=question.row,
                text=said["text"],
                prompt_sha256=files.sha256_bytes(prompt.encode()),
                seconds=time.monotonic() - started,
                probability=math.exp(sum(one or 0.0 for one in logs)) if logs else None,
                cut=said["finish_reason"] == "length",
            )

    def close(self) -> None:
        """Nothing to give back: the server is the engine's."""

    def _completed(self, prompts: list[list[int]], settings: dict[str, Any]) -> list[dict[str, Any]]:
        """The server's choices, one a prompt, in their order."""
        body = {"model": self.model, "prompt": prompts, **settings}
        found = json.loads(self._server.post("/v1/completions", body))
        return sorted(found["choices"], key=lambda one: int(one["index"]))


def _tail_log(told: Sequence[Any], tail: Sequence[int]) -> float:
    """The log-probability of the tokens at the end of a prompt, of what is told of each of its places."""
    ends = told[len(told) - len(tail) :]
    return float(sum(place[str(token)]["logprob"] for place, token in zip(ends, tail, strict=True)))


def _chat(server: Server, body: dict[str, Any]) -> chats.Reply:
    try:
        reply = server.opened("/v1/chat/completions", body)
        if body.get("stream") is True:
            return chats.Reply(200, events=_events(reply))
        with reply:
            return chats.Reply(200, json.loads(reply.read()))
    except urllib.error.HTTPError as error:
        with error:
            said = error.read()
        try:
            return chats.Reply(error.code, json.loads(said))
        except ValueError:
            return chats.Reply(error.code, chats.error_body(str(error), kind="server_error"))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise server.gone(error) from error


def _events(reply: Any) -> Iterator[bytes]:
    """The events of a stream, each as soon as it is whole."""
    with reply:
        event = b""
        for line in reply:
            event += line
            if not line.strip():
                yield event
                event = b""


def _key(version: str, found: ModelInfo) -> _Key:
    """What decides which server a version needs; one renders all conversations by the same template."""
    if found.adapter_path is None:
        return ("whole", version)
    return ("base", found.base_model, found.base_model_revision, found.base_model_hash, found.chat_template)
