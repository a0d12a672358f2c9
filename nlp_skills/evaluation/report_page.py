"""What a version's report shows, gathered from its files; every value is ready to print."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import charts, judgement, metrics, predictions, report_why, shown, significance, words
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.evaluation.scores.sheet import Sheet
from nlp_skills.evaluation.why.findings import Analysis
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import Check, ConfusionMatrix, Results
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_SIGNS = {"met": "✓", "not_met": "✗", "cannot_tell": "?"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """What others found out about the version: why it fails, and what to change (`diagnosis` is above this room)."""

    analysis: Analysis | None = None
    findings: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Bar:
    """A named value with its interval, both as text and as percent of the scale."""

    name: str
    value: str
    at: float
    low: float | None = None
    high: float | None = None
    interval: str = ""
    kind: str = "other"


def results_of(version: VersionFolder) -> Results:
    """A version's results.

    Raises:
        Invalid: there are none.
    """
    found = version.results()
    if found is None:
        mend = _("nlp-skills evaluate --version {version}", version=version.name)
        raise Invalid(_("version {version} has not been evaluated", version=version.name), mend=mend)
    return found


def context(folder: TaskFolder, version: VersionFolder, against: str | None, told: Told) -> dict[str, Any]:
    """Everything templates/report.html.j2 prints."""
    task, results = folder.task(), results_of(version)
    rows = predictions.load(version.predictions_path, results.kind)
    earlier = _earlier(folder, version, against)
    return {
        "task": task,
        "version": version.name,
        "kind": results.kind,
        "verdict": verdict(task, results, rows, earlier),
        "findings": report_why.findings(told.findings),
        "beside": _beside(task, results, rows, earlier),
        "metrics": _metrics(results),
        "valid": "valid_answer_probability" in results.metrics,
        "classes": _classes(task, results, rows),
        "confusion": confusion(results.confusion_matrix),
        "why": report_why.context(results.kind, rows, told.analysis),
        "curve": charts.loss_curve(version.metrics_path),
        "shares": charts.shares(results),
        "bins": _bins(results),
        **_making(version, results),
        "commands": _commands(task, version),
    }


def _earlier(folder: TaskFolder, version: VersionFolder, against: str | None) -> VersionFolder | None:
    """The version asked for, or the parent where it was evaluated."""
    if against is not None:
        other = folder.existing_version(against)
        results_of(other)
        return other
    made = version.lineage()
    if made is None or made.parent is None:
        return None
    parent = folder.version(made.parent)
    return parent if parent.predictions_path.is_file() and parent.results_path.is_file() else None


def verdict(task: Task, results: Results, rows: Sequence[Row], earlier: VersionFolder | None) -> dict[str, Any]:
    """The block on top: a headline, the figure, each criterion, and what else must be known before deciding."""
    success = results.success
    name = success.primary_metric
    sentences = [text for text in [judgement.beside_baseline(results, rows)] if text]
    if earlier:
        before = predictions.load(earlier.predictions_path, results.kind)
        compared = significance.compare_rows(before, rows, name, kind=results.kind, language=task.language)
        sentences.append(significance.sentence(compared, earlier.name, results.version))
    state = {"met": "good", "not_met": "bad"}.get(success.verdict or "", "open")
    beaten, warnings = judgement.beaten_by(results), judgement.warnings(results)
    return {
        "state": "doubt" if state == "good" and beaten else state,
        "first": warnings.pop(0) if beaten and warnings else "",
        "headline": judgement.headline(results),
        "metric": words.metric(name),
        "value": words.figure(name, success.value),
        "interval": _interval(results.intervals.get(name), name),
        "criteria": [] if success.checks else judgement.criteria(results),
        "checks": [_check(check) for check in success.checks],
        "warnings": warnings,
        "sentences": sentences,
        "rows": _("{rows} test rows", rows=results.test_rows),
    }


def _check(check: Check) -> dict[str, str]:
    """A criterion as a line of the table: what was asked, what was found, and whether that settles it."""
    verdicts = {"met": _("met"), "not_met": _("not met"), "cannot_tell": _("cannot tell")}
    name, other = words.figure_name(check.metric), check.other or ""
    asked = {
        "threshold": _("{metric}: at least the threshold", metric=name),
        "baseline": _("{metric}: at least the baseline {baseline}", metric=name, baseline=words.baseline(other)),
        "regression": _("{metric}: no more lost against {version} than allowed", metric=name, version=other),
    }
    lost = check.about == "regression"
    return {
        "name": asked[check.about].replace("  ", " ").strip(),
        "value": significance.points(check.value) if lost else words.figure(check.metric, check.value),
        "interval": _points(check.interval) if lost else _interval(check.interval, check.metric),
        "least": significance.points(check.least) if lost else words.figure(check.metric, check.least),
        "verdict": f"{_SIGNS[check.verdict]} {verdicts[check.verdict]}",
        "state": {"met": "good", "not_met": "bad"}.get(check.verdict, "open"),
        "rows": f"{check.rows_needed:,}" if check.rows_needed else "",
    }


def _points(interval: Sequence[float] | None) -> str:
    return "" if interval is None else " – ".join(significance.points(edge) for edge in interval)


def _beside(task: Task, results: Results, rows: Sequence[Row], earlier: VersionFolder | None) -> dict[str, Any]:
    """The primary metric of this version, the one before and the baselines, best first."""
    name = results.success.primary_metric
    bars = [bar(results.version, results.metrics.get(name), results.intervals.get(name), metric=name, kind="own")]
    if earlier and (before := results_of(earlier)):
        bars.append(bar(earlier.name, before.metrics.get(name), before.intervals.get(name), metric=name))
    for key, figures in results.baselines.items():
        interval = _baseline_interval(task, results, rows, key, name)
        bars.append(bar(words.baseline(key), figures.get(name), interval, metric=name))
    threshold = results.success.threshold
    return {
        "metric": words.metric(name),
        "bars": sorted(bars, key=lambda entry: -entry.at),
        "threshold": None if threshold is None else round(threshold * 100, 2),
        "threshold_text": words.figure(name, threshold),
    }


def _baseline_interval(
    task: Task, results: Results, rows: Sequence[Row], key: str, name: str
) -> metrics.Interval | None:
    answered = [row for row in rows if key in report_why.others(row)]
    if not answered or name not in results.baselines[key]:
        return None
    theirs = [{**row, "predicted": row["baselines"][key], "probabilities": None} for row in answered]
    answers = marked(task, results, theirs)
    # What is computed a sample at a time takes seconds each; one figure is shown.
    only = {name: answers.alone[name]} if name in answers.alone else {}
    return intervals.of(dataclasses.replace(answers, alone=only)).get(name)


def marked(task: Task, results: Results, rows: Sequence[Row]) -> Sheet:
    """The sheet of some answers to rows of this version's test."""
    labels = results.confusion_matrix.labels if results.confusion_matrix else list(results.per_class)
    gold, given, texts = (predictions.column(rows, name) for name in ("gold", "predicted", "input"))
    return sheet.of(results.kind, gold, given, labels=labels, language=task.language, texts=texts)


