"""A server as it was looked at, as an estimate needs to know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_skills.training.device import deterministic
from nlp_skills.training.estimate import gpus
from nlp_skills.training.estimate.machine import Machine


def machine(found: dict[str, Any], chosen: Sequence[int]) -> Machine:
    """The GPUs that are chosen there, as the one with the least free memory; its processor where there is none.

    `found` is the agent's probe. How fast a processor is that nobody has trained on is not known.
    """
    ours = [gpu for gpu in found["gpus"] if gpu["index"] in chosen]
    if ours and not deterministic():
        least = min(ours, key=lambda gpu: gpu["free"] or 0)
        known = gpus.table().of_device(least["name"], least["total"])
        speed = known.speed() if known else None
        return Machine("cuda", least["name"], True, 2, _number(least["free"]), speed, known)
    name = found["processor"] or found["architecture"]
    half = bool(found["bf16"]) and not deterministic()
    return Machine("cpu", name, half, 4, _number(found["memory"]["free"]), None)


def _number(value: int | None) -> float | None:
    return None if value is None else float(value)
