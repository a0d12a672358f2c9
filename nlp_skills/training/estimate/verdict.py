"""One training on one machine, foretold: memory by part, time, cost, and whether it fits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from nlp_skills.schema.training import Config, Lora
from nlp_skills.training.estimate import measured, memory, pace
from nlp_skills.training.estimate.machine import Machine
from nlp_skills.training.estimate.memory import Load, Parts
from nlp_skills.training.estimate.shape import Shape
from nlp_skills.training.estimate.work import Work

Verdict = Literal["fits", "tight", "too big", "unknown"]

# The formulas are right to within this share; published figures and measured runs lie inside it.
UNCERTAIN = 0.15
# Activations are computed twice, for about a fifth of the speed, where they would take the last of the memory.
_COMFORTABLE = 0.9


@dataclass(frozen=True)
class Estimate:
    """What a training will need. `ratio` is what `runs` earlier runs here have corrected memory by.

    `seconds` is from–to; None where rows or the machine's speed are not known.
    """

    config: Config
    shape: Shape
    machine: Machine
    work: Work
    load: Load
    accumulation: int
    parts: Parts
    ratio: float
    runs: int
    seconds: tuple[float, float] | None
    timed_runs: int = 0

    @property
    def gb(self) -> float:
        """The peak, in GB."""
        return self.parts.total * self.ratio / 1e9

    @property
    def between(self) -> tuple[float, float]:
        """The least and the most the peak will be, in GB."""
        return self.gb * (1 - UNCERTAIN), self.gb * (1 + UNCERTAIN)

    @property
    def free_gb(self) -> float | None:
        """What the training may use, in GB."""
        return None if self.machine.free is None else self.machine.free / 1e9

    @property
    def verdict(self) -> Verdict:
        """Whether it fits: `tight` is where only trying tells."""
        if self.free_gb is None:
            return "unknown"
        low, high = self.between
        return "fits" if high <= self.free_gb else "tight" if low <= self.free_gb else "too big"

    @property
    def trained(self) -> int:
        """Weights that learn."""
        full = self.config.adapter == "full"
        return self.shape.parameters if full else self.shape.adapter(self.config.lora or Lora())

    @property
    def cost(self) -> tuple[float, float] | None:
        """US dollars, from–to; what is here already costs nothing."""
        if self.seconds is None:
            return None
        if self.machine.local:
            return 0.0, 0.0
        price = self.machine.gpu.price if self.machine.gpu else None
        if price is None:
            return None
        low, high = self.seconds
        return low / 3600 * price.usd_per_hour * self.load.devices, high / 3600 * price.usd_per_hour * self.load.devices

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        gpu = self.machine.gpu
        low, high = self.between
        return {
            "base_model": self.config.base_model,
            "method": self.config.method,
            "adapter": self.config.adapter,
            "machine": {
                "name": self.machine.name,
                "kind": self.machine.kind,
                "local": self.machine.local,
                "gpus": self.load.devices,
                "free_gb": _rounded(self.free_gb),
                "usd_per_hour": gpu.price.usd_per_hour if gpu and gpu.price else None,
                "price": None if not (gpu and gpu.price) else {"seen": gpu.price.seen, "source": gpu.price.source},
            },
            "parameters": {
                "all": self.shape.parameters,
                "active": self.shape.active,
                "quantised": self.shape.quantisable if self.config.adapter == "qlora" else 0,
                "trained": self.trained,
            },
            "batch": {
                "rows": self.load.rows,
                "tokens_a_row": self.load.length,
                "accumulation": self.accumulation,
                "devices": self.load.devices,
                "sharding": self.load.sharding,
                "activation_checkpointing": self.load.checkpointing,
            },
            "memory_gb": {name: _rounded(value * self.ratio / 1e9) for name, value in vars(self.parts).items()},
            "peak_gb": _rounded(self.gb),
            "peak_gb_between": [_rounded(low), _rounded(high)],
            "verdict": self.verdict,
            "corrected_by_runs": self.runs,
            "correction": round(self.ratio, 3),
            "tokens_an_epoch": self.work.tokens if self.work.known else None,
            "steps": self.work.total_steps if self.work.known else None,
            "seconds_between": None if self.seconds is None else [round(value, 1) for value in self.seconds],
            "timed_by_runs": self.timed_runs,
            "usd_between": None if self.cost is None else [round(value, 4) for value in self.cost],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def of(
    config: Config,
    shape: Shape,
    machine: Machine,
    work: Work,
    *,
    micro_batch: int,
    devices: int = 1,
    sharding: Any = None,
    checkpointing: bool | None = None,
) -> Estimate:
    """The estimate of a training in batches of `micro_batch` rows on each of `devices` devices.

    `checkpointing`: None decides as training does, by `extra` where it is written and by a GPU's memory else.
    """
    if machine.kind != "cuda" and machine.free is not None:
        # Processes on one CPU have one memory.
        machine = dataclasses.replace(machine, free=machine.free / devices)
    found = measured.like(machine.name, shape.parameters, config.adapter, config.method) if machine.local else []
    ratio, runs = measured.correction(found)
    speed, timed = measured.speed(found)
    said = _said(config) if checkpointing is None else checkpointing
    load = Load(
        rows=micro_batch,
        length=work.longest,
        answer=work.answer,
        scored=min(work.longest, work.answer + work.spread),
        shared=min(work.shared, work.longest - 1),
        checkpointing=bool(said),
        devices=devices,
        sharding=sharding if devices > 1 else None,
    )
    parts = memory.parts(shape, config, machine, load)
    crowded = machine.free is not None and parts.total * ratio > machine.free * _COMFORTABLE
    if said is None and crowded and machine.kind == "cuda":
        load = dataclasses.replace(load, checkpointing=True)
        parts = memory.parts(shape, config, machine, load)
    return Estimate(
        config=config,
        shape=shape,
        machine=machine,
        work=work,
        load=load,
        accumulation=max(1, config.effective_batch // (micro_batch * devices)),
        parts=parts,
        ratio=ratio,
        runs=runs,
        seconds=pace.seconds(shape, config, machine, load, work, speed=speed),
        timed_runs=timed,
    )


def _said(config: Config) -> bool | None:
    """What `extra` says of activation checkpointing."""
    extra = config.extra or {}
    said = [extra[name] for name in ("activation_checkpointing", "gradient_checkpointing") if name in extra]
    return bool(said[0]) if said else None