def bar(
    name: str, value: float | None, interval: Sequence[float] | None, *, metric: str = "", kind: str = "other"
) -> Bar:
    """A value on a scale from 0 to 100 %."""
    at = _clamped(value or 0)
    if interval is None:
        return Bar(name, words.figure(metric, value), at, kind=kind)
    low, high = (_clamped(edge) for edge in interval)
    return Bar(name, words.figure(metric, value), at, low, high, _interval(interval, metric), kind)


def _clamped(fraction: float) -> float:
    return round(min(max(fraction, 0), 1) * 100, 2)


def _interval(interval: Sequence[float] | None, metric: str = "") -> str:
    return "" if interval is None else " – ".join(words.figure(metric, edge) for edge in interval)


def _metrics(results: Results) -> list[Bar]:
    ranges = results.intervals
    return [bar(words.metric(name), value, ranges.get(name), metric=name) for name, value in results.metrics.items()]


def _classes(task: Task, results: Results, rows: Sequence[Row]) -> list[dict[str, Any]]:
    ranges = intervals.of_classes(marked(task, results, rows)) if results.per_class else {}
    return [
        {
            "bar": bar(shown.cut(label, 60), figures.f1, ranges.get(label)),
            "precision": words.percent(figures.precision),
            "recall": words.percent(figures.recall),
            "support": "–" if figures.support is None else figures.support,
        }
        for label, figures in results.per_class.items()
    ]


def confusion(matrix: ConfusionMatrix | None) -> dict[str, Any] | None:
    """The matrix with each cell's share of its row, which is what it is shaded by."""
    if matrix is None:
        return None
    rows = []
    for label, counts, own in zip(matrix.labels, matrix.counts, range(len(matrix.labels)), strict=True):
        total = sum(counts)
        cells = [
            {"count": count, "share": round(count / total, 3) if total else 0, "right": place == own}
            for place, count in enumerate(counts)
        ]
        rows.append({"label": label, "cells": cells, "total": total})
    return {"labels": matrix.labels, "rows": rows}


