"""The one renderer: how a row becomes a prompt and an answer, in training, evaluation and serving alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import PLACEHOLDER, OutputFormat, Task
from nlp_skills.schema.training import Training
from nlp_skills.schema.version import ModelInfo

Message = dict[str, str]


@dataclass(frozen=True)
class Renderer:
    """Everything that decides what a model is asked and what it should say; stored in model_info.json."""

    input_template: str
    output_format: OutputFormat
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, training: Training) -> Renderer:
        """The renderer of a task as `training` configures it."""
        return cls(task.input_template, task.output_format, training.system_prompt, training.chat_template_kwargs)

    @classmethod
    def from_model_info(cls, info: ModelInfo) -> Renderer:
        """The renderer a version was trained with."""
        return cls(info.input_template, info.output_format, info.system_prompt, info.chat_template_kwargs)

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The prompt's side: an optional system message and the filled-in template.

        Raises:
            Invalid: the row lacks a field of the template.
        """
        # One pass, so that braces inside a row's text stay what they are.
        content = PLACEHOLDER.sub(lambda match: _value(row, match[1]), self.input_template.rstrip("\n"))
        return self.conversation(content)

    def conversation(self, prompt: str | Sequence[Message]) -> list[Message]:
        """The prompt's side where the user's turn is rendered already, or stands at the end of a conversation.

        A conversation that begins with a system message of its own keeps it.
        """
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [*prompt]
        alone = not self.system_prompt or turns[0]["role"] == "system"
        return turns if alone else [{"role": "system", "content": str(self.system_prompt)}, *turns]

    def answer(self, row: Mapping[str, Any]) -> str:
        """What the model should say for this row: a JSON object in the schema's order, or the bare value.

        Raises:
            Invalid: the row lacks a property of the schema.
        """
        values = {name: _output(row, name) for name in self.output_format.schema_}
        if self.output_format.type == "json":
            return json.dumps(values, ensure_ascii=False, allow_nan=False)
        (value,) = values.values()
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)

    def parse(self, text: str) -> dict[str, Any] | None:
        """An answer's properties, or None when the text is not an answer the schema allows."""
        value = self._read(text.strip())
        if not isinstance(value, dict) or not self._validator.is_valid(value):
            return None
        return {name: value[name] for name in self.output_format.schema_}

    def texts(self, tokenizer: Any, row: Mapping[str, Any], answer: str | None = None) -> tuple[str, str]:
        """The prompt as the model sees it and the completion it should give, end-of-turn token included.

        `answer` replaces the row's own, for scoring labels.

        Raises:
            Invalid: no chat template, a template that refuses the messages, or one that changes the
                prompt once the answer follows (inference would then see another prompt than training).
        """
        return self._texts(tokenizer, self.messages(row), self.answer(row) if answer is None else answer)

    def _texts(self, tokenizer: Any, messages: list[Message], answer: str) -> tuple[str, str]:
        reply = {"role": "assistant", "content": answer}
        prompt = self._apply(tokenizer, messages, add_generation_prompt=True)
        whole = self._apply(tokenizer, [*messages, reply], add_generation_prompt=False)
        if not whole.startswith(prompt):
            raise _not_a_prefix(prompt, whole)
        # What a template puts after the end-of-turn token belongs to the next turn, which never comes.
        return prompt, whole[len(prompt) :].rstrip()

    def ids(self, tokenizer: Any, row: Mapping[str, Any], answer: str | None = None) -> tuple[list[int], list[int]]:
        """Token ids of prompt and completion, tokenised apart: at inference the prompt stands alone too."""
        prompt, completion = self.texts(tokenizer, row, answer)
        return tokenise(tokenizer, prompt), tokenise(tokenizer, completion)

    def ids_after(self, tokenizer: Any, prompt: str | Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
        """As `ids`, for an answer to a prompt as `conversation` takes it.

        Raises:
            Invalid: as `texts`.
        """
        asked, completion = self.texts_after(tokenizer, prompt, answer)
        return tokenise(tokenizer, asked), tokenise(tokenizer, completion)

    def texts_after(self, tokenizer: Any, prompt: str | Sequence[Message], answer: str) -> tuple[str, str]:
        """As `texts`, for an answer to a prompt as `conversation` takes it."""
        return self._texts(tokenizer, self.conversation(prompt), answer)

    def prompt_after(self, tokenizer: Any, messages: Sequence[Message]) -> str:
        """The prompt alone, as the model sees it, of messages that are complete."""
        return self._apply(tokenizer, [*messages], add_generation_prompt=True)

    def prompt_text(self, tokenizer: Any, row: Mapping[str, Any]) -> str:
        """The prompt alone, for a row without an answer."""
        return self._apply(tokenizer, self.messages(row), add_generation_prompt=True)

    def _apply(self, tokenizer: Any, messages: list[Message], *, add_generation_prompt: bool) -> str:
        from jinja2.exceptions import TemplateError

        if not getattr(tokenizer, "chat_template", None):
            raise Invalid(
                _("the base model's tokenizer has no chat template"),
                mend=_("set chat_template: plain in config.yaml, or choose an instruction-tuned base model"),
            )
        try:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, **self.chat_template_kwargs
            )
        except TemplateError as error:
            raise Invalid(
                _("the base model's chat template refuses these messages"),
                cause=str(error),
                mend=_("remove training.system_prompt or change training.chat_template_kwargs"),
            ) from error
        return str(text)

    @cached_property
    def _validator(self) -> Any:
        from jsonschema import Draft202012Validator

        return Draft202012Validator(self.output_format.json_schema())

    def _read(self, text: str) -> Any:
        (name, prop), *_others = self.output_format.schema_.items()
        try:
            if self.output_format.type == "json":
                return json.loads(text)
            return {name: text if prop.type == "string" else json.loads(text)}
        except ValueError:
            return None


def _value(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        raise Invalid(_("a row lacks the field {name}", name=name), mend=_("nlp-skills validate names the rows"))
    value = row[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _output(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise Invalid(_("a row lacks the property {name}", name=name), mend=_("nlp-skills validate names the rows"))
    return row[name]


def tokenise(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text in which a chat template has already put whatever begins and ends it."""
    # verbose=False: whether a row is too long is preflight's to say, with file and line.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _not_a_prefix(prompt: str, whole: str) -> Invalid:
    at = next((index for index, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(whole))
    return Invalid(
        _("the prompt is not the beginning of prompt and answer together"),
        cause=_(
            "alone it goes on with {alone}, before an answer with {before}",
            alone=repr(prompt[at : at + 40]),
            before=repr(whole[at : at + 40]),
        ),
        mend=_("set training.chat_template_kwargs so that both agree, such as enable_thinking: false for Qwen3"),
    )
