"""Peak memory of a training by part: what is kept the whole time, and what a step keeps until it has gone backward.

Bytes a token are those that autograd was seen to keep for Llama and Qwen3 layers (`tests/training/test_estimate.py`
counts them anew). What is multiplied in 16 bits is kept in 16 bits, norms in 32;
weights that learn, adapters among them, have 32 bits. All figures are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nlp_skills.schema.training import PRINCIPAL, Config, Lora
from nlp_skills.training.estimate.machine import Machine
from nlp_skills.training.estimate.shape import Shape

# NF4 with double quantisation: half a byte a weight, one byte for 64 weights, four for 64 × 256 of them.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# Of one GPU beside the weights: CUDA's own, the libraries' work space, what the allocator cannot use again.
CUDA_OVERHEAD = 1.4 * 2**30
# Of one process on a CPU that has imported what trains; and how much of what a step keeps the C library's allocator
# takes again for the gaps in between: measured on SmolLM2-135M, 0.3 at 55 tokens a row and 0.65 at 295.
PROCESS_OVERHEAD = 1.0e9
_GAPS = 0.5
# TRL's output layer works through so many tokens × words of the vocabulary at once.
_TILE_TOKENS, _TILE_WORDS = 4096, 32768
# A second device takes over this much of its share: gathered layers are there in whole for a moment.
_SHARED = 0.85

_STATES = {"sgd": 0.0, "adafactor": 0.5, "lomo": 0.0, "lion": 4.0, "rmsprop": 4.0, "adagrad": 4.0}


@dataclass(frozen=True)
class Load:
    """What one device has before it at once: `rows` of `length` tokens, `answer` of them with a loss.

    `scored` are the positions of a batch at which some row has its answer, `shared` the tokens that all rows begin
    with and a CPU reads once; `devices` are how many share the work by `sharding`.
    """

    rows: int
    length: int
    answer: int
    scored: int
    shared: int = 0
    checkpointing: bool = False
    devices: int = 1
    sharding: Literal["ddp", "fsdp", "zero3"] | None = None


@dataclass(frozen=True)
class Parts:
    """Bytes at the peak of a step. `reference` is a second model that a preference method compares with."""

    weights: float
    adapters: float
    optimizer: float
    gradients: float
    reference: float
    activations: float
    head: float
    overhead: float

    @property
    def total(self) -> float:
        """Their sum."""
        return float(sum(vars(self).values()))


def parts(shape: Shape, config: Config, machine: Machine, load: Load) -> Parts:
    """The peak of a training on one device, by part."""
    full = config.adapter == "full"
    trained = shape.parameters if full else shape.adapter(config.lora or Lora())
    each = _share(load)
    kept = _activations(shape, config, machine, load)
    head = _head(shape, config, machine, load)
    return Parts(
        weights=_weights(shape, config, machine) / each,
        adapters=0.0 if full else trained * (6.0 if machine.half else 4.0),
        optimizer=trained * _states(config) / each,
        gradients=trained * 4.0 / each,
        reference=_reference(config, trained) / each,
        activations=kept,
        head=head,
        overhead=CUDA_OVERHEAD if machine.kind == "cuda" else PROCESS_OVERHEAD + _GAPS * (kept + head),
    )


def _share(load: Load) -> float:
    """By how much weights, gradients and optimiser shrink on each of several devices."""
    return 1.0 if load.sharding in (None, "ddp") else 1 + _SHARED * (load.devices - 1)


def _weights(shape: Shape, config: Config, machine: Machine) -> float:
    if config.adapter == "full":
        return shape.parameters * 4.0
    if config.adapter == "lora":
        return float(shape.parameters * machine.frozen_bytes)
    return shape.quantisable * NF4 + (shape.parameters - shape.quantisable) * machine.frozen_bytes


def _states(config: Config) -> float:
    """Bytes an optimiser remembers of a weight trained in 32 bits."""
    name = str((config.extra or {}).get("optim", "adamw"))
    if "8bit" in name:
        return 2.0
    return next((states for known, states in _STATES.items() if name.startswith(known)), 8.0)


def _reference(config: Config, trained: int) -> float:
    """What DPO and KTO compare with: a copy of what is trained, unless leaving the new adapter out is the same."""
    if config.method not in ("dpo", "kto"):
        return 0.0
    if config.adapter == "full":
        return 0.0 if (config.extra or {}).get("precompute_ref_log_probs") else trained * 4.0
    principal = config.lora is not None and config.lora.init in PRINCIPAL
    return trained * 4.0 if config.init_from or principal else 0.0


def sequences(config: Config, rows: int) -> int:
    """Sequences that go through the model for so many rows: pairs of answers are two."""
    return rows * (2 if config.method in ("dpo", "orpo") else 1)


def _activations(shape: Shape, config: Config, machine: Machine, load: Load) -> float:
    rows = sequences(config, load.rows)
    shared = load.shared if _is_ours(config, machine) and not load.checkpointing else 0
    tokens = rows * (load.length - shared) + shared
    layer = tokens * per_token(shape, config, machine) + _plain(shape, machine, rows, load.length, shared)
    copies = _copies(shape, config, machine)
    wide = 2 if machine.half else 4
    passing = tokens * (3 * shape.feed_forward * wide + 3 * shape.hidden * 4)
    if not load.checkpointing:
        return shape.layers * layer + copies + passing
    hidden = 2 if machine.half and machine.frozen_bytes == 2 and config.adapter != "full" else 4
    return shape.layers * tokens * shape.hidden * hidden + layer + copies / shape.layers + passing


def per_token(shape: Shape, config: Config, machine: Machine) -> float:
    """Bytes one layer keeps of one token."""
    hidden, query, key, inner = shape.hidden, shape.query, shape.key, shape.feed_forward
    full = config.adapter == "full"
    targets = shape.linears if full else shape.targets(config.lora or Lora())
    wide = 2 if machine.half else 4
    if machine.half:
        # Every linear layer that learns keeps a copy of its input of its own.
        inputs = sum(linear.inputs for linear in targets) / shape.layers + 3 * inner
    else:
        inputs = 2 * hidden + query + 4 * inner
    norms = 2 * hidden * 4 * (2 if full else 1) + ((query + key) * 4 if shape.normed_heads else 0)
    attention = (2 * query + 2 * key) * wide + shape.heads * 4
    ranks = 0 if full else (config.lora or Lora()).r * len(targets) / shape.layers * wide
    return inputs * wide + norms + attention + ranks


def _plain(shape: Shape, machine: Machine, rows: int, length: int, shared: int) -> float:
    """What one layer keeps of attention as plain matrix products: a square of the length for every head."""
    if not machine.plain_attention(length):
        return 0.0
    scores = shape.heads * (length - shared) * length * (4 + (2 if machine.half else 0))
    return rows * (scores + 3 * shape.query * (length - shared) * 2)


def _is_ours(config: Config, machine: Machine) -> bool:
    """Whether a step goes our own way: rows side by side without padding, scored where an answer stands only."""
    return config.method == "sft" and machine.kind == "cpu" and not config.packing


def _copies(shape: Shape, config: Config, machine: Machine) -> float:
    """16-bit copies of 32-bit weights, kept for the way back."""
    if not machine.half or config.adapter == "qlora":
        return 0.0
    wide = 4 if config.adapter == "full" else machine.frozen_bytes
    return shape.quantisable * 2.0 if wide == 4 else 0.0


def _head(shape: Shape, config: Config, machine: Machine, load: Load) -> float:
    """The output layer and the loss."""
    rows = sequences(config, load.rows)
    narrow = 2 if machine.half else 4
    copy = shape.head * 2.0 if machine.half and (machine.frozen_bytes == 4 or config.adapter == "full") else 0.0
    learns = shape.head * 4.0 if config.adapter == "full" else 0.0
    if config.method == "orpo" or _is_ours(config, machine):
        # Every word of the vocabulary, where an answer stands only.
        places = load.scored if config.method == "orpo" else load.answer
        return copy + learns + rows * places * shape.vocabulary * (narrow + 12.0)
    scored = rows * (load.answer if machine.kind == "cuda" else load.length)
    tile = min(scored, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS) * narrow * 2.0
    return copy + learns + tile + rows * load.length * shape.hidden * 8.0
