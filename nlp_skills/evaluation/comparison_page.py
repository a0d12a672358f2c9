"""What the page of two versions shows, gathered from their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nlp_skills.evaluation import significance, words
from nlp_skills.evaluation.report_page import results_of, row_text
from nlp_skills.evaluation.significance import points
from nlp_skills.i18n import _
from nlp_skills.schema.version import Results
from nlp_skills.workspace import compare
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

ROWS = 10


def context(folder: TaskFolder, before: VersionFolder, after: VersionFolder) -> dict[str, Any]:
    """Everything templates/compare.html.j2 prints."""
    old, new = results_of(before), results_of(after)
    rows_a, rows_b = (significance.load(version.predictions_path) for version in (before, after))
    result = significance.compare_rows(rows_a, rows_b)
    return {
        "task": folder.task(),
        "before": before.name,
        "after": after.name,
        "verdict": _verdict(result, before.name, after.name),
        "scale": _scale(result),
        "metrics": _metrics(old, new),
        "classes": _classes(old, new),
        "tests": _tests(result, before.name, after.name),
        "settings": [
            (
                row.name,
                _text(row.before),
                _text(row.after),
                "" if row.relative is None else f"{row.relative * 100:+.0f}%",
            )
            for row in compare.settings(before, after)
        ],
        "fixed": _flips(result["fixed"], rows_a, rows_b),
        "broken": _flips(result["broken"], rows_a, rows_b),
    }


def _verdict(result: Mapping[str, Any], before: str, after: str) -> dict[str, Any]:
    headlines = {
        "better": _("{after} is better", after=after),
        "worse": _("{after} is worse", after=after),
        "cannot_tell": _("These rows cannot tell them apart"),
        "not_comparable": _("They cannot be compared"),
    }
    states = {"better": "good", "worse": "bad", "cannot_tell": "open", "not_comparable": "doubt"}
    warnings = []
    if not result["same_rows"] and result["verdict"] != "not_comparable":
        text = _("The test sets differ; only the {rows} rows they share were compared.", rows=result["rows"])
        warnings.append(text)
    return {
        "state": states[result["verdict"]],
        "headline": headlines[result["verdict"]],
        "sentence": significance.sentence(result, before, after),
        "warnings": warnings,
    }


def _scale(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The difference and its interval on a symmetric scale around nothing, in percent of its width."""
    if result["macro_f1"] is None:
        return None
    macro = result["macro_f1"]
    low, high = macro["interval"]
    reach = max(abs(low), abs(high), abs(macro["difference"]), 0.01) * 1.15
    at, start, end = (round(50 + 50 * value / reach, 2) for value in (macro["difference"], low, high))
    return {
        "at": at,
        "low": start,
        "high": end,
        "left": points(-reach),
        "right": points(reach),
    }


def _metrics(old: Results, new: Results) -> list[tuple[str, str, str, str]]:
    names = [name for name in new.metrics if name in old.metrics]
    return [_pair(words.metric(name), old.metrics[name], new.metrics[name], name) for name in names]


def _classes(old: Results, new: Results) -> list[tuple[str, str, str, str]]:
    shared = [label for label in new.per_class if label in old.per_class]
    return [_pair(label, old.per_class[label].f1, new.per_class[label].f1) for label in shared]


def _pair(title: str, before: float, after: float, metric: str = "f1") -> tuple[str, str, str, str]:
    change = f"{after - before:+.3f}" if metric == "mcc" else points(after - before)
    return title, words.figure(metric, before), words.figure(metric, after), change


def _tests(result: Mapping[str, Any], before: str, after: str) -> list[tuple[str, str]]:
    texts = words.comparison()
    lines = [(texts["rows_shared"], str(result["rows"]))]
    for name, key in ((before, "only_a"), (after, "only_b")):
        if result[key]:
            lines.append((_("Rows only {version} answered", version=name), str(result[key])))
    if result["macro_f1"] is None:
        return lines
    visible = result["smallest_visible_difference"] * 100
    return [
        *lines,
        (texts["bootstrap_p"], _p(result["macro_f1"]["p"])),
        (texts["mcnemar_p"], _p(result["accuracy"]["p"])),
        (texts["visible"], _("{points} points", points=f"{visible:.1f}")),
    ]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flips(keys: Sequence[str], rows_a: Iterable[Any], rows_b: Iterable[Any]) -> dict[str, Any]:
    a, b = ({row["key"]: row for row in rows} for rows in (rows_a, rows_b))
    shown = [
        {"text": row_text(b[key]), "gold": b[key]["gold"], "before": a[key]["predicted"], "after": b[key]["predicted"]}
        for key in keys[:ROWS]
    ]
    return {"count": len(keys), "shown": shown, "note": _("{shown} of {total} rows", shown=len(shown), total=len(keys))}


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
