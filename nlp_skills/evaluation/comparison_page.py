"""What the page of several versions shows, gathered from their comparison; every value is ready to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.evaluation import charts, comparison, flips, report_page, shown, significance, words
from nlp_skills.evaluation.comparison import Comparison, Pair
from nlp_skills.evaluation.significance import amount, bare, p_value
from nlp_skills.i18n import _

ROWS = 10
NAME = 60
STATES = {"better": "good", "worse": "bad", "cannot_tell": "open", "not_comparable": "doubt"}


def context(found: Comparison) -> dict[str, Any]:
    """Everything templates/compare.html.j2 prints."""
    return {
        "task": found.task,
        "names": found.names,
        "change": found.change,
        "verdict": _verdict(found),
        "scale": _scale([pair for pair in found.pairs if pair.tested]),
        "figures": [_figure(found, row) for row in found.figures if not row.name.endswith(" F1")],
        "classes": [_class(found, row) for row in found.figures if row.name.endswith(" F1")],
        "curves": _curves(found),
        "settings": [
            (words.key(row.name), [words.value(value) for value in row.values], words.relative(row.relative))
            for row in found.settings
        ],
        "tests": [_tests(pair) for pair in found.pairs],
        "best": _best(found),
        "pairs": [_pair(found, pair) for pair in found.pairs],
    }


def _verdict(found: Comparison) -> dict[str, Any]:
    first, *more = comparison.conclusion(found)
    problems = [str(problem) for problem in found.problems]
    warnings = [comparison.different_rows(pair) for pair in found.pairs if not pair.result["same_rows"]]
    state, headline = _headline(found)
    return {
        "state": state,
        "headline": headline,
        "sentence": first,
        "sentences": more,
        "warnings": [*warnings, *problems],
    }


def _headline(found: Comparison) -> tuple[str, str]:
    if found.best:
        if found.best.version:
            return "good", _("{version} is best", version=found.best.version)
        return "open", _("Which is best cannot be told")
    if len(found.pairs) == 1:
        pair = found.pairs[0]
        code = pair.result["verdict"]
        headlines = {
            "better": _("{version} is better", version=pair.b),
            "worse": _("{version} is worse", version=pair.b),
            "cannot_tell": _("These rows cannot tell them apart"),
            "not_comparable": _("They cannot be compared"),
        }
        return STATES[code], headlines[code]
    return ("open", _("Each beside the first")) if found.pairs else ("doubt", _("The difference cannot be tested"))


def _scale(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Each pair's difference with its interval on one symmetric scale around nothing, in percent of its width."""
    if not pairs:
        return None
    metric = pairs[0].result["metric"]
    ends = [abs(value) for pair in pairs for value in (*pair.entry["interval"], pair.entry["difference"])]
    reach: float = max(*ends, 0.01) * 1.15

    def place(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    lines = [
        {
            "name": f"{pair.a} → {pair.b}",
            "state": STATES[pair.result["verdict"]],
            "at": place(pair.entry["difference"]),
            "low": place(pair.entry["interval"][0]),
            "high": place(pair.entry["interval"][1]),
            "value": amount(metric, pair.entry["difference"]),
            "p": p_value(pair.result["p_holm"]),
        }
        for pair in pairs
    ]
    return {"lines": lines, "left": bare(metric, -reach), "right": bare(metric, reach), "metric": words.metric(metric)}


def _figure(found: Comparison, row: Any) -> dict[str, Any]:
    ranges = found.intervals.get(row.name, {})
    return {
        "name": words.metric(row.name),
        "cells": [
            (words.figure(row.name, value), _interval(ranges.get(name), row.name))
            for name, value in zip(found.names, row.values, strict=True)
        ],
        "change": "" if row.absolute is None else bare(row.name, row.absolute),
    }


def _interval(interval: Sequence[float] | None, metric: str) -> str:
    return "" if interval is None else " – ".join(words.figure(metric, edge) for edge in interval)


def _class(found: Comparison, row: Any) -> dict[str, Any]:
    label, ranges = row.name.removesuffix(" F1"), found.intervals.get(row.name, {})
    return {
        "label": shown.cut(label, NAME),
        "bars": [
            report_page.bar(name, value, ranges.get(name), metric="f1")
            for name, value in zip(found.names, row.values, strict=True)
        ],
    }


def _curves(found: Comparison) -> list[dict[str, Any]]:
    """The losses in training and on the validation rows, each with all versions in one drawing."""
    paths = {one.name: one.version.metrics_path for one in found.versions}
    titles = {"loss": _("Training loss"), "eval_loss": _("Validation loss")}
    drawings = {loss: charts.overlay(paths, loss) for loss in titles}
    return [
        {
            "title": titles[loss],
            "plot": plot,
            "axis": _("epoch") if plot.by_epoch else _("step"),
            "lines": [(found.names.index(line.name), line, f"{line.last:.3f}") for line in plot.lines],
        }
        for loss, plot in drawings.items()
        if plot
    ]


def _tests(pair: Pair) -> dict[str, Any]:
    result = pair.result
    if not pair.tested:
        return {"name": f"{pair.a} → {pair.b}", "cells": [str(result["rows"]), *["–"] * 6]}
    entry, metric = pair.entry, result["metric"]
    cells = [
        str(result["rows"]),
        bare(metric, entry["difference"]),
        " – ".join(bare(metric, edge) for edge in entry["interval"]),
        _p(entry["p"]),
        _p(result["p_holm"]),
        _p(result["metrics"]["accuracy"]["p"]) if "accuracy" in result["metrics"] else "–",
        bare(metric, result["smallest_visible_difference"]).lstrip("+"),
    ]
    return {"name": f"{pair.a} → {pair.b}", "cells": cells}


def _p(value: float) -> str:
    return p_value(value).removeprefix("p").removeprefix(" = ").strip()


def _best(found: Comparison) -> dict[str, Any] | None:
    if not found.best:
        return None
    pairs = [(f"{a} – {b}", _p(p)) for a, b, p in found.best.pairs]
    return {"sentence": comparison.best_sentence(found.best), "pairs": pairs}


def _pair(found: Comparison, pair: Pair) -> dict[str, Any]:
    """The classes of a pair, tested, and the rows to look at."""
    a, b = found.rows(pair.a), found.rows(pair.b)
    result = pair.result
    strays = flips.strays(found.predictions[pair.a], found.predictions[pair.b], result, ROWS, found.kind)
    apart = [(title, _shown(result[name], strays[name])) for name, title in _apart_titles(pair).items() if result[name]]
    return {
        "a": pair.a,
        "b": pair.b,
        "tested": pair.tested,
        "classes": [_tested_class(label, entry) for label, entry in result["classes"].items()],
        "flips": [
            (words.comparison()["fixed"], _shown(result["fixed"], flips.fixed(a, b, ROWS, found.kind))),
            (words.comparison()["broken"], _shown(result["broken"], flips.broken(a, b, ROWS, found.kind))),
        ],
        "apart": apart,
    }


def _apart_titles(pair: Pair) -> dict[str, str]:
    return {
        "only_a": _("Only in {version}", version=pair.a),
        "only_b": _("Only in {version}", version=pair.b),
        "relabelled": _("In both with another label"),
    }


def _shown(all_rows: Sequence[Any], rows: Sequence[Any]) -> dict[str, Any]:
    return {"rows": rows, "note": _("{shown} of {total} rows", shown=len(rows), total=len(all_rows))}


def _tested_class(label: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": shown.cut(label, NAME),
        "cells": [
            words.percent(entry["a"]),
            words.percent(entry["b"]),
            significance.points(entry["difference"]),
            " – ".join(significance.points(edge) for edge in entry["interval"]),
            _p(entry["p"]),
            _p(entry["p_holm"]),
        ],
        "visible": entry["p_holm"] < significance.LEVEL,
    }
