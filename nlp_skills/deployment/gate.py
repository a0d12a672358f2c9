"""Whether a version may go out: it was measured as it is now, and what it reached is what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from nlp_skills import extras
from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import judgement, measured, subject
from nlp_skills.evaluation.outcome import Outcome
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.version import Results
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Standing:
    """What speaks against a version (`refusals`), and what should be known of it all the same (`remarks`).

    `results` are the version's, judged by today's criteria; None where there are none of it as it is now.
    """

    version: str
    results: Results | None = None
    refusals: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """The refusals in one line, for the lineage of a version that goes out all the same."""
        return "; ".join(problem.message for problem in self.refusals)

    def refuse(self) -> None:
        """Stop here where something speaks against it.

        Raises:
            Invalid: with the reasons, what would mend them, and how to overrule them.
        """
        if not self.refusals:
            return
        first, *rest = self.refusals
        overrule = _("to deploy it all the same, which its lineage keeps: --force")
        raise Invalid(
            _("{version} is not to be deployed: {reason}", version=self.version, reason=first.message),
            file=first.file,
            line=first.line,
            cause=first.cause,
            mend="; ".join(part for part in (first.mend, overrule) if part),
            also=rest,
        )


def check(folder: TaskFolder, name: str | None = None) -> Standing:
    """How a version stands, by its results and by today's criteria; no model is asked.

    Raises:
        Invalid: there is no such version, it was never trained or its weights are gone, or the task is archived:
            there is nothing that could be deployed, whoever insists.
        Unavailable: the extra that judges results is missing.
    """
    extras.need("quality", "sklearn")
    chosen = subject.asked(folder, name)
    version = chosen.version.name
    try:
        chosen = subject.choose(folder, version)
        results = Outcome.of_version(chosen).results()
    except Problem as problem:
        return Standing(version, refusals=[problem])
    if results is None:
        return Standing(version, refusals=[_unmeasured(chosen)])
    results = _judged(chosen, results)
    return Standing(version, results, _not_met(chosen, results), _remarks(results))


def doubts(folder: TaskFolder, name: str | None = None) -> list[str]:
    """What would refuse a version, for whoever serves it without asking; nothing where there is nothing to tell it by.

    Raises:
        Invalid: as `check`.
    """
    if not folder.split("test").is_file() or not extras.installed("sklearn"):
        return []
    return [problem.message for problem in check(folder, name).refusals]


def _unmeasured(chosen: Subject) -> Problem:
    command = f"nlp-skills evaluate {chosen.folder.root.name} --version {chosen.version.name}"
    if chosen.version.results() is None:
        return Invalid(_("it has not been evaluated"), file=chosen.version.root, mend=command)
    return Invalid(
        _("its results are of another model, or of other test rows, than are there now"),
        file=chosen.version.results_path,
        mend=command,
    )


def _judged(chosen: Subject, results: Results) -> Results:
    """The results by the criteria of today, which may be others than when it was evaluated."""
    answers = [answer.predicted for answer in Outcome.of_version(chosen).given(results).answers]
    said = measured.verdict(chosen, results.metrics, results.intervals, results.baselines, answers)
    return results.model_copy(update={"success": said})


def _not_met(chosen: Subject, results: Results) -> list[Problem]:
    if results.success.verdict in ("met", None):
        return []
    open_checks = [check for check in results.success.checks if check.verdict != "met"]
    cause = " ".join(judgement.sentence(check, results.test_rows) for check in open_checks) or None
    task, version = chosen.folder.root.name, chosen.version.name
    return [
        Invalid(
            judgement.headline(results),
            file=chosen.version.results_path,
            cause=cause,
            mend=_("see why: nlp-skills diagnose {task} --version {version}", task=task, version=version),
        )
    ]


def _remarks(results: Results) -> list[str]:
    found = [] if results.success.verdict else [judgement.headline(results)]
    return found + judgement.warnings(results)
