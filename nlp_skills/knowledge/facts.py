"""An entry of the catalogue in words, fact by fact, with its source and age."""

from __future__ import annotations

import datetime as dt
from typing import Any

from nlp_skills.i18n import _
from nlp_skills.knowledge import shape, tables
from nlp_skills.knowledge.catalogue import Figure, Model
from nlp_skills.schema.training import Lora


def lines(model: Model) -> list[tuple[str, str]]:
    """What is known of a model, each with its name; what does not apply is left out."""
    found = [
        (_("family"), model.family),
        (_("released"), model.released.isoformat() if model.released else ""),
        (_("also called"), ", ".join(model.aliases)),
        (_("before instruction tuning"), model.base or ""),
        (_("architecture"), f"{model.architecture} ({model.model_type})"),
        (_("weights"), _weights(model)),
        (_("layers"), _layers(model)),
        (_("attention"), _attention(model)),
        (_("experts"), _experts(model)),
        (_("vocabulary"), _vocabulary(model)),
        (_("context"), f"{model.context:,}"),
        (_("trained by LoRA"), _adapter(model)),
        (_("licence"), model.licence + (_(", to be accepted on its page first") if model.gated else "")),
        (_("languages"), ", ".join(model.languages)),
        (_("thinking"), thinking(model)),
        (_("good for"), ", ".join(model.needs)),
        (_("chat template"), model.chat_template or ""),
        (_("learning rate to begin with"), f"{model.advice.learning_rate:g}" if model.advice.learning_rate else ""),
        (_("advice"), model.advice.notes or ""),
        *((_("figure"), figure(one)) for one in model.figures),
        (_("revision"), model.revision or ""),
        (_("published at"), model.source),
        (_("checked by"), ", ".join(_way(way) for way in model.checked)),
    ]
    return [(name, value) for name, value in found if value]


def as_dict(model: Model, today: dt.date) -> dict[str, Any]:
    """An entry for programs: every key of the catalogue, how old it is, and what follows from it."""
    adapter = shape.shape(model).adapter(Lora(r=16, target_modules="all-linear"))
    return {
        **model.model_dump(mode="json", exclude_none=True),
        "age_days": model.age(today).days,
        "stale": model.is_stale(today),
        "lora_r16_weights": adapter,
        "cache_bytes_per_token": tables.cache(model),
    }


def age(model: Model, today: dt.date) -> str:
    """When the facts were last checked, and whether that is long ago."""
    days = model.age(today).days
    if model.is_stale(today):
        return _("last checked on {day}, {days} days ago: over six months", day=model.as_of.isoformat(), days=days)
    return _("last checked on {day}, {days} days ago", day=model.as_of.isoformat(), days=days)


def stale_mark(model: Model, today: dt.date) -> str:
    """The day its facts were last checked; marked where that is long ago."""
    return f"{model.as_of.isoformat()}{' !' if model.is_stale(today) else ''}"


def thinking(model: Model) -> str:
    """Whether it thinks before it answers."""
    return {
        "none": _("does not"),
        "optional": _("on request, by the chat template"),
        "always": _("always"),
    }[model.thinking]


def figure(one: Figure) -> str:
    """A published or measured figure in a line."""
    who = _("measured here: {source}", source=one.source) if one.measured_here else one.source
    beside = [_("rows: {rows}", rows=one.rows)] if one.rows else []
    return f"{one.what}: {one.metric} {one.value:g} ({', '.join([*beside, who, one.as_of.isoformat()])})"


def _weights(model: Model) -> str:
    text = f"{model.parameters:,}"
    if model.active:
        text += _(", of which a token passes {active}", active=f"{model.active:,}")
    if model.vision:
        text += _(", and {vision} to see pictures", vision=f"{model.vision:,}")
    return text


def _layers(model: Model) -> str:
    text = _(
        "{layers}, {hidden} wide, {inner} inside", layers=model.layers, hidden=model.hidden, inner=model.intermediate
    )
    if model.delta:
        text += _("; one of {count} with full attention, the others gated delta networks", count=model.delta.full_every)
    if model.wide:
        text += _("; one of {count} sees the whole text, the others a window", count=model.wide.every)
    return text


def _attention(model: Model) -> str:
    text = _("heads {heads}, of keys and values {kv}, {width} wide each", heads=model.heads, kv=model.kv_heads,
             width=model.head_dim)  # fmt: skip
    if model.latent:
        text += _("; keys and values through {rank} numbers (MLA)", rank=model.latent.kv_rank)
    return text + _("; cache a token: {size:.0f} KiB", size=tables.cache(model) / 1024)


def _experts(model: Model) -> str:
    if not model.experts:
        return ""
    values = {"count": model.experts, "used": model.experts_per_token, "width": model.moe_intermediate}
    return _("{count}, of which a token goes to {used}, {width} inside", **values)


def _vocabulary(model: Model) -> str:
    tied = _("input and output share them") if model.tied else _("input and output have their own")
    return _("{count} tokens; {tied}", count=f"{model.vocabulary:,}", tied=tied)


def _adapter(model: Model) -> str:
    trained = shape.shape(model).adapter(Lora(r=16, target_modules="all-linear"))
    return _("{count} weights at r=16 on all linear layers", count=f"{trained:,}")


def _way(way: str) -> str:
    return {
        "arithmetic": _("arithmetic"),
        "page": _("a page or repository"),
        "transformers-default": _("the defaults of transformers"),
        "trl-template": _("TRL's copy of the template"),
        "memory": _("nothing for some of it: remembered"),
        "hub": _("the Hub itself"),
    }[way]
