"""A model at an Ollama server held against the version as it was evaluated: what it reads, and what it answers."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files, progress
from nlp_skills.data.render import Message, tokenise
from nlp_skills.deployment import parity
from nlp_skills.deployment.ollama.scorer import Ollama
from nlp_skills.deployment.ollama.server import Server
from nlp_skills.evaluation import asking, model
from nlp_skills.evaluation.answering.ask import ask, way_of
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Export, ParityCheck, PromptParity
from nlp_skills.workspace import deployments


class _Untold(Exception):
    """The server does not tell what it makes of messages."""


@dataclass(frozen=True)
class Checking:
    """A model at a server under the name it is to be `asked` by, which in the end is called `name`."""

    chosen: Subject
    export: Export
    server: Server
    name: str
    asked: str
    think: bool | None

    def check(self) -> ParityCheck:
        """Ask it prompts and test rows, and record in parity.json what came of it.

        Raises:
            Problem: the server refuses, or is lost; the answers until then are kept.
        """
        alike = self._prompts()
        given = self._answers()
        kept = parity.answers(self.chosen, given, self.chosen.task.deploy.max_drop)
        found = ParityCheck(
            subject=self.name,
            engine="ollama",
            sha256=self.export.sha256,
            made=files.now(),
            prompts=alike,
            answers=kept,
            verdict=parity.verdict(alike, kept),
        )
        parity.record(self.chosen.version, found)
        shutil.rmtree(self._place, ignore_errors=True)
        return found

    def known(self) -> ParityCheck | None:
        """An earlier check of the same file at the same server, since the version was evaluated."""
        chosen, wanted = self.chosen, ("ollama", self.name, self.export.sha256)
        here = ("ollama", self.name, self.server.address)
        if not any((one.target, one.name, one.where) == here for one in deployments.load(chosen.folder)):
            return None
        results = chosen.version.results()
        for one in chosen.version.parity():
            if (one.engine, one.subject, one.sha256) == wanted and one.answers and results:
                newer = one.made >= results.created
                return one if newer and one.answers.max_drop == chosen.task.deploy.max_drop else None
        return None

    @property
    def _place(self) -> Path:
        return self.chosen.folder.state / f"parity-{self.chosen.version.name}-ollama"

    def _prompts(self) -> PromptParity | None:
        """None where the server does not tell how it renders. The ids are ours of its text: it tells none."""
        tokenizer = model.tokenizer(self.chosen.folder, self.chosen.info)
        # What llama.cpp puts before every prompt itself is no part of what the server shows.
        begun = tokenizer.bos_token or ""
        probe = self.chosen.renderer.prompt_after(tokenizer, self.chosen.renderer.conversation("?"))
        first = begun if begun and probe.startswith(begun) else ""

        def tokens(text: str) -> list[int]:
            return tokenise(tokenizer, text if text.startswith(first) else f"{first}{text}")

        with contextlib.suppress(_Untold):
            return parity.prompts(self.chosen, self._rendered, tokens, self.chosen.task.deploy.prompts)
        progress.notice(
            _("prompts were not compared: the Ollama server at {host} does not show them", host=self.server.address)
        )
        return None

    def _rendered(self, messages: list[Message]) -> str:
        shown = self.server.rendered(self.asked, messages, self.think)
        if shown is None:
            raise _Untold
        return shown

    def _answers(self) -> list[Answer]:
        chosen = self.chosen
        scorer = Ollama(self.server, self.asked, self.export.sha256, chosen.info.output_format, self.think)
        way = way_of(chosen.kind, chosen.renderer, scorer.ways, chosen.listed)
        question = [chosen.fingerprint, scorer.fingerprint, way, chosen.sampling.model_dump(mode="json")]
        return ask(
            scorer,
            chosen.test,
            chosen.renderer,
            chosen.kind,
            chosen.sampling,
            Partial(self._place / f"{asking.ANSWERS}.partial", model.digest(question)),
            _("ask {name}", name=self.name),
            way=way,
            listed=chosen.listed,
        )
