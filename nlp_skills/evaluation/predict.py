"""Asking a model every test row, in a file that survives an interruption.

Answers are appended batch by batch to a partial file that names what was asked of which model; the
next run of the same question goes on where it ends.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills import files, progress
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import likelihood
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.evaluation.model import Loaded

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A row's most likely label, every label's share, and how likely the model is to say any label at all."""

    predicted: str
    probabilities: dict[str, float]
    valid: float

    @classmethod
    def of(cls, labels: Sequence[str], logs: Sequence[float]) -> Answer:
        """From the labels' log-probabilities, in the order of `labels`."""
        top = max(logs)
        shares = [math.exp(value - top) for value in logs]
        total = sum(shares)
        probabilities = {label: round(share / total, 6) for label, share in zip(labels, shares, strict=True)}
        # Rounding may push a sum of probabilities a hair over 1.
        valid = min(1.0, total * math.exp(top))
        return cls(labels[logs.index(top)], probabilities, round(valid, 6))


class Partial:
    """Answers so far: a JSONL file whose first line is the fingerprint, then one `[row, answer]` a line."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def read(self) -> dict[int, Answer]:
        """Answers by row number; none when the file is of another question. A line cut off is left out."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        if not lines or lines[0] != self.fingerprint:
            return {}
        return dict(found for line in lines[1:] if (found := _entry(line)))

    @contextlib.contextmanager
    def opened(self, kept: dict[int, Answer]) -> Iterator[Callable[[int, Answer], None]]:
        """A function that adds a row's answer to the file, which holds whole lines only from here on.

        Raises:
            Unavailable: the disk is full, or the folder cannot be written.
        """
        lines = [self.fingerprint, *(_line(row, answer) for row, answer in kept.items())]
        files.write_text(self.path, "".join(f"{line}\n" for line in lines))
        # Unbuffered, so that nothing is left to fail, or to be lost, when the file is closed.
        with open(self.path, "ab", buffering=0) as stream:

            def write(row: int, answer: Answer) -> None:
                try:
                    stream.write(f"{_line(row, answer)}\n".encode())
                except OSError as error:
                    raise files.storage_problem(error, self.path) from error

            yield write

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def _line(row: int, answer: Answer) -> str:
    return json.dumps([row, vars(answer)], ensure_ascii=False)


def _entry(line: str) -> tuple[int, Answer] | None:
    try:
        row, fields = json.loads(line)
        return int(row), Answer(**fields)
    except (ValueError, TypeError):
        return None


def ask(
    loaded: Loaded, rows: Sequence[Row], labels: Sequence[str], label_field: str, partial: Partial, title: str
) -> list[Answer]:
    """The model's answer to every row, in their order; `title` stands beside the progress bar.

    Raises:
        Invalid: a row does not fit the model's context, or its prompt cannot be rendered.
    """
    kept = partial.read()
    left = [row for row in range(len(rows)) if row not in kept]
    if left:
        prompts, answers = encode(loaded, [rows[row] for row in left], labels, label_field)
        with partial.opened(kept) as write, progress.bar(title, len(rows)) as bar:
            bar.advance(len(kept))
            for place, answer in _answers(loaded, prompts, answers, labels, bar):
                kept[left[place]] = answer
                write(left[place], answer)
    return [kept[row] for row in range(len(rows))]


def _answers(
    loaded: Loaded,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    labels: Sequence[str],
    bar: progress.Bar,
) -> Iterator[tuple[int, Answer]]:
    with loaded.device.computing():
        for batch in likelihood.score(loaded.model, prompts, answers):
            yield from ((row, Answer.of(labels, logs)) for row, logs in zip(batch.rows, batch.values, strict=True))
            bar.advance(len(batch.rows))


def encode(
    loaded: Loaded, rows: Sequence[Row], labels: Sequence[str], label_field: str
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of every row's prompt, and of every label's completion (the same after every prompt)."""
    render, tokenizer = loaded.renderer, loaded.tokenizer
    spoken = [render.answer({label_field: label}) for label in labels]
    answers = [render.ids(tokenizer, rows[0], answer)[1] for answer in spoken]
    prompts = []
    for row in rows:
        prompt, completion = render.ids(tokenizer, row, spoken[0])
        if completion != answers[0]:
            raise Invalid(
                _("the chat template writes the same answer differently from row to row"),
                mend=_("choose a base model whose template does not, in training.base_model"),
            )
        prompts.append(prompt)
    _fits(loaded.model, prompts, answers)
    return prompts, answers


def _fits(model: Any, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    needed = max(map(len, prompts)) + max(map(len, answers))
    if limit and needed > limit:
        raise Invalid(
            _("a test row needs {needed} tokens and the model reads {limit}", needed=needed, limit=limit),
            mend=_("shorten the row in data/test.jsonl, or choose a base model with a longer context"),
        )
