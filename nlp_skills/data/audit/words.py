"""What the audit's codes mean, in the language in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlp_skills.data import languages
from nlp_skills.i18n import _


def skipped(found: Mapping[str, Any]) -> str:
    """Why a check was left out; empty where it was not."""
    why = found.get("skipped")
    if not why:
        return ""
    known = {
        "not_classification": _("the task has no classes"),
        "one_class": _("the rows have one class only"),
        "too_few_rows": _("{rows} rows; at least {needed} are needed", rows=why.get("rows"), needed=why.get("needed")),
        "too_few_rows_in_classes": _("fewer than two classes have {needed} rows", needed=why.get("needed")),
        "no_entities": _("the task has no entities"),
        "nothing_marked": _("no entity is marked in any row"),
        "no_column": _("no raw row says who annotated it (--annotator COLUMN names the column)"),
        "one_annotator": _("there is one annotator only"),
        "nothing_shared": _("no input was annotated by two people"),
    }
    return known[why["code"]]


def kind(name: str) -> str:
    """A kind of personal data."""
    known = {
        "tw_id": _("Taiwan identity or resident number"),
        "mobile": _("mobile telephone"),
        "landline": _("telephone"),
        "email": _("e-mail address"),
        "card": _("card number"),
    }
    return known[name]


def searched(code: str) -> str:
    """How contradictions were searched for, where that says something; else empty."""
    known = {
        "rensa_missing": _("near-identical texts were not searched for: rensa is not installed"),
        "same": _("only identical inputs were compared"),
    }
    return known.get(code, "")


def label(value: str | list[str]) -> str:
    """One label or several."""
    return value if isinstance(value, str) else " + ".join(value) or "–"


def scripts(counts: Mapping[str, int]) -> str:
    """Shares of rows by script, on one line."""
    total = sum(counts.values())
    named = ((_("no letters") if name == "none" else languages.words(name), count) for name, count in counts.items())
    return ", ".join(f"{name} {percent(count / total)}" for name, count in named)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as people read it: 81.5%."""
    return "–" if fraction is None else f"{fraction * 100:.{digits}f}%"


def figure(value: float | None) -> str:
    """A coefficient with three digits."""
    return "–" if value is None else f"{value:.3f}"


def interval(edges: list[float] | None) -> str:
    """Both ends of an interval of coefficients."""
    return "" if edges is None else " – ".join(figure(edge) for edge in edges)


def agreement_rule() -> str:
    """What alpha is usually taken to mean."""
    return _("Krippendorff's own rule: rely on labels from 0.800, draw tentative conclusions from 0.667.")


def problems(found: Mapping[str, Any]) -> list[str]:
    """What was found, one sentence for each check that found something, the gravest first."""
    personal, conflicts, labels = found["pii"], found["conflicts"], found["label_errors"]
    bad = sum(split["bad"] for split in found["figures"]["splits"].values())
    alpha = found["agreement"].get("alpha")
    said = [
        _("Lines that are not good rows: {count}", count=bad) if bad else "",
        _("Pieces of personal data: {count}, in {rows} rows", count=personal["count"], rows=personal["rows"])
        if personal["count"]
        else "",
        _("Groups of the same or nearly the same text with different answers: {count}", count=conflicts["count"])
        if conflicts["count"]
        else "",
        _("Labels that look wrong: {count} of {rows}", count=labels["count"], rows=labels["rows"])
        if labels["count"]
        else "",
        _("Entities marked in more than one way: {count}", count=found["entities"]["count"])
        if found["entities"]["count"]
        else "",
        _("Annotators agree less than is usually asked for: alpha {alpha}", alpha=figure(alpha))
        if alpha is not None and alpha < 0.667
        else "",
    ]
    return [text for text in said if text]
