"""The rules a recommendation follows, as data: the table that comes with the package, and what the user's own says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator

from nlp_skills import files, i18n
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.summary import Need
from nlp_skills.schema.task import Strategy
from nlp_skills.schema.training import PREFERENCE_METHODS, Adapter, Method

PACKAGED = Path(__file__).parent / "rules.yaml"
Decision = Literal["fine-tune", "prompt", "classical", "collect", "clarify"]
_LISTS = ("data_size", "models", "methods", "versioning")
_MAPPINGS = ("settings", "limits")
_Text = Annotated[str, Field(min_length=1)]


class Sourced(Model):
    """Where a rule comes from, and since when."""

    source: _Text
    as_of: dt.date


class When(Model):
    """When an entry holds: everything that is written must be so. `language` is by its first part: zh is zh-TW too."""

    language: list[str] | None = None
    needs: Need | None = None
    preference_pairs: Annotated[int, Field(ge=1)] | None = None
    deploy_target: str | None = None

    def holds(self, wish: Mapping[str, Any]) -> bool:
        """Whether a wish (language, needs, preference_pairs, deploy_target) is what this asks for."""
        return all(
            [
                self.language is None or str(wish.get("language") or "").lower().split("-")[0] in self.language,
                self.needs is None or self.needs in wish.get("needs", ()),
                self.preference_pairs is None or wish.get("preference_pairs", 0) >= self.preference_pairs,
                self.deploy_target is None or self.deploy_target == wish.get("deploy_target"),
            ]
        )


class Entry(Sourced):
    """One entry of a list. `why` is said to the user, in their language where it is there."""

    id: _Text
    when: When = Field(default_factory=When)
    why: dict[str, str]

    @field_validator("why")
    @classmethod
    def _in_words(cls, why: dict[str, str]) -> dict[str, str]:
        if not why:
            raise ValueError(_("say why, such as why: {en: …}"))
        return why

    @property
    def words(self) -> str:
        """`why` in the language in force, else in whichever there is."""
        return self.why.get(i18n.language()) or next(iter(self.why.values()))


class Size(Entry):
    """A band of row counts, up to but not with `below`."""

    below: Annotated[int, Field(ge=1)] | None = None
    decision: Decision = "fine-tune"
    ranks: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (16, 16)
    augment: bool = False
    full: bool = False


class Choice(Entry):
    """Base models in order of preference, by their names in the catalogue."""

    choose: Annotated[list[str], Field(min_length=1)]


class Way(Entry):
    """A training method."""

    method: Method


class Naming(Entry):
    """How versions are named for a place, and how that looks there."""

    strategy: Strategy
    form: _Text


class Setting(Sourced):
    """What training begins with."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)]
    epochs: Annotated[float, Field(gt=0)]


class Limit(Sourced):
    """A figure that decides."""

    value: Annotated[float, Field(gt=0)]


class Rules(Document):
    """rules.yaml."""

    data_size: list[Size]
    models: list[Choice]
    methods: list[Way]
    versioning: list[Naming]
    settings: dict[str, Setting]
    limits: dict[str, Limit]

    def size(self, rows: int) -> Size:
        """The band that so many rows are in."""
        return next(band for band in self.data_size if band.below is None or rows < band.below)

    def limit(self, name: str) -> float:
        """The figure of that name."""
        return self.limits[name].value


AnyEntry = TypeVar("AnyEntry", bound=Entry)


def first(entries: Sequence[AnyEntry], wish: Mapping[str, Any]) -> AnyEntry:
    """The first entry that holds."""
    return next(entry for entry in entries if entry.when.holds(wish))


def setting_name(method: Method, adapter: Adapter) -> str:
    """The name under `settings` of what such a training begins with."""
    stage = "preference" if method in PREFERENCE_METHODS else "sft"
    return f"{stage}_{'full' if adapter == 'full' else 'adapter'}"


def own_path() -> Path:
    """The user's rules: `$XDG_CONFIG_HOME/nlp-skills/recommend.yaml`, by default in ~/.config."""
    return files.of_user("recommend.yaml")


def load(own: Path | None = None) -> Rules:
    """All rules; those in `own`, or else in `own_path()` where that is a file, stand before the package's.

    Raises:
        Invalid: the user's rules are not valid ones, with the line.
    """
    content, lines = yaml.read(PACKAGED)
    if own is None:
        own = own_path() if own_path().is_file() else None
    if own is None:
        return Rules.check(content, PACKAGED, lines)
    said, lines = yaml.read(own)
    if said is not None and not isinstance(said, dict):
        raise Invalid(_("rules are a mapping: data_size, models, …"), file=own)
    merged = _merged(content, said or {})
    found = Rules.check(merged, own, _kept(lines))
    if not all(_always(entries) for entries in (found.models, found.methods, found.versioning)) or (
        found.data_size[-1].below is not None
    ):
        raise Invalid(
            _("the last entry of each list must hold for everything"),
            file=own,
            mend=_("leave the entries any, standard, local and many without a condition"),
        )
    return found


def _always(entries: Sequence[Entry]) -> bool:
    return entries[-1].when == When()


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**theirs, **ours}
    for name in _LISTS:
        entries = theirs.get(name) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            merged[name] = entries
            continue
        known = {entry["id"] for entry in ours[name]}
        replaced = {entry.get("id"): entry for entry in entries if entry.get("id") in known}
        new = [entry for entry in entries if entry.get("id") not in known]
        together = [*new, *(replaced.get(entry["id"], entry) for entry in ours[name])]
        merged[name] = sorted(together, key=_bound) if name == "data_size" else together
    for name in _MAPPINGS:
        said = theirs.get(name)
        merged[name] = {**ours[name], **said} if isinstance(said, dict) else said or ours[name]
    return merged


def _bound(entry: Mapping[str, Any]) -> float:
    below = entry.get("below")
    return float(below) if isinstance(below, int | float) else float("inf")


def _kept(lines: yaml.Lines) -> yaml.Lines:
    """Lines of the user's file, without those of lists, whose entries moved by merging."""
    return {at: line for at, line in lines.items() if at and at[0] not in _LISTS}
