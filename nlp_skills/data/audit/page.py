"""docs/data_report.html: the audit to look at. Every value is ready to print; the template draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills import pages
from nlp_skills.charts import Tick, axis
from nlp_skills.data.audit import words
from nlp_skills.i18n import _
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace.folder import TaskFolder

SHOWN = 25
# More classes than this make a matrix nobody can read.
_MOST_CLASSES = 20


def html(folder: TaskFolder, found: Mapping[str, Any]) -> str:
    """The page, whole."""
    return pages.render(Path(__file__).parent / "templates", "data_report.html.j2", _texts(), context(folder, found))


def context(folder: TaskFolder, found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything templates/data_report.html.j2 prints."""
    figures = found["figures"]
    return {
        "task": folder.task(),
        "when": found["created"][:16].replace("T", " "),
        "summary": _summary(found),
        "classes": _classes(figures["splits"]),
        "totals": _totals(figures["splits"]),
        "lengths": _lengths(figures["lengths"], figures["splits"]),
        "labels": _labels(found["label_errors"]),
        "conflicts": _conflicts(found["conflicts"]),
        "pii": _pii(found["pii"]),
        "entities": _entities(found["entities"]),
        "agreement": _agreement(found["agreement"]),
        "facts": _facts(figures),
        "place": place,
    }


def place(entry: Mapping[str, Any]) -> str:
    """`data/train.jsonl:12`."""
    return f"{entry['file']}:{entry['line']}"


def _summary(found: Mapping[str, Any]) -> dict[str, Any]:
    problems = words.problems(found)
    rows = sum(split["rows"] for split in found["figures"]["splits"].values())
    headline = _("Look at these before training") if problems else _("The checks found nothing")
    state = "doubt" if problems else "open"
    return {"state": state, "headline": headline, "value": f"{rows:,}", "problems": problems}


def _totals(splits: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "rows": part["rows"], "augmented": sum(part["augmented"].values()), "chars": part["chars"]}
        for name, part in splits.items()
    ]


