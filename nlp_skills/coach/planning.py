"""What is done on which machine: the plan, its alternatives, and where else it could run when it does not fit here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nlp_skills.coach import choosing
from nlp_skills.coach.choosing import Chosen, Plan
from nlp_skills.coach.doubts import Doubt
from nlp_skills.coach.rules import Rules
from nlp_skills.coach.wish import Wish
from nlp_skills.i18n import _
from nlp_skills.training.estimate import gpus
from nlp_skills.training.estimate.machine import Machine, rented

_ALTERNATIVES = 2


@dataclass(frozen=True)
class Planned:
    """The plan and its alternatives. `left` are models that the rules prefer and the machine does not hold in time;
    `doubts` what is to be said of machine and time.
    """

    plan: Plan | None = None
    others: Sequence[Plan] = ()
    left: Sequence[str] = ()
    doubts: Sequence[Doubt] = ()


def of(wish: Wish, table: Rules, chosen: Chosen, machine: Machine | None) -> Planned:
    """The first of the rules' models that fits, else the cheapest machine to rent for one."""
    every = list(choosing.plans(wish, table, chosen, machine))
    good = [plan for plan in every if plan.fits and not _too_long(plan, table)]
    if not good and machine is not None:
        return _elsewhere(wish, table, chosen, machine)
    if not good:
        return Planned()
    first = good[0]
    names = [candidate.name for candidate in chosen.candidates]
    others = _others(good)
    if len(others) < _ALTERNATIVES:
        others += _rented(wish, table, chosen, first)
    return Planned(first, others[:_ALTERNATIVES], names[: names.index(first.candidate.name)], _in_time(wish, first))


def _others(good: Sequence[Plan]) -> list[Plan]:
    """What else fits: first other models, each as it is trained best, then the same model in other ways."""
    first, *rest = good
    by_model: dict[str, Plan] = {}
    for plan in rest:
        if plan.candidate != first.candidate:
            by_model.setdefault(plan.candidate.name, plan)
    return [*by_model.values(), *(plan for plan in rest if plan.candidate == first.candidate)]


def _too_long(plan: Plan, table: Rules) -> bool:
    return plan.hours is not None and plan.hours > table.limit("hours")


def _rented(wish: Wish, table: Rules, chosen: Chosen, wanted: Plan) -> list[Plan]:
    """The same model on GPUs that can be rented and hold it in time, the cheapest first."""
    here = wanted.estimate.machine.name if wanted.estimate else None
    found = [
        choosing.plan(wish, table, chosen, wanted.candidate, "lora", rented(gpu))
        for gpu in gpus.table().gpus
        if gpu.name != here
    ]
    return sorted((plan for plan in found if plan.fits and not _too_long(plan, table)), key=_price)


def _price(plan: Plan) -> float:
    cost = plan.estimate.cost if plan.estimate else None
    return cost[1] if cost else float("inf")


def _elsewhere(wish: Wish, table: Rules, chosen: Chosen, machine: Machine) -> Planned:
    """Nothing fits there, or not in time: the first model for which there is a GPU, on the cheapest."""
    for candidate in chosen.candidates:
        wanted = choosing.plan(wish, table, chosen, candidate, "lora", machine)
        found = _rented(wish, table, chosen, wanted)
        if found:
            first = found[0]
            name = first.estimate.machine.name if first.estimate else ""
            doubt = Doubt(
                "does_not_fit",
                _("none of the models fits {machine}, or not within {hours:.0f} hours",
                  machine=machine.name, hours=table.limit("hours")),
                _("the cheapest GPU that does: {gpu}; nlp-skills estimate --list shows all", gpu=name),
            )  # fmt: skip
            return Planned(first, found[1 : 1 + _ALTERNATIVES], doubts=[doubt, *_in_time(wish, first)])
    return Planned()


def _in_time(wish: Wish, plan: Plan) -> list[Doubt]:
    if plan.hours is None or wish.said.hours is None or plan.hours <= wish.said.hours:
        return []
    return [
        Doubt(
            "deadline_too_short",
            _("training takes up to {hours:.1f} hours, and there are {left:.0f} until it must run",
              hours=plan.hours, left=wish.said.hours),
            _("take a larger GPU or a smaller model: see the alternatives"),
            stops=True,
        )
    ]  # fmt: skip
