"""The catalogue of base models: the table that comes with this package, and what the user's own adds or corrects."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from nlp_skills import files
from nlp_skills.errors import Problem, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.document import Document
from nlp_skills.schema.document import Model as Part

PACKAGED = Path(__file__).parent / "models.yaml"
STALE_AFTER = dt.timedelta(days=183)
# By how the Hub tags them; those that are no SPDX identifiers are licences of their makers.
LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "Llama-3": "llama3",
    "Llama-3.1": "llama3.1",
    "Llama-3.2": "llama3.2",
    "Llama-3.3": "llama3.3",
    "Gemma": "gemma",
    "DeepSeek-Model": "deepseek",
}
Need = Literal["chinese", "reasoning", "light", "ecosystem", "multilingual"]
# How facts were checked: by arithmetic; on a page or in a repository of its makers, or of people who train it; against
# the defaults of transformers; against TRL's copy of its template; not at all, but remembered; on the Hub itself.
Way = Literal["arithmetic", "page", "transformers-default", "trl-template", "memory", "hub"]
_Text = Annotated[str, Field(min_length=1)]


class Figure(Part):
    """A published or measured result: of what, by which metric, on how many rows, and who says so."""

    what: _Text
    value: float
    metric: _Text
    rows: PositiveInt | None = None
    source: _Text
    as_of: dt.date
    measured_here: bool = False


class Advice(Part):
    """How to train it: a learning rate for LoRA to begin with, and what else is worth knowing."""

    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    notes: _Text | None = None


class Latent(Part):
    """Multi-head latent attention: the ranks keys, values and queries go through, and the widths of a head's parts."""

    q_rank: PositiveInt | None = None
    kv_rank: PositiveInt
    nope: PositiveInt
    rope: PositiveInt
    value: PositiveInt


class Delta(Part):
    """A gated delta network in place of attention, but for each layer whose number `full_every` divides."""

    key_heads: PositiveInt
    value_heads: PositiveInt
    key_dim: PositiveInt
    value_dim: PositiveInt
    convolution: PositiveInt = 4
    full_every: PositiveInt = 4


class Wide(Part):
    """Every so many layers, attention sees all tokens instead of a window, with heads of its own.

    With `keys_are_values` those layers have no values of their own.
    """

    every: PositiveInt
    head_dim: PositiveInt
    kv_heads: PositiveInt
    keys_are_values: bool = False


class Model(Part):
    """One base model. Dimensions as its config.json has them; `active` counts what a token passes, embeddings too.

    `base` is the checkpoint of the same shape before instruction tuning. `shared_experts` serve every token,
    `dense_layers` at the beginning have no experts and `intermediate` wide feed-forward layers. `parameters` are those
    of the language model; `vision` counts what is loaded with it to see pictures.
    """

    name: _Text
    family: _Text
    released: dt.date | None = None
    aliases: list[_Text] = Field(default_factory=list)
    base: _Text | None = None
    model_type: _Text
    parameters: PositiveInt
    active: PositiveInt | None = None
    vision: PositiveInt | None = None
    layers: Annotated[int, Field(ge=1, le=1000)]
    hidden: PositiveInt
    intermediate: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    vocabulary: PositiveInt
    tied: bool
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: PositiveInt | None = None
    experts_per_token: PositiveInt | None = None
    moe_intermediate: PositiveInt | None = None
    shared_experts: int = 0
    dense_layers: int = 0
    latent: Latent | None = None
    delta: Delta | None = None
    wide: Wide | None = None
    architecture: Literal["dense", "moe", "mla-moe", "hybrid", "hybrid-moe"]
    context: PositiveInt
    licence: _Text
    languages: list[_Text]
    thinking: Literal["none", "optional", "always"]
    gated: bool = False
    needs: list[Need] = Field(default_factory=list)
    chat_template: _Text | None = None
    advice: Advice = Field(default_factory=Advice)
    figures: list[Figure] = Field(default_factory=list)
    source: _Text
    as_of: dt.date
    checked: list[Way]
    revision: _Text | None = None

    @property
    def short(self) -> str:
        """The name without its owner."""
        return self.name.rpartition("/")[2]

    @property
    def names(self) -> list[str]:
        """Everything it is called, its own name first."""
        return [self.name, *self.aliases, *([self.base] if self.base else [])]

    def age(self, today: dt.date) -> dt.timedelta:
        """How long ago its facts were checked."""
        return today - self.as_of

    def is_stale(self, today: dt.date) -> bool:
        """Whether they were checked over six months ago."""
        return self.age(today) > STALE_AFTER

    def serves(self, language: str) -> bool:
        """Whether a language (BCP 47) is among those its makers name; `zh-TW` is also served by `zh-Hant`."""
        said = language.replace("_", "-").lower()
        known = {code.lower() for code in self.languages}
        return said in known or (said == "zh-tw" and "zh-hant" in known) or said.partition("-")[0] in known


