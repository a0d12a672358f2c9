"""What the reports say, in the language in force."""

from __future__ import annotations

import json
from typing import Any

from nlp_skills.evaluation import baselines
from nlp_skills.i18n import _

_NO_PERCENTAGES = ("mcc", "brier", "roc_auc", "average_precision")


def metric(name: str) -> str:
    """A metric's name for people; one we do not know keeps its own."""
    known = {
        "macro_f1": _("Macro-F1"),
        "accuracy": _("Accuracy"),
        "micro_f1": _("Micro-F1"),
        "weighted_f1": _("Weighted F1"),
        "balanced_accuracy": _("Balanced accuracy"),
        "mcc": _("MCC"),
        "ece": _("Calibration error"),
        "brier": _("Brier score"),
        "roc_auc": _("ROC area"),
        "average_precision": _("Average precision"),
        "entity_f1": _("Entity F1"),
        "entity_precision": _("Entity precision"),
        "entity_recall": _("Entity recall"),
        "entity_f1_boundary": _("F1 by boundary"),
        "entity_f1_type": _("F1 by type"),
        "entity_f1_partial": _("F1, partial"),
        "relation_f1": _("Relation F1"),
        "relation_precision": _("Relation precision"),
        "relation_recall": _("Relation recall"),
        "field_f1": _("Field F1"),
        "exact_match": _("Exact match"),
        "chrf": "chrF",
        "bleu": "BLEU",
        "rouge1": "ROUGE-1",
        "rouge2": "ROUGE-2",
        "rougeL": "ROUGE-L",
        "parse_rate": _("Answers that could be read"),
        "parse_rate_unconstrained": _("Answers that could be read, left free"),
        "cut_rate": _("Answers cut off"),
        "valid_answer_probability": _("Answers with a label"),
        "judge_win_rate": _("Won before the judge"),
        "judge_agreement": _("Judge agrees with itself"),
    }
    return known.get(name, plain(name))


def figure_name(name: str) -> str:
    """A line of figures: a metric, or a class with its F1, which is data and shown as such."""
    label = name.removesuffix(" F1")
    return metric(name) if label == name else f"{plain(label)} F1"


def key(name: str) -> str:
    """A configuration key as the comparison has it: LoRA r, epochs, train_count."""
    return name.replace("lora.", "LoRA ", 1) if name.startswith("lora.") else name


def value(given: Any, limit: int = 48) -> str:
    """A setting's value as people write it: 1e-5, 0.05, 8; text on one line, cut."""
    if given is None:
        return "-"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float):
        return _number(given)
    text = plain(given if isinstance(given, str) else json.dumps(given, ensure_ascii=False))
    if text.startswith("sha256:"):
        text = text[: len("sha256:") + 8] + "…"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _number(given: float) -> str:
    if 0 < abs(given) < 0.01:
        mantissa, _e, exponent = f"{given:.6e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{given:.15g}"


def relative(fraction: float | None) -> str:
    """A change in percent of what it was: +100%, -25%, +0.3%; empty where there is none."""
    if fraction is None:
        return ""
    if not fraction:
        return "0%"
    whole = f"{fraction * 100:+.0f}%"
    return whole if whole.lstrip("+-") != "0%" else f"{fraction * 100:+.2g}%"


def short_figure(name: str, given: float | None) -> str:
    """A figure in a table of the terminal: metrics with a decimal, a class's F1 with one where it has one."""
    if given is None:
        return "-"
    text = figure(name, given)
    return text.replace(".0%", "%") if name.endswith(" F1") else text


def short_change(name: str, given: float | None) -> str:
    """The change of a figure from the first version to the last: +9.5%, in points."""
    if given is None:
        return ""
    if name in _NO_PERCENTAGES:
        return f"{given:+.3f}"
    text = f"{given * 100:+.1f}%"
    text = text if text not in ("+0.0%", "-0.0%") else "0.0%"
    return text.replace(".0%", "%") if name.endswith(" F1") else text


def clipped(text: str, width: int) -> str:
    """A line in so many columns of a terminal, of which a Chinese character takes two."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def plain(text: object) -> str:
    """Text from data on one line of a terminal: what does not print is escaped, so that it moves no cursor."""
    line = " ".join(str(text).split())
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as people read it: 81.5%."""
    return "–" if fraction is None else f"{fraction * 100:.{digits}f}%"


