"""What a version's results mean: were the success criteria met, and is something simpler as good?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nlp_skills.evaluation import significance, words
from nlp_skills.i18n import _
from nlp_skills.schema.task import SuccessCriteria
from nlp_skills.schema.version import Check, Gate, Results, Verdict

# A number that says it is a figure: 0.65, .65 or 65 %. The 2 of rules_v2 is not one.
_ENDING_NUMBER = re.compile(r"(\d*\.\d+|\d+(?=\s*%))\s*(%?)\s*\Z")


def verdict(
    criteria: SuccessCriteria,
    figures: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Verdict:
    """Whether the primary metric reached its threshold and passed the given baseline; None where neither is set.

    A criterion is met when the whole 95 % interval is on its right side, not met when it is on the other.
    """
    value, baseline = figures.get(criteria.primary_metric), baseline_value(criteria.baseline)
    ranges, checks = intervals or {}, []
    if value is not None and criteria.threshold is not None:
        checks.append(_check("threshold", criteria.primary_metric, value, criteria.threshold, ranges))
    if value is not None and baseline is not None:
        checks.append(_check("baseline", criteria.primary_metric, value, baseline, ranges))
    return Verdict(
        primary_metric=criteria.primary_metric,
        value=value,
        threshold=criteria.threshold,
        baseline=baseline,
        verdict=worst(checks),
        checks=checks,
    )


def worst(checks: Sequence[Check]) -> Gate | None:
    """What several criteria say together: not met before cannot tell before met."""
    found = {check.verdict for check in checks}
    order: tuple[Gate, ...] = ("not_met", "cannot_tell", "met")
    return next((gate for gate in order if gate in found), None)


def _check(
    about: Literal["threshold", "baseline"],
    metric: str,
    value: float,
    least: float,
    ranges: Mapping[str, tuple[float, float]],
) -> Check:
    interval = ranges.get(metric)
    low, high = interval or (value, value)
    gate: Gate = "met" if low >= least else "not_met" if high < least else "cannot_tell"
    return Check(about=about, metric=metric, value=value, interval=interval, least=least, verdict=gate)


def baseline_value(baseline: float | str | None) -> float | None:
    """`0.65`, `rule_based_0.65` and `65%` as the fraction 0.65; None where there is no figure."""
    if baseline is None or isinstance(baseline, int | float):
        return baseline
    if not (found := _ENDING_NUMBER.search(baseline)):
        return None
    return float(found[1]) / (100 if found[2] else 1)


def best_baseline(results: Results) -> str | None:
    """The baseline with the highest primary metric."""
    name = results.success.primary_metric
    scored = {key: figures[name] for key, figures in results.baselines.items() if name in figures}
    return max(scored, key=lambda key: scored[key]) if scored else None


def beaten_by(results: Results) -> str | None:
    """The best baseline, where it is at least as good as the version."""
    best, value = best_baseline(results), results.success.value
    if best is None or value is None:
        return None
    return best if results.baselines[best][results.success.primary_metric] >= value else None


def headline(results: Results) -> str:
    """The verdict in a few words."""
    gate, version = results.success.verdict, results.version
    if gate is None:
        return _("{version} was measured; no success criterion is set", version=version)
    if gate == "met":
        return _("{version} meets its success criteria", version=version)
    if gate == "cannot_tell":
        return _("whether {version} meets its success criteria cannot be told from these test rows", version=version)
    return _("{version} does not meet its success criteria", version=version)


def criteria(results: Results) -> list[str]:
    """The success criteria, each in a few words."""
    success, found = results.success, []
    if success.threshold is not None:
        found.append(_("threshold {value}", value=words.figure(success.primary_metric, success.threshold)))
    if success.baseline is not None:
        found.append(_("given baseline {value}", value=words.figure(success.primary_metric, success.baseline)))
    return found


def beside_baseline(results: Results, predictions: Sequence[Mapping[str, Any]]) -> str | None:
    """Whether the version is better than its best baseline, tested on the rows both answered."""
    best = best_baseline(results)
    if best is None:
        return None
    theirs = [{**row, "predicted": row["baselines"][best]} for row in predictions if best in row.get("baselines", {})]
    compared = significance.compare_rows(theirs, predictions, metric=results.success.primary_metric)
    return significance.sentence(compared, words.baseline(best), results.version)


def warnings(results: Results) -> list[str]:
    """What to know before acting on the verdict, the gravest first."""
    success, found = results.success, []
    name = success.primary_metric
    if beaten := beaten_by(results):
        theirs = results.baselines[beaten][name]
        found.append(
            _(
                "{baseline} reaches {theirs}, {version} {ours}: the simpler one is the better choice so far.",
                baseline=words.baseline(beaten),
                theirs=words.figure(name, theirs),
                version=results.version,
                ours=words.figure(name, success.value),
            )
        )
    low, high = results.intervals.get(name, (0.0, 0.0))
    if success.threshold is not None and low < success.threshold <= high:
        found.append(_("The threshold lies inside the interval: other test rows could have decided otherwise."))
    return found
