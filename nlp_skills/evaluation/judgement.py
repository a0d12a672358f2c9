"""What a version's results mean: were the success criteria met, and is something simpler as good?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlp_skills.evaluation import baselines, metrics, significance, words
from nlp_skills.i18n import _
from nlp_skills.schema.task import SuccessCriteria
from nlp_skills.schema.version import Check, Gate, Results, Verdict

# A number that says it is a figure: 0.65, .65 or 65 %. The 2 of rules_v2 is not one.
_ENDING_NUMBER = re.compile(r"(\d*\.\d+|\d+(?=\s*%))\s*(%?)\s*\Z")
# Test sets are smaller than a million rows.
_MOST_ROOT = 1000.0


@dataclass(frozen=True)
class Before:
    """The version before, and how its classes did beside today's: `result` is of `significance.compare_rows`."""

    name: str
    result: Mapping[str, Any]

    @property
    def tested(self) -> bool:
        """Whether both answered enough of the same rows."""
        return bool(self.result["metrics"])


def verdict(
    criteria: SuccessCriteria,
    figures: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]] | None = None,
    *,
    rows: int | None = None,
    before: Before | None = None,
) -> Verdict:
    """Whether the success criteria are met; None where none is set.

    A criterion is met when the whole 95 % interval is on its right side, not met when it is on the other, and else it
    cannot be told; `rows` answered makes it known how many would settle it. `before` is needed for `max_regression`:
    without a version before, nothing can be lost. One whose answers cannot be compared leaves it open.
    """
    value, baseline = figures.get(criteria.primary_metric), baseline_value(criteria.baseline)
    ranges = intervals or {}
    wanted: list[tuple[Literal["threshold", "baseline"], str, float | None]] = [
        ("threshold", criteria.primary_metric, criteria.threshold),
        ("baseline", criteria.primary_metric, baseline),
        *(("threshold", name, least) for name, least in criteria.metrics.items()),
    ]
    asked = [(about, name, least) for about, name, least in wanted if least is not None]
    checks = [
        _check(about, name, figures[name], least, ranges.get(name), rows)
        for about, name, least in asked
        if name in figures
    ]
    checks += _regressions(criteria, before) if before and before.tested else []
    untested = before.name if before and not before.tested and criteria.max_regression is not None else None
    if criteria.baseline is not None and baseline is None:
        untested = str(criteria.baseline)
    found = worst(checks)
    if found != "not_met" and (len(asked) > sum(check.about != "regression" for check in checks) or untested):
        found = "cannot_tell"
    return Verdict(
        primary_metric=criteria.primary_metric,
        value=value,
        threshold=criteria.threshold,
        baseline=baseline,
        verdict=found,
        checks=checks,
        untested=untested,
    )


def allowed_regression(criteria: SuccessCriteria, label: str) -> float | None:
    """How much F1 a class may lose; None where any loss is allowed."""
    allowed = criteria.max_regression
    return allowed.get(label, allowed.get("*")) if isinstance(allowed, dict) else allowed


def _regressions(criteria: SuccessCriteria, before: Before) -> list[Check]:
    found = []
    for label, entry in before.result["classes"].items():
        allowed = allowed_regression(criteria, label)
        if allowed is not None:
            check = _check(
                "regression", f"{label} F1", entry["difference"], -allowed, _range(entry), before.result["rows"]
            )
            found.append(check.model_copy(update={"other": before.name}))
    return found


def _range(entry: Mapping[str, Any]) -> tuple[float, float]:
    """The interval of a difference; where no sample differs, what so few rows of the class may hide all the same."""
    low, high = entry["interval"]
    if high - low > 1e-12:
        return low, high
    hidden = metrics.wilson_interval(0, entry["rows"])[1]
    return low - hidden, high + hidden


def worst(checks: Sequence[Check]) -> Gate | None:
    """What several criteria say together: not met before cannot tell before met."""
    found = {check.verdict for check in checks}
    order: tuple[Gate, ...] = ("not_met", "cannot_tell", "met")
    return next((gate for gate in order if gate in found), None)


def _check(
    about: Literal["threshold", "baseline", "regression"],
    metric: str,
    value: float,
    least: float,
    interval: tuple[float, float] | None,
    rows: int | None,
) -> Check:
    low, high = interval or (value, value)
    gate: Gate = "met" if low >= least else "not_met" if high < least else "cannot_tell"
    needed = rows_needed(value, least, (low, high), rows) if gate == "cannot_tell" and rows else None
    return Check(
        about=about, metric=metric, value=value, interval=interval, least=least, verdict=gate, rows_needed=needed
    )


def rows_needed(value: float, least: float, interval: tuple[float, float], rows: int) -> int | None:
    """How many test rows would settle it if the value stays: an interval narrows with the root of the rows.

    None where the value is what is asked for, or so near that nobody has so many rows.
    """
    half = value - interval[0] if value > least else interval[1] - value
    if abs(value - least) * _MOST_ROOT <= half * rows**0.5:
        return None
    return max(rows + 1, math.ceil(rows * (half / (value - least)) ** 2 - 1e-6))


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


def next_step(results: Results) -> str:
    """The command that helps on: whoever is not there yet wants to know why, whoever is wants to show it."""
    return "diagnose" if results.success.verdict in ("not_met", "cannot_tell") else "report"


