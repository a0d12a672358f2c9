"""Changes as commands that can be run as they stand, and what they cost by the last run's own figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlp_skills.diagnosis.facts import Facts
from nlp_skills.diagnosis.finding import Change, Effort
from nlp_skills.schema import yaml

Command = Sequence[str]


def settings(facts: Facts, text: str, sentence: str, values: Mapping[str, Any]) -> Change:
    """Another version with other settings; `sentence` is what its lineage says of it."""
    given = [part for key, value in values.items() for part in ("--set", f"{key}={_as_yaml(value)}")]
    return Change(text, [new_version(facts, sentence, *given)], dict(values))


def other_rows(facts: Facts, text: str, sentence: str) -> Change:
    """Rows first, then another version with them."""
    return Change(text, [("nlp-skills", "regenerate", facts.name), new_version(facts, sentence)])


def new_version(facts: Facts, sentence: str, *more: str) -> Command:
    """The command that makes a version from the one that was diagnosed."""
    return ("nlp-skills", "new-version", facts.name, "--from", facts.version.name, *more, "--change", sentence)


def _as_yaml(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else yaml.dumps(value).strip().removesuffix("\n...")


def training(facts: Facts, *, epochs: float | None = None) -> Effort | None:
    """Another training like the last, of so many epochs; None where nothing says how long one takes."""
    seconds = facts.ran.seconds if facts.ran and facts.ran.seconds else facts.course.seconds
    if not seconds or not facts.course.epoch:
        return None
    wanted = epochs if epochs is not None else facts.config.epochs
    return Effort(training_seconds=round(seconds * wanted / facts.course.epoch, 1))


def labelling(facts: Facts, rows: int) -> Effort:
    """So many rows to label, and a training with what the version had."""
    again = training(facts)
    return Effort(again.training_seconds if again else None, rows)


def rate(value: float) -> str:
    """A learning rate as people write it: 0.05, 2e-4."""
    if value >= 0.01:
        return f"{value:g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def from_to(name: str, before: Any, after: Any) -> str:
    """`learning rate 0.01 → 0.001`, for a lineage; never translated, as lineages are not."""
    return f"{name} {before} → {after}"
