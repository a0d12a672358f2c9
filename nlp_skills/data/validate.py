"""The gate before training: do the documents parse, are the rows good, does test leak into train?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from nlp_skills import extras, progress
from nlp_skills.data import drift, leakage, near, preferences_check, sources, split_checks
from nlp_skills.data import rows as lines
from nlp_skills.data.findings import Finding, of_problem, passed
from nlp_skills.data.install import interrupted
from nlp_skills.errors import Problem
from nlp_skills.files import storage_problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import PREFERENCE_METHODS, Training
from nlp_skills.schema.version import SPLITS
from nlp_skills.workspace import digest
from nlp_skills.workspace.folder import TaskFolder

__all__ = ["Finding", "Report", "validate"]

# Smaller data is checked before a bar could be read.
_BAR_BYTES = 32 << 20
_MOVES = 3


@dataclass
class Report:
    """`splits`: of each file that could be read, rows, bad rows, classes, lengths in characters and, where they
    were counted, in tokens, and the scripts its texts are written in.
    """

    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the data may be trained on."""
        return passed(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "findings": [finding.as_dict() for finding in self.findings],
            "splits": self.splits,
        }


def validate(
    folder: TaskFolder, *, documents_only: bool = False, tokenizer: Any = None, with_preferences: bool = True
) -> Report:
    """Check the task's documents and, unless told otherwise, its splits and preferences.

    Preferences that the current version does not learn from are no reason not to train it: of them there are warnings
    only. With the base model's `tokenizer`, the rows' lengths are compared with the max_length they would be trained
    with. Never raises for what it looks for: that is in the report. Files that were read are remembered, and the digest
    for the hooks is refreshed where the documents parse.

    Raises:
        Unavailable: the task folder cannot be written.
    """
    report = Report()
    task, config = _documents(folder, report)
    if task is None or config is None:
        return report
    digest.write(folder)
    if not documents_only:
        settings = training(folder, task)
        _data(folder, split_checks.Expected(task, config, tokenizer, settings), report)
        if with_preferences:
            report.findings += _preferences(folder, task, settings)
    return report


def _preferences(folder: TaskFolder, task: Task, settings: Training | None) -> Iterator[Finding]:
    method = settings.method if settings and settings.method in PREFERENCE_METHODS else None
    for finding in preferences_check.check(folder, task, method):
        yield finding if method else replace(finding, severity="warning")


def _documents(folder: TaskFolder, report: Report) -> tuple[Task | None, DataSource | None]:
    task = _load(Task, folder.task_path, report)
    config = _load(DataSource, folder.sources_path, report)
    if config is not None:
        texts = [text for source in config.sources for text in sources.warnings(source)]
        report.findings += [Finding("warning", "source", text, file=str(folder.sources_path)) for text in texts]
    if task is not None:
        _version_documents(folder, task, report)
    return task, config


def _version_documents(folder: TaskFolder, task: Task, report: Report) -> None:
    try:
        version = folder.version(task.version)
    except Problem as problem:
        report.findings += of_problem(problem, "document")
        return
    for path, read in ((version.config_path, version.config), (version.lineage_path, version.lineage)):
        if path.is_file():
            try:
                read()
            except Problem as problem:
                report.findings += of_problem(problem, "document")


def _load(document: Any, path: Any, report: Report) -> Any:
    try:
        return document.load(path)
    except Problem as problem:
        report.findings += of_problem(problem, "document")
        return None


def training(folder: TaskFolder, task: Task) -> Training | None:
    """The current version's configuration, or the task's before there is one."""
    try:
        version = folder.version(task.version)
        return version.config() if version.config_path.is_file() else task.training
    except Problem:
        return None  # said already, of the document


def _data(folder: TaskFolder, expected: split_checks.Expected, report: Report) -> None:
    if interrupted(folder):
        report.findings.append(_interrupted(folder))
    try:
        expected.also = split_checks.also(expected.task)
    except Problem as problem:
        problem.file = str(folder.task_path)
        report.findings += of_problem(problem, "schema")
    missing = [path for name in SPLITS if not (path := folder.split(name)).is_file()]
    report.findings += [_missing(str(path)) for path in missing]
    here = [name for name in SPLITS if folder.split(name) not in missing]
    with _meter(sum(folder.split(name).stat().st_size for name in here)) as meter:
        for name in here:
            _split(folder, name, expected, report, meter)
        if not missing:
            report.findings += _between(folder, expected, meter)
    report.findings += _drift(folder, report)


def _split(
    folder: TaskFolder, name: str, expected: split_checks.Expected, report: Report, meter: Callable[[int], None]
) -> None:
    checked = split_checks.check(folder.split(name), name, expected, meter)
    report.splits[name] = checked.summary
    report.findings += checked.findings
    try:
        lines.remember(folder.state, f"data/{name}.jsonl", checked.report)
    except OSError as error:
        raise storage_problem(error, folder.state / lines.MEMORY) from error


def _between(folder: TaskFolder, expected: split_checks.Expected, meter: Callable[[int], None]) -> Iterator[Finding]:
    near_from = expected.config.dedup.near
    if near_from < 1 and not near.available():
        yield Finding("warning", "near_unsearched", near.missing_words(), mend=extras.install_command("data"))
    yield from leakage.search(folder, expected.task, near_from, on_bytes=meter)


@contextlib.contextmanager
def _meter(size: int) -> Iterator[Callable[[int], None]]:
    """A bar over the megabytes of the two passes, fed with positions in one file after the other."""
    if size < _BAR_BYTES:
        yield lambda _position: None
        return
    with progress.bar(_("validate (MB)"), 2 * size >> 20) as bar:
        whole = last = 0

        def meter(position: int) -> None:
            nonlocal whole, last
            whole += position - last if position >= last else position
            last = position
            bar.advance(min(whole >> 20, bar.total) - bar.done)

        yield meter


def _drift(folder: TaskFolder, report: Report) -> Iterator[Finding]:
    """A warning for each split whose classes are mixed otherwise than in the last version with other data."""
    now = {name: part["distribution"] for name, part in report.splits.items()}
    try:
        found = drift.last_other(folder, now)
    except Problem as problem:
        yield from of_problem(problem, "document")
        return
    for name, counts in now.items() if found else ():
        assert found is not None
        version, snapshot = found
        before = snapshot.splits.get(name)  # type: ignore[call-overload]
        moved = drift.compare(before.class_distribution, counts) if before else None
        if moved is not None and moved.matters:
            yield _drifted(str(folder.split(name)), version, moved)


def _drifted(path: str, version: str, moved: drift.Drift) -> Finding:
    moves = ", ".join(
        f"{lines.shown_name(label)} {before:.1%} → {after:.1%}" for label, before, after in moved.moves()[:_MOVES]
    )
    return Finding(
        "warning",
        "drift",
        _("the classes are mixed otherwise than in {version}", version=version),
        file=path,
        cause=_(
            "the shares of the classes differ by {share:.0f} points (p = {p:.2g}): {moves}",
            share=moved.distance * 100,
            p=moved.p,
            moves=moves,
        ),
        mend=_("if the sources are meant to have changed, go on; metrics of the two versions are then less comparable"),
    )


def _missing(path: str) -> Finding:
    return Finding("error", "missing_file", _("file not found"), file=path, mend="nlp-skills regenerate")


def _interrupted(folder: TaskFolder) -> Finding:
    return Finding(
        "error",
        "interrupted",
        _("the last regeneration was interrupted; the splits may not belong together"),
        file=str(folder.split("train").parent),
        mend="nlp-skills regenerate",
    )
