"""Asking a scorer some rows, in the way that fits the kind of answer, in a file that survives an interruption.

Answers are appended to a partial file that names what was asked of which model; the next run of the same question
goes on where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nlp_skills import progress
from nlp_skills.data.render import Renderer
from nlp_skills.evaluation import forms
from nlp_skills.evaluation.answering import candidates
from nlp_skills.evaluation.answering.candidates import Candidate
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Answer, Likely, Question, Said, Scorer, Way
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.version import Sampling

Row = Mapping[str, Any]

# Of several labels, those are taken whose probability is at least this, until the valid split says better.
HALF = 0.5


def ask(
    scorer: Scorer,
    rows: Sequence[Row],
    renderer: Renderer,
    kind: Kind,
    sampling: Sampling | None,
    partial: Partial,
    title: str,
    *,
    way: Way | None = None,
    listed: Sequence[Candidate] | None = None,
) -> list[Answer]:
    """The model's answer to every row, in their order; `title` stands beside the progress bar.

    `listed` are the answers whose likelihood is asked for: left out, the labels of a task where a row has one. `way` is
    what `way_of` says where it is left out. `sampling` is of text; it may be left out where none is asked for.

    Raises:
        Problem: what the scorer raises; the answers until then are kept.
    """
    if listed is None and kind == "label":
        listed = candidates.alone(renderer)
    way = way or way_of(kind, renderer, scorer.ways, listed)
    kept = partial.read()
    left = [row for row in range(len(rows)) if row not in kept]
    if left:
        questions = [Question(row, renderer.messages(rows[row])) for row in left]
        with partial.opened(kept) as write, progress.bar(title, len(rows)) as bar:
            bar.advance(len(kept))
            for row, answer in answer_each(scorer, questions, renderer, kind, sampling, way, listed or ()):
                kept[row] = answer
                write(row, answer)
                bar.advance()
    return [kept[row] for row in range(len(rows))]


def way_of(kind: Kind, renderer: Renderer, ways: Sequence[Way], listed: Sequence[Candidate] | None) -> Way:
    """How answers of a kind are had from a backend that knows these `ways`.

    By likelihood where all the answers there are can be listed; else within the schema; else, and where the schema
    allows any text, as they come.
    """
    if kind in ("label", "labels") and listed and "likelihood" in ways:
        return "likelihood"
    output = renderer.output_format
    any_text = output.type == "text" and all(
        part.type == "string" and not part.choices for part in output.schema_.values()
    )
    return "constrained" if "constrained" in ways and not any_text else "free"


def answer_each(
    scorer: Scorer,
    questions: Sequence[Question],
    renderer: Renderer,
    kind: Kind,
    sampling: Sampling | None,
    way: Way,
    listed: Sequence[Candidate],
) -> Iterator[tuple[int, Answer]]:
    """Each question's row and answer as soon as it is known, in any order, asked in that `way`; nothing is kept.

    Raises:
        Problem: what the scorer raises.
    """
    if way == "likelihood":
        for likely in scorer.likelihood(questions, [candidate.text for candidate in listed]):
            yield likely.row, _likeliest(likely, kind, listed)
        return
    if sampling is None:
        raise ValueError("text is asked for, and nothing says how it is drawn")
    output = renderer.output_format if way == "constrained" else None
    for said in scorer.generate(questions, sampling, output):
        yield said.row, _read(said, kind, renderer)


def _read(said: Said, kind: Kind, renderer: Renderer) -> Answer:
    """What a text says. One that was cut off is no answer, whatever it looks like, unless it is a text."""
    values = None if said.cut and kind != "text" else renderer.parse(said.text)
    return Answer(
        predicted=None if values is None else forms.of(kind, renderer.output_format, values),
        raw=said.text,
        probability=None if said.probability is None else float(f"{said.probability:.6g}"),
        prompt_sha256=said.prompt_sha256,
        seconds=said.seconds,
        cut=said.cut or None,
        bent=said.bent,
    )


def _likeliest(likely: Likely, kind: Kind, listed: Sequence[Candidate]) -> Answer:
    top = max(likely.logs)
    weights = [math.exp(value - top) for value in likely.logs]
    total = sum(weights)
    shares: dict[str, float] = {}
    for candidate, weight in zip(listed, weights, strict=True):
        for label in candidate.labels:
            shares[label] = shares.get(label, 0.0) + weight / total
    best = listed[likely.logs.index(top)]
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
    return answer if kind == "label" else above(answer, HALF, least=min(len(one.labels) for one in listed))


def above(answer: Answer, threshold: float, *, least: int = 0) -> Answer:
    """An answer of several labels: those whose probability is at least `threshold`, and the `least` likeliest anyhow.

    `raw` and `probability` are then of no single text, and left out.
    """
    shares = answer.probabilities or {}
    likeliest = sorted(shares, key=lambda label: -shares[label])[:least]
    taken = {label for label, share in shares.items() if share >= threshold}
    return replace(answer, predicted=sorted({*taken, *likeliest}), raw=None, probability=None)
