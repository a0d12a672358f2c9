"""Which model, method and settings: the rules' order of preference, cut to what serves the language and fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills.coach import costs, rules
from nlp_skills.coach.rules import Choice, Naming, Rules, Size, Way
from nlp_skills.coach.wish import Wish
from nlp_skills.errors import Unavailable, Usage
from nlp_skills.i18n import _
from nlp_skills.knowledge import catalogue
from nlp_skills.knowledge import shape as shapes
from nlp_skills.knowledge.catalogue import Model
from nlp_skills.schema.training import Adapter, Config, Method
from nlp_skills.training.estimate.machine import Machine
from nlp_skills.training.estimate.shape import Shape
from nlp_skills.training.estimate.verdict import Estimate


@dataclass(frozen=True)
class Candidate:
    """A base model as it would be named in task.yaml; `model` is None where the catalogue does not have it."""

    name: str
    shape: Shape
    model: Model | None

    @property
    def size(self) -> int:
        """Its weights."""
        return self.shape.parameters


@dataclass(frozen=True)
class Plan:
    """One way to do it, and what it needs. `estimate` is None where the machine is not known."""

    candidate: Candidate
    config: Config
    estimate: Estimate | None

    @property
    def fits(self) -> bool:
        """Whether it can be trained there, as far as anyone can say before trying."""
        return self.estimate is None or self.estimate.verdict != "too big"

    @property
    def hours(self) -> float | None:
        """The most hours it takes."""
        return None if self.estimate is None or self.estimate.seconds is None else self.estimate.seconds[1] / 3600


@dataclass(frozen=True)
class Chosen:
    """The rules that apply to a wish, and the models they lead to; `passed` do not serve its language."""

    size: Size
    choice: Choice
    way: Way
    naming: Naming
    candidates: Sequence[Candidate]
    passed: Sequence[str]


def of(wish: Wish, table: Rules) -> Chosen:
    """What the rules say of a wish.

    Raises:
        Usage: a rule names a model that the catalogue does not have.
        Unavailable: the base model asked for is not in the catalogue and cannot be looked up.
    """
    facts = wish.facts
    choice, serving, passed = _models(wish, table)
    return Chosen(
        table.size(wish.rows or 0),
        choice,
        rules.first(table.methods, facts),
        rules.first(table.versioning, facts),
        serving,
        passed,
    )


def _models(wish: Wish, table: Rules) -> tuple[Choice, list[Candidate], list[str]]:
    """The first rule that holds and has a model for the language, its models, and those that were passed over."""
    holding = [choice for choice in table.models if choice.when.holds(wish.facts)]
    if wish.asked.base_model:
        return holding[0], [_candidate(wish.asked.base_model)], []
    passed: list[str] = []
    for choice in holding:
        found = [_candidate(name) for name in choice.choose]
        serving = [one for one in found if one.model is None or not wish.language or one.model.serves(wish.language)]
        passed += [one.name for one in found if one not in serving and one.name not in passed]
        if serving:
            return choice, serving, passed
    return holding[0], _anyone(str(wish.language)), passed


def _candidate(name: str) -> Candidate:
    folder = Path(name).expanduser().absolute()
    if folder.is_dir():
        # It may be called like a model of the catalogue; and a task is not always looked at from here.
        return Candidate(str(folder), _looked_up(str(folder)), None)
    try:
        model = catalogue.named(name)
    except Usage:
        if "/" not in name:
            raise
        return Candidate(name, _looked_up(name), None)
    # A name that leads to the weights in another way stays as it was written.
    return Candidate(name if name in model.names else model.name, shapes.shape(model), model)


def _looked_up(name: str) -> Shape:
    from nlp_skills.training.estimate import gate, shape

    try:
        return shape.of(gate.small_files(name, Path.cwd()))
    except Unavailable as problem:
        problem.mend = _("name a model of the catalogue: nlp-skills knowledge models; or a folder with its config.json")
        raise


def _anyone(language: str) -> list[Candidate]:
    """Models of the catalogue that serve a language none of the rules' models does, the smallest first."""
    found = [model for model in catalogue.models() if model.serves(language) and model.thinking != "always"]
    return [_candidate(model.name) for model in sorted(found, key=lambda model: model.parameters)][:4]


def plans(wish: Wish, table: Rules, chosen: Chosen, machine: Machine | None) -> Iterator[Plan]:
    """Every plan in the order of preference: the rules' models, each as it is trained best on this machine."""
    for candidate in chosen.candidates:
        for adapter in _adapters(chosen, machine):
            yield plan(wish, table, chosen, candidate, adapter, machine)


def _adapters(chosen: Chosen, machine: Machine | None) -> tuple[Adapter, ...]:
    """All weights where there are rows for it, then adapters; in 4 bits on GPUs only, where that is fast."""
    quantized: tuple[Adapter, ...] = ("qlora",) if machine is None or machine.kind == "cuda" else ()
    enough = chosen.size.full and chosen.way.method == "sft" and machine is not None and machine.kind == "cuda"
    full: tuple[Adapter, ...] = ("full",) if enough else ()
    return (*full, "lora", *quantized)


def plan(
    wish: Wish, table: Rules, chosen: Chosen, candidate: Candidate, adapter: Adapter, machine: Machine | None
) -> Plan:
    """One candidate, trained in one way."""
    made = config(wish, table, chosen, candidate, adapter, chosen.way.method)
    if machine is None:
        return Plan(candidate, made, None)
    found = costs.estimate(made, candidate.shape, machine, costs.rows_of(wish, table))
    return Plan(candidate, found.config, found)


def first_stage(wish: Wish, table: Rules, chosen: Chosen, planned: Plan) -> Config:
    """The settings of the first version. DPO goes on from one that already answers, which SFT makes."""
    if planned.config.method != "dpo":
        return planned.config
    made = config(wish, table, chosen, planned.candidate, planned.config.adapter, "sft")
    batch = {name: getattr(planned.config, name) for name in ("batch_size", "gradient_accumulation")}
    return made.model_copy(update=batch)


def config(wish: Wish, table: Rules, chosen: Chosen, candidate: Candidate, adapter: Adapter, method: Method) -> Config:
    """The training settings, as config.yaml has them."""
    begin = table.settings[rules.setting_name(method, adapter)]
    settings: dict[str, Any] = {
        "base_model": candidate.name,
        "method": method,
        "adapter": adapter,
        "epochs": begin.epochs,
        "learning_rate": begin.learning_rate,
        "max_length": "auto",
    }
    if adapter != "full":
        rank = chosen.size.ranks[_upper_half(wish.rows or 0, table, chosen.size)]
        settings["lora"] = {"r": rank, "alpha": 2 * rank}
    if candidate.model and candidate.model.family.startswith("Qwen3") and candidate.model.thinking == "optional":
        # The one setting under which its training and inference prompts are equal token for token.
        settings["chat_template_kwargs"] = {"enable_thinking": False}
    return Config.model_validate(settings)


def _upper_half(rows: int, table: Rules, band: Size) -> bool:
    """Whether so many rows are in the upper half of their band."""
    bounds = [0, *(size.below for size in table.data_size if size.below is not None)]
    below = band.below
    if below is None:
        return True
    low = max(bound for bound in bounds if bound < below)
    return rows >= (low + below) / 2
