"""What the Hub says of a model today, held against its entry; what differs goes into the user's own table."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nlp_skills import extras, files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.knowledge import catalogue, shape
from nlp_skills.knowledge.catalogue import LICENCES, Model
from nlp_skills.schema import yaml
from nlp_skills.schema.document import cause_of

# The names of an entry's facts in config.json; a fact may have several, by kind of model.
_KEYS = {
    "model_type": ("model_type",),
    "layers": ("num_hidden_layers",),
    "hidden": ("hidden_size",),
    "intermediate": ("intermediate_size",),
    "heads": ("num_attention_heads",),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "vocabulary": ("vocab_size",),
    "tied": ("tie_word_embeddings",),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "experts_per_token": ("num_experts_per_tok", "top_k_experts"),
    "moe_intermediate": ("moe_intermediate_size",),
    "context": ("max_position_embeddings",),
}
# What an entry gives otherwise than its config.json, where that has it under the same name.
_OTHERWISE = {"head_dim": "latent", "intermediate": "delta"}
# What is shown of a text from there, and kept: a name, nothing that a terminal would act on.
_WORD = re.compile(r"[\w.+-]{1,60}")
_HEADER = "# Models of your own and corrections, by `nlp-skills knowledge model NAME --refresh` or by hand.\n"


@dataclass(frozen=True)
class Change:
    """A fact that is another one on the Hub."""

    field: str
    before: Any
    now: Any


@dataclass(frozen=True)
class Refreshed:
    """What was asked, when, and what differed. `model` is the entry as it is from now on."""

    model: Model
    revision: str
    modified: dt.datetime | None
    changes: list[Change]
    path: Path


def refresh(name: str, today: dt.date) -> Refreshed:
    """Ask the Hub about a model of the catalogue, and write what it says into the user's own table.

    Raises:
        Usage: the catalogue has no such model.
        Unavailable: huggingface_hub is not installed, or the Hub does not answer or does not give the model.
        Invalid: what the Hub has cannot be read, or the user's table is not a valid one.
    """
    model = catalogue.named(name)
    said, licence, gated, revision, modified = _asked(model.name)
    now = {**_facts(model, said), **({"licence": licence} if licence else {}), "gated": gated}
    changes = [
        Change(field, getattr(model, field), value) for field, value in now.items() if getattr(model, field) != value
    ]
    entry = _entry(model, {change.field: change.now for change in changes}, revision, today)
    _write(model.name, entry)
    return Refreshed(catalogue.named(model.name), revision, modified, changes, catalogue.own_path())


def _asked(name: str) -> tuple[dict[str, Any], str | None, bool, str, dt.datetime | None]:
    """config.json, licence, whether it is gated, the commit and its day; all of the same commit."""
    extras.need("hub", "huggingface_hub")
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    from nlp_skills.training import hub_refusals

    try:
        info = HfApi().model_info(name, timeout=30)
        config = hf_hub_download(name, "config.json", revision=info.sha)
        try:
            card = Path(hf_hub_download(name, "README.md", revision=info.sha))
        except EntryNotFoundError:
            card = None
    # The client passes on errors of httpx, of the system and its own.
    except Exception as error:
        raise hub_refusals.explained(error, name) from error
    return _read(Path(config)), _licence(card), bool(info.gated), str(info.sha), info.last_modified


def _read(path: Path) -> dict[str, Any]:
    """config.json; of one that sees pictures, what it says of its language model."""
    try:
        said = json.loads(path.read_bytes())
    except ValueError as error:
        raise Invalid(_("the model's config.json is no JSON"), file=path, cause=str(error)[:200]) from error
    if not isinstance(said, dict):
        raise Invalid(_("the model's config.json is no JSON object"), file=path)
    inner = said.get("text_config")
    return {**inner, "model_type": said.get("model_type")} if isinstance(inner, dict) else said


def _licence(card: Path | None) -> str | None:
    """The licence a model card names, as the catalogue calls it."""
    if card is None:
        return None
    _begin, _dashes, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    try:
        said = yaml.loads(rest.partition("\n---")[0], card).data
    except Invalid:
        return None
    tag = said.get("license") if isinstance(said, dict) else None
    if not isinstance(tag, str) or not _WORD.fullmatch(tag):
        return None
    return next((name for name, known in LICENCES.items() if known == tag.lower()), tag)


def _facts(model: Model, said: dict[str, Any]) -> dict[str, Any]:
    """What config.json says of the things an entry has; what it does not say, or says otherwise, is left as it is."""
    found: dict[str, Any] = {}
    for field, keys in _KEYS.items():
        value = next((said[key] for key in keys if said.get(key) is not None), None)
        before = getattr(model, field)
        if value is None or (field in _OTHERWISE and getattr(model, _OTHERWISE[field])):
            continue
        # Only a fact of the same kind can take an entry's place: what stands on the Hub is not checked by anyone.
        if (
            before is not None
            and type(value) is type(before)
            and (not isinstance(value, str) or _WORD.fullmatch(value))
        ):
            found[field] = value
    return found


def _entry(model: Model, changed: dict[str, Any], revision: str, today: dt.date) -> dict[str, Any]:
    """The user's entry: what differs, and what follows from it."""
    entry = {**changed, "revision": revision, "as_of": today.isoformat(), "checked": ["arithmetic", "hub"]}
    try:
        as_it_is = Model.model_validate({**model.model_dump(), **entry})
    except ValidationError as error:
        cause = cause_of(error.errors(include_url=False)[0])
        raise Invalid(_("what the Hub says of {name} makes no sense", name=model.name), cause=cause) from error
    if shape.parameters(as_it_is) != model.parameters:
        entry["parameters"] = shape.parameters(as_it_is)
    if as_it_is.experts and shape.active(as_it_is) != model.active:
        entry["active"] = shape.active(as_it_is)
    return entry


def _write(name: str, entry: dict[str, Any]) -> None:
    own = catalogue.own_path()
    if not own.is_file():
        own.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(own, yaml.dumps({"models": [{"name": name, **entry}]}, header=_HEADER))
        return
    said = yaml.read(own).data or {}
    names = [found.get("name") for found in said.get("models") or [] if isinstance(found, dict)]
    if name in names:
        at = names.index(name)
        yaml.change(own, {("models", at, key): value for key, value in entry.items()})
    else:
        yaml.change(own, {("models", len(names)): {"name": name, **entry}})
