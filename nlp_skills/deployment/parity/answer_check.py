"""The test rows answered before and after: what was lost of the metric that decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import predictions, significance
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.evaluation.outcome import Outcome
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import AnswerParity
from nlp_skills.schema.version import Results


def answers(chosen: Subject, given: Sequence[Answer], max_drop: float) -> AnswerParity:
    """What the version answered when it was evaluated, and what was answered to the same rows since, in their order.

    Raises:
        Invalid: the version was not evaluated as it is, or not every test row has an answer.
        Unavailable: the extra quality is missing.
    """
    before = predictions.load(Outcome.of_version(chosen).predictions_path, evaluated(chosen).kind)
    if len(given) != len(chosen.test):
        raise Invalid(_("of {rows} test rows {given} were answered", rows=len(chosen.test), given=len(given)))
    told = significance.compare_rows(
        before, _rows(chosen, given), metric(chosen), kind=chosen.kind, language=chosen.task.language
    )
    figure = told["metrics"][told["metric"]]
    low, high = figure["interval"]
    return AnswerParity(
        rows=told["rows"],
        metric=told["metric"],
        before=figure["a"],
        after=figure["b"],
        # Plus nothing, so that no figure is written as -0.0.
        drop=0.0 - figure["difference"],
        interval=(0.0 - high, 0.0 - low),
        changed=told["disagree"],
        max_drop=max_drop,
    )


def evaluated(chosen: Subject) -> Results:
    """The version's results, of the model and of the test rows as they are.

    Raises:
        Invalid: there are none.
    """
    found = Outcome.of_version(chosen).results()
    if found is None:
        raise Invalid(
            _("there is nothing to hold the answers against: {version} was not evaluated as it is now",
              version=chosen.version.name),
            file=chosen.version.results_path,
            mend=_("nlp-skills evaluate {task} --version {version}",
                   task=chosen.folder.root.name, version=chosen.version.name),
        )  # fmt: skip
    return found


def metric(chosen: Subject) -> str:
    """The metric that decides, or the first of its kind where no test of it is known."""
    return significance.testable(chosen.criteria.primary_metric, chosen.kind)


def _rows(chosen: Subject, given: Sequence[Answer]) -> list[dict[str, Any]]:
    rows = zip(chosen.keys, chosen.gold, given, chosen.test, strict=True)
    return [
        {"key": key, "gold": gold, "predicted": answer.predicted, "input": {name: row[name] for name in chosen.fields}}
        for key, gold, answer, row in rows
    ]
