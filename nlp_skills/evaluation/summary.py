"""Results in a screenful: which figures stand in the table, and what else is worth a line."""

from __future__ import annotations

from collections.abc import Mapping

from nlp_skills.evaluation import significance, words
from nlp_skills.evaluation.marks import NAMES, PARSED, UNCONSTRAINED
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.version import Check, Results

_SHOWN: dict[Kind, tuple[str, ...]] = {
    "label": ("macro_f1", "accuracy", "mcc"),
    "labels": ("macro_f1", "micro_f1", "accuracy"),
    "spans": ("entity_f1", "entity_precision", "entity_recall", "entity_f1_partial", "relation_f1", "exact_match"),
    "fields": ("field_f1", "exact_match"),
    "text": ("chrf", "bleu", "rougeL", "exact_match"),
}


def columns(results: Results) -> list[str]:
    """The metrics of the table: the one that decides, those that are asked for, the kind's own, and a person's own."""
    known = {name for names in NAMES.values() for name in names}
    own = [name for name in results.metrics if name not in known and name in results.intervals and _is_own(name)]
    asked = [check.metric for check in results.success.checks if check.about == "threshold"]
    wanted = [results.success.primary_metric, *asked, *_SHOWN[results.kind], *own]
    return [name for name in dict.fromkeys(wanted) if name in results.metrics]


def _is_own(name: str) -> bool:
    return name not in (PARSED, UNCONSTRAINED, "cut_rate", "valid_answer_probability")


def interval(ranges: Mapping[str, tuple[float, float]], name: str) -> str:
    """A metric's interval as people write it; a dash where there is none."""
    ends = ranges.get(name)
    return " - ".join(words.figure(name, end) for end in ends) if ends else "–"


def classes_title(kind: Kind) -> str:
    """What the classes of a kind are called."""
    if kind == "spans":
        return _("Type")
    return _("Property") if kind == "fields" else _("Class")


def check(found: Check) -> list[str]:
    """A criterion as a line: what was asked, what was found with its interval, the verdict, rows to settle it."""
    verdicts = {"met": _("met"), "not_met": _("not met"), "cannot_tell": _("cannot tell")}
    name = words.figure_name(found.metric)
    if found.about == "regression":
        name = _("{name} against {other}", name=name, other=found.other or "")
        value, least = significance.points(found.value), significance.points(found.least)
        ends = [significance.points(end) for end in found.interval or ()]
    else:
        value, least = words.figure(found.metric, found.value), words.figure(found.metric, found.least)
        ends = [words.figure(found.metric, end) for end in found.interval or ()]
    return [
        name if found.about != "baseline" else _("{name}, baseline", name=name),
        value,
        " - ".join(ends) or "–",
        least,
        verdicts[found.verdict],
        f"{found.rows_needed:,}" if found.rows_needed else "",
    ]


def lines(results: Results) -> list[str]:
    """How sure the answers are and how rightly so, and how many could be read."""
    found = [_calibration(results)] if results.calibration else []
    if (threshold := results.asked.threshold if results.asked else None) is not None:
        found.append(_("A label is given from a probability of {value} on.", value=words.percent(threshold)))
    found += [_share(results, name) for name in (PARSED, UNCONSTRAINED) if results.metrics.get(name, 1.0) < 1.0]
    return found


def _share(results: Results, name: str) -> str:
    value, ends = words.figure(name, results.metrics[name]), interval(results.intervals, name)
    return f"{words.metric(name)}: {value} ({ends})"


def _calibration(results: Results) -> str:
    rows = sum(each.rows for each in results.calibration)
    sure = sum(each.confidence * each.rows for each in results.calibration) / rows
    right = sum(each.accuracy * each.rows for each in results.calibration) / rows
    return _(
        "Calibration: on average {sure} sure and {right} right; calibration error {error} ({interval}).",
        sure=words.percent(sure),
        right=words.percent(right),
        error=words.percent(results.metrics.get("ece")),
        interval=interval(results.intervals, "ece"),
    )
