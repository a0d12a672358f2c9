"""Evaluating a version: ask it every test row, score it, set it beside its baselines, and judge it.

The task is locked while it is looked at and while results are recorded, not while the model answers. Whatever is
already known is not asked again: finished results, the rows an interrupted run left, and the baselines' answers, which
versions share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import progress
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import baselines, judging, measured, model, subject
from nlp_skills.evaluation.answering import backends
from nlp_skills.evaluation.answering.ask import way_of
from nlp_skills.evaluation.answering.backends import Backend
from nlp_skills.evaluation.answering.scorer import Scorer
from nlp_skills.evaluation.asking import Asking, Given
from nlp_skills.evaluation.baselines.measuring import Manner
from nlp_skills.evaluation.outcome import Outcome
from nlp_skills.evaluation.subject import Subject
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.version import Results
from nlp_skills.workspace import digest, lifecycle, lineage, lock
from nlp_skills.workspace.folder import TaskFolder

# What finished answers wait for the task's lock: they are worth more than anybody's patience.
LOCK_SECONDS = 3600.0


def evaluate(
    folder: TaskFolder,
    version: str | None = None,
    *,
    again: bool = False,
    base_baseline: bool = True,
    beside: str | None = None,
    backend: Backend | None = None,
    endpoint: LlmSettings | None = None,
) -> Results:
    """Evaluate a version on data/test.jsonl and record it: predictions.jsonl, results.json, lineage.

    Args:
        folder: the task.
        version: its name; the current one when left out.
        again: ask the model anew.
        base_baseline: also ask an adapter's base model, untrained, unless `beside` says which baselines are wanted.
        beside: the baselines to measure, as `baselines.choose` takes them.
        backend: what answers instead of the version in transformers; its results go to benchmarks/ and are no
            results of the version.
        endpoint: another model to measure beside the version, as a baseline.

    Raises:
        Invalid: see `subject.choose`; also another command holding the task, or one that changed the version meanwhile.
        Usage: a baseline or a backend that this task does not have.
        Unavailable: an extra, the base model or a backend is missing.
    """
    need("quality", "sklearn")
    with lock.writing(folder):
        chosen = subject.choose(folder, version)
        wanted = _wanted(chosen, beside, base_baseline=base_baseline, backend=backend, endpoint=endpoint)
        before = chosen.stamp()
    _remark(chosen)
    outcome = _outcome(chosen, backend)
    with outcome.alone():
        if again:
            outcome.forget()
        results = _Round(chosen, outcome, wanted, backend, endpoint, again).results()
        with lock.writing(folder, wait_seconds=LOCK_SECONDS):
            if chosen.stamp() != before:
                raise _changed(chosen)
            _record(outcome, results, of_version=backend is None)
    return results


def place(folder: TaskFolder, version: str, backend: Backend) -> Path:
    """Where the results of what answers in a version's stead are."""
    return _outcome(subject.asked(folder, version), backend).folder


def _wanted(
    chosen: Subject,
    beside: str | None,
    *,
    base_baseline: bool,
    backend: Backend | None,
    endpoint: LlmSettings | None,
) -> tuple[str, ...]:
    if beside is None and backend is not None:
        return ()
    found = baselines.choose(beside, chosen.task, chosen.kind, endpoint=endpoint is not None)
    baselines.check(chosen, found)
    if beside is None and not base_baseline:
        return tuple(name for name in found if name != baselines.BASE)
    return found


def _outcome(chosen: Subject, backend: Backend | None) -> Outcome:
    if backend is None:
        return Outcome.of_version(chosen)
    return Outcome.of_backend(chosen, backend)


def _remark(chosen: Subject) -> None:
    """What is measured all the same, and says little."""
    if chosen.kind == "label" and len(found := set(chosen.gold)) == 1:
        progress.notice(
            _(
                "all test rows are of one class, {label}: how well others are told from it cannot be seen",
                label=min(found),
            )
        )


