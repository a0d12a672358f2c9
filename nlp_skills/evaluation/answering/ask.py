"""Asking a scorer some rows, in the way that fits the kind of answer, in a file that survives an interruption.

Answers are appended to a partial file that names what was asked of which model; the next run of the same question
goes on where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nlp_skills import progress
from nlp_skills.data.render import Message, Renderer
from nlp_skills.data.rows import label_key
from nlp_skills.evaluation import kinds
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Answer, Likely, Question, Said, Scorer, Way
from nlp_skills.schema.version import Kind, Sampling

Row = Mapping[str, Any]

# Of several labels, those are taken whose probability is at least this, until the valid split says better.
HALF = 0.5


@dataclass(frozen=True)
class Candidate:
    """An answer as a model would say it, and the labels in it."""

    text: str
    labels: tuple[str, ...]


def ask(
    scorer: Scorer,
    rows: Sequence[Row],
    renderer: Renderer,
    kind: Kind,
    sampling: Sampling,
    partial: Partial,
    title: str,
    *,
    way: Way | None = None,
    candidates: Sequence[Candidate] | None = None,
    shots: Sequence[Row] = (),
) -> list[Answer]:
    """The model's answer to every row, in their order; `title` stands beside the progress bar.

    `way` is what `way_of` says where it is left out. `candidates` are the answers whose likelihood is asked for: left
    out, the labels of a task where a row has one. `shots` are rows shown with their answers before the question.

    Raises:
        Problem: what the scorer raises; the answers until then are kept.
    """
    if candidates is None and kind == "label":
        candidates = labels_alone(renderer)
    way = way or way_of(kind, renderer, scorer.ways, candidates)
    kept = partial.read()
    left = [row for row in range(len(rows)) if row not in kept]
    if left:
        before = examples(renderer, shots)
        questions = [Question(row, _turns(renderer, rows[row], before)) for row in left]
        with partial.opened(kept) as write, progress.bar(title, len(rows)) as bar:
            bar.advance(len(kept))
            for row, answer in _answers(scorer, questions, renderer, kind, sampling, way, candidates or ()):
                kept[row] = answer
                write(row, answer)
                bar.advance()
    return [kept[row] for row in range(len(rows))]


def way_of(kind: Kind, renderer: Renderer, ways: Sequence[Way], candidates: Sequence[Candidate] | None) -> Way:
    """How answers of a kind are had from a backend that knows these `ways`.

    By likelihood where all the answers there are can be listed; else within the schema where they are JSON; else as
    they come.
    """
    if kind in ("label", "labels") and candidates and "likelihood" in ways:
        return "likelihood"
    return "constrained" if renderer.output_format.type == "json" and "constrained" in ways else "free"


def labels_alone(renderer: Renderer) -> list[Candidate] | None:
    """Each label as an answer; None where an answer is more than its label."""
    output = renderer.output_format
    if len(output.schema_) > 1 or output.multi_label:
        return None
    name = str(output.label_field)
    return [Candidate(renderer.answer({name: label}), (label_key(label),)) for label in output.labels]


def examples(renderer: Renderer, shots: Sequence[Row]) -> list[Message]:
    """Rows with their right answers, as turns of a conversation."""
    turns: list[Message] = []
    for row in shots:
        turns += [renderer.messages(row)[-1], {"role": "assistant", "content": renderer.answer(row)}]
    return turns


def _turns(renderer: Renderer, row: Row, before: list[Message]) -> list[Message]:
    *system, user = renderer.messages(row)
    return [*system, *before, user]


def _answers(
    scorer: Scorer,
    questions: Sequence[Question],
    renderer: Renderer,
    kind: Kind,
    sampling: Sampling,
    way: Way,
    candidates: Sequence[Candidate],
) -> Iterator[tuple[int, Answer]]:
    if way == "likelihood":
        for likely in scorer.likelihood(questions, [candidate.text for candidate in candidates]):
            yield likely.row, _likeliest(likely, kind, candidates)
        return
    output = renderer.output_format if way == "constrained" else None
    for said in scorer.generate(questions, sampling, output):
        yield said.row, _read(said, kind, renderer)


def _read(said: Said, kind: Kind, renderer: Renderer) -> Answer:
    """What a text says. One that was cut off is no answer, whatever it looks like, unless it is a text."""
    values = None if said.cut and kind != "text" else renderer.parse(said.text)
    return Answer(
        predicted=None if values is None else kinds.form(kind, renderer.output_format, values),
        raw=said.text,
        probability=None if said.probability is None else round(said.probability, 6),
        prompt_sha256=said.prompt_sha256,
        seconds=said.seconds,
        cut=said.cut or None,
    )


def _likeliest(likely: Likely, kind: Kind, candidates: Sequence[Candidate]) -> Answer:
    top = max(likely.logs)
    weights = [math.exp(value - top) for value in likely.logs]
    total = sum(weights)
    shares: dict[str, float] = {}
    for candidate, weight in zip(candidates, weights, strict=True):
        for label in candidate.labels:
            shares[label] = shares.get(label, 0.0) + weight / total
    best = candidates[likely.logs.index(top)]
    probabilities = {label: round(min(1.0, share), 6) for label, share in shares.items()}
    answer = Answer(
        predicted=best.labels[0] if kind == "label" else sorted(best.labels),
        raw=best.text,
        probability=round(1 / total, 6),
        probabilities=probabilities,
        # Rounding may push a sum of probabilities a hair over 1.
        valid=round(min(1.0, total * math.exp(top)), 6),
        prompt_sha256=likely.prompt_sha256,
        seconds=likely.seconds,
    )
    return answer if kind == "label" else above(answer, HALF)


def above(answer: Answer, threshold: float) -> Answer:
    """An answer of several labels, those whose probability is at least `threshold` taken.

    `raw` and `probability` are then of no single text, and left out.
    """
    taken = sorted(label for label, share in (answer.probabilities or {}).items() if share >= threshold)
    return replace(answer, predicted=taken, raw=None, probability=None)
