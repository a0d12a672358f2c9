"""How long a training takes: multiplications, by what a device reaches of its peak; and never less than its launches.

Six operations a weight and token are a whole training step, two forward and four backward; adapters need no gradients
of the frozen weights, which leaves four. Recomputing activations is one more way forward. The output layer counts for
the tokens with a loss only.
"""

from __future__ import annotations

import math

from nlp_skills.schema.training import Config
from nlp_skills.training.estimate.machine import Machine
from nlp_skills.training.estimate.memory import Load
from nlp_skills.training.estimate.shape import Shape
from nlp_skills.training.estimate.work import Work

Range = tuple[float, float]

# Operations torch starts for one layer and batch, there and back: counted on a Qwen3 layer in mixed precision.
_LAUNCHES = {"lora": 268, "qlora": 282, "full": 181}
# Seconds to start one: what eager torch is known to need, from a fast processor to a busy one.
_LAUNCH = (4e-6, 15e-6)
# Weights of four bits are unpacked on every way through; reported to take up to 40 % more time.
_UNPACKING = 1.4
# A second device adds this much of the first one's speed, the rest being spent on waiting for each other.
_SHARED = 0.85
# Seconds until the first step (imports, loading the model, encoding rows): seen on an idle and on a crowded machine.
_STARTUP = (8.0, 45.0)


def operations(shape: Shape, config: Config, load: Load, work: Work) -> float:
    """Floating-point operations of one epoch, its evaluation included."""
    times = _times(config, load)
    body = shape.active - shape.head
    # Scores of attention: every token with half of its row on average, two products a layer.
    body += 2 * shape.layers * shape.query * round(work.row / 2)
    head = 6 if config.adapter == "full" else 4
    learning = body * times * work.tokens + shape.head * head * work.learnt
    return learning + 2 * shape.active * work.valid_tokens


def _times(config: Config, load: Load) -> int:
    """Operations a weight and token."""
    learning = 6 if config.adapter == "full" else 4
    # DPO and KTO ask the reference too, and KTO the mismatched answers.
    asking = {"dpo": 2, "kto": 4}.get(config.method, 0)
    return learning + (2 if load.checkpointing else 0) + asking


def seconds(
    shape: Shape, config: Config, machine: Machine, load: Load, work: Work, *, speed: Range | None = None
) -> Range | None:
    """Seconds of the whole training, at least and at most; None where nobody knows how fast the machine is.

    `speed`: operations a second that runs on this machine have reached, where there were any.
    """
    reached = speed or machine.speed
    if reached is None or not work.known:
        return None
    devices = 1 + _SHARED * (load.devices - 1)
    slow = _UNPACKING if config.adapter == "qlora" and speed is None else 1.0
    needed = operations(shape, config, load, work) * config.epochs / devices
    launches = _LAUNCHES[config.adapter] * shape.layers * (4 / 3 if load.checkpointing else 1)
    batches = math.ceil(work.rows / load.rows / load.devices) * config.epochs
    floor = [launches * batches * each if speed is None else 0.0 for each in _LAUNCH]
    low, high = needed / reached[1], needed * slow / reached[0]
    return _STARTUP[0] + max(low, floor[0]), _STARTUP[1] + max(high, floor[1])


def speed_of(shape: Shape, config: Config, load: Load, work: Work, tokens_per_second: float) -> float:
    """Operations a second that a run reached."""
    return operations(shape, config, load, work) / max(1, work.tokens) * tokens_per_second
