"""The diagnosis: what every room of rules found, ranked, without what something heavier rules out or explains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nlp_skills.diagnosis import facts as records
from nlp_skills.diagnosis import of_the_answers, of_the_data, of_the_run, rules
from nlp_skills.diagnosis.facts import Facts
from nlp_skills.diagnosis.finding import SEVERITIES, Change, Evidence, Finding, Unseen
from nlp_skills.diagnosis.making import made
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Diagnosis:
    """The findings, heaviest first, and what could not be looked at."""

    task: str
    version: str
    findings: list[Finding]
    unseen: list[Unseen]

    @property
    def well(self) -> bool:
        """Whether nothing above a note was found."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "task": self.task,
            "version": self.version,
            "well": self.well,
            "findings": [finding.as_dict() for finding in self.findings],
            "unseen": [entry.as_dict() for entry in self.unseen],
        }


def of(folder: TaskFolder, version: str | None = None) -> Diagnosis:
    """Diagnose a version, the current one by default, from what is on record. No model is asked, nothing is written.

    Raises:
        Invalid: there is no such version, or task.yaml or its config.yaml cannot be read.
    """
    facts = records.of(folder, version)
    ranked = _ranked(facts)
    causes = [finding for finding in ranked if finding.severity != "note" and finding.code not in rules.SYMPTOMS]
    if not causes and facts.results is not None and facts.results.success.verdict == "not_met":
        ranked = sorted([*ranked, _no_cause(facts)], key=_place)
    elif all(finding.severity == "note" for finding in ranked):
        ranked.append(_nothing(facts))
    seen = list(dict.fromkeys(facts.unseen))
    return Diagnosis(folder.root.name, facts.version.name, ranked, seen)


def _ranked(facts: Facts) -> list[Finding]:
    found = sorted(_found(facts), key=_place)
    out = rules.contradicted([finding.code for finding in found])
    return [finding for finding in found if finding.code not in out]


def _found(facts: Facts) -> Iterator[Finding]:
    for room in (of_the_run, of_the_data, of_the_answers):
        for look in room.looks(facts):
            yield from _looked(facts, look)


def _looked(facts: Facts, look: Iterator[Finding]) -> Iterator[Finding]:
    """What one look finds; a file that it cannot make anything of stops no other look."""
    try:
        for finding in look:
            tuned = facts.met and rules.RULES[finding.code].tuning
            yield dataclasses.replace(finding, severity="note") if tuned else finding
    except Problem as problem:
        facts.unseen.append(Unseen.of(_("a part of the records"), problem))


def _place(finding: Finding) -> tuple[int, float]:
    return SEVERITIES.index(finding.severity), -finding.weight


def _nothing(facts: Facts) -> Finding:
    """Said in so many words, with what was looked at."""
    return made("nothing", [_looked_at(facts)])


def _no_cause(facts: Facts) -> Finding:
    """No rule knows why: people have to read the mistakes."""
    text = _("read the mistakes and say of each whether the label, the text or the model is at fault; then more rows "
             "of what is hard, or a larger base model")  # fmt: skip
    command = ("nlp-skills", "errors", facts.name, "--version", facts.version.name)
    return made("no_cause", [_looked_at(facts)], change=Change(text, [command]))


def _looked_at(facts: Facts) -> Evidence:
    looked = [
        name
        for name, there in (
            (_("the curves"), bool(facts.course.losses)),
            (_("the rows of train and test"), {"train", "test"} <= set(facts.rows)),
            (_("the configuration and the prompt"), facts.info is not None),
            (_("results and answers"), bool(facts.predictions)),
        )
        if there
    ]
    text = _("looked at: {things}", things=", ".join(looked) or _("the configuration alone"))
    return Evidence(text)
