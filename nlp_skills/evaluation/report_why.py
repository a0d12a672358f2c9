"""The part of a report that says why: what is confused, where it is worse, which rows to read, what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.evaluation import baselines, shown, significance, words
from nlp_skills.evaluation.shown import cut
from nlp_skills.evaluation.why import words as sayings
from nlp_skills.evaluation.why.findings import Analysis, Confusion, Doubt, Error, Neighbour, Slice
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind

ERRORS = 12
CONFUSIONS = 10
SLICES = 14
DOUBTS = 8
NEIGHBOURS = 2
FINDINGS = 6

Row = Mapping[str, Any]


def context(kind: Kind, rows: Sequence[Row], found: Analysis | None) -> dict[str, Any]:
    """What the sections on errors print; of a version that was not analysed, its mistakes alone."""
    return {
        "errors": _errors(kind, rows, found),
        "confusions": [_confusion(one) for one in found.confusions[:CONFUSIONS]] if found else [],
        "slices": _slices(found) if found else None,
        "doubts": _doubts(found.doubts) if found else None,
        "notes": [cut(note) for note in found.notes] if found else [],
    }


def others(row: Row) -> Mapping[str, Any]:
    """What the baselines answered to a row, by name."""
    found = row.get("baselines")
    return found if isinstance(found, dict) else {}


def _errors(kind: Kind, rows: Sequence[Row], found: Analysis | None) -> dict[str, Any]:
    by_key = {row["key"]: row for row in rows}
    chosen: list[tuple[Row, Error | None]]
    if found:
        chosen = [(by_key[error.key], error) for error in found.errors if error.key in by_key]
    else:
        wrong = sorted((row for row in rows if not significance.right(row)), key=lambda row: -shown.confidence(row))
        chosen = [(row, None) for row in wrong]
    examples = [_example(kind, row, error) for row, error in chosen[:ERRORS]]
    return {"shown": examples, "count": _("{shown} of {total} mistakes", shown=len(examples), total=len(chosen))}


def _example(kind: Kind, row: Row, error: Error | None) -> dict[str, Any]:
    """A row that was answered wrongly, by what its kind of answer takes to be seen."""
    unread = row["predicted"] is None
    marked = shown.marked(row) if kind == "spans" else None
    return {
        "text": shown.row_text(row),
        "gold": shown.line(kind, row["gold"]),
        "predicted": shown.line(kind, row["predicted"]),
        "raw": cut(row["raw"]) if unread and isinstance(row.get("raw"), str) else "",
        "sure": shown.sure(row),
        "tags": _tags(row, error),
        "marked": marked,
        "fields": shown.fields(row) if kind == "fields" else [],
        "line": error.line if error else None,
        "neighbours": [_neighbour(kind, one) for one in error.neighbours[:NEIGHBOURS]] if error else [],
    }


def _tags(row: Row, error: Error | None) -> list[str]:
    # Sure and wrong is what stands beside each of them as a figure.
    found = [sayings.mark(mark) for mark in error.marks if mark != "confident"] if error else []
    if others(row).get(baselines.TFIDF) == row["gold"]:
        found.append(_("TF-IDF got it right"))
    return found


def _neighbour(kind: Kind, one: Neighbour) -> dict[str, str]:
    where = _("line {line} of train", line=one.line)
    return {"where": where, "text": cut(one.text), "answer": shown.line(kind, one.answer, 120),
            "alike": words.percent(one.similarity, 0)}  # fmt: skip


def _confusion(one: Confusion) -> dict[str, str]:
    nothing = "–"
    return {
        "gold": nothing if one.gold is None else cut(one.gold, 60),
        "predicted": nothing if one.predicted is None else cut(one.predicted, 60),
        "fault": sayings.fault(one),
        "count": f"{one.count:,}",
        "share": words.percent(one.share, 0),
        "cost": f"{one.cost:,.4g}",
    }


def _slices(found: Analysis) -> dict[str, Any] | None:
    """The slices, those that are worse first; what is too small to say anything is counted."""
    if not found.slices and not found.small:
        return None
    worse = [one for one in found.slices if one.worse]
    ranked = worse + [one for one in found.slices if not one.worse]
    left_out = len(ranked) - SLICES
    notes = []
    if found.slices and not worse:
        notes.append(_("No slice is significantly worse than the other rows."))
    if left_out > 0:
        notes.append(_("Slices not shown: {count}.", count=left_out))
    if found.small:
        notes.append(_("Slices with too few rows to tell: {count}.", count=len(found.small)))
    # Of the rows of one class there is no macro-F1: what is measured there stands beside the others.
    names = dict.fromkeys(words.metric(one.metric) for one in ranked[:SLICES])
    return {"rows": [_slice(one) for one in ranked[:SLICES]], "notes": notes, "metric": " / ".join(names)}


def _slice(one: Slice) -> dict[str, Any]:
    interval = one.interval or (one.value, one.value)
    low, high = (round(min(max(edge, 0), 1) * 100, 2) for edge in interval)
    return {
        "name": sayings.part(one),
        "rows": f"{one.rows:,}",
        "wrong": f"{one.wrong:,}",
        "bar": {
            "value": words.figure(one.metric, one.value),
            "at": round(min(max(one.value, 0), 1) * 100, 2),
            "low": low,
            "high": high,
            "interval": " – ".join(words.figure(one.metric, edge) for edge in interval) if one.interval else "",
        },
        "p": "< 0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}",
        "worse": one.worse,
    }


def _doubts(doubts: Sequence[Doubt]) -> dict[str, Any] | None:
    if not doubts:
        return None
    listed = [
        {"line": one.line, "text": cut(one.text), "gold": cut(one.gold, 60), "suggested": cut(one.suggested, 60),
         "doubt": words.percent(one.doubt, 0)}
        for one in doubts[:DOUBTS]
    ]  # fmt: skip
    return {"rows": listed, "count": _("{shown} of {total} rows", shown=len(listed), total=len(doubts))}


def findings(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a diagnosis found, the gravest first, with its evidence and the change it proposes.

    `found` are findings as plain data, as `diagnose --json` prints them.
    """
    severities = {"critical": _("critical"), "warning": _("warning"), "note": _("note")}
    return [
        {
            "title": cut(one["title"]),
            "severity": severities[one["severity"]],
            "grave": one["severity"] == "critical",
            "evidence": [_evidence(entry) for entry in one["evidence"]],
            "change": cut((one.get("change") or {}).get("text", "")),
            "commands": [cut(line, 2000) for line in (one.get("change") or {}).get("commands", ())],
            "effect": cut(one.get("effect") or ""),
            "effort": _effort(one.get("effort") or {}),
        }
        for one in found[:FINDINGS]
    ]


def _evidence(entry: Mapping[str, Any]) -> dict[str, str]:
    """What was seen, and where."""
    where = entry.get("file") or ""
    if where and entry.get("rows"):
        where = f"{where}:{entry['rows'][0]}"
    return {"text": cut(entry["text"], 600), "where": cut(where)}


def _effort(effort: Mapping[str, Any]) -> str:
    parts = []
    if seconds := effort.get("training_seconds"):
        parts.append(_("training: {time}", time=words.duration(seconds)))
    if rows := effort.get("label_rows"):
        parts.append(_("rows to label: {rows}", rows=rows))
    return ", ".join(parts)
