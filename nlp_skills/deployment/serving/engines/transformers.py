"""An engine of transformers and PEFT: one process a base model, with the adapters of all its versions on it.

A version on a base model that is there is another adapter, loaded in a fraction of a second, and to answer with it is
to switch to it. A version whose every weight was trained, or whose base model is another or in four bits, has a process
of its own. Questions of several clients to one version are answered together.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills import extras
from nlp_skills.data.render import Renderer
from nlp_skills.deployment.serving.engines import chat as chats
from nlp_skills.deployment.serving.engines.worker import Worker
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Scorer, Way
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import ModelInfo, Sampling
from nlp_skills.workspace.folder import TaskFolder

# What decides which network a version needs.
_Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Loaded:
    """A version and the process that holds it."""

    worker: Worker
    renderer: Renderer
    fingerprint: str


class Transformers:
    """An `Engine`."""

    name = "transformers"

    def __init__(self, folder: TaskFolder) -> None:
        extras.need("train", "torch", "transformers", "peft")
        self.folder = folder
        self._workers: dict[_Key, Worker] = {}
        self._loaded: dict[str, _Loaded] = {}
        # One version is loaded at a time; who asks does not wait for it.
        self._loading = threading.Lock()

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that can be asked."""
        return tuple(self._loaded)

    @property
    def alive(self) -> bool:
        """Whether every process that was started still answers."""
        return all(worker.alive for worker in [*self._workers.values()])

    async def start(self) -> None:
        """Nothing is started before a version is loaded."""

    async def close(self) -> None:
        """End all processes."""
        await asyncio.to_thread(self._close)

    async def load(self, version: str) -> None:
        """Be able to answer for a version; those that answer go on meanwhile.

        Raises:
            Invalid: it was not trained, or its base model is another by now.
            Unavailable: the base model is missing, or the process ended.
        """
        await asyncio.to_thread(self._load, version)

    async def unload(self, version: str) -> None:
        """Forget a version; questions to it that are under way are answered."""
        await asyncio.to_thread(self._unload, version)

    def scorer(self, version: str) -> Scorer:
        """What answers for a version; it may be asked by several threads.

        Raises:
            Unavailable: the version is not loaded.
        """
        return Asked(version, self._one(version))

    async def chat(self, version: str, body: dict[str, Any]) -> chats.Reply:
        """OpenAI's chat completion. The text comes at once, so that a stream of it has few events."""
        try:
            asked = chats.read(body)
            said = await asyncio.to_thread(self._said, version, asked)
        except chats.Refused as refused:
            return chats.Reply(refused.status, refused.body)
        except Invalid as problem:
            because = f"{problem.message}: {problem.cause}" if problem.cause else problem.message
            return chats.Reply(400, chats.Refused(because, "messages").body)
        named = str(body.get("model") or version)
        if asked.stream:
            return chats.Reply(200, events=chats.chunks(said, named, usage=asked.usage))
        return chats.Reply(200, chats.completion(said, named))

    def _said(self, version: str, asked: chats.Asked) -> chats.Said:
        one = self._one(version)
        messages = one.renderer.conversation(asked.messages)
        sampling = asked.sampling.model_dump(mode="json")
        (found,) = one.worker.ask("chat", version=version, questions=[[0, messages]], sampling=sampling)
        return chats.Said(found["text"], found["cut"], found["prompt_tokens"], found["completion_tokens"])

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
            key = _key(version, found)
            worker = self._workers.get(key)
            fresh = worker is None
            if worker is None:
                worker = self._workers[key] = Worker(self.folder.root)
            try:
                worker.ask("load", version=version)
            except Problem:
                if fresh:
                    self._workers.pop(key).close()
                raise
            fingerprint = model.fingerprint(self.folder.root, found)
            self._loaded[version] = _Loaded(worker, Renderer.from_model_info(found), fingerprint)

    def _unload(self, version: str) -> None:
        with self._loading:
            gone = self._loaded.pop(version, None)
            if gone is None:
                return
            if any(one.worker is gone.worker for one in self._loaded.values()):
                gone.worker.ask("unload", version=version)
                return
            self._workers = {key: worker for key, worker in self._workers.items() if worker is not gone.worker}
            with contextlib.suppress(Unavailable):
                # Whatever was asked before is answered before this.
                gone.worker.ask("settled")
            gone.worker.close()

    def _close(self) -> None:
        with self._loading:
            self._loaded.clear()
            for worker in self._workers.values():
                worker.close()
            self._workers.clear()


class Asked:
    """A `Scorer` whose model is in another process."""

    backend = "transformers"
    ways: tuple[Way, ...] = ("likelihood", "constrained", "free")

    def __init__(self, version: str, loaded: _Loaded) -> None:
        self.model, self._worker, self.fingerprint = version, loaded.worker, loaded.fingerprint

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """As `Scorer.likelihood`.

        Raises:
            Invalid: a row does not fit the model's context, or its prompt cannot be rendered.
            Unavailable: the process has ended.
        """
        if questions:
            yield from (Likely(**one) for one in self._ask("likelihood", questions, answers=list(answers)))

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `Scorer.generate`.

        Raises:
            Invalid, Unavailable: as `likelihood`.
            constrained.NoGrammar: no grammar can be made of the schema; nothing was asked then.
        """
        if not questions:
            return
        drawn = sampling.model_dump(mode="json")
        form = None if output is None else output.model_dump(mode="json", by_alias=True, exclude_none=True)
        yield from (Said(**one) for one in self._ask("generate", questions, sampling=drawn, output=form))

    def close(self) -> None:
        """Nothing to give back: the process is the engine's."""

    def _ask(self, do: str, questions: Sequence[Question], **wanted: Any) -> list[dict[str, Any]]:
        asked = [[one.row, one.messages] for one in questions]
        return self._worker.ask(do, version=self.model, questions=asked, **wanted)


def _key(version: str, found: ModelInfo) -> _Key:
    if found.adapter_path is None:
        return ("whole", version)
    base = (found.base_model, found.base_model_revision, found.base_model_hash)
    return ("base", *base, found.quantization)
