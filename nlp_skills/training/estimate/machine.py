"""What computes, as far as an estimate needs to know: a device here, or a GPU that could be rented.

Memory is in bytes, speed in floating-point operations a second.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.training.device import Device, plain_attention, processor
from nlp_skills.training.estimate.gpus import Gpu, Table

# Says how much memory a training may use, in GB, where what the system says is not what is meant.
VARIABLE = "NLP_SKILLS_MEMORY_GB"
# A training reaches this much of what plain matrix products reach on the same processor.
_OF_MATRIX_PRODUCTS = (0.15, 0.7)


@dataclass(frozen=True)
class Machine:
    """One device. `half`: it multiplies in 16 bits; `frozen_bytes`: of a weight that is not trained.

    `speed` is what a training is expected to reach at least and at most; None where nobody knows.
    """

    kind: Literal["cuda", "mps", "cpu"]
    name: str
    half: bool
    frozen_bytes: int
    free: float | None
    speed: tuple[float, float] | None
    gpu: Gpu | None = None
    local: bool = False

    def plain_attention(self, longest: int) -> bool:
        """Whether training computes attention as plain matrix products here."""
        return plain_attention(Device(self.kind, self.name, "", None), longest)


def rented(gpu: Gpu) -> Machine:
    """A GPU of the table, all of its memory free."""
    return Machine("cuda", gpu.name, True, 2, gpu.memory_gb * 1e9, gpu.speed(), gpu)


def here(device: Device, table: Table, *, timed: bool = False) -> Machine:
    """The device a training would run on. `timed`: measure how fast it multiplies, where the table does not say."""
    kind: Any = device.type
    gpu = table.of_device(device.name, device.memory_bytes) if kind == "cuda" else None
    frozen = 2 if kind == "cuda" or device.dtype in ("bfloat16", "float16") else 4
    half = device.autocast is not None or device.dtype != "float32"
    speed = gpu.speed() if gpu else _timed(device) if timed else None
    name = device.name if kind == "cuda" else processor()
    return Machine(kind, name, half, frozen, free_memory(device), speed, gpu, local=True)


def _timed(device: Device) -> tuple[float, float]:
    """What matrix products reach here, over some tenths of a second, times what a training reaches of that."""
    import torch

    size = 4096 if device.type == "cuda" else 768
    dtype = getattr(torch, device.autocast or device.dtype)
    left = torch.ones(size, size, dtype=dtype, device=device.type)
    best = 0.0
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until:
        start = time.perf_counter()
        float((left @ left)[0, 0])
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    low, high = _OF_MATRIX_PRODUCTS
    return best * low, best * high


def free_memory(device: Device) -> float | None:
    """Bytes a training may use: what nobody else uses, of the GPU where there is one.

    Raises:
        Usage: NLP_SKILLS_MEMORY_GB is not a number.
    """
    said = os.environ.get(VARIABLE)
    if said:
        try:
            return float(said) * 1e9
        except ValueError as error:
            raise Usage(
                _("{name} is not a number: {value}", name=VARIABLE, value=said[:40]),
                mend=_("set it to the GB a training may use, such as 24, or unset it"),
            ) from error
    if device.type == "cuda":
        import torch

        free, _total = torch.cuda.mem_get_info()
        return float(free + torch.cuda.memory_reserved())
    return _free_ram()


def _free_ram() -> float | None:
    """What the system can still hand out plus what this process holds, within what a container may have."""
    held = _resident()
    left = [found for found in (_available(), *left_in_groups()) if found is not None]
    return min(left) + held if left else None


def _available() -> float | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return float(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        # Where the system does not say what is free, half of what there is.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    return None


def held(device: Device) -> float:
    """Bytes this process has now: of the GPU where there is one."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.memory_allocated())
    return _resident()


def _resident() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return float(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0.0


def left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[float]:
    """What is left of each limit that a container, or a group around it, sets on memory."""
    found = []
    for folder in _groups(root, own):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        # The first kind writes a huge number where there is no limit.
        if limit is not None and used is not None and limit < 1 << 60:
            found.append(max(0.0, limit - used + _cached(folder)))
    return found


def _groups(root: Path, own: Path) -> list[Path]:
    """The folders of this process's memory group and of the groups around it."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _number_of, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / controllers
            below = base / path.lstrip("/")
            groups += [at for at in (below, *below.parents) if at.is_relative_to(base)]
    return groups


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _cached(folder: Path) -> float:
    """Of what a group uses, copies of files that the system lets go first."""
    with contextlib.suppress(OSError, ValueError):
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        stat = {name: float(value) for name, _space, value in (line.partition(" ") for line in lines)}
        return stat.get("total_inactive_file", stat.get("inactive_file", 0.0))
    return 0.0
