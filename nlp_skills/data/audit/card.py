"""docs/data_card.md: what the data is, where it came from, how it was made and what is known to be wrong with it.

Facts only: counts, hashes and settings, all read from files. Settings are shown as written, secrets never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills import __version__
from nlp_skills.data.audit import words
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder


def text(folder: TaskFolder, found: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    task, config = folder.task(), folder.sources()
    parts = [
        ["# " + _("Data card: {task}", task=_plain(task.task_name))],
        _what(task, found),
        _sources(config),
        _making(folder, config, found),
        _counts(found),
        _lengths(found),
        _audit(found),
        _problems(found),
        _again(task, found),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _plain(text: object) -> str:
    """Text from files inside Markdown: one line, nothing in it is a mark or an element."""
    line = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "\\`*_[]|#~" else {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(c, c) for c in line)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table; every column but the first is to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    lines = [[_plain(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *lines)]


def _what(task: Task, found: Mapping[str, Any]) -> list[str]:
    splits = found["figures"]["splits"]
    facts = [
        (_("Task"), f"{task.task_name} ({task.task_type})"),
        (_("Goal"), task.goal),
        (_("Domain"), task.domain),
        (_("Language"), task.language),
        (_("Input"), ", ".join(task.input_fields)),
        (_("Answer"), ", ".join(task.output_fields)),
        (_("Classes"), ", ".join(task.labels)),
        (_("Rows"), str(sum(split["rows"] for split in splits.values()))),
    ]
    return [_heading(_("What it is")), "", *(f"- {name}: {_plain(value)}" for name, value in facts if value)]


def _fenced(content: str) -> list[str]:
    """A block that its content cannot end."""
    fence = "```"
    while fence in content:
        fence += "`"
    return [f"{fence}yaml", *content.rstrip("\n").split("\n"), fence]


def _sources(config: DataSource) -> list[str]:
    """The sources as data_source.yaml writes them."""
    if not config.sources:
        return [_heading(_("Where it comes from")), "", _("data_source.yaml names no source.")]
    return [
        _heading(_("Where it comes from")),
        "",
        _("The sources in data_source.yaml; variables are not filled in, secrets are hidden."),
        "",
        *_fenced(yaml.dumps([unexpanded(source) for source in config.sources])),
    ]


def _making(folder: TaskFolder, config: DataSource, found: Mapping[str, Any]) -> list[str]:
    split, dedup = config.split, config.dedup
    how = _("dropped where their answers agree") if dedup.near_duplicates == "drop" else _("kept, on one side")
    facts = [
        _("Rows with the same input and answer are kept once."),
        _("Near-identical texts (3-grams of characters, Jaccard from {near:g}): {how}.", near=dedup.near, how=how),
        _("Shares: train {train:g}, valid {valid:g}, test {test:g}; seed {seed}.", train=split.train,
          valid=split.valid, test=split.test, seed=split.seed),
    ]  # fmt: skip
    if split.group:
        facts.append(_("Rows with the same {column} stand in one split.", column=_plain(split.group)))
    facts += [_("Augmentation: {settings}", settings=f"`{entry.method}`") for entry in config.augmentation]
    dropped = found["figures"]["dropped"]
    if dropped is not None:
        facts.append(_("Rows that were dropped as duplicates: {count}", count=dropped["rows"]))
        facts += [f"  - {_plain(why)}: {count}" for why, count in dropped["reasons"].items() if why]
    lines = [fact if fact.startswith("  - ") else f"- {fact}" for fact in facts]
    return [_heading(_("How it was made")), "", *lines, *_hashes(folder)]


def _hashes(folder: TaskFolder) -> list[str]:
    """What data.lock.yaml says was read and written; nothing where there is none."""
    lock = _read(folder.raw.parent / "data.lock.yaml")
    rows = [
        (name, entry.get("rows", ""), entry["sha256"])
        for part in ("sources", "outputs")
        for name, entry in (lock.get(part) or {}).items()
        if isinstance(entry, dict) and "sha256" in entry
    ]
    return ["", *_table((_("Source or file"), _("Rows"), "SHA-256"), rows)] if rows else []


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.read(path).data
    except Problem:
        return {}
    return found if isinstance(found, dict) else {}


def _counts(found: Mapping[str, Any]) -> list[str]:
    splits = found["figures"]["splits"]
    labels = list(splits["train"]["distribution"])
    head = [_("Split"), _("Rows"), _("of them augmented"), *map(_plain, labels)]
    rows = [
        [name, part["rows"], sum(part["augmented"].values()), *(part["distribution"][label] for label in labels)]
        for name, part in splits.items()
    ]
    sources: dict[str, int] = {}
    for part in splits.values():
        for name, count in part["sources"].items():
            sources[name] = sources.get(name, 0) + count
    total = sum(sources.values())
    shares = [(name or "–", count, words.percent(count / total)) for name, count in sources.items()]
    return [_heading(_("How much of what")), "", *_table(head, rows), "",
            *_table((_("Source"), _("Rows"), _("Share")), shares)]  # fmt: skip


def _lengths(found: Mapping[str, Any]) -> list[str]:
    head = (_("Characters"), _("shortest"), _("median"), _("95th percentile"), _("longest"), _("mean"))
    keys = ("min", "median", "p95", "max", "mean")
    rows = [
        [name, *(part["chars"][key] for key in keys)]
        for name, part in found["figures"]["splits"].items()
        if part["chars"]
    ]
    mix = words.scripts(found["figures"]["scripts"])
    return [_heading(_("Texts")), "", *_table(head, rows), "", _("Rows by script: {mix}", mix=mix)]


def _audit(found: Mapping[str, Any]) -> list[str]:
    labels, agreement, entities = found["label_errors"], found["agreement"], found["entities"]
    checks = [
        (_("Labels that look wrong"), words.skipped(labels) or str(labels["count"])),
        (_("The judging model is right on"), "" if labels.get("skipped") else words.percent(labels["fold_accuracy"])),
        (_("Contradictions"), str(found["conflicts"]["count"])),
        (_("Personal data"), str(found["pii"]["count"])),
        *((f"– {words.kind(name)}", str(count)) for name, count in found["pii"]["kinds"].items() if count),
        (_("Entities marked in more than one way"), words.skipped(entities) or str(entities["count"])),
        (_("Krippendorff's alpha"), words.skipped(agreement) or
         " ".join(filter(None, [words.figure(agreement["alpha"]), words.interval(agreement["interval"])]))),
    ]  # fmt: skip
    rows = [check for check in checks if check[1]]
    return [_heading(_("What the audit found")), "", *_table((_("Check"), _("Result")), rows)]


def _problems(found: Mapping[str, Any]) -> list[str]:
    said = words.problems(found)
    notes = _notes(found)
    lines = [f"- {text}" for text in [*said, *notes]] or [_("The checks found none.")]
    return [_heading(_("Known problems")), "", *lines]


def _notes(found: Mapping[str, Any]) -> list[str]:
    """What limits the figures above."""
    labels = found["label_errors"]
    notes = [words.searched(found["conflicts"]["searched"])]
    if labels.get("unjudged"):
        notes.append(_("Rows whose labels were not judged, being too many: {count}", count=labels["unjudged"]))
    if labels.get("left_out"):
        names = ", ".join(map(_plain, labels["left_out"]))
        notes.append(_("Classes with too few or too many rows for their labels to be judged: {names}", names=names))
    if labels.get("reliable") is False:
        notes.append(_("The judging model hardly knows these labels: its suspicions say little."))
    return [note for note in notes if note]


def _again(task: Task, found: Mapping[str, Any]) -> list[str]:
    return [
        _heading(_("Make it again")),
        "",
        "```sh",
        f"nlp-skills regenerate {task.task_name}",
        f"nlp-skills validate {task.task_name}",
        f"nlp-skills audit {task.task_name}",
        "```",
        "",
        _("Written by nlp-skills {version}, {time}.", version=__version__, time=found["created"]),
    ]


def _heading(words: str) -> str:
    return f"## {words}"