def figure(name: str, value: float | None) -> str:
    """A metric's value: a percentage, but a correlation, an area or a squared error as itself."""
    return percent(value) if name not in _NO_PERCENTAGES or value is None else f"{value:.3f}"


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


def baseline(name: str) -> str:
    """A baseline's name for people."""
    known = {
        baselines.MAJORITY: _("Always the commonest class"),
        baselines.TFIDF: _("TF-IDF and logistic regression"),
        baselines.NEAREST: _("Answer of the most similar training row"),
        baselines.GAZETTEER: _("Entities that train names, found again"),
        baselines.RULES: _("Rules"),
        baselines.BASE: _("Base model, untrained"),
        baselines.FEW_SHOT: _("Base model, untrained, shown examples"),
        baselines.ENDPOINT: _("Endpoint"),
    }
    return known.get(name, name)


def shared() -> dict[str, str]:
    """Headings and labels that both pages use."""
    return {
        "metric": _("Metric"),
        "class": _("Class"),
        "interval": _("Interval (95%)"),
        "precision": _("Precision"),
        "recall": _("Recall"),
        "support": _("Rows"),
        "true": _("True"),
        "answered": _("Answered"),
        "text": _("Text"),
        "none": _("none"),
        "setting": _("Setting"),
        "made": _("Made with nlp-skills {version}. This page loads nothing from elsewhere."),
    }


def report() -> dict[str, str]:
    """The page of one version."""
    return (
        shared()
        | _reasons()
        | {
            "kind": _("Evaluation"),
            "contents": _("Contents"),
            "criteria": _("Success criteria"),
            "criterion": _("Criterion"),
            "value": _("Value"),
            "least": _("At least"),
            "verdict": _("Verdict"),
            "rows_needed": _("Rows that would settle it"),
            "beside": _("Beside simpler means"),
            "beside_note": _("All of them answered the same test rows. The bar is the interval (95%)."),
            "threshold": _("Threshold"),
            "baseline": _("Given baseline"),
            "metrics": _("Metrics"),
            "metrics_note": _("Intervals: Wilson for shares of rows, bootstrap over test rows for the others."),
            "valid_note": _(
                "“Answers with a label” is how likely the model, left free to write, answers with exactly one of the "
                "labels."
            ),
            "classes": _("Classes"),
            "types": _("Types"),
            "type": _("Type"),
            "shares": _("How far to trust its probabilities"),
            "shares_note": _("From the probability of each answer on the test rows."),
            "bins": _("The points of the calibration plot"),
            "bin_sure": _("Confidence"),
            "bin_right": _("Right"),
            "loss": _("Training"),
            "train_loss": _("training loss"),
            "valid_loss": _("validation loss"),
            "step": _("step"),
            "lineage": _("How it was made"),
            "data": _("Data"),
            "split": _("Split"),
            "changes": _("What changed"),
            "notes": _("Notes"),
            "again": _("Make it again"),
            "again_note": _("In the folder that holds the task. The hashes say whether it is the same data and test."),
            "config": _("Configuration"),
        }
    )


def _reasons() -> dict[str, str]:
    """The sections of a report that say why."""
    return {
        "findings": _("What to do next"),
        "findings_note": _(
            "Found in the curves, the data, the configuration and the errors; the likeliest cause first."
        ),
        "effect": _("Expected effect"),
        "effort": _("Effort"),
        "change": _("Change"),
        "confusion": _("Where it goes wrong"),
        "confusion_note": _("Each row is a true class; each cell how many of its rows were answered so."),
        "costs": _("What it costs"),
        "costs_note": _("By how bad a mistake is (1 where task.yaml says nothing) times how often it was made."),
        "fault": _("What happened"),
        "times": _("Times"),
        "share": _("Of all"),
        "cost": _("Cost"),
        "slices": _("Where it is worse"),
        "slices_note": _(
            "Parts of the test rows, the worst first. A part is called worse where the difference to all other rows "
            "would be odd if there were none: p by Holm's correction under 0.05."
        ),
        "slice": _("Rows with"),
        "worse": _("worse"),
        "wrong": _("Wrong"),
        "holm_p": _("Holm's p"),
        "errors": _("Mistakes"),
        "confident_note": _(
            "The most confident first. A confident mistake is often a wrong label: read these rows before changing the "
            "model."
        ),
        "examples_note": _("Those that matter most first."),
        "no_errors": _("Every test row was answered correctly."),
        "sure": _("Confidence"),
        "field": _("Property"),
        "missed": _("missed"),
        "not_so": _("wrong"),
        "unread": _("It said:"),
        "near": _("Training rows like it"),
        "alike": _("similarity"),
        "test_line": _("test line"),
        "doubts": _("Test labels that look wrong"),
        "doubts_note": _("The version and a linear model over words agree on another label. Check these by hand."),
        "labelled": _("Label"),
        "rather": _("Rather"),
        "doubt": _("Doubt"),
        "rows": _("Rows"),
    }


