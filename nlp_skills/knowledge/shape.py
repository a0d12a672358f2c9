"""The shape of a catalogue's entry: what transformers would build from its config.json, counted without it.

Layers have the names that transformers gives them, so that `target_modules` mean here what they mean in a training.
Of a model that also sees pictures, the language model is described.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nlp_skills.knowledge.catalogue import Delta, Latent, Model
from nlp_skills.training.estimate.shape import Linear, Shape

# Peculiarities of kinds of models, by transformers' name of the kind.
_FUSED_QKV = {"phi3"}
_FUSED_GATE = {"phi3", "glm4"}
_FOUR_NORMS = {"glm4", "gemma3_text", "gemma3", "gemma4"}
# A learned weight a head that attends to nothing, and a bias on everything but the norms.
_SINKS = {"gpt_oss"}
# A language model inside one that sees pictures, which is loaded whole.
_INSIDE = {"gemma3", "gemma4"}
# Experts beside a feed-forward layer that every token takes, with norms and scales of their own.
_PARALLEL = {"gemma4"}
# One shared expert with a gate of its own.
_GATED_SHARED = {"qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next"}


@dataclass
class _Part:
    """Part of a layer: its linear layers by name with both widths, its experts' weights, and all other weights."""

    linears: list[tuple[str, int, int]] = field(default_factory=list)
    experts: int = 0
    other: int = 0


def shape(model: Model) -> Shape:
    """What memory and time of a training depend on."""
    linears: list[Linear] = []
    experts = other = 0
    inside = "language_model." if model.model_type in _INSIDE else ""
    for index in range(model.layers):
        for part in (_mixing(model, index), _feed_forward(model, index)):
            at = f"model.{inside}layers.{index}"
            linears += [Linear(f"{at}.{name}", width, out) for name, width, out in part.linears]
            experts, other = experts + part.experts, other + part.other
    norms = 4 if model.model_type in _FOUR_NORMS else 2
    embedding = model.vocabulary * model.hidden
    other += model.layers * norms * model.hidden + model.hidden + embedding * (1 if model.tied else 2)
    parameters = sum(linear.weights for linear in linears) + experts + other + (model.vision or 0)
    used = parameters - experts + _share(model, experts)
    return Shape(
        family=model.model_type,
        parameters=parameters,
        active=used if model.tied else used - embedding,
        linears=tuple(linears),
        layers=model.layers,
        hidden=model.hidden,
        feed_forward=(model.moe_intermediate or 0) * (model.experts_per_token or 0) or model.intermediate,
        heads=model.heads,
        query=model.heads * model.head_dim,
        key=model.kv_heads * model.head_dim,
        vocabulary=model.vocabulary,
        normed_heads=model.qk_norm,
    )


def parameters(model: Model) -> int:
    """How many weights follow from the entry's dimensions, shared ones once."""
    return shape(model).parameters - (model.vision or 0)


def active(model: Model) -> int:
    """How many of them a token passes, its embedding with them."""
    made = shape(model)
    return made.active - (model.vision or 0) + (0 if model.tied else made.head)


def _share(model: Model, experts: int) -> int:
    """Of the experts' weights, those of the chosen ones."""
    return experts * (model.experts_per_token or 0) // model.experts if model.experts else experts


def _mixing(model: Model, index: int) -> _Part:
    """What mixes the tokens in a layer: attention of one kind or another."""
    if model.delta and (index + 1) % model.delta.full_every:
        return _delta(model, model.delta)
    if model.latent:
        return _latent(model, model.latent)
    if model.wide and (index + 1) % model.wide.every == 0:
        at = model.wide
        return _attention(model, at.head_dim, at.kv_heads, valued=not at.keys_are_values)
    return _attention(model, model.head_dim, model.kv_heads)


