"""What is to be said of one split: its rows, classes, lengths and languages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.data import answers, entities, languages, lengths
from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.findings import Finding
from nlp_skills.data.merge import output_shape
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Training

if TYPE_CHECKING:
    Also = Callable[[dict[str, Any]], list[lines.Fault]]

MOST_SAMPLED = 20_000
_SHOWN = 5
_FEW_ROWS = 5
_IMBALANCE = 10
_LABELS = 5


@dataclass
class Expected:
    """What is expected of every split. `tokenizer`: the base model's, where lengths in tokens are wanted."""

    task: Task
    config: DataSource
    tokenizer: Any = None
    training: Training | None = None
    also: Also | None = None

    @property
    def languages(self) -> list[str]:
        return self.config.checks.languages or ([self.task.language] if self.task.language else [])

    def tokens(self) -> lengths.Tokens | None:
        if self.tokenizer is None or self.training is None:
            return None
        limit = self.training.max_length
        # auto: no row is too long for a limit that follows the longest one.
        room = sys.maxsize if limit == "auto" else limit
        return lengths.Tokens(self.tokenizer, Renderer.of(self.task, self.training), room)


@dataclass
class Checked:
    """A split that was looked at: `report` as `rows.check` gives it, `summary` for people and `--json`."""

    report: lines.Report
    summary: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)


def also(task: Task) -> Also | None:
    """What to ask of a row beyond its shape: does the answer meet its schema, do its entities stand in the text?

    Raises:
        Invalid: output_format.schema is no JSON Schema.
    """
    by_schema = answers.checker(task.output_format)
    by_text = entities.checker(task.input_fields, output_shape(task))
    if by_schema is None or by_text is None:
        return by_schema or by_text

    def both(row: dict[str, Any]) -> list[lines.Fault]:
        return by_schema(row) or by_text(row)

    return both


def check(path: Path, name: str, expected: Expected, on_bytes: Callable[[int], None] | None = None) -> Checked:
    """Everything about a split that can be said without looking at the others.

    Raises:
        OSError: the file cannot be read.
    """
    checks, task = expected.config.checks, expected.task
    report = lines.check(
        path,
        task.input_fields,
        output_shape(task),
        min_chars=checks.min_chars,
        max_chars=checks.max_chars,
        also=expected.also,
        on_bytes=on_bytes,
    )
    summary = {key: report[key] for key in ("rows", "bad", "blank", "duplicates", "distribution")}
    summary["chars"] = lengths.summary(report["lengths"]["counts"])
    found = Checked(report, summary)
    found.findings += [*_row_findings(str(path), report), *_class_findings(str(path), name, report, expected.config)]
    found.findings += _outlier_findings(str(path), report["lengths"])
    found.findings += _sample(path, expected, found)
    return found


def _row_findings(path: str, report: lines.Report) -> Iterator[Finding]:
    for code, count in report["codes"].items():
        found = [fault for fault in report["faults"] if fault["code"] == code]
        shown = ", ".join(f"{fault['line']} ({fault['detail']})" for fault in found[:_SHOWN])
        yield Finding(
            "warning" if code in lines.REMARKS else "error",
            code,
            fault_words(code),
            file=path,
            line=found[0]["line"],
            lines=tuple(fault["line"] for fault in found[:_SHOWN]),
            count=count,
            cause=_("rows: {count}; lines: {lines}", count=count, lines=shown),
            mend=_mend(code),
        )
    if report["blank"]:
        yield Finding("warning", "blank", _("blank lines"), file=path, count=report["blank"])


def _mend(code: str) -> str:
    if code in ("too_short", "too_long"):
        return _("correct the rows at their source, or change checks: in data_source.yaml; then: nlp-skills regenerate")
    if code == "entity_offset":
        return _("write the offsets that stand after the arrow, at the source, and run: nlp-skills regenerate")
    return _("correct the rows at their source and run: nlp-skills regenerate")


def _class_findings(path: str, name: str, report: lines.Report, config: DataSource) -> Iterator[Finding]:
    if not report["rows"]:
        if getattr(config.split, name) > 0:
            yield Finding("error", "empty_split", _("the split is empty"), file=path, mend="nlp-skills regenerate")
        return
    counts: dict[str, int] = report["distribution"]
    for label in [label for label, count in counts.items() if not count]:
        yield Finding(
            "warning",
            "missing_class",
            _("class {label} has no rows here", label=label),
            file=path,
            mend=_("add rows of this class; for test, test_rows: growing lets new rows in"),
        )
    if name == "train":
        yield from _balance_findings(path, {label: count for label, count in counts.items() if count})