class Table(Document):
    """models.yaml."""

    models: list[Model] = Field(default_factory=list)


def own_path() -> Path:
    """The user's table: `$XDG_CONFIG_HOME/nlp-skills/models.yaml`, by default in ~/.config."""
    return files.of_user("models.yaml")


@lru_cache(maxsize=1)
def _packaged() -> tuple[Table, dict[str, dict[str, Any]]]:
    content, lines = yaml.read(PACKAGED)
    return Table.check(content, PACKAGED, lines), {str(entry["name"]): entry for entry in content["models"]}


def models() -> list[Model]:
    """Every model known here; an entry of the user's changes the keys it has, or adds a model.

    Raises:
        Invalid: the user's table is not a valid one, with the line.
    """
    table, known = _packaged()
    own = own_path()
    if not own.is_file():
        return list(table.models)
    said, lines = yaml.read(own)
    entries = said.get("models") or [] if isinstance(said, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return Table.check(said, own, lines).models
    completed = [{**known.get(str(entry.get("name")), {}), **entry} for entry in entries]
    checked = Table.check({**said, "models": completed}, own, lines)
    mine = {model.name: model for model in checked.models}
    kept = [mine.pop(model.name, model) for model in table.models]
    return [*kept, *mine.values()]


def chosen(*, needs: Sequence[str] = (), language: str | None = None, most: float | None = None) -> list[Model]:
    """The models that are good for all of the needs, serve a language and have at most so many weights."""
    return [
        model
        for model in models()
        if set(needs) <= set(model.needs)
        and (language is None or model.serves(language))
        and (most is None or model.parameters <= most)
    ]


def named(name: str) -> Model:
    """The model of this id or alias, or the only one whose name has these words in it.

    Raises:
        Usage: there is none, or there are several.
    """
    known = models()
    wanted = plain(name)
    exact = [model for model in known if wanted in map(plain, [*model.names, model.short])]
    found = exact or [model for model in known if wanted and any(_has(one, name) for one in model.names)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(model.name for model in found)
        raise Usage(_("several models are called {name}", name=name[:60]), mend=_("name one: {names}", names=listed))
    raise Usage(_("the catalogue has no model called {name}", name=name[:80]), mend=_near(name, known))


def _near(name: str, known: list[Model]) -> str:
    by_plain = {plain(one): model.name for model in known for one in (*model.names, model.short)}
    near = difflib.get_close_matches(plain(name), list(by_plain), n=1)
    if near:
        return _("did you mean {name}?", name=by_plain[near[0]])
    return _("list them: nlp-skills knowledge models; others go into {path}", path=str(own_path()))


def _has(name: str, part: str) -> bool:
    """Whether every word of a part begins a word of the name; qwen3 does not begin qwen3.5."""
    words = _words(name)
    return all(
        any(word.startswith(one) and not word[len(one) :].startswith(".") for word in words) for one in _words(part)
    )


def _words(name: str) -> list[str]:
    return "".join(char if char.isalnum() or char == "." else " " for char in name.lower()).split()


def plain(name: str) -> str:
    """A name as names are compared: small letters and digits, without what separates them."""
    return "".join(char for char in name.lower() if char.isalnum() or char == ".")


def stale(today: dt.date) -> list[Model]:
    """The models whose facts were last checked over six months before this day."""
    try:
        return [model for model in models() if model.is_stale(today)]
    except Problem:
        return [model for model in _packaged()[0].models if model.is_stale(today)]
