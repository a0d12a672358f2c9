"""What would make a training fit: the same estimate with one thing changed, then with several, the cheapest first."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nlp_skills import extras
from nlp_skills.i18n import _
from nlp_skills.schema.training import Config
from nlp_skills.training.estimate import machine as machines
from nlp_skills.training.estimate import verdict
from nlp_skills.training.estimate.gpus import Table
from nlp_skills.training.estimate.verdict import Estimate
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_STEP = 64

Settings = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """Settings of config.yaml that make it fit, or a GPU that does; `costs` is what is paid for it, in words."""

    settings: Settings
    estimate: Estimate
    costs: str

    def words(self, folder: TaskFolder, version: VersionFolder) -> str:
        """What to do, as a command to run or as lines for the file."""
        gb = _("{costs}; peak {gb:.1f} GB", costs=self.costs, gb=self.estimate.gb)
        if not self.settings:
            name = shlex.quote(self.estimate.machine.name)
            return f"nlp-skills estimate {folder.root.name} --gpu {name}   ({gb})"
        if version.model_info_path.is_file():
            return f"nlp-skills new-version {folder.root.name} {_arguments(self.settings)}   ({gb})"
        lines = ", ".join(f"{name}: {_plain(value)}" for name, value in self.settings.items())
        return _("in config.yaml: {lines}", lines=lines) + f"   ({gb})"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "settings": self.settings,
            "gpu": None if self.settings else self.estimate.machine.name,
            "costs": self.costs,
            "peak_gb": round(self.estimate.gb, 3),
            "verdict": self.estimate.verdict,
        }


def _arguments(settings: Mapping[str, Any]) -> str:
    return " ".join(f"--set {shlex.quote(f'{name}={_plain(value)}')}" for name, value in settings.items())


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def cheapest(estimate: Estimate, table: Table, count: int = 3) -> list[Change]:
    """The first changes that make it fit, in the order of what they cost in speed, quality and money."""
    found = [change for change in _single(estimate) if _helps(change)]
    enough = [change.settings.items() for change in found]
    for change in _several(estimate):
        # What fits with one thing changed needs no second one.
        if _helps(change) and not any(settings <= change.settings.items() for settings in enough):
            found.append(change)
            enough.append(change.settings.items())
    gpu = _gpu(estimate, table)
    kept = found[: count - 1] if gpu else found[:count]
    return kept + ([gpu] if gpu else [])


def _helps(change: Change) -> bool:
    return change.estimate.verdict == "fits"


def _single(estimate: Estimate) -> Iterator[Change]:
    yield from _smaller_batch(estimate)
    yield from _computed_twice(estimate)
    yield from _eight_bit(estimate)
    for settings, costs in (*_fewer_bits(estimate), *_shorter(estimate)):
        yield _changed(estimate, settings, costs)


def _several(estimate: Estimate) -> Iterator[Change]:
    """As few rows at a time as can be and the adapter that needs least; then shorter rows too."""
    fewest = _fewest(estimate)
    one = _batch(estimate, fewest) if fewest < estimate.load.rows else {}
    together: Settings = dict(one)
    words = [_("slower steps")] if one else []
    for settings, costs in (*_fewer_bits(estimate), *_shorter(estimate)):
        together, words = {**together, **settings}, [*words, costs]
        if len(words) > 1:
            yield _changed(estimate, together, "; ".join(words))


def _batch(estimate: Estimate, rows: int) -> Settings:
    return {"batch_size": rows, "gradient_accumulation": estimate.config.effective_batch // rows}


def _fewest(estimate: Estimate) -> int:
    """KTO holds the answers of a batch against each other."""
    return 2 if estimate.config.method == "kto" else 1


def _smaller_batch(estimate: Estimate) -> Iterator[Change]:
    """The most rows at once that fit; a step learns from as many as before."""
    each = estimate.config.effective_batch // estimate.load.devices
    for rows in range(estimate.load.rows - 1, _fewest(estimate) - 1, -1):
        if each % rows == 0:
            change = _changed(estimate, _batch(estimate, rows), _("same result, slower steps"))
            if _helps(change):
                yield change
                return


def _computed_twice(estimate: Estimate) -> Iterator[Change]:
    """On a GPU that is done without asking."""
    if not estimate.load.checkpointing and "activation_checkpointing" not in (estimate.config.extra or {}):
        settings = {"extra.activation_checkpointing": True}
        yield _changed(estimate, settings, _("same result, activations computed twice: a fifth slower"))


def _eight_bit(estimate: Estimate) -> Iterator[Change]:
    config = estimate.config
    worth = config.adapter == "full" and estimate.machine.kind == "cuda" and "optim" not in (config.extra or {})
    if worth and extras.installed("bitsandbytes"):
        settings = {"extra.optim": "adamw_8bit"}
        yield _changed(estimate, settings, _("an optimiser that remembers in 8 bits: next to no loss of quality"))


def _fewer_bits(estimate: Estimate) -> Iterator[tuple[Settings, str]]:
    adapter = estimate.config.adapter
    if adapter == "full":
        yield {"adapter": "lora"}, _("adapters instead of all weights: learns less of what is new; raise learning_rate")
    if adapter != "qlora":
        costs = _("base model in four bits: slower, a little less accurate")
        if not extras.installed("bitsandbytes"):
            costs += _(", needs {command}", command=extras.install_command("qlora"))
        yield {"adapter": "qlora"}, costs


def _shorter(estimate: Estimate) -> Iterator[tuple[Settings, str]]:
    """As long as 95 of 100 rows are, the middle of the others left out; packs as long as the longest row."""
    config, work = estimate.config, estimate.work
    most = -(-work.p95 // _STEP) * _STEP
    if not work.known or most >= work.longest:
        return
    if config.packing:
        yield {"max_length": most}, _("smaller packs")
    elif config.allow_truncation:
        yield {"max_length": most}, _("the middle of the longest rows, at most 5 of 100, is left out")
    else:
        settings = {"max_length": most, "allow_truncation": True}
        yield settings, _("the middle of the longest rows, at most 5 of 100, is left out")


def _changed(estimate: Estimate, settings: Settings, costs: str) -> Change:
    """The estimate with these settings."""
    config = _with(estimate.config, settings)
    most = settings.get("max_length", estimate.work.longest)
    work = dataclasses.replace(estimate.work, longest=min(estimate.work.longest, most))
    rows = settings.get("batch_size", estimate.load.rows)
    again = verdict.of(
        config,
        estimate.shape,
        estimate.machine,
        work,
        micro_batch=rows,
        devices=estimate.load.devices,
        sharding=estimate.load.sharding,
    )
    return Change(settings, again, costs)


def _with(config: Config, settings: Settings) -> Config:
    said = config.dump()
    if settings.get("adapter") == "lora":
        said.pop("lora", None)
    for name, value in settings.items():
        outer, dot, inner = name.partition(".")
        said[outer] = {**(said.get(outer) or {}), inner: value} if dot else value
    return Config.model_validate(said)


def _gpu(estimate: Estimate, table: Table) -> Change | None:
    """The GPU of the table that does it for least money, as it is configured now."""
    fitting = []
    for gpu in table.gpus:
        other = verdict.of(
            estimate.config, estimate.shape, machines.rented(gpu), estimate.work, micro_batch=estimate.load.rows
        )
        if other.verdict == "fits" and gpu.price is not None:
            fitting.append(other)
    if not fitting:
        return None
    best = min(fitting, key=price)
    assert best.machine.gpu is not None and best.machine.gpu.price is not None
    hourly = best.machine.gpu.price
    return Change(
        {},
        best,
        _("{price:.2f} dollars an hour at {source}", price=hourly.usd_per_hour, source=hourly.source),
    )


def price(estimate: Estimate) -> float:
    """What to sort by: the most a training may cost, else the price of an hour; unknown prices come last."""
    if estimate.cost is not None:
        return estimate.cost[1]
    gpu = estimate.machine.gpu
    return gpu.price.usd_per_hour if gpu and gpu.price else float("inf")