def _balance_findings(path: str, counts: Mapping[str, int]) -> Iterator[Finding]:
    ordered = sorted(counts, key=lambda label: (counts[label], label))
    few = [label for label in ordered if counts[label] < _FEW_ROWS]
    if few:
        yield Finding(
            "warning",
            "few_rows",
            _("classes with fewer than {count} rows to learn from: {classes}", count=_FEW_ROWS, classes=len(few)),
            file=path,
            count=len(few),
            cause=_listed({label: counts[label] for label in few}),
            mend=_("add rows of these classes, or take them out of task.yaml"),
        )
    if ordered and counts[ordered[-1]] > _IMBALANCE * counts[ordered[0]]:
        yield Finding(
            "warning",
            "imbalance",
            _(
                "the largest class has {times:.0f} times the rows of the smallest",
                times=counts[ordered[-1]] / counts[ordered[0]],
            ),
            file=path,
            cause=_listed({label: counts[label] for label in (ordered[-1], ordered[0])}),
            mend=_("add rows of the small classes, or: augmentation: [{method: oversample}] in data_source.yaml"),
        )


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{lines.shown_name(label)} {count}" for label, count in list(counts.items())[:_LABELS]]
    return ", ".join(shown + ["…"] * (len(counts) > _LABELS))


def _outlier_findings(path: str, found: lines.Report) -> Iterator[Finding]:
    long, short = lengths.outliers(found)
    median = lengths.summary(found["counts"]).get("p50", 0)
    if long:
        message = _("texts far longer than the others, of more than {chars} characters", chars=long.bound)
        yield _outlier("long_texts", message, path, long, median)
    if short:
        message = _("texts far shorter than the others, of fewer than {chars} characters", chars=short.bound)
        yield _outlier("short_texts", message, path, short, median)


def _outlier(code: str, message: str, path: str, found: lengths.Outliers, median: int) -> Finding:
    shown = ", ".join(f"{line} ({chars})" for chars, line in found.places)
    return Finding(
        "warning",
        code,
        message,
        file=path,
        line=found.places[0][1],
        lines=tuple(line for _chars, line in found.places),
        count=found.count,
        cause=_(
            "rows: {count}; half have at most {median}; lines: {lines}", count=found.count, median=median, lines=shown
        ),
        mend=_("look at these rows; checks.min_chars and checks.max_chars in data_source.yaml refuse such"),
    )


def _sample(path: Path, expected: Expected, checked: Checked) -> Iterator[Finding]:
    """Languages and tokens, of so many rows as tell: they cost more than the rest together."""
    rows = checked.report["rows"]
    mix, tokens = languages.Mix(expected.languages), expected.tokens()
    fields = expected.task.input_fields
    looked = 0
    for line, row in lines.sampled(path, rows, MOST_SAMPLED):
        texts = [row[name] for name in fields if isinstance(row.get(name), str)]
        looked += 1
        mix.look(line, " ".join(texts))
        if tokens is not None and len(texts) == len(fields):
            try:
                tokens.look(line, row)
            except Invalid as problem:
                tokens = None
                yield _uncounted(path, line, problem)
    checked.summary["scripts"] = mix.as_dict()
    if mix.share > languages.MUCH:
        yield _language_finding(path, mix, looked, rows)
    if tokens is not None and tokens.counts:
        checked.summary["tokens"] = {**lengths.summary(tokens.counts), "rows": tokens.counts.total()}
        yield from _token_findings(path, tokens)


def _language_finding(path: Path, mix: languages.Mix, looked: int, rows: int) -> Finding:
    others = ", ".join(f"{languages.words(name)} {count}" for name, count in mix.others.most_common())
    shown = ", ".join(f"{line} ({lines.brief(text)})" for line, text in mix.places)
    cause = _("rows looked at: {looked} of {rows}; {others}; lines: {lines}",
              looked=looked, rows=rows, others=others, lines=shown)  # fmt: skip
    return Finding(
        "warning",
        "other_language",
        _("{share:.0f} percent of the texts are not in the task's language", share=mix.share * 100),
        file=str(path),
        line=mix.places[0][0],
        lines=tuple(line for line, _text in mix.places),
        count=mix.others.total(),
        cause=cause,
        mend=_("take these rows out, or name their languages: checks.languages in data_source.yaml"),
    )


def _token_findings(path: Path, tokens: lengths.Tokens) -> Iterator[Finding]:
    if not tokens.over:
        return
    shown = ", ".join(f"{line} ({count})" for line, count in tokens.places)
    yield Finding(
        "warning",
        "over_max_length",
        _("prompt and answer together pass max_length {limit} tokens", limit=tokens.limit),
        file=str(path),
        line=tokens.places[0][0],
        lines=tuple(line for line, _count in tokens.places),
        count=tokens.over,
        cause=_(
            "rows: {count} of {looked} looked at, {answers} of them by the answer alone; lines: {lines}",
            count=tokens.over,
            looked=tokens.counts.total(),
            answers=tokens.answers_over,
            lines=shown,
        ),
        mend=_("raise max_length, shorten the texts, or set allow_truncation: true to leave out their middle"),
    )


def _uncounted(path: Path, line: int, problem: Invalid) -> Finding:
    return Finding(
        "info",
        "tokens_uncounted",
        _("tokens were not counted: {why}", why=problem.message),
        file=str(path),
        line=line,
        cause=problem.cause,
        mend=problem.mend,
    )
