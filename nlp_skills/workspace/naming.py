"""Version names: what is one, which comes first, which is next, and what a version's artefacts are called.

Three strategies: semantic (v2, v2.1, v3-exp), date (2025-01-07, 20250107) and hybrid (v2-20250107,
v2_1736236800). A second version of one day is 2025-01-07-2; a second experiment on v3 is v3-exp2.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nlp_skills import files
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.task import PLACEHOLDER, Strategy, Task, Versioning

Kind = Literal["major", "minor", "exp"]
Form = Literal["plain", "dashed", "compact", "day", "second"]

_NUMBER = r"(0|[1-9]\d*)"
_EXPERIMENT = r"(?:-exp([2-9]|[1-9]\d+)?)?"
_FORMS: list[tuple[Strategy, Form, re.Pattern[str]]] = [
    ("semantic", "plain", re.compile(rf"v{_NUMBER}(?:\.{_NUMBER})?{_EXPERIMENT}\Z", re.ASCII)),
    ("date", "dashed", re.compile(rf"(\d{{4}}-\d\d-\d\d)(?:-([2-9]|[1-9]\d+))?{_EXPERIMENT}\Z", re.ASCII)),
    ("date", "compact", re.compile(rf"(\d{{8}})(?:-([2-9]|[1-9]\d+))?{_EXPERIMENT}\Z", re.ASCII)),
    ("hybrid", "day", re.compile(rf"v{_NUMBER}-(\d{{8}}){_EXPERIMENT}\Z", re.ASCII)),
    ("hybrid", "second", re.compile(rf"v{_NUMBER}_(\d{{9,11}}){_EXPERIMENT}\Z", re.ASCII)),
]
_RANK: dict[Strategy, int] = {"semantic": 0, "date": 1, "hybrid": 2}


@dataclass(frozen=True)
class Name:
    """A version name taken apart. `numbers` sort it among its strategy; `experiment` is 0 for none, else which one."""

    strategy: Strategy
    form: Form
    numbers: tuple[int, int]
    experiment: int


class Artefacts(NamedTuple):
    """Where a version's model is kept, relative to the task folder, and what it is called on the Hub."""

    adapter_path: str
    merged_path: str
    gguf_path: str
    hf_repo: str
    tag: str | None


def parse(name: str) -> Name | None:
    """A version name taken apart, or None; a date that is in no calendar is not one."""
    for strategy, form, pattern in _FORMS:
        if match := pattern.match(name):
            numbers = _numbers(form, match)
            experiment = 0
            if "-exp" in name:
                experiment = int(match.group(match.re.groups) or 1)
            return None if numbers is None else Name(strategy, form, numbers, experiment)
    return None


def _numbers(form: Form, match: re.Match[str]) -> tuple[int, int] | None:
    first, second = match.group(1), match.group(2)
    if form in ("dashed", "compact"):
        day = _day(first.replace("-", ""))
        return None if day is None else (day, int(second or 1))
    if form == "day" and _day(second) is None:
        return None
    return int(first), int(second or 0)


def _day(digits: str) -> int | None:
    try:
        dt.datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return None
    return int(digits)


def is_version(name: str) -> bool:
    """Whether `name` follows one of the three strategies: v2.1, 2025-01-07, v2-20250107."""
    return parse(name) is not None


def is_experiment(name: str) -> bool:
    """Whether it is an experiment's name, such as v3-exp."""
    found = parse(name)
    return found is not None and found.experiment > 0


def sort_key(name: str) -> tuple[int, ...]:
    """Orders names, strategies apart; an experiment follows the version it tries out."""
    found = parse(name)
    return (_RANK[found.strategy], *found.numbers, found.experiment) if found else (len(_RANK),)


def refuse_mixing(versioning: Versioning, names: Iterable[str]) -> None:
    """Refuse a strategy other than that of the versions there are.

    Raises:
        Invalid: names of two strategies would stand side by side, and no order would be right for both.
    """
    others = {name: found.strategy for name in names if (found := parse(name))}
    for name, strategy in others.items():
        if strategy != versioning.strategy:
            raise Invalid(
                _("versions are named by the strategy {strategy} here", strategy=strategy),
                cause=_("task.yaml says {strategy}, and there is {name}", strategy=versioning.strategy, name=name),
                mend=_(
                    "set versioning.strategy: {strategy}; another strategy starts with a new task", strategy=strategy
                ),
            )


