"""Why: each choice with its rule, where that comes from and since when, and the advice in a sentence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.coach.choosing import Chosen, Plan
from nlp_skills.coach.doubts import Doubt
from nlp_skills.coach.learnability import Learnability
from nlp_skills.coach.planning import Planned
from nlp_skills.coach.rules import Decision, Entry, Rules, setting_name
from nlp_skills.coach.wish import Wish
from nlp_skills.i18n import _


@dataclass(frozen=True)
class Reason:
    """Why something was chosen; `rule` is its id in rules.yaml, empty where it was computed."""

    about: str
    says: str
    rule: str = ""
    source: str = ""
    as_of: dt.date | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "about": self.about,
            "says": self.says,
            "rule": self.rule or None,
            "source": self.source or None,
            "as_of": self.as_of.isoformat() if self.as_of else None,
        }


def of(wish: Wish, table: Rules, chosen: Chosen, planned: Planned, learned: Learnability | None) -> list[Reason]:
    """The reasons of a recommendation, in the order of its parts."""
    plan, others = planned.plan, planned.others
    return [
        _by_rule("data", "data_size", chosen.size),
        *(_of_model(wish, table, chosen, plan, planned.left) if plan else ()),
        *(_of_plan(table, chosen, plan) if plan else ()),
        _by_rule("versioning", "versioning", chosen.naming),
        *(_of_scores(wish, learned) if learned else ()),
        *(_of_alternative(plan, other) for other in others if plan),
    ]


def _by_rule(about: str, section: str, entry: Entry) -> Reason:
    return Reason(about, entry.words, f"{section}.{entry.id}", entry.source, entry.as_of)


def _of_model(wish: Wish, table: Rules, chosen: Chosen, plan: Plan, left: Sequence[str]) -> Iterator[Reason]:
    name = plan.candidate.name
    if wish.asked.base_model:
        yield Reason("base_model", _("{name} was asked for", name=name))
    elif left:
        machine = plan.estimate.machine.name if plan.estimate else "?"
        says = _("{name} is the first of the rule that fits {machine} within {hours:.0f} hours; preferred were {names}",
                 name=name, machine=machine, hours=table.limit("hours"), names=", ".join(left[:4]))  # fmt: skip
        entry = chosen.choice
        yield Reason("base_model", says, f"models.{entry.id}", entry.source, entry.as_of)
    elif name in chosen.choice.choose:
        yield _by_rule("base_model", "models", chosen.choice)
    else:
        yield Reason("base_model", _("it serves {language}", language=str(wish.language)))
    if chosen.passed:
        names = ", ".join(chosen.passed[:4])
        text = _("does not name {language} among its languages: {names}", language=str(wish.language), names=names)
        yield Reason("base_model", text)


def _of_plan(table: Rules, chosen: Chosen, plan: Plan) -> Iterator[Reason]:
    yield _by_rule("method", "methods", chosen.way)
    key = setting_name(plan.config.method, plan.config.adapter)
    begin = table.settings[key]
    says = _("learning rate {rate}, epochs {epochs}", rate=f"{begin.learning_rate:g}", epochs=f"{begin.epochs:g}")
    yield Reason("settings", says, f"settings.{key}", begin.source, begin.as_of)
    if plan.estimate and plan.estimate.free_gb is not None:
        price = plan.estimate.machine.gpu.price if plan.estimate.machine.gpu else None
        low, high = plan.estimate.between
        says = _("{low:.1f} to {high:.1f} GB of {free:.0f} GB on {machine}", low=low, high=high,
                 free=plan.estimate.free_gb, machine=plan.estimate.machine.name)  # fmt: skip
        yield Reason("machine", says, "", price.source if price else "", price.seen if price else None)


def _of_scores(wish: Wish, learned: Learnability) -> Iterator[Reason]:
    low, high = learned.interval
    values = {"value": f"{learned.value:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}
    if wish.threshold is not None and high < wish.threshold:
        gap = f"{(wish.threshold - learned.value) * 100:.0f}"
        yield Reason("data", _("word counts reach {value} (95 %: {low} to {high}); the goal is {gap} points above that",
                               gap=gap, **values))  # fmt: skip
    else:
        yield Reason("data", _("word counts reach {value} (95 %: {low} to {high})", **values))


def _of_alternative(plan: Plan, other: Plan) -> Reason:
    name = other.candidate.name
    if other.candidate == plan.candidate:
        where = other.estimate.machine.name if other.estimate else "?"
        says = _("{name} by {adapter} on {machine}: the same model, with other needs", name=name,
                 adapter=other.config.adapter, machine=where)  # fmt: skip
    else:
        times = other.candidate.size / plan.candidate.size
        if times > 1:
            says = _("{name}: {times:.1f} times the weights, for where the proposal does not reach the goal",
                     name=name, times=times)  # fmt: skip
        else:
            says = _("{name}: {share:.0%} of the weights, cheaper on every request, where it reaches the goal too",
                     name=name, share=times)  # fmt: skip
    return Reason("alternative", says)


def advice(decision: Decision, wish: Wish, found: Sequence[Doubt], learned: Learnability | None) -> str:
    """What to do, in a sentence."""
    if decision == "clarify":
        return _("answer first: {says}", says=next(doubt.says for doubt in found if doubt.stops))
    if decision == "collect":
        return _("collect labelled rows first: there are {rows}; below a hundred, few-shot prompting comes before "
                 "training", rows=wish.rows or 0)  # fmt: skip
    if decision == "prompt":
        return _("try few-shot prompting first, or collect more: {rows} rows are too few to train and to test on",
                 rows=wish.rows or 0)  # fmt: skip
    if decision == "classical" and learned:
        return _("a classical model is enough: TF-IDF with logistic regression reaches {value} (95 %: {low} to "
                 "{high}), and {threshold} is asked for",
                 value=f"{learned.value:.3f}", low=f"{learned.interval[0]:.3f}",
                 high=f"{learned.interval[1]:.3f}", threshold=f"{wish.threshold or 0:.2f}")  # fmt: skip
    return _("fine-tune, as proposed")