@dataclass
class _Round:
    """One evaluation: what is known already, what is asked, and what comes of it."""

    chosen: Subject
    outcome: Outcome
    wanted: tuple[str, ...]
    backend: Backend | None
    endpoint: LlmSettings | None
    again: bool
    device: str | None = None
    _scorer: Scorer | None = None

    def results(self) -> Results:
        """Finished results, judged by today's criteria, where they have all that is wanted; else new ones."""
        earlier = None if self.again or self.outcome.begun() else self.outcome.results()
        if earlier is not None and self._complete(earlier):
            return self._judged(earlier)
        with self.outcome.timed((earlier.seconds if earlier else None) or 0.0) as seconds:
            try:
                found = self._measured(self.outcome.given(earlier) if earlier else None)
            finally:
                if self._scorer is not None:
                    self._scorer.close()
        device = self.device or (earlier.device if earlier else None)
        found = found.model_copy(
            update={"fingerprint": self.outcome.fingerprint, "seconds": round(seconds(), 1), "device": device}
        )
        return earlier if earlier is not None and _same(earlier, found) else found

    def _complete(self, earlier: Results) -> bool:
        criteria, figures = self.chosen.criteria, earlier.metrics
        named = {criteria.primary_metric, *criteria.metrics, *(one.name for one in self.chosen.own_metrics)}
        judged = judging.settled(self.chosen, self.outcome.folder)
        return judged and named <= set(figures) and set(self.wanted) <= set(earlier.baselines)

    def _judged(self, earlier: Results) -> Results:
        answers = [answer.predicted for answer in self.outcome.given(earlier).answers]
        said = measured.verdict(self.chosen, earlier.metrics, earlier.intervals, earlier.baselines, answers)
        return earlier.model_copy(update={"success": said})

    def _measured(self, known: Given | None) -> Results:
        given = known or Asking(self.chosen, self.scorer, self.outcome.folder).all()
        manner, base = self._manner(given), self._base()
        others = baselines.measure(self.chosen, self.wanted, manner, base=base, endpoint=self.endpoint)
        right = measured.sheet_of(self.chosen, given).right
        judged = judging.judged(self.chosen, given, self.outcome.folder)
        found = measured.results(self.chosen, given, others, judged)
        if not any(answer.predicted is not None for answer in given.answers):
            progress.notice(
                _("not one answer could be read: see raw in {path}", path=self.outcome.predictions_path.name)
            )
        self.outcome.write_predictions(given, right, others)
        return found

    @property
    def scorer(self) -> Scorer:
        """What answers, loaded when it is first asked."""
        if self._scorer is None:
            self._scorer = backends.open_scorer(self.chosen, self.backend, again=self.again)
            self.device = getattr(self._scorer, "device", None)
        return self._scorer

    def _manner(self, given: Given) -> Manner:
        chosen, asked = self.chosen, given.asked
        # Results of the releases up to 0.4 do not say how they were had: by likelihood, all of them.
        way = asked.way if asked else way_of(chosen.kind, chosen.renderer, ("likelihood",), chosen.listed)
        sampling = None if way == "likelihood" else chosen.sampling
        return Manner(sampling, way, chosen.listed, asked.backend if asked else "transformers")

    def _base(self) -> Callable[[], contextlib.AbstractContextManager[Scorer]] | None:
        """Opens the untrained model under the version's adapter; None where there is none."""
        if self.backend is not None or self.chosen.info.adapter_path is None:
            return None

        @contextlib.contextmanager
        def opened() -> Iterator[Scorer]:
            scorer: Any = self.scorer
            with scorer.untrained(model.base_fingerprint(self.chosen.info)) as base:
                yield base

        return opened


def _same(earlier: Results, found: Results) -> bool:
    """Whether measuring anew came to nothing new."""
    apart = {"created", "seconds", "device"}
    return earlier.model_dump(exclude=apart) == found.model_dump(exclude=apart)


def _changed(chosen: Subject) -> Invalid:
    return Invalid(
        _("version {version} or the test split changed while it was being evaluated", version=chosen.version.name),
        file=chosen.version.root,
        mend=_("evaluate it again: nlp-skills evaluate --version {version}", version=chosen.version.name),
    )


def _record(outcome: Outcome, results: Results, *, of_version: bool) -> None:
    chosen = outcome.chosen
    if not outcome.results_path.is_file() or results != Results.load(outcome.results_path):
        results.save(outcome.results_path)
    outcome.forget()
    if not of_version:
        return
    lineage.record(chosen.version, results=lineage.results_section(results, chosen.version))
    # An older version evaluated again, or one already deployed, does not move the task.
    task = chosen.folder.task()
    if task.version == chosen.version.name and task.status in ("training", "evaluating"):
        lifecycle.move(chosen.folder, "evaluating", _reason(chosen, results))
    digest.write(chosen.folder)


def _reason(chosen: Subject, results: Results) -> str:
    metric = results.success.primary_metric
    value = results.success.value
    reached = "not measured" if value is None else f"{value:.4f}"
    return f"evaluated {chosen.version.name}: {metric} {reached}"
