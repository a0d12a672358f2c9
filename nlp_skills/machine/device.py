"""What this computer computes on, found without importing torch."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Device:
    """`kind` cuda, mps or cpu; memory in GB (of one GPU, or of the machine); `names` one per GPU."""

    kind: str
    names: list[str] = field(default_factory=list)
    memory_gb: float | None = None
    cores: int = 1
    bf16: bool | None = None


def find() -> Device:
    """The best device here. bf16 on a CPU means units for it, which training makes use of."""
    gpus = _nvidia()
    cores = _cores()
    if gpus:
        names = [name for name, _memory in gpus]
        return Device("cuda", names, min(memory for _name, memory in gpus), cores)
    kind = "mps" if platform.system() == "Darwin" and platform.machine() == "arm64" else "cpu"
    return Device(kind, [], _memory_gb(), cores, _cpu_bf16())


def _nvidia() -> list[tuple[str, float]]:
    """Name and memory in GB of every NVIDIA GPU its driver reports."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line] if done.returncode == 0 else []
    return [(name.strip(), float(mib) * 2**20 / 1e9) for name, mib in rows if mib.strip().isdigit()]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (OSError, ValueError):
        return None


def _cpu_bf16() -> bool | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    flags = next((line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))), "")
    return bool(_BF16_FLAGS & set(flags.split()))
