"""What trains without a word and works badly: looked for in the tokenizer, the base model and the settings.

What can be seen of single rows is found where they are read (`methods`), what only the finished trainer shows by
`built`; the rest is here. An error among the findings means that training does not start.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nlp_skills.data.findings import Finding, of_problem
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import PREFERENCE_METHODS, Config
from nlp_skills.training import arguments, base_model, output_rows, trainer
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# Learning rates that people use. TRL's own defaults are 2e-5 (sft) and 1e-6 (preferences), all weights trained;
# "LoRA Without Regret" (Thinking Machines, 2025) finds that adapters want about ten times as much.
USUAL = {
    (False, "full"): (1e-6, 1e-4),
    (False, "adapter"): (1e-5, 2e-3),
    (True, "full"): (1e-7, 1e-5),
    (True, "adapter"): (1e-6, 1e-4),
}
_FEW_STEPS = 10
# Letters that no template changes, cuts or writes by itself.
_ASKED, _SAID, _TOLD = "Qzxjw", "Vkqzy", "Wjqkx"


def no_template(version: VersionFolder, tokenizer: Any) -> list[Finding]:
    """One finding where there is no chat template, so that rows need not be looked at."""
    if getattr(tokenizer, "chat_template", None):
        return []
    return [
        Finding(
            "error",
            "no_chat_template",
            _("the base model's tokenizer has no chat template"),
            file=str(version.config_path),
            cause=_("it says how a question and its answer are set apart; a base model that was never tuned has none"),
            mend=_("set chat_template: plain in this file (recorded with the model, and used wherever it is asked), "
                   "or choose an instruction-tuned base model"),
        )
    ]  # fmt: skip


def check(
    folder: TaskFolder,
    version: VersionFolder,
    task: Task,
    config: Config,
    tokenizer: Any,
    encoded: Mapping[str, Sequence[Any]],
) -> list[Finding]:
    """Everything found; an error among it means that training does not start.

    Raises:
        Unavailable: the base model's weights are missing or damaged.
    """
    base = Path(base_model.locate(config.base_model, root=folder.root))
    look = _Look(version, task, config, tokenizer, encoded, base)
    return [*look.rows(), *look.template(), *look.tokens(), *look.extra(), *look.rate()]


@dataclass(frozen=True)
class _Look:
    version: VersionFolder
    task: Task
    config: Config
    tokenizer: Any
    encoded: Mapping[str, Sequence[Any]]
    base: Path

    def rows(self) -> Iterator[Finding]:
        """Whether there is enough to learn from."""
        rows = len(self.encoded.get("train", ()))
        if not rows:
            yield self._found(
                "error",
                "no_rows",
                _("there is no row to learn from"),
                mend=_("look at what was taken out: nlp-skills validate; then: nlp-skills regenerate"),
            )
            return
        batch = self.config.effective_batch
        steps = trainer.Plan.of(self.config, rows).total_steps
        if batch > rows:
            yield self._found(
                "warning",
                "large_batch",
                _("one step takes {batch} rows, and there are {rows}", batch=batch, rows=rows),
                mend=_("lower batch_size or gradient_accumulation"),
            )
        elif steps < _FEW_STEPS:
            yield self._found(
                "warning",
                "few_steps",
                _("the whole training is {steps} steps; a model hardly learns in so few", steps=steps),
                mend=_("raise epochs, or lower batch_size or gradient_accumulation"),
            )

    def template(self) -> Iterator[Finding]:
        """Whether the chat template passes on what it is given, and writes the same tomorrow and when asked."""
        try:
            prompt, answer = self._rendered()
        except Invalid:
            return  # said of every row already
        if self.config.system_prompt and _TOLD not in prompt:
            yield self._found(
                "error",
                "system_dropped",
                _("the chat template leaves the system prompt out"),
                mend=_("remove system_prompt and put its words into input_template, or set another chat_template"),
            )
        if _ASKED not in prompt:
            yield self._found(
                "error",
                "prompt_dropped",
                _("the chat template leaves the question out"),
                mend=_("set another chat_template, such as plain, or choose another base model"),
            )
        if answer and _SAID not in answer:
            yield self._found(
                "error",
                "answer_dropped",
                _("the chat template leaves the answer out"),
                mend=_("set another chat_template, such as plain, or choose another base model"),
            )
        yield from self._changing(prompt, answer)

    def _changing(self, prompt: str, answer: str) -> Iterator[Finding]:
        given, text = self.config.chat_template_kwargs, str(self.tokenizer.chat_template)
        if "enable_thinking" in text and "enable_thinking" not in given and "<think>" in answer:
            yield self._found(
                "warning",
                "empty_thoughts",
                _("the chat template puts an empty thought before every answer, which the model then learns to write"),
                mend=_("set chat_template_kwargs: {{enable_thinking: false}}; the thought is then part of the prompt"),
            )
        today = dt.datetime.now().strftime("%d %b %Y")
        if today in prompt and "date_string" not in given:
            yield self._found(
                "warning",
                "todays_date",
                _("the chat template writes today's date into every prompt; later it will write another"),
                mend=_('set chat_template_kwargs: {{date_string: "{today}"}}', today=today),
            )

    def _rendered(self) -> tuple[str, str]:
        """A question and an answer of our own through the template."""
        task, config = self.task, self.config
        told = None if config.system_prompt is None else _TOLD
        renderer = Renderer("{text}", task.output_format, told, config.chat_template_kwargs)
        return renderer.texts(self.tokenizer, {"text": _ASKED}, answer=_SAID)

    def tokens(self) -> Iterator[Finding]:
        """Whether the base model has the tokens it is given, and can learn to say the one that ends an answer."""
        with output_rows.opened(self.base) as rows:
            if rows is None:
                return
            beyond = sorted({token for token in self._used() if token >= rows.count})
            if beyond:
                yield self._found(
                    "error",
                    "unknown_token",
                    _("the tokenizer uses {token}, for which the base model has no weights",
                      token=repr(self.tokenizer.convert_ids_to_tokens(beyond[0]))),
                    file=self.base,
                    cause=_("token {number} of a model that has {count}", number=beyond[0], count=rows.count),
                    mend=_("choose a base model whose tokenizer was not added to, or one saved after "
                           "resize_token_embeddings"),
                )  # fmt: skip
                return
            end = self._end()
            if self.config.adapter == "full" or self.config.init_from or end is None:
                return
            special = {token for token in self.tokenizer.all_special_ids if token < rows.count}
            added = {token for token in self.tokenizer.added_tokens_decoder if token < rows.count}
            if output_rows.untrained(rows, end, special | added):
                yield self._untrained_end(end)

    def _untrained_end(self, end: int) -> Finding:
        mend = _("choose an instruction-tuned base model, or set adapter: full")
        if self.config.chat_template != "plain":
            mend = _("set chat_template: plain, which ends with the base model's own end token; or adapter: full; "
                     "or choose an instruction-tuned base model")  # fmt: skip
        token = repr(self.tokenizer.convert_ids_to_tokens(end))
        return self._found(
            "error",
            "untrained_end",
            _("the base model has never learnt to say {token}, which ends an answer", token=token),
            cause=_("its weights for this token are untouched, and an adapter does not change them: "
                    "the model would not learn to stop"),
            mend=mend,
        )  # fmt: skip

    def _used(self) -> set[int]:
        found = {self.tokenizer.pad_token_id, self.tokenizer.eos_token_id}
        for rows in self.encoded.values():
            for row in rows:
                found.update(ids(row))
        return {token for token in found if token is not None}

    def _end(self) -> int | None:
        """The token that ends an answer."""
        try:
            _prompt, answer = self._rendered()
        except Invalid:
            return None
        said = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return int(said[-1]) if said else None

    def extra(self) -> Iterator[Finding]:
        """Whether what is passed through to TRL is known there, and does no harm."""
        try:
            arguments.checked_extra(self.config, self.version.config_path)
        except Invalid as problem:
            yield from of_problem(problem, "extra")

    def rate(self) -> Iterator[Finding]:
        """Whether the learning rate is one that people use for this method and adapter."""
        config = self.config
        low, high = USUAL[config.method in PREFERENCE_METHODS, "full" if config.adapter == "full" else "adapter"]
        if low <= config.learning_rate <= high:
            return
        text = _("a learning rate of {rate} is unusual for {method} with {adapter}; usual is {low} to {high}",
                 rate=f"{config.learning_rate:g}", method=config.method, adapter=config.adapter,
                 low=f"{low:g}", high=f"{high:g}")  # fmt: skip
        source = _("after TRL's defaults, 2e-5 for sft and 1e-6 for preferences, and ten times as much for adapters "
                   "(LoRA Without Regret)")  # fmt: skip
        high_mend = _("lower learning_rate: the loss may never come down again")
        mend = high_mend if config.learning_rate > high else _("raise learning_rate: the model may hardly change")
        yield self._found("warning", "learning_rate", text, cause=source, mend=mend)

    def _found(
        self,
        severity: Literal["error", "warning"],
        code: str,
        message: str,
        *,
        mend: str | None = None,
        cause: str | None = None,
        file: Path | None = None,
    ) -> Finding:
        return Finding(severity, code, message, file=str(file or self.version.config_path), mend=mend, cause=cause)


def ids(row: Any) -> Iterator[int]:
    """The token ids of an encoded row, whatever its method."""
    for value in vars(row).values():
        if isinstance(value, list) and value and isinstance(value[0], int):
            yield from value


def built(made: Any, rows: int, path: Path) -> None:
    """Look at a trainer before its first step; `rows` is how many it was given, `path` the configuration.

    Raises:
        Invalid: it has thrown rows away, or its weights are too coarse for small updates.
    """
    kept = len(made.train_dataset)
    if kept != rows:
        raise Invalid(
            _("the trainer has thrown rows away: {kept} of {rows} are left", kept=kept, rows=rows),
            file=path,
            mend=_("remove what extra: says of lengths and of the data set"),
        )
    trained = {str(weight.dtype).rpartition(".")[2] for weight in made.model.parameters() if weight.requires_grad}
    if trained - {"float32"}:
        raise Invalid(
            _("weights would be trained in {kinds}, in which small updates vanish", kinds=", ".join(sorted(trained))),
            file=path,
            mend=_("remove what extra: says of precision"),
        )
