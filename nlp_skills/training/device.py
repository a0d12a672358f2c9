"""The one place that decides how this machine computes: device, precision, threads.

Adapters are always kept in 32 bits. On a CPU the base model's weights are too, and multiplications run in
bfloat16 where the processor has units for it: as fast as bfloat16 weights (143 against 139 tokens a second
on SmolLM2-135M) without rounding the base. On a GPU a frozen base is kept in bfloat16, which halves its
memory; weights that are trained stay in 32 bits, because small updates vanish in bfloat16.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Threads that spin while they wait take the cores from those that work: beside one other busy process a step
# of SmolLM2-135M took 5 to 50 seconds instead of 2. OpenMP reads this once, when torch is imported, so it is
# set when this module is: everything that computes imports it first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def deterministic() -> bool:
    """Whether `NLP_SKILLS_DETERMINISTIC=1` asks for the same bits on every machine, however slowly."""
    return os.environ.get("NLP_SKILLS_DETERMINISTIC") == "1"


@dataclass(frozen=True)
class Device:
    """How to compute. `dtype` is that of frozen weights, `autocast` that of multiplications (None: as stored)."""

    type: str
    name: str
    dtype: str
    autocast: str | None
    threads: int | None = None
    memory_bytes: int | None = None

    @property
    def precision(self) -> str:
        """For people and records: `float32 weights, bfloat16 multiplications`."""
        return f"{self.dtype} weights, {self.autocast or self.dtype} multiplications"

    def torch_dtype(self) -> Any:
        """`dtype` as torch's own."""
        import torch

        return getattr(torch, self.dtype)

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """The context a forward pass outside a trainer runs in."""
        import torch

        if self.autocast is None:
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[Any] = torch.autocast(self.type, dtype=getattr(torch, self.autocast))
        return context


def pick(*, cuda_devices: str | None = None, train_all_weights: bool = False) -> Device:
    """The device to compute on, prepared (its threads are set).

    `cuda_devices`: the GPUs to use, as CUDA numbers them (`execution.cuda_devices`); what the shell says wins.
    `train_all_weights`: every weight is trained, not adapters on a frozen base.
    """
    if cuda_devices is not None:
        # Read when CUDA is first asked for, which is below.
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", cuda_devices)
    import torch

    if deterministic():
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=True)
        # It would also fill whatever is allocated: two thirds of the time of TRL's preference losses.
        torch.utils.deterministic.fill_uninitialized_memory = False
        return Device("cpu", "cpu", "float32", None, threads=1)
    if torch.cuda.is_available():
        return _cuda(train_all_weights)
    if torch.backends.mps.is_available():
        return Device("mps", "mps", "float32", None, threads=torch.get_num_threads())
    return Device("cpu", "cpu", "float32", _cpu_autocast(), threads=torch.get_num_threads())


def _cuda(train_all_weights: bool) -> Device:
    import torch

    properties = torch.cuda.get_device_properties(0)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    frozen = "bfloat16" if has_bf16 else "float16"
    dtype = "float32" if train_all_weights else frozen
    threads = torch.get_num_threads()
    return Device("cuda", properties.name, dtype, frozen, threads=threads, memory_bytes=properties.total_memory)


def processor() -> str:
    """This machine's processor and the instructions torch computes with on it: other ones round differently."""
    import platform

    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def _cpu_autocast() -> str | None:
    """bfloat16 where the processor multiplies it itself; where it is emulated it costs more than it saves."""
    import torch

    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return "bfloat16" if supported is not None and supported() else None


def plain_attention(device: Device, longest: int) -> bool:
    """Whether to train rows of at most `longest` tokens with attention as plain matrix products.

    torch's fused attention goes backward slowly on a CPU: on SmolLM2-135M plain matrix products are a fifth
    faster at 54 tokens and no longer so at 256.
    """
    return device.type == "cpu" and longest < 256


def peak_memory_gb(device: Device) -> float:
    """The most memory this process has used so far: the GPU's where there is one, else resident memory."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated()) / 1e9
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # What the system calls this process's usage begins at what the process that started it had reached.
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024 / 1e9
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
