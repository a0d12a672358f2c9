"""One training on several devices: how many processes it is made of, how they share its rows, who keeps the records.

`execution.gpus: N` has N processes started here (`team`). Under torchrun or accelerate launch, which say so in the
environment, the same command joins the others instead: the first process keeps the records, the rest compute.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from nlp_skills import extras
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Execution, Task
from nlp_skills.schema.training import Config
from nlp_skills.training.device import Device, deterministic
from nlp_skills.workspace.folder import VersionFolder

# A rank that hears nothing of the others for so long takes them for gone. Saving a large model can take many minutes.
PATIENCE_SECONDS = 3600


def joined() -> bool:
    """Whether a launcher of several processes started this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """The number of this process among those of the training."""
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    """Whether this process is the one that keeps the records."""
    return rank() == 0


def first_here() -> bool:
    """Whether this process is the first of those on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def count(execution: Execution) -> int:
    """The processes this training is made of: what a launcher started, else `gpus`, or the GPUs of a rented machine."""
    return int(os.environ["WORLD_SIZE"]) if joined() else execution.devices


def divided(config: Config, processes: int, path: Path) -> tuple[int, int]:
    """Rows at once on one device, and how many times for a step, so that all devices' rows are a step's.

    Raises:
        Invalid: a step's rows cannot be shared evenly; with the nearest number that can.
    """
    each, rest = divmod(config.effective_batch, processes)
    if rest or not each:
        near = sorted({max(1, each) * processes, (each + 1) * processes})
        raise Invalid(
            _("a step of {rows} rows cannot be shared evenly by {processes} processes",
              rows=config.effective_batch, processes=processes),
            file=path,
            cause=_("a step has batch_size × gradient_accumulation rows, on however many devices"),
            mend=_("make batch_size × gradient_accumulation {numbers}", numbers=_(" or ").join(map(str, near))),
        )  # fmt: skip
    micro = max(size for size in range(1, min(config.batch_size, each) + 1) if each % size == 0)
    return micro, each // micro


def check(task: Task, config: Config, version: VersionFolder) -> None:
    """Refuse what these devices cannot do, before anything starts.

    Raises:
        Invalid: rows or settings that do not go with so many devices.
        Unavailable: there are fewer devices than `execution` asks for, or a package is missing.
    """
    wanted, where = task.execution, version.task_root / "task.yaml"
    if not deterministic():
        _devices(wanted, where)
        if count(wanted) == 1:
            _look_at_one(wanted)
    divided(config, count(wanted), version.config_path)
    if count(wanted) > 1 and wanted.sharding in ("fsdp", "zero3"):
        _sharding(wanted, config, where)


def _devices(wanted: Execution, where: Path) -> None:
    if wanted.gpus is None and wanted.cuda_devices is None:
        return
    asked = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if joined() else wanted.gpus or 1
    found = visible(wanted)
    if found < asked:
        raise _at(
            Unavailable(
                _("GPUs asked for: {asked}, GPUs here: {found}", asked=asked, found=found),
                file=where,
                cause=_no_gpus(wanted, found),
                mend=_("set execution.gpus to {found}, or train where there are enough", found=found)
                if found
                else _("remove gpus and cuda_devices from execution to train on the CPU, or train where there is one"),
            ),
            "gpus" if wanted.gpus else "cuda_devices",
        )


def _no_gpus(wanted: Execution, found: int) -> str | None:
    import torch

    shell = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shell is not None and shell != wanted.cuda_devices:
        return _("CUDA_VISIBLE_DEVICES={value} in the environment decides which are seen", value=shell)
    if wanted.cuda_devices is not None:
        return _("execution.cuda_devices: {value} decides which are seen", value=wanted.cuda_devices)
    if torch.version.cuda is None and not found:
        return _("the torch that is installed here ({version}) is built without CUDA", version=torch.__version__)
    return None


def visible(wanted: Execution) -> int:
    """The GPUs that this training may use, counted without starting CUDA."""
    import torch

    if wanted.cuda_devices is not None:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", wanted.cuda_devices)
    return int(torch.cuda.device_count())


def _look_at_one(wanted: Execution) -> None:
    """See the first GPU only. Where more are seen and nobody started a process for each, TRL refuses to begin."""
    if visible(wanted) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def _sharding(wanted: Execution, config: Config, where: Path) -> None:
    if deterministic() or not visible(wanted):
        raise _at(
            Unavailable(
                _("{sharding} needs GPUs", sharding=wanted.sharding),
                file=where,
                mend=_("set execution.sharding: ddp, which also runs on CPUs"),
            ),
            "sharding",
        )
    if wanted.sharding == "zero3" and config.adapter == "qlora":
        raise _at(
            Invalid(
                _("zero3 does not go with adapter: qlora"),
                file=where,
                mend=_("set execution.sharding: fsdp, which shards weights of four bits too, or ddp"),
            ),
            "sharding",
        )
    if wanted.sharding == "zero3" and not extras.installed("deepspeed"):
        raise _at(
            Unavailable(
                _("zero3 needs the package deepspeed"),
                file=where,
                mend=_("install it into this environment (pip install deepspeed), or set execution.sharding: fsdp"),
            ),
            "sharding",
        )


def _at(problem: Problem, key: str) -> Problem:
    """The problem with the line of a key under `execution:`."""
    assert problem.file is not None
    problem.line = yaml.read(Path(problem.file)).lines.get(("execution", key))
    return problem


def connect(device: Device) -> None:
    """Meet the other processes; what they tell each other goes over CPUs, gradients over what `device` has."""
    import datetime as dt

    import torch

    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not torch.distributed.is_initialized():
        backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=dt.timedelta(seconds=PATIENCE_SECONDS))


def environment(number: int, processes: int, port: int) -> dict[str, str]:
    """What a process of a training on this machine finds in its environment, as torchrun would have it."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {
        **os.environ,
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1" if deterministic() else os.environ.get("OMP_NUM_THREADS", str(threads)),
    }


def free_port() -> int:
    """A port of this machine that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def notes(version: VersionFolder) -> Path:
    """Where each process leaves its last words (N.json) and its libraries' (N.log)."""
    return version.run / "ranks"


def world() -> int:
    """How many processes the launcher started, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def store() -> Any:
    """Where the processes leave each other words that outlast what they compute together."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def broadcast(word: Any = None) -> Any:
    """The first process's word, on all of them."""
    import torch

    told = [word]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]
