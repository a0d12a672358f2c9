"""Any model behind an address: OpenAI and what speaks its protocol (Ollama, vLLM, llama.cpp), Anthropic, Google.

Chat protocols do not say how likely a given answer is, so labels are asked for in words, within a schema that allows
nothing else. What was answered is recorded, and is neither asked for nor paid for again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nlp_skills import files, progress
from nlp_skills.data import llm
from nlp_skills.data import rows as lines
from nlp_skills.data.llm_providers import Refused
from nlp_skills.data.render import Message
from nlp_skills.data.sources.recording import Recording
from nlp_skills.errors import Invalid
from nlp_skills.evaluation.answering import together, token_logs
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Way
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling
from nlp_skills.workspace.folder import TaskFolder

IN_TASK = ("evaluation", "endpoint")
# Of how many likely tokens a place is told: the most that OpenAI allows.
_LIKELY = 20
# What is refused may be this row: it is too long, or is thought improper.
_OF_A_REQUEST = (400, 413, 422)


def open(  # noqa: A001
    settings: LlmSettings, folder: TaskFolder, *, again: bool = False, at: tuple[str, ...] = IN_TASK
) -> Endpoint:
    """A scorer for the model that `settings` name; nothing is asked and no key is needed yet.

    `again` asks for what was recorded before once more. `at` is where the settings stand in task.yaml, which problems
    point to.

    Raises:
        Invalid: a variable is not set, or `max_cost` stands beside a model whose price nobody knows.
    """
    path = recording_path(folder, at[-1])
    return Endpoint(settings, folder, _Anew(path) if again else Recording(path), at)


def recording_path(folder: TaskFolder, name: str) -> Path:
    """Where what models answered in evaluations is recorded."""
    return folder.root / "benchmarks" / "recorded" / f"{name}.jsonl"


class _Anew(Recording):
    """Takes answers as any other, and gives those alone that it took itself."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._taken: set[str] = set()

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer, if it came since this was opened."""
        return super().get(key) if key in self._taken else None

    def put(self, key: str, answer: dict[str, Any]) -> None:
        """As `Recording.put`."""
        super().put(key, answer)
        self._taken.add(key)


class Endpoint:
    """A `Scorer`. `cost`: US dollars paid through it, `worth`: what its answers cost when they were first asked for;
    both are None where no price is known.
    """

    backend = "endpoint"
    ways: tuple[Way, ...] = ("constrained", "free")

    def __init__(
        self,
        settings: LlmSettings,
        folder: TaskFolder,
        recording: Recording | None = None,
        at: tuple[str, ...] = IN_TASK,
    ) -> None:
        self.settings, self.recording = settings, recording
        self.asked = llm.Model.of(settings, folder, at)
        self.model = self.asked.shown
        self.cost: float | None = 0.0
        self.worth: float | None = 0.0
        self._lock = threading.Lock()
        self._told: set[str] = set()

    @property
    def fingerprint(self) -> str:
        """Of provider, host, model and settings. That a server has another model of that name by now, nobody sees."""
        found = self.asked.settings
        host = urlsplit(self.asked.address).netloc.rpartition("@")[2]
        decisive = [found.provider, host, found.model, found.system_prompt, found.temperature, found.max_tokens]
        return files.sha256_bytes(lines.canonical(decisive))

    @property
    def dropped(self) -> list[str]:
        """What the server refused and was then asked without."""
        return self.asked.dropped

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """Not among the ways."""
        raise NotImplementedError("a chat protocol does not say how likely a given answer is")

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `Scorer.generate`. A server that ignores the schema is taken at its word.

        What the settings say of `temperature` and `max_tokens` goes before `sampling`: another model has other
        tokens, and its thinking counts among them.

        Raises:
            Invalid: no key, one that is refused, or a model or setting that the server does not know.
            Unavailable: the server cannot be reached, is too slow or has no credit left, or `max_cost` would be
                passed. What was under way is waited for, given and recorded before.
        """
        form = Form.of(output)
        try:
            yield from together.asked(
                lambda question: self._said(question, sampling, form), questions, self.settings.concurrency
            )
        finally:
            self._tell_dropped()

    def close(self) -> None:
        """Close the connections, and say what was paid."""
        self.asked.close()
        if self.cost:
            progress.notice(_("{model}: ${cost:.4f} paid", model=self.model, cost=self.cost))

    def drawn(self, sampling: Sampling) -> Sampling:
        """How text is drawn, the settings going before `sampling`."""
        own = {"temperature": self.settings.temperature, "max_new_tokens": self.settings.max_tokens}
        return sampling.model_copy(update={name: value for name, value in own.items() if value is not None})

    def options(self, sampling: Sampling, form: Form) -> dict[str, Any]:
        """What is asked for beside the settings."""
        found: dict[str, Any] = {"temperature": self.drawn(sampling).temperature}
        if sampling.top_p < 1:
            found["top_p"] = sampling.top_p
        if self.settings.provider == "openai":
            found["logprobs"] = _LIKELY if form.labels else 0
        return found

    def messages(self, question: Question) -> list[Message]:
        """The conversation; a system prompt of the settings takes the place of the version's own."""
        if self.settings.system_prompt and question.messages[0]["role"] == "system":
            return question.messages[1:]
        return question.messages

    def prompt_sha256(self, question: Question) -> str:
        """The hash of the conversation as it is sent, as JSON."""
        own = self.settings.system_prompt
        system = [{"role": "system", "content": own}] if own else []
        return files.sha256_bytes(lines.canonical([*system, *self.messages(question)]))

    def _said(self, question: Question, sampling: Sampling, form: Form) -> Said:
        try:
            answer = self.asked.ask(
                self.messages(question),
                schema=form.schema,
                seed=sampling.seed,
                options=self.options(sampling, form),
                recording=self.recording,
            )
        except Invalid as problem:
            refused = problem.__cause__
            if isinstance(refused, Refused) and refused.status in _OF_A_REQUEST:
                problem.cause = _("at row {row}: {cause}", row=question.row + 1, cause=problem.cause or "")
            raise
        self._count(answer)
        return Said(
            row=question.row,
            text=form.bare(answer.text),
            prompt_sha256=self.prompt_sha256(question),
            seconds=answer.seconds or 0.0,
            probability=form.probability(answer),
            cut=answer.finish == "length",
        )

    def _count(self, answer: llm.Answer) -> None:
        with self._lock:
            self.cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost
            self.worth = None if self.worth is None or answer.worth is None else self.worth + answer.worth

    def _tell_dropped(self) -> None:
        for name in self.dropped:
            if name not in self._told:
                self._told.add(name)
                progress.notice(_("{model} was asked without {name}, which it refuses", model=self.model, name=name))


