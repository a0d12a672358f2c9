"""On what a training would run: a GPU by the name people give it, or this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nlp_skills.coach.doubts import Doubt
from nlp_skills.coach.wish import Wish
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.training.estimate import gpus
from nlp_skills.training.estimate.gpus import Gpu, Table
from nlp_skills.training.estimate.machine import Machine, rented

_MEMORY = re.compile(r"\b(\d{2,3})\s*GB\b", re.IGNORECASE)


@dataclass(frozen=True)
class Ground:
    """The machine, and what was not sure about it. None where it is not known at all."""

    machine: Machine | None
    doubts: tuple[Doubt, ...] = ()


def of(wish: Wish) -> Ground:
    """The machine a wish names; this one where it names none.

    Raises:
        Usage: the GPU was given as an option, and is not known.
    """
    table = gpus.table()
    if wish.gpu:
        found, doubts = _named(wish, table)
        return Ground(rented(found) if found else None, doubts)
    here = _here(table)
    if wish.gpu == "" and here is not None and here.kind == "cuda":
        doubt = Doubt(
            "gpu_here",
            _("it was said that there is no GPU, and this machine has a {name}", name=here.name),
            _("name it: GPU: {name}; or leave the constraint out", name=here.name),
        )
        return Ground(here, (doubt,))
    return Ground(here, _remote(wish))


def _named(wish: Wish, table: Table) -> tuple[Gpu | None, tuple[Doubt, ...]]:
    name = wish.gpu or ""
    try:
        found = _matching(table, name) or [table.named(name)]
    except Usage as problem:
        if wish.asked.gpu is not None:
            raise
        return None, (Doubt("gpu_unknown", problem.message, str(problem.mend), stops=True), *_remote(wish))
    if len(found) == 1:
        return found[0], _remote(wish)
    least = min(found, key=lambda gpu: gpu.memory_gb)
    doubt = Doubt(
        "gpu_ambiguous",
        _("several GPUs are called {name}; the one with least memory is assumed: {least}", name=name, least=least.name),
        _("say which: {names}", names=", ".join(gpu.name for gpu in found)),
    )
    return least, (doubt, *_remote(wish))


def _matching(table: Table, name: str) -> list[Gpu]:
    """Every GPU that a name may mean; a memory that is said beside it tells those of one name apart."""
    if found := table.matching(name):
        return found
    size = _MEMORY.search(name)
    bare = table.matching(_MEMORY.sub("", name))
    return [gpu for gpu in bare if size and gpu.memory_gb == int(size[1])] or bare


def _remote(wish: Wish) -> tuple[Doubt, ...]:
    execution = wish.summary.execution if wish.summary else None
    if not wish.said.remote or (execution and execution.type != "local"):
        return ()
    return (
        Doubt(
            "host_unknown",
            _("the GPU is on another machine, and nobody said which"),
            _("name it: execution: {type: remote_ssh, host: user@server}; nlp-skills remote check --help tells more"),
        ),
    )


def _here(table: Table) -> Machine | None:
    """This machine: its GPU as the driver names it, else its processor, timed where PyTorch is installed."""
    from nlp_skills import extras
    from nlp_skills.machine import device

    found = device.find()
    if found.kind == "cuda":
        memory = (found.memory_gb or 0) * 1e9
        gpu = table.of_device(found.names[0], memory)
        return Machine("cuda", found.names[0], True, 2, memory, gpu.speed() if gpu else None, gpu, local=True)
    if not extras.installed("torch"):
        free = found.memory_gb * 1e9 if found.memory_gb else None
        return Machine("cpu", "CPU", bool(found.bf16), 4, free, None, local=True)
    from nlp_skills.training.device import pick
    from nlp_skills.training.estimate import machine

    return machine.here(pick(), table, timed=True)