def next_name(
    versioning: Versioning, taken: Collection[str], *, kind: Kind = "major", parent: str | None = None
) -> str:
    """The name of the next version: the next number, today's date, or both.

    `taken` are all names that ever were. A minor version and an experiment are named after `parent`.

    Raises:
        Usage: a minor version by date or hybrid, whose names have no place for it.
        Invalid: as `refuse_mixing`.
    """
    refuse_mixing(versioning, taken)
    origin = parse(parent) if parent else None
    if kind == "exp" and parent and origin:
        return _free(parent.partition("-exp")[0] + "-exp", taken, glue="")
    if kind == "minor" and (versioning.strategy != "semantic" or origin is None):
        raise Usage(
            _("a version by {strategy} has no minor number", strategy=versioning.strategy),
            mend=_("leave --minor out; versions by semantic numbers have it: v2.1"),
        )
    known = [found for name in taken if (found := parse(name))]
    if kind == "minor" and origin is not None:
        major = origin.numbers[0]
        return f"v{major}.{max((k.numbers[1] for k in known if k.numbers[0] == major), default=0) + 1}"
    if versioning.strategy == "date":
        return _free(_today(_form(versioning, known)), taken, glue="-")
    number = max((found.numbers[0] for found in known), default=0) + 1
    return f"v{number}" if versioning.strategy == "semantic" else f"v{number}{_today(_form(versioning, known))}"


def _form(versioning: Versioning, known: Collection[Name]) -> Form:
    """The form that versions have already, else the one that `naming` asks for."""
    if known:
        return next(iter(known)).form
    places = PLACEHOLDER.findall(versioning.template)
    if versioning.strategy == "date":
        return "compact" if "yyyymmdd" in places else "dashed"
    return "second" if "timestamp" in places else "day"


def _today(form: Form) -> str:
    now = files.now()
    texts: dict[Form, str] = {
        "dashed": f"{now:%Y-%m-%d}",
        "compact": f"{now:%Y%m%d}",
        "day": f"-{now:%Y%m%d}",
        "second": f"_{int(now.timestamp())}",
    }
    return texts[form]


def _free(name: str, taken: Collection[str], *, glue: str) -> str:
    """`name`, or with the first number from 2 that nobody has."""
    if name not in taken:
        return name
    return next(f"{name}{glue}{n}" for n in range(2, len(taken) + 3) if f"{name}{glue}{n}" not in taken)


def model_name(task: Task, version: str) -> str:
    """What the version's model is called outside the task, by `versioning.naming`: entity-sentiment-v2."""
    values = {"task": task.task_name, "version": version}
    found = parse(version)
    if found is not None:
        bare = version.removeprefix("v")
        values["n"] = bare if found.strategy == "semantic" else str(found.numbers[0])
        values |= _times(found, version)
    return PLACEHOLDER.sub(lambda match: values.get(match[1], version), task.versioning.template)


def _times(found: Name, version: str) -> dict[str, str]:
    if found.strategy == "semantic":
        return {}
    if found.strategy == "hybrid":
        return {"yyyymmdd": str(found.numbers[1]), "timestamp": str(found.numbers[1])}
    digits = str(found.numbers[0]).zfill(8)
    rest = version[10:] if found.form == "dashed" else version[8:]
    return {"date": f"{digits[:4]}-{digits[4:6]}-{digits[6:]}{rest}", "yyyymmdd": f"{digits}{rest}"}


def artefacts(task: Task, version: str, *, quantisation: str = "q8_0", owner: str = "org") -> Artefacts:
    """The names of a version's artefacts: one Hub repository with a tag a version, or one a date."""
    name = model_name(task, version)
    dated = task.versioning.strategy == "date"
    return Artefacts(
        adapter_path=f"models/adapter/{version}",
        merged_path=f"models/merged/{version}",
        gguf_path=f"models/gguf/{name}-{quantisation}.gguf",
        hf_repo=f"{owner}/{name if dated else task.task_name}",
        tag=None if dated else version,
    )
