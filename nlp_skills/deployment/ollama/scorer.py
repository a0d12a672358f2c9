"""A model at an Ollama server, asked the test rows as its users will ask it: in words, within the schema for JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.deployment.ollama.server import Server
from nlp_skills.evaluation.answering import together
from nlp_skills.evaluation.answering.endpoint import closed
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Way
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling

_AT_ONCE = 4


class Ollama:
    """A `Scorer`. `think` is what requests say of thinking; `sha256` is of the file that the model is made of."""

    backend = "ollama"

    def __init__(self, server: Server, model: str, sha256: str, output: OutputFormat, think: bool | None) -> None:
        self.server, self.model, self.sha256, self.think = server, model, sha256, think
        # A schema there is one of JSON: it would put quotes around labels that were learnt without.
        self.ways: tuple[Way, ...] = ("constrained", "free") if output.type == "json" else ("free",)

    @property
    def fingerprint(self) -> str:
        """Of the file, the server and how it is asked."""
        decisive = [self.sha256, self.server.address, self.server.version(), self.think]
        return files.sha256_bytes(lines.canonical(decisive))

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """Not among the ways."""
        raise NotImplementedError("Ollama does not say how likely a given answer is")

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `Scorer.generate`.

        Raises:
            Invalid: the server refuses a row, or the schema.
            Unavailable: it is gone.
        """
        options: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "num_predict": sampling.max_new_tokens,
        }
        if sampling.seed is not None:
            options["seed"] = sampling.seed
        more: dict[str, Any] = {} if self.think is None else {"think": self.think}
        if output is not None:
            more["format"] = closed(output.json_schema())
        yield from together.asked(lambda one: self._said(one, options, more), questions, _AT_ONCE)

    def close(self) -> None:
        """Nothing of its own: the server is whose it was."""

    def _said(self, question: Question, options: dict[str, Any], more: dict[str, Any]) -> Said:
        started = time.monotonic()
        told = self.server.answer(self.model, question.messages, options, **more)
        return Said(
            row=question.row,
            text=told.message.content or "",
            prompt_sha256=files.sha256_bytes(lines.canonical(question.messages)),
            seconds=time.monotonic() - started,
            cut=told.done_reason == "length",
        )