def _classes(splits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each class its count and its share of the rows in each split; bars are to the scale of the largest share."""
    names = list(splits["train"]["distribution"])

    def share(name: str, label: str) -> float:
        return float(splits[name]["distribution"][label] / (splits[name]["rows"] or 1))

    most = max((share(name, label) for name in SPLITS for label in names), default=0) or 1
    return [
        {
            "name": label,
            "parts": [
                {
                    "split": name,
                    "count": splits[name]["distribution"][label],
                    "share": words.percent(share(name, label)),
                    "width": round(100 * share(name, label) / most, 2),
                }
                for name in SPLITS
            ],
        }
        for label in names
    ]


def _lengths(histogram: Mapping[str, Any], splits: Mapping[str, Any]) -> dict[str, Any]:
    """For each split the shares of its rows by length, as columns of a 100 by 100 box; one scale for all."""
    width, steps = histogram["width"], len(histogram["counts"]["train"])
    shares = {
        name: [count / (splits[name]["rows"] or 1) for count in counts] for name, counts in histogram["counts"].items()
    }
    high = max((value for values in shares.values() for value in values), default=0) or 1
    over = any(counts[-1] for counts in histogram["counts"].values())
    shown = steps if over else steps - 1
    ticks = [Tick(100 * value / (width * shown), f"{value:g}") for value in axis(0, width * (steps - 1))]
    return {
        "panels": [
            {
                "name": name,
                "rows": splits[name]["rows"],
                "columns": [
                    {"x": round(100 * at / shown, 3), "y": round(100 - 100 * value / high, 3),
                     "w": round(100 / shown * 0.86, 3), "h": round(100 * value / high, 3)}
                    for at, value in enumerate(values[:shown]) if value
                ],
            }
            for name, values in shares.items() if splits[name]["rows"]
        ],
        "ticks": [tick for tick in ticks if tick.at <= 100 * (steps - 1) / shown],
        "above": _("{length} and more", length=histogram["above"]) if over else "",
        "highest": words.percent(high),
    }  # fmt: skip


def _of(shown: int, count: int) -> str:
    return _("{shown} of {total}", shown=shown, total=count)


def _labels(found: Mapping[str, Any]) -> dict[str, Any]:
    if found.get("skipped"):
        return {"skipped": words.skipped(found), "rows": []}
    shown = found["found"][:SHOWN]
    return {
        "skipped": "",
        "count": _of(len(shown), found["count"]),
        "accuracy": _("The judging model, which never saw the row it judges, is right on {share} of {rows} rows.",
                      share=words.percent(found["fold_accuracy"]), rows=found["rows"]),
        "unreliable": not found["reliable"],
        "rows": [
            {**entry, "place": place(entry), "given": words.label(entry["given"]),
             "suggested": words.label(entry["suggested"]), "sure": words.percent(entry["confidence"], 0)}
            for entry in shown
        ],
        "matrix": _matrix(found["confusion"]),
    }  # fmt: skip


def _matrix(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Given labels down, suggested ones across, each cell shaded by its share of all suspicions."""
    names = sorted({pair[side] for pair in pairs for side in ("given", "suggested")})
    if not names or len(names) > _MOST_CLASSES:
        return None
    counts = {(pair["given"], pair["suggested"]): pair["count"] for pair in pairs}
    most = max(counts.values())
    rows = [
        {
            "label": given,
            "cells": [
                {"count": counts.get((given, other), 0), "shade": round(counts.get((given, other), 0) / most, 3)}
                for other in names
            ],
        }
        for given in names
    ]
    return {"labels": names, "rows": rows}


def _conflicts(found: Mapping[str, Any]) -> dict[str, Any]:
    groups = found["found"][: SHOWN // 2]
    note = words.searched(found["searched"]) or _(
        "Texts whose character 3-grams agree from a Jaccard similarity of {near:g} count as nearly the same.",
        near=found["threshold"],
    )
    return {"note": note, "count": _of(len(groups), found["count"]), "groups": groups}


def _pii(found: Mapping[str, Any]) -> dict[str, Any]:
    places = found["places"][:SHOWN]
    return {
        "kinds": [(words.kind(name), count) for name, count in found["kinds"].items()],
        "total": found["count"],
        "count": _of(len(places), found["count"]),
        "places": [{**entry, "place": place(entry), "kind": words.kind(entry["kind"])} for entry in places],
    }


def _entities(found: Mapping[str, Any]) -> dict[str, Any]:
    if found.get("skipped"):
        return {"skipped": words.skipped(found)}
    return {
        "skipped": "",
        "several_types": found["several_types"][:SHOWN],
        "forgotten": [{**entry, "share": words.percent(entry["share"], 0)} for entry in found["forgotten"][:SHOWN]],
        "ends": found["ends"][:SHOWN],
        "forgotten_note": _(
            "Marked in at least {rows} rows and in {share} of the rows where they stand, but not in these.",
            rows=found["fewest_marked"],
            share=words.percent(found["least_share"], 0),
        ),
    }


def _agreement(found: Mapping[str, Any]) -> dict[str, Any]:
    """Alpha, the pairs as a matrix, and the rows most argued over."""
    annotators = found.get("annotators", [])
    shown = {
        "skipped": words.skipped(found),
        "annotators": [{**entry, "with_majority": words.percent(entry["with_majority"])} for entry in annotators],
    }
    if found.get("skipped"):
        return shown
    names = [entry["name"] for entry in annotators]
    return {
        **shown,
        "alpha": words.figure(found["alpha"]),
        "interval": words.interval(found["interval"]),
        "each": [
            (label, words.figure(part["alpha"]), words.interval(part["interval"]))
            for label, part in found.get("labels", {}).items()
        ],
        "rule": words.agreement_rule(),
        "shared": _("Inputs that two or more people annotated: {count} of {total}", count=found["shared"],
                    total=found["units"]),
        "names": names if len(names) <= _MOST_CLASSES else [],
        "matrix": _kappas(found["pairs"], names),
        "disputed": [{**entry, "place": place(entry)} for entry in found["disputed"][: SHOWN // 2]],
    }  # fmt: skip


def _kappas(pairs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    known = {}
    for pair in pairs:
        one, other = pair["annotators"]
        known[one, other] = known[other, one] = pair
    return [
        {"name": one, "cells": [_kappa(known.get((one, other))) for other in names]}
        for one in names
    ]  # fmt: skip


def _kappa(pair: Mapping[str, Any] | None) -> dict[str, Any]:
    if pair is None:
        return {"value": "", "rows": "", "shade": 0}
    kappa = pair["kappa"]
    shade = round(min(max(kappa or 0, 0), 1), 3)
    return {"value": words.figure(kappa), "rows": pair["rows"], "shade": shade}


def _facts(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    sources: dict[str, int] = {}
    methods: dict[str, int] = {}
    for part in figures["splits"].values():
        for total, counts in ((sources, part["sources"]), (methods, part["augmented"])):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
    rows = sum(sources.values())
    named = [f"{name or '–'} {count:,} ({words.percent(count / rows)})" for name, count in sources.items()]
    facts = [
        (_("Sources"), ", ".join(named)),
        (_("Rows by script"), words.scripts(figures["scripts"])),
    ]
    if methods:
        facts.append((_("Augmented rows"), ", ".join(f"{name} {count:,}" for name, count in methods.items())))
    dropped = figures["dropped"]
    if dropped is not None:
        reasons = ", ".join(f"{why} {count:,}" for why, count in dropped["reasons"].items() if why)
        facts.append((_("Dropped as duplicates"), f"{dropped['rows']:,}{f' ({reasons})' if reasons else ''}"))
    return facts


def _texts() -> dict[str, str]:
    return {
        "kind": _("Data report"),
        "made": _("Made with nlp-skills {version}. This page loads nothing from elsewhere."),
        "rows": _("Rows"),
        "good_rows": _("good rows in train, valid and test"),
        "classes": _("Classes"),
        "classes_note": _(
            "The share of each class in each split; a class that is rare is learnt badly and measured badly."
        ),
        "class": _("Class"),
        "split": _("Split"),
        "augmented": _("of them augmented"),
        "lengths": _("Lengths"),
        "lengths_note": _("Characters of a row's input. All splits have one scale; the highest column is {share}."),
        "median": _("median"),
        "longest": _("longest"),
        "shortest": _("shortest"),
        "p95": _("95th percentile"),
        "labels": _("Labels that look wrong"),
        "labels_note": _("Read them, correct them where they come from, regenerate. Some will be right as they are."),
        "unreliable": _("The judging model hardly knows these labels: its suspicions say little."),
        "confusion": _("Given and suggested"),
        "confusion_note": _("How often the label on the left was given where the one on top is suggested."),
        "given": _("Given"),
        "suggested": _("Suggested"),
        "sure": _("Confidence"),
        "text": _("Text"),
        "place": _("Place"),
        "conflicts": _("The same text, different answers"),
        "answer": _("Answer"),
        "none": _("None found."),
        "pii": _("Personal data"),
        "pii_note": _(
            "Found by form and checksum; names and addresses are not looked for. The data itself is not shown."
        ),
        "pii_kind": _("Kind"),
        "field": _("Field"),
        "count": _("Count"),
        "entities": _("Entities"),
        "several_types": _("Marked with more than one type"),
        "forgotten": _("Likely forgotten"),
        "ends": _("Different ends"),
        "ends_note": _("The longer text stands in these rows, but only the shorter part of it is marked."),
        "entity": _("Entity"),
        "types": _("Types"),
        "marked": _("Marked"),
        "unmarked": _("Not marked"),
        "share": _("Share"),
        "longer": _("Longer"),
        "shorter": _("Shorter"),
        "agreement": _("Do annotators agree?"),
        "alpha": _("Krippendorff's alpha"),
        "interval": _("Interval (95%)"),
        "annotator": _("Annotator"),
        "shared": _("also by others"),
        "with_majority": _("with the majority of the others"),
        "kappa": _("Cohen's kappa for each pair"),
        "kappa_note": _("0 is what chance would give, 1 is full agreement; the small number counts the rows of both."),
        "disputed": _("Most argued over"),
        "facts": _("Where it comes from"),
        "skipped": _("Left out:"),
        "again": _("Make it again"),
    }