def dashboard() -> dict[str, str]:
    """The page over all tasks."""
    return shared() | {
        "kind": _("Overview"),
        "overview": _("Tasks"),
        "overview_note": _(
            "The version is the active one, with the metric that decides in its task and the interval (95%). The line "
            "is that metric from version to version. Best is the highest on the same test rows, where it is another "
            "version. A version with a link has a report."
        ),
        "look": _("Look for"),
        "task": _("Task"),
        "state": _("State"),
        "version": _("Version"),
        "verdict": _("Verdict"),
        "course": _("Course"),
        "best": _("Best"),
        "versions": _("Versions"),
        "updated": _("Updated"),
        "dead": _("dead"),
        "no_tasks": _("There are no tasks in this folder."),
        "broken": _("Tasks that cannot be read"),
    }


def comparison() -> dict[str, str]:
    """The page of several versions."""
    return shared() | {
        "kind": _("Comparison"),
        "difference": _("Difference"),
        "difference_note": _(
            "{metric} of the later minus the earlier on the test rows both answered. The bar is the interval (95%)."
        ),
        "metrics": _("Metrics"),
        "figures_note": _(
            "Each on its own test rows, with its interval (95%); the change is from the first to the last."
        ),
        "classes": _("F1 by class"),
        "classes_note": _("The line across a bar is the interval (95%)."),
        "loss": _("Training"),
        "loss_note": _("The figure beside a name is the last of its curve."),
        "settings": _("What differs in how they were made"),
        "no_settings": _("Nothing in the configuration or the row counts."),
        "fixed": _("Put right"),
        "broken": _("Broken"),
        "flips_note": _("Rows that only one of the two answered correctly."),
        "change": _("Change"),
        "tests": _("Tests"),
        "tests_note": _(
            "On the rows both answered. p is that of the exact McNemar test where accuracy decides, else of the paired "
            "bootstrap; a difference is called real where Holm's p is under 0.05."
        ),
        "pair": _("Versions"),
        "rows_shared": _("Test rows both answered"),
        "holm_p": _("Holm's p"),
        "mcnemar_p": _("Accuracy, exact McNemar test: p"),
        "visible": _("Smallest difference these rows would show"),
    }


def setting(name: str) -> str:
    """A line of “How it was made”."""
    known = {
        "parent": _("Parent"),
        "created": _("Evaluated"),
        "base_model": _("Base model"),
        "method": _("Method"),
        "lora": _("LoRA"),
        "epochs": _("Epochs"),
        "learning_rate": _("Learning rate"),
        "batch_size": _("Batch size"),
        "parameters": _("Trained parameters"),
        "train_time": _("Training time"),
        "final_loss": _("Final training loss"),
        "peak_memory": _("Peak memory"),
        "device": _("Device"),
        "place": _("Trained on"),
        "gpu_hours": _("GPU hours"),
        "cost": _("Cost of training"),
        "evaluation_time": _("Evaluation time"),
        "way": _("Asked for"),
        "backend": _("Backend"),
        "sampling": _("Sampling"),
        "label_threshold": _("Label threshold"),
        "seed": _("Seed"),
        "test_hash": _("Test split"),
        "source_hash": _("Data sources"),
        "base_hash": _("Base model hash"),
    }
    return known.get(name, name)
