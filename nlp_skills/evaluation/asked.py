"""Asking a model in memory some rows: by the likelihood of each label where a row has one, else in its own words.

The model is left as it was found, so that one in the middle of its training can be asked and goes on as if not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation import forms, generation, likelihood
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import PLACEHOLDER
from nlp_skills.schema.version import Sampling

if TYPE_CHECKING:
    from nlp_skills.data.render import Renderer
    from nlp_skills.training.device import Device

Row = Mapping[str, Any]
Ids = list[int]


@dataclass(frozen=True)
class Questions:
    """Rows to ask: as token ids (`prompts`), with the ids of the right answers. `most`: tokens the model reads."""

    kind: Kind
    renderer: Renderer
    tokenizer: Any
    rows: Sequence[Row]
    prompts: Sequence[Ids]
    completions: Sequence[Ids]
    most: int

    @property
    def labels(self) -> list[str]:
        """The task's labels; none where it has none."""
        return [str(label) for label in self.renderer.output_format.labels]

    def gold(self) -> list[Any]:
        """Each row's right answer, in the form of its kind."""
        return [forms.of(self.kind, self.renderer.output_format, row) for row in self.rows]

    def inputs(self) -> list[list[str]]:
        """What each row's prompt shows of it."""
        names = dict.fromkeys(PLACEHOLDER.findall(self.renderer.input_template))
        return [[str(row[name]) for name in names if name in row] for row in self.rows]

    def label_ids(self) -> list[Ids] | None:
        """Each label's answer as token ids; None where an answer is more than a label, or not the same in every row."""
        output = self.renderer.output_format
        if self.kind != "label" or len(output.schema_) > 1:
            return None
        spoken = {label: self.renderer.answer({str(output.label_field): label}) for label in self.labels}
        ids = {label: self.renderer.ids(self.tokenizer, self.rows[0], text)[1] for label, text in spoken.items()}
        own = zip(self.gold(), self.completions, strict=True)
        return list(ids.values()) if all(ids.get(label) == said for label, said in own) else None

    def read(self, text: str) -> Any:
        """What a text says as an answer, in the form of its kind; None where it says none."""
        answer = self.renderer.parse(text)
        return None if answer is None else forms.of(self.kind, self.renderer.output_format, answer)


def ask(
    model: Any, questions: Questions, device: Device, on_rows: Callable[[int], None] = lambda _rows: None
) -> tuple[list[Any], bool]:
    """The answer to every row, in their order, and whether they are in the model's own words.

    An answer has the form of its kind (see `predictions`), and is None where it could not be read.

    `model` is a causal model of transformers or PEFT, trained at the moment or not. `on_rows` hears of every batch
    how many rows it had.
    """
    if not questions.rows:
        return [], False
    labels, found = questions.label_ids(), {}
    with _left_as_it_was(model), device.computing():
        batches = _by_words(model, questions) if labels is None else _by_likelihood(model, questions, labels)
        for batch in batches:
            found.update(batch)
            on_rows(len(batch))
    return [found[row] for row in range(len(questions.rows))], labels is None


@contextlib.contextmanager
def _left_as_it_was(model: Any) -> Iterator[None]:
    """Within the block the model is in evaluation mode; after it every module of it is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _by_likelihood(model: Any, questions: Questions, labels: Sequence[Ids]) -> Iterator[dict[int, Any]]:
    names = questions.labels
    prompts = [_within(prompt, questions.most - max(map(len, labels))) for prompt in questions.prompts]
    for batch in likelihood.score(model, prompts, labels):
        yield {row: names[logs.index(max(logs))] for row, logs in zip(batch.rows, batch.values, strict=True)}


def _by_words(model: Any, questions: Questions) -> Iterator[dict[int, Any]]:
    longest = max(map(len, questions.completions))
    new = min(generation.longest(longest), questions.most // 2)
    prompts = [_within(prompt, questions.most - new) for prompt in questions.prompts]
    ends = generation.ends(model, questions.tokenizer)
    for batch in generation.generate(model, prompts, ends, Sampling(max_new_tokens=new)):
        texts = questions.tokenizer.batch_decode(batch.ids, skip_special_tokens=True)
        yield {row: questions.read(text) for row, text in zip(batch.rows, texts, strict=True)}


def _within(prompt: Ids, room: int) -> Ids:
    """A prompt in so many tokens, its middle left out where it is longer."""
    if len(prompt) <= room:
        return prompt
    head = room // 2
    return prompt[:head] + prompt[len(prompt) - (room - head) :]
