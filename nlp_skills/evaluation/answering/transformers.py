"""Asking a model of transformers or PEFT that is in memory."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data.render import Renderer, tokenise
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import generation, likelihood, model
from nlp_skills.evaluation.answering import constrained
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Way
from nlp_skills.evaluation.model import Loaded
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import ModelInfo, Sampling
from nlp_skills.workspace.folder import TaskFolder


class Scorer:
    """`scorer.Scorer` over a loaded model. `name` is what people call it, `fingerprint` decides its answers."""

    backend = "transformers"
    ways: tuple[Way, ...] = ("likelihood", "constrained", "free")

    def __init__(self, loaded: Loaded, name: str, fingerprint: str) -> None:
        self.loaded, self.model, self.fingerprint = loaded, name, fingerprint
        self.device = loaded.device.name

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """As `scorer.Scorer.likelihood`.

        Raises:
            Invalid: a row does not fit the model's context, or its prompt cannot be rendered.
        """
        if not questions:
            return
        prompts, completions = self._before_answers(questions, answers)
        ids = [tokenise(self.loaded.tokenizer, prompt) for prompt in prompts]
        spoken = [tokenise(self.loaded.tokenizer, text) for text in completions]
        self._fits(questions, ids, max(map(len, spoken)))
        batches = likelihood.score(self.loaded.model, ids, spoken)
        for batch, seconds in self._timed(batches):
            for place, logs in zip(batch.rows, batch.values, strict=True):
                yield Likely(questions[place].row, logs, _sha256(prompts[place]), seconds)

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `scorer.Scorer.generate`.

        Raises:
            Invalid: a row does not fit the model's context, or its prompt cannot be rendered.
            constrained.NoGrammar: no grammar can be made of the schema; nothing was asked then.
            Unavailable: xgrammar is missing.
        """
        if not questions:
            return
        network, tokenizer = self.loaded.model, self.loaded.tokenizer
        prompts = [self.loaded.renderer.prompt_after(tokenizer, one.messages) for one in questions]
        ids = [tokenise(tokenizer, prompt) for prompt in prompts]
        self._fits(questions, ids, 1)
        batches = generation.generate(
            network,
            ids,
            generation.ends(network, tokenizer),
            sampling,
            within=constrained.processors(network, tokenizer, output) if output else None,
            most=_context(network),
            numbers=[one.row for one in questions],
        )
        for batch, seconds in self._timed(batches):
            texts = tokenizer.batch_decode(batch.ids, skip_special_tokens=True)
            for at, place in enumerate(batch.rows):
                yield Said(
                    questions[place].row,
                    texts[at],
                    _sha256(prompts[place]),
                    seconds,
                    probability=math.exp(min(0.0, batch.logs[at])),
                    cut=batch.cut[at],
                    # What is drawn may have been drawn all the same.
                    bent=batch.bent[at] if output and not sampling.temperature else None,
                )

    @contextlib.contextmanager
    def untrained(self, fingerprint: str) -> Iterator[Scorer]:
        """Within the block, the base model under the adapter, as it was before training."""
        with self.loaded.untrained():
            yield Scorer(self.loaded, self.model, fingerprint)

    def close(self) -> None:
        """Nothing to give back: the model goes with the last who knows it."""

    def _before_answers(self, questions: Sequence[Question], answers: Sequence[str]) -> tuple[list[str], list[str]]:
        """Each question's prompt, and each answer's completion, which is the same after every prompt."""
        render, tokenizer = self.loaded.renderer, self.loaded.tokenizer
        first = questions[0].messages
        completions = [render.texts_after(tokenizer, first, answer)[1] for answer in answers]
        prompts = []
        for question in questions:
            prompt, completion = render.texts_after(tokenizer, question.messages, answers[0])
            if completion != completions[0]:
                raise Invalid(
                    _("the chat template writes the same answer differently from row to row"),
                    mend=_("choose a base model whose template does not, in training.base_model"),
                )
            prompts.append(prompt)
        return prompts, completions

    def _fits(self, questions: Sequence[Question], prompts: Sequence[list[int]], longest_answer: int) -> None:
        limit, longest = _context(self.loaded.model), max(range(len(prompts)), key=lambda place: len(prompts[place]))
        needed = len(prompts[longest]) + longest_answer
        if limit and needed > limit:
            raise Invalid(
                _("a row needs {needed} tokens and the model reads {limit}", needed=needed, limit=limit),
                cause=_("it is row {row}", row=questions[longest].row + 1),
                mend=_("shorten the row, or choose a base model with a longer context"),
            )

    def _timed(self, batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
        """Each batch with its rows' share of its seconds."""
        while True:
            started = time.monotonic()
            # Not while the caller handles a batch: autocast would be on in it too.
            with self.loaded.device.computing():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch, round((time.monotonic() - started) / len(batch.rows), 6)


def load(folder: TaskFolder, version: str | None = None) -> Scorer:
    """Load a version to ask it.

    Raises:
        Invalid, Unavailable: as `model.load`.
    """
    loaded = model.load(folder, version)
    chosen = folder.existing_version(version)
    return Scorer(loaded, chosen.name, model.fingerprint(folder.root, model.info(chosen)))


def load_merged(folder: TaskFolder, info: ModelInfo, place: Path, fingerprint: str) -> Scorer:
    """Load a version's model, merged into its base, to ask it as the version was trained to be asked.

    Raises:
        Unavailable: the training extra is missing, or the model is not whole.
    """
    need("train", "torch", "transformers")
    from nlp_skills.training import base_model, device

    chosen = device.pick(cuda_devices=folder.task().execution.cuda_devices)
    network = base_model.load_model(str(place), chosen).eval()
    loaded = Loaded(network, base_model.load_tokenizer(str(place)), Renderer.from_model_info(info), chosen)
    return Scorer(loaded, place.name, fingerprint)


def _context(network: Any) -> int | None:
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def _sha256(text: str) -> str:
    return files.sha256_bytes(text.encode())