def _attention(model: Model, head_dim: int, kv_heads: int, *, valued: bool = True) -> _Part:
    query, key = model.heads * head_dim, kv_heads * head_dim
    # A gate as wide as the queries comes out of the same layer.
    asked = 2 * query if model.delta else query
    inner = [("q_proj", asked), ("k_proj", key), *([("v_proj", key)] if valued else [])]
    linears = [(f"self_attn.{name}", model.hidden, out) for name, out in inner]
    out = ("self_attn.o_proj", query, model.hidden)
    if model.model_type in _FUSED_QKV:
        linears = [out, ("self_attn.qkv_proj", model.hidden, query + 2 * key)]
    else:
        linears.append(out)
    other = (query + 2 * key if model.qkv_bias else 0) + (2 * head_dim if model.qk_norm else 0)
    if model.model_type in _SINKS:
        other += model.hidden + model.heads
    return _Part(linears, other=other)


def _latent(model: Model, at: Latent) -> _Part:
    """Attention whose keys, values and mostly queries go through a narrow place."""
    head = at.nope + at.rope
    query = [("self_attn.q_proj", model.hidden, model.heads * head)]
    if at.q_rank:
        query = [
            ("self_attn.q_a_proj", model.hidden, at.q_rank),
            ("self_attn.q_b_proj", at.q_rank, model.heads * head),
        ]
    linears = [
        *query,
        ("self_attn.kv_a_proj_with_mqa", model.hidden, at.kv_rank + at.rope),
        ("self_attn.kv_b_proj", at.kv_rank, model.heads * (at.nope + at.value)),
        ("self_attn.o_proj", model.heads * at.value, model.hidden),
    ]
    return _Part(linears, other=(at.q_rank or 0) + at.kv_rank)


def _delta(model: Model, at: Delta) -> _Part:
    """A gated delta network: linear attention over a state instead of over all tokens."""
    key, value = at.key_heads * at.key_dim, at.value_heads * at.value_dim
    mixed = 2 * key + value
    linears = [
        ("linear_attn.out_proj", value, model.hidden),
        ("linear_attn.in_proj_qkv", model.hidden, mixed),
        ("linear_attn.in_proj_z", model.hidden, value),
        ("linear_attn.in_proj_b", model.hidden, at.value_heads),
        ("linear_attn.in_proj_a", model.hidden, at.value_heads),
    ]
    return _Part(linears, other=mixed * at.convolution + 2 * at.value_heads + at.value_dim)


def _feed_forward(model: Model, index: int) -> _Part:
    if not model.experts or index < model.dense_layers:
        return _Part(_gated(model, "mlp", model.intermediate, fused=model.model_type in _FUSED_GATE))
    assert model.moe_intermediate is not None
    if model.model_type in _PARALLEL:
        return _parallel(model, model.experts, model.moe_intermediate)
    width, biased = model.moe_intermediate, model.model_type in _SINKS
    each = 3 * model.hidden * width + (2 * width + model.hidden if biased else 0)
    router = model.experts * model.hidden + (model.experts if biased else 0)
    linears: list[tuple[str, int, int]] = []
    if model.shared_experts:
        gated = model.model_type in _GATED_SHARED
        linears = _gated(model, "mlp.shared_expert" if gated else "mlp.shared_experts", model.shared_experts * width)
        linears += [("mlp.shared_expert_gate", model.hidden, 1)] if gated else []
    return _Part(linears, experts=model.experts * each, other=router)


def _parallel(model: Model, experts: int, width: int) -> _Part:
    linears = [*_gated(model, "mlp", model.intermediate), ("router.proj", model.hidden, experts)]
    return _Part(linears, experts=experts * 3 * model.hidden * width, other=4 * model.hidden + experts)


def _gated(model: Model, name: str, width: int, *, fused: bool = False) -> list[tuple[str, int, int]]:
    if fused:
        up = [(f"{name}.gate_up_proj", model.hidden, 2 * width)]
    else:
        up = [(f"{name}.gate_proj", model.hidden, width), (f"{name}.up_proj", model.hidden, width)]
    return [*up, (f"{name}.down_proj", width, model.hidden)]