@dataclass(frozen=True)
class Form:
    """How an answer is asked for. A bare value travels as the one property (`wrapped`) of an object, since most
    servers enforce nothing but objects. `labels`: the choices, where an answer is one of them.
    """

    schema: dict[str, Any] | None = None
    wrapped: str | None = None
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, output: OutputFormat | None) -> Form:
        """The form of answers within `output`'s schema; None: as they come."""
        if output is None:
            return cls()
        name, prop = next(iter(output.schema_.items()))
        if output.type == "text" and prop.type == "string" and not prop.choices:
            return cls()
        alone = len(output.schema_) == 1 and prop.type == "string"
        labels = tuple(str(choice) for choice in prop.choices) if alone else ()
        return cls(closed(output.json_schema()), name if output.type == "text" else None, labels)

    def bare(self, text: str) -> str:
        """The answer as the model was to give it, out of its object; a text that is no such object as it is."""
        value = _value(text, self.wrapped) if self.wrapped else None
        if value is None:
            return text
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def probability(self, answer: llm.Answer) -> float | None:
        """How sure the server was: of one label against the others, else of the whole text; None where unknown."""
        if not answer.tokens:
            return None
        if not self.labels:
            return token_logs.of_text(answer.tokens, answer.text)
        value = _value(answer.text, self.wrapped or next(iter((self.schema or {}).get("properties", {})), ""))
        if value not in self.labels:
            return None
        spelled = [json.dumps(label, ensure_ascii=False) for label in self.labels]
        return token_logs.of_label(answer.tokens, answer.text, self.labels.index(value), spelled)


def _value(text: str, name: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found.get(name) if isinstance(found, dict) else None


def closed(schema: Any) -> Any:
    """The schema with every object of known properties closed to others, as strict servers want it."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key in ("enum", "const", "default") else closed(value) for key, value in schema.items()}
    return {**found, "additionalProperties": False} if "properties" in found and "type" in found else found
