"""Which baselines there are for a task, and which of them are measured."""

from __future__ import annotations

from difflib import get_close_matches

from nlp_skills.data import entities
from nlp_skills.errors import Invalid, Usage
from nlp_skills.evaluation.baselines.rules import rule_file
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import Task

MAJORITY = "majority"
TFIDF = "tfidf_logreg"
NEAREST = "nearest"
GAZETTEER = "gazetteer"
BASE = "base_zero_shot"
FEW_SHOT = "base_few_shot"
ENDPOINT = "endpoint"
RULES = "rules"

_FITTED: dict[Kind, tuple[str, ...]] = {
    "label": (MAJORITY, TFIDF),
    "labels": (MAJORITY, TFIDF),
    "spans": (GAZETTEER,),
    "fields": (MAJORITY, NEAREST),
    "text": (NEAREST,),
}
# A rule gives a label; what else an answer can be is not said by a word that stands in a text.
_BY_RULES: tuple[Kind, ...] = ("label", "labels")


def fitted(task: Task, kind: Kind) -> tuple[str, ...]:
    """The baselines that are fitted on train. Relations without entities have none."""
    return () if kind == "spans" and entities.entity_field(task) is None else _FITTED[kind]


def names(task: Task, kind: Kind, *, endpoint: bool = False) -> tuple[str, ...]:
    """Every baseline that can be measured for a task; `endpoint` says that one was given on the command line."""
    asked = task.evaluation is not None and task.evaluation.endpoint is not None
    others = [BASE, FEW_SHOT, *([ENDPOINT] if endpoint or asked else [])]
    return (*fitted(task, kind), *_rules(task, kind), *others)


def usual(task: Task, kind: Kind) -> tuple[str, ...]:
    """Those that are measured where nobody says which: what costs next to nothing, and the untrained base model."""
    return (*fitted(task, kind), *_rules(task, kind), BASE)


def choose(asked: str | None, task: Task, kind: Kind, *, endpoint: bool = False) -> tuple[str, ...]:
    """The baselines that `--baselines` names: `all`, `none`, or names with commas between; None is the usual ones.

    An endpoint given on the command line is measured in any case, unless the option says `none`.

    Raises:
        Usage: a name that this task has no baseline of.
        Invalid: a rule file where an answer is no label.
    """
    if rule_file(task.success_criteria) and kind not in _BY_RULES:
        raise Invalid(
            _("success_criteria.baseline names a rule file, and a rule gives a label"),
            cause=_("an answer of this task is more than that"),
            mend=_("set success_criteria.baseline in task.yaml to the figure your rules reach, such as 0.65"),
        )
    known = names(task, kind, endpoint=endpoint)
    if asked is None:
        return (*usual(task, kind), *([ENDPOINT] if endpoint else []))
    wanted = list(dict.fromkeys(part.strip() for part in asked.split(",") if part.strip()))
    if wanted == ["all"]:
        return known
    if wanted == ["none"]:
        return ()
    for name in wanted:
        if name not in known:
            raise _unknown(name, known)
    return tuple(name for name in known if name in wanted or (endpoint and name == ENDPOINT))


def _rules(task: Task, kind: Kind) -> tuple[str, ...]:
    return (RULES,) if rule_file(task.success_criteria) and kind in _BY_RULES else ()


def _unknown(name: str, known: tuple[str, ...]) -> Usage:
    missing = {
        ENDPOINT: _("name the model to ask: evaluation.endpoint in task.yaml, or --base-url and --model"),
        RULES: _("name the rule file of a classification task: success_criteria.baseline in task.yaml"),
    }
    near = get_close_matches(name, [*known, "all", "none"], n=1, cutoff=0.5)
    perhaps = _("did you mean {name}?", name=near[0]) if near else _("leave --baselines out for the usual ones")
    return Usage(
        _("this task has no baseline {name}", name=repr(name)),
        cause=_("--baselines takes all, none, or of these: {names}", names=", ".join(known)),
        mend=missing.get(name, perhaps),
    )
