"""What a version's report shows, gathered from its files; every value is ready to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import baselines, charts, judgement, metrics, significance, words
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import ConfusionMatrix, Results
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

ERRORS = 12
TEXT_LENGTH = 280


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


def cut(text: object, limit: int = TEXT_LENGTH) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


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


def context(folder: TaskFolder, version: VersionFolder, against: str | None) -> dict[str, Any]:
    """Everything templates/report.html.j2 prints."""
    task, results = folder.task(), results_of(version)
    predictions = significance.load(version.predictions_path)
    earlier = _earlier(folder, version, against)
    return {
        "task": task,
        "version": version.name,
        "verdict": verdict(results, predictions, earlier),
        "beside": _beside(results, predictions, earlier),
        "metrics": _metrics(results),
        "classes": _classes(results),
        "confusion": confusion(results.confusion_matrix),
        "errors": errors(predictions),
        "curve": charts.loss_curve(version.metrics_path),
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


def verdict(
    results: Results, predictions: Sequence[Mapping[str, Any]], earlier: VersionFolder | None
) -> dict[str, Any]:
    """The block on top: a headline, the figure, and what else must be known before deciding."""
    success = results.success
    name = success.primary_metric
    sentences = [text for text in [judgement.beside_baseline(results, predictions)] if text]
    if earlier:
        compared = significance.compare_rows(significance.load(earlier.predictions_path), predictions, metric=name)
        sentences.append(significance.sentence(compared, earlier.name, results.version))
    state = {"met": "good", "not_met": "bad"}.get(success.verdict or "", "open")
    return {
        "state": "doubt" if state == "good" and judgement.beaten_by(results) else state,
        "headline": judgement.headline(results),
        "metric": words.metric(name),
        "value": words.figure(name, success.value),
        "interval": _interval(results.intervals.get(name), name),
        "criteria": judgement.criteria(results),
        "warnings": judgement.warnings(results),
        "sentences": sentences,
        "rows": _("{rows} test rows", rows=results.test_rows),
    }


def _others(row: Mapping[str, Any]) -> Mapping[str, str]:
    found = row.get("baselines")
    return found if isinstance(found, dict) else {}


def _beside(
    results: Results, predictions: Sequence[Mapping[str, Any]], earlier: VersionFolder | None
) -> dict[str, Any]:
    """The primary metric of this version, the one before and the baselines, best first."""
    name = results.success.primary_metric
    bars = [bar(results.version, results.metrics.get(name), results.intervals.get(name), metric=name, kind="own")]
    if earlier and (before := results_of(earlier)):
        bars.append(bar(earlier.name, before.metrics.get(name), before.intervals.get(name), metric=name))
    for key, figures in results.baselines.items():
        interval = _baseline_interval(results, predictions, key, name)
        bars.append(bar(words.baseline(key), figures.get(name), interval, metric=name))
    threshold = results.success.threshold
    return {
        "metric": words.metric(name),
        "bars": sorted(bars, key=lambda entry: -entry.at),
        "threshold": None if threshold is None else round(threshold * 100, 2),
        "threshold_text": words.figure(name, threshold),
    }


def _baseline_interval(
    results: Results, predictions: Sequence[Mapping[str, Any]], key: str, name: str
) -> metrics.Interval | None:
    rows = [row for row in predictions if key in _others(row)]
    if not rows or results.confusion_matrix is None:
        return None
    given = [row["baselines"][key] for row in rows]
    matrix = metrics.confusion([row["gold"] for row in rows], given, results.confusion_matrix.labels)
    return metrics.intervals(matrix).get(name)


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


def _classes(results: Results) -> list[dict[str, Any]]:
    matrix = results.confusion_matrix
    ranges = metrics.class_intervals(matrix) if matrix else {}
    return [
        {
            "bar": bar(label, figures.f1, ranges.get(label)),
            "precision": words.percent(figures.precision),
            "recall": words.percent(figures.recall),
            "support": figures.support,
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


def errors(predictions: Sequence[Mapping[str, Any]], limit: int = ERRORS) -> dict[str, Any]:
    """Wrong answers, the most confident first."""
    wrong = [row for row in predictions if row["gold"] != row["predicted"]]
    wrong.sort(key=lambda row: -confidence(row))
    shown = [
        {
            "text": row_text(row),
            "gold": row["gold"],
            "predicted": row["predicted"],
            "sure": words.percent(confidence(row), 0),
            "tfidf_right": _others(row).get(baselines.TFIDF) == row["gold"],
        }
        for row in wrong[:limit]
    ]
    return {"shown": shown, "count": _("{shown} of {total} mistakes", shown=len(shown), total=len(wrong))}


def confidence(row: Mapping[str, Any]) -> float:
    """The share of the answer among all labels; 0 where it was not kept."""
    shares = row.get("probabilities")
    return float(shares.get(row["predicted"], 0)) if isinstance(shares, dict) else 0.0


def row_text(row: Mapping[str, Any]) -> str:
    """A row's input on one line; several fields are named."""
    fields = row.get("input")
    if not isinstance(fields, dict):
        return ""
    if len(fields) == 1:
        return cut(next(iter(fields.values())))
    return cut("; ".join(f"{name}: {value}" for name, value in fields.items()))


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
        ("train_time", duration(run.seconds) if run else ""),
        ("final_loss", f"{run.final_loss:.3f}" if run and run.final_loss is not None else ""),
        ("peak_memory", f"{run.peak_memory_gb:.1f} GB" if run and run.peak_memory_gb is not None else ""),
        ("device", (run.device if run else None) or results.device or ""),
        ("evaluation_time", duration(results.seconds)),
        ("seed", str(config.seed)),
        ("test_hash", short(results.test_sha256)),
        ("source_hash", short(made.data.source_hash) if made and made.data else ""),
        ("base_hash", short(info.base_model_hash) if info else ""),
    ]


def short(name: str | None) -> str:
    """The first sixteen digits of a hash: enough to tell two apart by eye."""
    return name[: len("sha256:") + 16] + "…" if name and name.startswith("sha256:") else name or ""


def duration(seconds: float | None) -> str:
    """1 h 02 min, 3 min 20 s, 45 s."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _commands(task: Task, version: VersionFolder) -> list[str]:
    steps = (f"regenerate {task.task_name}", f"train {task.task_name} --version {version.name} --again",
             f"evaluate {task.task_name} --version {version.name} --again")  # fmt: skip
    return [f"nlp-skills {step}" for step in steps]
