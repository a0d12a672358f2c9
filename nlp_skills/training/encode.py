"""Rows as the token ids that are trained on, with the loss on the answer only.

Prompt and answer come from the one renderer, tokenised apart, exactly as inference will send the prompt.
The trainer takes these ids as they are: it neither tokenises, cuts nor drops a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlp_skills.data.render import Renderer
from nlp_skills.schema.task import OutputFormat

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One row: its line in the file, the ids it is asked with and the ids it should answer with.

    `classes` are the labels it has, `weight` how much its loss counts (None: as every other's), and `left_out` how
    many tokens of its prompt's middle are not there.
    """

    line: int
    prompt: list[int]
    completion: list[int]
    classes: tuple[str, ...] = ()
    weight: float | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def ids(self) -> list[int]:
        """The whole sequence."""
        return self.prompt + self.completion

    @property
    def labels(self) -> list[int]:
        """What the loss compares with: nothing on the prompt, the ids themselves on the answer."""
        return [IGNORED] * len(self.prompt) + self.completion

    @property
    def learnt(self) -> int:
        """Tokens the loss is on."""
        return len(self.completion)

    def marked(self, tokenizer: Any) -> str:
        """The row decoded on one line, what is learnt between ⟦ and ⟧; the middle of a long one is left out."""
        prompt, completion = (escaped(tokenizer.decode(ids)) for ids in (self.prompt, self.completion))
        return in_one_line(f"{prompt}⟦{completion}⟧")

    def shortened(self, max_length: int) -> Encoded:
        """Within `max_length` by leaving out the middle of the prompt.

        The instruction at its beginning, the turn marks at its end and the whole answer stay.
        """
        room = max_length - len(self.completion)
        if len(self.prompt) <= room:
            return self
        head = room // 2
        kept = self.prompt[:head] + self.prompt[len(self.prompt) - (room - head) :]
        return replace(self, prompt=kept, left_out=self.left_out + len(self.prompt) - room)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and row of a checked JSONL file; blank lines are passed over."""
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, json.loads(line)


def encode(tokenizer: Any, renderer: Renderer, row: dict[str, Any], line: int = 0) -> Encoded:
    """One row as token ids.

    Raises:
        Invalid: whatever the renderer refuses, such as a chat template that changes the prompt.
    """
    return Encoded(line, *renderer.ids(tokenizer, row), classes=classes(renderer.output_format, row))


def classes(output: OutputFormat, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels a row has: one, several where they are a list, none in a task without labels."""
    value = row.get(output.label_field) if output.label_field else None
    values = value if isinstance(value, list) else [] if value is None else [value]
    return tuple(dict.fromkeys(str(label) for label in values))


def in_one_line(text: str, limit: int = 900) -> str:
    """At most some 900 characters of a text, its middle left out."""
    return text if len(text) <= limit else f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def escaped(text: str) -> str:
    """A text without line breaks and control characters, which are written as Python writes them."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def keeps_loss(collate: Callable[[list[dict[str, list[int]]]], Any], rows: Sequence[Encoded]) -> bool:
    """Whether a batch of these rows still carries the loss on every answer token.

    A collator that masks padding by its id takes the end-of-turn token out where both are one token; the
    model would never learn to stop.
    """
    batch = collate([{"input_ids": row.ids, "labels": row.labels} for row in rows])
    kept = [int(label) for labels in batch["labels"] for label in labels if label != IGNORED]
    return kept == [token for row in rows for token in row.completion]
