"""Asking a version, or another model in its stead, the test rows: in the way that fits, and what else that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import progress
from nlp_skills.data import rows as lines
from nlp_skills.evaluation import model
from nlp_skills.evaluation.answering import threshold
from nlp_skills.evaluation.answering.ask import HALF, above, ask, way_of
from nlp_skills.evaluation.answering.constrained import NoGrammar
from nlp_skills.evaluation.answering.endpoint import Endpoint
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Answer, Scorer, Way
from nlp_skills.evaluation.subject import Row, Subject
from nlp_skills.i18n import _
from nlp_skills.schema.version import Asked, Sampling

# Rows that are also asked without the schema's help, which shows how much of a parse rate is the grammar's.
UNCONSTRAINED_ROWS = 200
# The file of the answers so far, and of those to the other questions of a round.
ANSWERS = "predictions"
_OTHERS = ("unconstrained", "valid")
# How much of what a model says must be among the lists of labels, for their shares to be probabilities of labels.
_SOUND = 0.5
# Rows of valid that a threshold is chosen by.
_VALID_ROWS = 500


@dataclass(frozen=True)
class Given:
    """The answers to all test rows, how they were had, and to some of them, by row, those without the schema's help."""

    answers: list[Answer]
    asked: Asked | None = None
    unconstrained: dict[int, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Asking:
    """One round of questions. `folder` is where answers are kept until all are there."""

    chosen: Subject
    scorer: Scorer
    folder: Path

    @property
    def way(self) -> Way:
        """How the test rows are asked."""
        return way_of(self.chosen.kind, self.chosen.renderer, self.scorer.ways, self.chosen.listed)

    def all(self) -> Given:
        """Ask everything that results need of this model; what an interrupted round has is not asked again.

        Raises:
            Problem: what the scorer raises; the answers until then are kept.
        """
        chosen = self.chosen
        taken_from = self._threshold() if chosen.kind == "labels" and self.way == "likelihood" else None
        way, answers = self._answers(listed=chosen.kind != "labels" or taken_from is not None)
        if taken_from is not None:
            answers = [above(answer, taken_from, least=chosen.fewest_labels) for answer in answers]
        free: dict[int, Answer] = {}
        if way == "constrained":
            free = self._unconstrained(answers)
        asked = Asked(
            way=way,
            backend=self.scorer.backend,
            model=self.scorer.model,
            sampling=None if way == "likelihood" else self._drawn,
            threshold=taken_from,
        )
        return Given(answers, asked, free)

    def as_before(self, before: Asked | None) -> list[Answer]:
        """The test rows' answers alone, asked as another round asked them: by its threshold, or in words as it did.

        Raises:
            Problem: what the scorer raises; the answers until then are kept.
        """
        taken_from = before.threshold if before is not None else None
        way, answers = self._answers(listed=self.chosen.kind != "labels" or taken_from is not None)
        if taken_from is None or way != "likelihood":
            return answers
        return [above(answer, taken_from, least=self.chosen.fewest_labels) for answer in answers]

    def _answers(self, *, listed: bool) -> tuple[Way, list[Answer]]:
        """The test rows' answers, and how they were had; `listed`: as shares of lists, where all lists are known."""
        title, chosen = _("evaluate {version}", version=self._name), self.chosen
        rows, way = chosen.test, self.way
        if not listed:
            way = way_of(chosen.kind, chosen.renderer, self.scorer.ways, None)
        try:
            return way, self._ask(ANSWERS, rows, way, title)
        except NoGrammar as problem:
            progress.notice(f"{problem.message}: {problem.cause}")
            return "free", self._ask(ANSWERS, rows, "free", title)

    def _unconstrained(self, answers: Sequence[Answer]) -> dict[int, Answer]:
        """What is said to some rows without the schema's help: only where that bent an answer is it to be asked."""
        places = spread(len(answers), UNCONSTRAINED_ROWS)
        bent = [place for place in places if answers[place].bent is not False]
        rows, title = [self.chosen.test[place] for place in bent], _("without the schema's help")
        said = self._ask("unconstrained", rows, "free", title, bent) if rows else []
        return {place: answers[place] for place in places} | dict(zip(bent, said, strict=True))

    @property
    def _drawn(self) -> Sampling:
        """How text was drawn: an endpoint's own settings go before the task's."""
        sampling = self.chosen.sampling
        return self.scorer.drawn(sampling) if isinstance(self.scorer, Endpoint) else sampling

    @property
    def _name(self) -> str:
        return self.chosen.version.name if self.scorer.backend == "transformers" else self.scorer.model

    def _ask(self, name: str, rows: Sequence[Row], way: Way, title: str, places: Sequence[int] = ()) -> list[Answer]:
        chosen = self.chosen
        return ask(
            self.scorer,
            rows,
            chosen.renderer,
            chosen.kind,
            None if way == "likelihood" else chosen.sampling,
            self._partial(name, way, places),
            title,
            way=way,
            listed=chosen.listed,
        )

    def _partial(self, name: str, way: Way, places: Sequence[int]) -> Partial:
        chosen = self.chosen
        asked: list[Any] = [chosen.fingerprint, self.scorer.fingerprint, way, chosen.info.input_template, *places]
        if way != "likelihood":
            asked.append(chosen.sampling.model_dump(mode="json"))
        return Partial(self.folder / f"{name}.partial", model.digest(asked))

    def _threshold(self) -> float | None:
        """By the rows of valid; where there are none, a half.

        None where the model mostly says other things than the lists it was asked about: their shares of what is left
        would mean nothing, and it has to answer in its own words.
        """
        rows = _labelled(self.chosen)
        rows = [rows[place] for place in spread(len(rows), _VALID_ROWS)]
        if not rows:
            return HALF
        answers = self._ask("valid", rows, "likelihood", _("choose a threshold on valid"))
        if sum(answer.valid or 0.0 for answer in answers) < _SOUND * len(answers):
            progress.notice(_("the model mostly says other things than lists of labels it knows: it answers in words"))
            return None
        gold = [self.chosen.right(row) for row in rows]
        return threshold.best(gold, answers, self.chosen.labels, self.chosen.criteria.primary_metric)


def forget(folder: Path) -> None:
    """Remove the answers that were kept in a folder until all are there."""
    for name in (ANSWERS, *_OTHERS):
        (folder / f"{name}.partial").unlink(missing_ok=True)


def spread(count: int, most: int) -> list[int]:
    """At most so many of the places 0 to `count`, evenly spaced."""
    taken = min(count, most)
    return [place * count // taken for place in range(taken)]


def _labelled(chosen: Subject) -> list[Row]:
    """The rows of valid that can be asked and judged."""
    if not chosen.folder.split("valid").is_file():
        return []
    known, name = set(chosen.labels), chosen.label_field
    return [
        row
        for row in lines.read(chosen.folder.split("valid"))
        if isinstance(row.get(name), list)
        and known >= {str(label) for label in row[name]}
        and all(field in row for field in chosen.fields)
    ]