def headline(results: Results) -> str:
    """The verdict in a few words."""
    gate, version = results.success.verdict, results.version
    if gate is None:
        return _("{version} was measured; no success criterion is set", version=version)
    if gate == "met":
        return _("{version} meets its success criteria", version=version)
    if gate == "cannot_tell":
        return _("Whether {version} meets its success criteria cannot be told from these test rows", version=version)
    return _("{version} does not meet its success criteria", version=version)


def criteria(results: Results) -> list[str]:
    """The success criteria, each in a few words."""
    success, found = results.success, []
    if success.threshold is not None:
        found.append(_("threshold {value}", value=words.figure(success.primary_metric, success.threshold)))
    if success.baseline is not None:
        found.append(_("given baseline {value}", value=words.figure(success.primary_metric, success.baseline)))
    for check in success.checks:
        if check.about == "threshold" and check.metric != success.primary_metric:
            least = words.figure(check.metric, check.least)
            found.append(_("{metric} {value}", metric=words.metric(check.metric), value=least))
    lost = {check.least for check in success.checks if check.about == "regression"}
    if lost:
        worst_allowed = significance.points(min(lost))
        found.append(_("no class loses more than allowed, at most {points} points", points=worst_allowed.lstrip("-")))
    return found


def sentence(check: Check, rows: int) -> str:
    """What a criterion came to, for whoever has to decide."""
    if check.about == "regression":
        return _lost(check)
    values: dict[str, Any] = {
        "metric": words.metric(check.metric),
        "value": words.figure(check.metric, check.value),
        "least": words.figure(check.metric, check.least),
        "rows": rows,
    }
    if check.interval:
        values |= dict(zip(("low", "high"), (words.figure(check.metric, end) for end in check.interval), strict=True))
    if check.verdict == "met":
        return _("{metric}: {value} is at least {least}, and so is all that the test rows leave open.", **values)
    if check.verdict == "not_met":
        return _("{metric}: {value} is under {least}, and so is all that the test rows leave open.", **values)
    return f"{_open(check, values)} {_settled(check)}".rstrip()


def _open(check: Check, values: Mapping[str, Any]) -> str:
    if check.value > check.least:
        return _("{metric}: {value} is above {least}, but {rows} test rows leave {low} to {high}.", **values)
    if check.value < check.least:
        return _("{metric}: {value} is below {least}, but {rows} test rows leave {low} to {high}.", **values)
    return _("{metric}: {value} is just what is asked for, and {rows} test rows leave {low} to {high}.", **values)


def _settled(check: Check) -> str:
    if check.rows_needed is None:
        return ""
    return _("About {rows} test rows would settle it.", rows=f"{_rounded(check.rows_needed):,}")


def _rounded(rows: int) -> int:
    """Two digits, upwards: it is an estimate."""
    step = int(10 ** max(0, len(str(rows)) - 2))
    return -(-rows // step) * step


def _lost(check: Check) -> str:
    low, high = (significance.points(end) for end in check.interval or (check.value, check.value))
    values = {
        "name": words.figure_name(check.metric),
        "other": check.other or "",
        "change": significance.points(check.value),
        "low": low,
        "high": high,
        "allowed": significance.points(-check.least).lstrip("+"),
    }
    if check.verdict == "met":
        return _("{name} against {other}: {change} points ({low} to {high}), no more lost than {allowed}.", **values)
    if check.verdict == "not_met":
        return _("{name} against {other}: {change} points ({low} to {high}), more lost than {allowed}.", **values)
    text = _(
        "{name} against {other}: {change} points ({low} to {high}); whether it lost more than {allowed} is open.",
        **values,
    )
    return f"{text} {_settled(check)}".rstrip()


def beside_baseline(
    results: Results, predictions: Sequence[Mapping[str, Any]], language: str | None = None
) -> str | None:
    """Whether the version is better than its best baseline, tested on the rows both answered."""
    best = best_baseline(results)
    if best is None:
        return None
    answered = [row for row in predictions if best in row.get("baselines", {})]
    theirs = [{**row, "predicted": row["baselines"][best], "correct": None} for row in answered]
    metric, kind = results.success.primary_metric, results.kind
    compared = significance.compare_rows(theirs, predictions, metric, kind=kind, language=language)
    return significance.sentence(compared, words.baseline(best), results.version)


def warnings(results: Results) -> list[str]:
    """What to know before acting on the verdict, the gravest first."""
    success, found = results.success, []
    name = success.primary_metric
    if beaten := beaten_by(results):
        both = {
            "baseline": words.baseline(beaten),
            "theirs": words.figure(name, results.baselines[beaten][name]),
            "version": results.version,
            "ours": words.figure(name, success.value),
        }
        found.append(
            _("{baseline} reaches {theirs}, {version} {ours}: it is not caught up with yet.", **both)
            if beaten == baselines.ENDPOINT
            else _(
                "{baseline} reaches {theirs}, {version} {ours}: the simpler one is the better choice so far.", **both
            )
        )
    found += [sentence(check, results.test_rows) for check in success.checks if check.verdict != "met"]
    if success.untested:
        found.append(
            _(
                "One criterion is left open: there are no answers of {name} to enough of these test rows.",
                name=success.untested,
            )
        )
    return found
