"""Version names: what is one, which comes first, which is next, and what a version's artefacts are called.

Three strategies: semantic (v2, v2.1, v3-exp), date (2025-01-07, 20250107) and hybrid (v2-20250107,
v2_1736236800). A second version of one day is 2025-01-07-2; a second experiment on v3 is v3-exp2.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from nlp_skills import files
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
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


def kind(name: str) -> Kind:
    """How a version came to its name: v2 is a major one, v2.1 a minor one, v2-exp an experiment."""
    if is_experiment(name):
        return "exp"
    found = parse(name)
    return "minor" if found and found.strategy == "semantic" and found.numbers[1] else "major"


def sort_key(name: str) -> tuple[int, ...]:
    """Orders names, strategies apart; an experiment follows the version it tries out. No two names share a key."""
    found = parse(name)
    if found is None:
        return (len(_RANK),)
    # Two spellings of one number (v2 and v2.0, 20250107 and 2025-01-07) still have an order.
    return (_RANK[found.strategy], *found.numbers, found.experiment, len(name))


def refuse_mixing(versioning: Versioning, names: Iterable[str], *, file: Path) -> None:
    """Refuse a strategy other than that of the versions there are. `file` is the task.yaml that says it.

    Raises:
        Invalid: names of two strategies would stand side by side, and no order would be right for both.
    """
    others = {name: found.strategy for name in names if (found := parse(name))}
    for name, strategy in others.items():
        if strategy != versioning.strategy:
            lines = yaml.read(file).lines
            raise Invalid(
                _("versions are named by the strategy {strategy} here", strategy=strategy),
                file=file,
                line=lines.get(("versioning", "strategy")) or lines.get(("versioning",)),
                cause=_("task.yaml says {strategy}, and there is {name}", strategy=versioning.strategy, name=name),
                mend=_(
                    "set versioning.strategy: {strategy}; another strategy starts with a new task", strategy=strategy
                ),
            )


def next_name(
    versioning: Versioning, taken: Collection[str], *, kind: Kind = "major", parent: str | None = None
) -> str:
    """The name of the next version: the next number, today's date, or both.

    `taken` are all names that ever were; those of another strategy do not count. A minor version and an experiment
    are named after `parent`.

    Raises:
        Usage: a minor version by date or hybrid, whose names have no place for it.
    """
    origin = parse(parent) if parent else None
    if kind == "exp" and parent and origin:
        return _free(parent.partition("-exp")[0] + "-exp", taken, glue="")
    if kind == "minor" and (versioning.strategy != "semantic" or origin is None):
        raise Usage(
            _("a version by {strategy} has no minor number", strategy=versioning.strategy),
            mend=_("leave --minor out; only the strategy semantic has such versions, v2.1 for one"),
        )
    ordered = (parse(name) for name in sorted(taken, key=sort_key))
    known = [found for found in ordered if found and found.strategy == versioning.strategy]
    if kind == "minor" and origin is not None:
        major = origin.numbers[0]
        return f"v{major}.{max((k.numbers[1] for k in known if k.numbers[0] == major), default=0) + 1}"
    if versioning.strategy == "date":
        return _free(_today(_form(versioning, known)), taken, glue="-")
    number = max((found.numbers[0] for found in known), default=0) + 1
    return f"v{number}" if versioning.strategy == "semantic" else f"v{number}{_today(_form(versioning, known))}"


def first_name(versioning: Versioning) -> str:
    """The name of a task's first version: v1, or one of today."""
    return next_name(versioning, ())


def fits(versioning: Versioning, name: str) -> bool:
    """Whether a first version may be called so: by the strategy, and in its second form where `naming` asks for it."""
    found, wanted = parse(name), _form(versioning, ())
    if found is None or found.strategy != versioning.strategy:
        return False
    return found.form == wanted or wanted not in ("compact", "second")


def _form(versioning: Versioning, known: Sequence[Name]) -> Form:
    """The form that the last version has, else the one that `naming` asks for."""
    if known:
        return known[-1].form
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
    template = task.versioning.template
    values = {"task": task.task_name, "version": version}
    found = parse(version)
    if found is not None:
        values |= _places(found, version)
    name = PLACEHOLDER.sub(lambda match: values.get(match[1], version), template)
    # A hybrid's number and date are those of the version that the experiment tries out.
    told = found is None or found.strategy != "hybrid" or "version" in PLACEHOLDER.findall(template)
    return name if told else name + version[len(version.partition("-exp")[0]) :]


def _places(found: Name, version: str) -> dict[str, str]:
    """What stands for `n`, `date`, `yyyymmdd` and `timestamp` in a template; an experiment is told by what has room."""
    first, second = found.numbers
    if found.strategy == "semantic":
        return {"n": version.removeprefix("v")}
    if found.strategy == "hybrid":
        day = f"{dt.datetime.fromtimestamp(second, dt.UTC):%Y%m%d}" if found.form == "second" else str(second).zfill(8)
        return {"n": str(first), "yyyymmdd": day, "timestamp": str(second)}
    digits = str(first).zfill(8)
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