def _bins(results: Results) -> list[tuple[str, str, str]]:
    """The bins of the reliability plot, for those who cannot see it."""
    return [
        (words.percent(one.confidence), words.percent(one.accuracy), f"{one.rows:,}") for one in results.calibration
    ]


def _making(version: VersionFolder, results: Results) -> dict[str, Any]:
    made, taken = version.lineage(), version.snapshot()
    splits = taken.splits if taken else {}
    labels = list(dict.fromkeys(label for split in splits.values() for label in split.class_distribution))
    return {
        "lineage": [(words.setting(name), value) for name, value in _settings(version, results) if value],
        "changes": made.changes if made else [],
        "notes": made.notes if made else None,
        "environment": sorted(made.environment.items()) if made else [],
        "data_labels": labels,
        "data": [
            {"name": name, "rows": split.rows, "counts": [split.class_distribution.get(label, 0) for label in labels]}
            for name, split in splits.items()
        ],
        "config": yaml.dumps(version.config().dump()) if version.config_path.is_file() else "",
    }


def _settings(version: VersionFolder, results: Results) -> list[tuple[str, str]]:
    """Lines of “How it was made”; an empty value is left out."""
    made, info = version.lineage(), version.model_info()
    config = version.config()
    run = made.run if made else None
    rank = f"r {config.lora.r}, alpha {config.lora.alpha:g}" if config.lora else ""
    trained = f"{info.trainable_parameters:,} / {info.parameters:,}" if info else ""
    return [
        ("parent", (made.parent or "") if made else ""),
        ("created", results.created.strftime("%Y-%m-%d %H:%M %z")),
        ("base_model", config.base_model),
        ("method", f"{config.method}, {config.adapter}"),
        ("lora", rank),
        ("epochs", f"{config.epochs:g}"),
        ("learning_rate", f"{config.learning_rate:g}"),
        ("batch_size", f"{config.batch_size} × {config.gradient_accumulation}"),
        ("parameters", trained),
        ("train_time", words.duration(run.seconds) if run else ""),
        ("final_loss", f"{run.final_loss:.3f}" if run and run.final_loss is not None else ""),
        ("peak_memory", f"{run.peak_memory_gb:.1f} GB" if run and run.peak_memory_gb is not None else ""),
        ("place", (run.place or "") if run else ""),
        ("device", (run.device if run else None) or results.device or ""),
        ("gpu_hours", f"{run.gpu_hours:.2f}" if run and run.gpu_hours is not None else ""),
        ("cost", f"${run.cost_usd:,.2f}" if run and run.cost_usd is not None else ""),
        ("evaluation_time", words.duration(results.seconds)),
        *_asking(results),
        ("seed", str(config.seed)),
        ("test_hash", short(results.test_sha256)),
        ("source_hash", short(made.data.source_hash) if made and made.data else ""),
        ("base_hash", short(info.base_model_hash) if info else ""),
    ]


def _asking(results: Results) -> list[tuple[str, str]]:
    """How the answers were had."""
    asked = results.asked
    if asked is None:
        return []
    ways = {
        "likelihood": _("the probability of each label"),
        "constrained": _("text within the schema"),
        "free": _("text as it comes"),
    }
    drawn = asked.sampling
    sampling = "" if drawn is None else f"temperature {drawn.temperature:g}, top-p {drawn.top_p:g}, "
    sampling += "" if drawn is None else _("at most {tokens} tokens", tokens=drawn.max_new_tokens)
    return [
        ("way", ways[asked.way]),
        ("backend", f"{asked.backend} ({asked.model})"),
        ("sampling", sampling),
        ("label_threshold", words.percent(asked.threshold) if asked.threshold is not None else ""),
    ]


def short(name: str | None) -> str:
    """The first sixteen digits of a hash: enough to tell two apart by eye."""
    return name[: len("sha256:") + 16] + "…" if name and name.startswith("sha256:") else name or ""


def _commands(task: Task, version: VersionFolder) -> list[str]:
    steps = (f"regenerate {task.task_name}", f"train {task.task_name} --version {version.name} --again",
             f"evaluate {task.task_name} --version {version.name} --again")  # fmt: skip
    return [f"nlp-skills {step}" for step in steps]
