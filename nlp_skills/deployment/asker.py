"""Rows in, answers out, over any scorer: the way an evaluation asks, outside of one.

Nothing of the task's data is needed, so that it works where only versions and models are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nlp_skills.data.rows import brief, cut, label_key
from nlp_skills.errors import Invalid
from nlp_skills.evaluation.answering.ask import HALF, above, answer_each, way_of
from nlp_skills.evaluation.answering.candidates import Candidate
from nlp_skills.evaluation.answering.constrained import NoGrammar
from nlp_skills.evaluation.answering.scorer import Answer, Question, Scorer, Way
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.version import Asked, Sampling

Row = Mapping[str, Any]

# Of a row's own fields, where one is missing.
_FIELDS_SHOWN = 8


@dataclass(frozen=True)
class Prediction:
    """A row's answer.

    `answer` has the properties of the schema, and is None where what was said is no answer. `probability` is that of
    the answer, `probabilities` those of all labels, `raw` the text where one was said or scored; each None where it is
    not known. `cut`: the text came to its limit before it came to its end.
    """

    answer: dict[str, Any] | None
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    raw: str | None = None
    cut: bool = False

    def as_json(self) -> dict[str, Any]:
        """What is known of it, as plain data."""
        found = {"answer": self.answer, "probability": self.probability, "probabilities": self.probabilities}
        return {**found, "raw": self.raw, **({"cut": True} if self.cut else {})}


@dataclass(frozen=True)
class Asker:
    """A version that can be asked rows; several threads may do so at once if the scorer allows it.

    What does not depend on a row is found out when the asker is made, which reads train and valid where they are
    there, as an evaluation does: for all lists of labels, and for how long an answer may get.
    """

    chosen: Subject
    scorer: Scorer

    def __post_init__(self) -> None:
        if self.way != "likelihood":
            _kept = self.sampling

    def answers(self, rows: Sequence[Row]) -> list[Prediction]:
        """The answer to every row, in their order; a row needs the fields of the template and nothing more.

        Raises:
            Invalid: a row lacks a field, or is longer than the model reads.
            Unavailable: what answers is gone.
        """
        found: list[Prediction | None] = [None] * len(rows)
        for place, prediction in self.each(rows):
            found[place] = prediction
        if any(one is None for one in found):
            raise RuntimeError("the scorer left a row without an answer")
        return [one for one in found if one is not None]

    def each(self, rows: Sequence[Row], *, first: int = 0) -> Iterator[tuple[int, Prediction]]:
        """A row's number and its answer as soon as it is there, in any order; `first` is the number of the first row.

        Raises:
            Invalid, Unavailable: as `answers`; no row is asked before all were seen to be whole.
        """
        for number, row in enumerate(rows, first):
            refuse(row, self.fields, number)
        questions = [Question(number, self.chosen.renderer.messages(row)) for number, row in enumerate(rows, first)]
        try:
            yield from self._asked(questions, self.way)
        except NoGrammar:
            # It is raised before anything is asked: the way is then free, as an evaluation has it too.
            yield from self._asked(questions, "free")

    @cached_property
    def fields(self) -> list[str]:
        """The fields that a row needs."""
        return self.chosen.fields

    @cached_property
    def way(self) -> Way:
        """How rows are asked: as the version's evaluation did, where the scorer knows that way."""
        return way_of(self.chosen.kind, self.chosen.renderer, self.scorer.ways, self._listed)

    @cached_property
    def sampling(self) -> Sampling:
        """How text is drawn: as an evaluation would; where the rows it measures answers by are gone, as it did."""
        chosen, measured = self.chosen, self._measured
        recorded = measured.sampling if measured is not None else None
        if recorded is None or chosen.settings.max_new_tokens or self._rows_are_here:
            return chosen.sampling
        asked = chosen.settings
        return Sampling(
            temperature=asked.temperature,
            top_p=asked.top_p,
            max_new_tokens=recorded.max_new_tokens,
            seed=asked.seed if asked.temperature else None,
        )

    @cached_property
    def _listed(self) -> list[Candidate] | None:
        """The answers that can be listed.

        Lists of labels are those of train and valid. Without these, and where the evaluation found that the model
        mostly says other lists, it answers in words.
        """
        measured = self._measured
        if self.chosen.kind == "labels":
            in_words = measured is not None and measured.way != "likelihood"
            if in_words or not self._rows_are_here:
                return None
        return self.chosen.listed

    @cached_property
    def _texts(self) -> list[Candidate]:
        return [*(self._listed or ())]

    @cached_property
    def _measured(self) -> Asked | None:
        """How the version's own evaluation asked it."""
        results = self.chosen.version.results()
        return results.asked if results is not None else None

    @property
    def _rows_are_here(self) -> bool:
        return any(self.chosen.folder.split(split).is_file() for split in ("train", "valid"))

    @cached_property
    def _threshold(self) -> float:
        measured = self._measured
        return HALF if measured is None or measured.threshold is None else measured.threshold

    @cached_property
    def _fewest(self) -> int:
        return min((len(one.labels) for one in self._texts), default=0)

    @cached_property
    def _spelled(self) -> dict[str, Any]:
        """Each label as the schema spells it, by the name it has among probabilities."""
        return {label_key(label): label for label in self.chosen.info.output_format.labels}

    def _asked(self, questions: Sequence[Question], way: Way) -> Iterator[tuple[int, Prediction]]:
        chosen = self.chosen
        sampling = None if way == "likelihood" else self.sampling
        each = answer_each(self.scorer, questions, chosen.renderer, chosen.kind, sampling, way, self._texts)
        for row, answer in each:
            yield row, self._prediction(answer)

    def _prediction(self, answer: Answer) -> Prediction:
        if self.chosen.kind == "labels" and answer.probabilities is not None:
            answer = above(answer, self._threshold, least=self._fewest)
            said = {self.chosen.label_field: [self._spelled.get(one, one) for one in answer.predicted]}
            return Prediction(said, probabilities=answer.probabilities)
        read = None if answer.predicted is None or answer.raw is None else self.chosen.renderer.parse(answer.raw)
        return Prediction(read, answer.probability, answer.probabilities, answer.raw, bool(answer.cut))


def refuse(row: Any, fields: Sequence[str], number: int = 0) -> None:
    """Refuse a row that cannot be asked: `fields` are those of the template, `number` counts from 0.

    Raises:
        Invalid: it is no object, lacks a field, or has something in one that no text can hold.
    """
    wanted = ", ".join(fields)
    if not isinstance(row, Mapping):
        raise Invalid(
            _("row {row} is not an object", row=number + 1),
            cause=brief(row),
            mend=_("give an object with the fields {fields}", fields=wanted),
        )
    for name in fields:
        if name not in row:
            raise Invalid(
                _("row {row} lacks the field {name}", row=number + 1, name=name),
                cause=_("it has: {fields}", fields=", ".join(brief(str(one)) for one in [*row][:_FIELDS_SHOWN])),
                mend=_("the template shows: {fields}", fields=wanted),
            )
        try:
            json.dumps(row[name], ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise Invalid(
                _("row {row}: the field {name} holds something that is no text", row=number + 1, name=name),
                cause=cut(str(error), 200),
                mend=_("give an object with the fields {fields}", fields=wanted),
            ) from error
