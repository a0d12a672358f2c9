"""parity.json of a version: the newest check of each subject and engine; what a check says, and refusing by it."""

from __future__ import annotations

from typing import Literal

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import significance, words
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import AnswerParity, Parity, ParityCheck, PromptParity
from nlp_skills.workspace import lock
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_PATIENCE = 600.0
# What is left of fractions that were taken from each other.
_ROUNDING = 1e-9


def verdict(prompts: PromptParity | None, answers: AnswerParity | None) -> Literal["met", "not_met"]:
    """Met where every prompt is the same, in text and in ids, and no more was lost than may be."""
    alike = prompts is None or prompts.equal_text == prompts.equal_ids == prompts.asked
    kept = answers is None or answers.drop <= answers.max_drop + _ROUNDING
    return "met" if alike and kept else "not_met"


def record(version: VersionFolder, check: ParityCheck) -> None:
    """Put a check into parity.json, in place of the earlier one of its subject and engine."""
    with lock.writing(TaskFolder(version.task_root), wait_seconds=_PATIENCE):
        others = [known for known in version.parity() if (known.subject, known.engine) != (check.subject, check.engine)]
        Parity(version=version.name, checks=[*others, check]).save(version.parity_path)


def refuse(check: ParityCheck, version: VersionFolder, *, overrule: str | None = None) -> None:
    """Stop where a check was not passed; `overrule` says how to go on all the same.

    Raises:
        Invalid: with the figures.
    """
    if check.verdict == "met":
        return
    parts = [*_prompts(check.prompts), *_answers(check.answers)]
    first, *rest = parts or [_("the check was not passed")]
    mend = _("make it anew: nlp-skills export --again; or choose a quantisation of more bits, such as q8_0")
    raise Invalid(
        _("{subject} does not answer as {version} did when it was evaluated: {what}",
          subject=check.subject, version=version.name, what=first),
        file=version.parity_path,
        cause="; ".join(rest) or None,
        mend="; ".join(part for part in (mend, overrule) if part),
    )  # fmt: skip


def _prompts(found: PromptParity | None) -> list[str]:
    if found is None or found.equal_text == found.equal_ids == found.asked:
        return []
    said = [
        _("of {asked} prompts {text} are the same in text and {ids} in tokens",
          asked=found.asked, text=found.equal_text, ids=found.equal_ids)
    ]  # fmt: skip
    if found.first is not None:
        told = {"row": found.first.row, "ours": found.first.ours, "theirs": found.first.theirs}
        said.append(_("row {row}: the version reads {ours}, it reads {theirs}", **told))
    return said


def _answers(found: AnswerParity | None) -> list[str]:
    if found is None or found.drop <= found.max_drop + _ROUNDING:
        return []
    told = {"metric": words.metric(found.metric), "before": f"{found.before:.4f}", "after": f"{found.after:.4f}"}
    most = significance.amount(found.metric, found.max_drop, signed=False)
    return [_("{metric} fell from {before} to {after}, and may fall by {most}", most=most, **told)]
