"""What the reports say, in the language in force."""

from __future__ import annotations

from nlp_skills.evaluation import baselines
from nlp_skills.i18n import _


def metric(name: str) -> str:
    """A metric's name for people; one we do not know keeps its own."""
    known = {
        "macro_f1": _("Macro-F1"),
        "accuracy": _("Accuracy"),
        "micro_f1": _("Micro-F1"),
        "weighted_f1": _("Weighted F1"),
        "balanced_accuracy": _("Balanced accuracy"),
        "mcc": _("MCC"),
        "valid_answer_probability": _("Answers with a label"),
    }
    return known.get(name, name)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as people read it: 81.5%."""
    return "–" if fraction is None else f"{fraction * 100:.{digits}f}%"


def figure(name: str, value: float | None) -> str:
    """A metric's value: a percentage, but a correlation as itself."""
    return percent(value) if name != "mcc" or value is None else f"{value:.3f}"


def baseline(name: str) -> str:
    """A baseline's name for people."""
    known = {
        baselines.MAJORITY: _("Always the commonest class"),
        baselines.TFIDF: _("TF-IDF and logistic regression"),
        baselines.BASE: _("Base model, untrained"),
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
    return shared() | {
        "kind": _("Evaluation"),
        "beside": _("Beside simpler means"),
        "beside_note": _("All of them answered the same test rows. The bar is the interval (95%)."),
        "threshold": _("Threshold"),
        "baseline": _("Given baseline"),
        "metrics": _("Metrics"),
        "metrics_note": _(
            "Intervals: Wilson for accuracy, bootstrap over test rows for the others. “Answers with a label” is how "
            "likely the model, left free to write, answers with exactly one of the labels."
        ),
        "classes": _("Classes"),
        "confusion": _("Where it goes wrong"),
        "confusion_note": _("Each row is a true class; each cell how many of its rows were answered so."),
        "errors": _("Most confident mistakes"),
        "errors_note": _("A confident mistake is often a wrong label: read these rows before changing the model."),
        "no_errors": _("Every test row was answered correctly."),
        "sure": _("Confidence"),
        "right_by": _("TF-IDF got it right"),
        "loss": _("Training"),
        "train_loss": _("training loss"),
        "valid_loss": _("validation loss"),
        "step": _("step"),
        "lineage": _("How it was made"),
        "data": _("Data"),
        "split": _("Split"),
        "rows": _("Rows"),
        "changes": _("What changed"),
        "notes": _("Notes"),
        "again": _("Make it again"),
        "again_note": _("In the folder that holds the task. The hashes say whether it is the same data and test."),
        "config": _("Configuration"),
    }


def comparison() -> dict[str, str]:
    """The page of two versions."""
    return shared() | {
        "kind": _("Comparison"),
        "difference": _("Difference"),
        "difference_note": _(
            "Macro-F1 of the later minus the earlier, in points, on the rows both answered. The bar is the interval."
        ),
        "metrics": _("Metrics"),
        "classes": _("F1 by class"),
        "settings": _("What differs in how they were made"),
        "no_settings": _("Nothing in the configuration or the row counts."),
        "fixed": _("Put right"),
        "broken": _("Broken"),
        "flips_note": _("Rows that only one of the two answered correctly."),
        "change": _("Change"),
        "tests": _("Tests"),
        "rows_shared": _("Test rows both answered"),
        "bootstrap_p": _("Macro-F1, paired bootstrap: p"),
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
        "evaluation_time": _("Evaluation time"),
        "seed": _("Seed"),
        "test_hash": _("Test split"),
        "source_hash": _("Data sources"),
        "base_hash": _("Base model hash"),
    }
    return known.get(name, name)
