"""From answers to results: every figure with its interval, the baselines' beside them, and what the criteria say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills import files
from nlp_skills.evaluation import baselines, judgement, metrics, own_metrics, regression
from nlp_skills.evaluation.asking import Given
from nlp_skills.evaluation.marks import PARSED, UNCONSTRAINED, VALID
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.evaluation.scores.judge import Judged
from nlp_skills.evaluation.scores.probabilities import Sureness
from nlp_skills.evaluation.scores.sheet import Sheet
from nlp_skills.evaluation.subject import Subject
from nlp_skills.schema.task import SuccessCriteria
from nlp_skills.schema.version import ConfusionMatrix, Results, Verdict

Figures = dict[str, float]
Ranges = dict[str, tuple[float, float]]

CUT = "cut_rate"


def results(
    chosen: Subject, given: Given, others: Mapping[str, Sequence[Any]], judged: Judged | None = None
) -> Results:
    """What the answers are worth; `others` are the baselines' answers by name, `judged` is what a judge says."""
    marked = sheet_of(chosen, given)
    figures, ranges = figures_of(marked), intervals.of(marked)
    about, about_ranges = _about_answers(given)
    figures, ranges = {**figures, **about}, {**ranges, **about_ranges}
    if judged is not None:
        figures, ranges = {**figures, **judged.figures()}, {**ranges, **judged.intervals()}
    sure = next((part for part in marked.ranked if isinstance(part, Sureness)), None)
    sheets = {name: _sheet(chosen, answers) for name, answers in others.items()}
    beside = {name: figures_of(each) for name, each in sheets.items()}
    return Results(
        version=chosen.version.name,
        created=files.now(),
        fingerprint=chosen.fingerprint,
        kind=chosen.kind,
        asked=given.asked,
        test_sha256=chosen.test_hash,
        test_rows=len(given.answers),
        metrics=figures,
        intervals=ranges,
        per_class=marked.per_class(),
        confusion_matrix=_confusion(chosen, given),
        calibration=sure.bins() if sure else [],
        curves=sure.curves() if sure else {},
        class_intervals=intervals.of_classes(marked),
        baselines=beside,
        baseline_intervals={name: intervals.of(each) for name, each in sheets.items()},
        success=verdict(chosen, figures, ranges, beside, [answer.predicted for answer in given.answers]),
    )


def verdict(
    chosen: Subject, figures: Figures, ranges: Ranges, beside: Mapping[str, Figures], predicted: Sequence[Any]
) -> Verdict:
    """What today's criteria say; a rule file that stands there as the baseline counts by what it reached."""
    before = regression.against_before(chosen, predicted)
    return judgement.verdict(_criteria(chosen, beside), figures, ranges, rows=len(predicted), before=before)


def _criteria(chosen: Subject, beside: Mapping[str, Figures]) -> SuccessCriteria:
    criteria, rules = chosen.criteria, beside.get(baselines.RULES)
    if not baselines.rule_file(criteria) or not rules:
        return criteria
    return criteria.model_copy(update={"baseline": rules.get(criteria.primary_metric)})


def sheet_of(chosen: Subject, given: Given) -> Sheet:
    """The version's answers, marked."""
    predicted = [answer.predicted for answer in given.answers]
    return _sheet(chosen, predicted, [answer.probabilities for answer in given.answers])


def _sheet(chosen: Subject, predicted: Sequence[Any], probabilities: Sequence[Any] | None = None) -> Sheet:
    marked = sheet.of(
        chosen.kind,
        chosen.gold,
        predicted,
        labels=chosen.labels,
        language=chosen.task.language,
        texts=[{field: row[field] for field in chosen.fields} for row in chosen.test],
        probabilities=probabilities if chosen.kind == "label" else None,
    )
    return own_metrics.added(marked, chosen.own_metrics, chosen.gold, predicted, chosen.test)


def figures_of(marked: Sheet) -> Figures:
    """Every metric of all rows."""
    return {name: float(value) for name, value in marked.figures().items()}


def _about_answers(given: Given) -> tuple[Figures, Ranges]:
    """How many answers were read, with the schema's help and without it, or cut off, and how likely a label was."""
    shares: dict[str, list[bool]] = {}
    if given.asked is not None and given.asked.way != "likelihood":
        shares[PARSED] = [answer.predicted is not None for answer in given.answers]
    if given.unconstrained:
        shares[UNCONSTRAINED] = [answer.predicted is not None for answer in given.unconstrained.values()]
    if any(answer.cut for answer in given.answers):
        shares[CUT] = [bool(answer.cut) for answer in given.answers]
    figures = {name: sum(flags) / len(flags) for name, flags in shares.items()}
    ranges = {name: metrics.wilson_interval(sum(flags), len(flags)) for name, flags in shares.items()}
    valid = [answer.valid for answer in given.answers if answer.valid is not None]
    return {**figures, **({VALID: sum(valid) / len(valid)} if valid else {})}, ranges


def _confusion(chosen: Subject, given: Given) -> ConfusionMatrix | None:
    """Of the rows whose answer is one of the labels."""
    if chosen.kind != "label":
        return None
    pairs = [(truth, answer.predicted) for truth, answer in zip(chosen.gold, given.answers, strict=True)]
    known = [pair for pair in pairs if pair[1] in chosen.labels]
    return metrics.confusion([truth for truth, _given in known], [given for _truth, given in known], chosen.labels)
