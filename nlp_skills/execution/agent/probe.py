"""What a server has: its clock, disk, processors, memory, GPUs with who is on them, Python, uv and rsync."""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

Answer = Dict[str, Any]

# nvidia-smi takes seconds where nothing keeps the driver loaded.
_PATIENCE = 20
_GPU = "index,uuid,name,memory.total,memory.free,utilization.gpu,driver_version"
_MIB = 1 << 20


def probe(workdir: str) -> Answer:
    """Everything at once. Memory and disk in bytes, `time` in seconds since 1970; null where it is not known."""
    place = os.path.abspath(os.path.expanduser(workdir))
    smi = shutil.which("nvidia-smi")
    return {
        "time": time.time(),
        "hostname": socket.gethostname(),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "home": os.path.expanduser("~"),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": {"path": sys.executable, "version": platform.python_version()},
        "uv": _version(shutil.which("uv", path=_path(place)), "--version"),
        "rsync": shutil.which("rsync"),
        "workdir": _disk(place),
        "processor": _processor(),
        "bf16": _bf16(),
        "cores": _cores(),
        "memory": _memory(),
        "nvidia_smi": smi,
        "cuda": _cuda(smi) if smi else None,
        **(_gpus(smi) if smi else {"gpus": [], "gpu_trouble": None}),
    }


def _path(workdir: str) -> str:
    """Where uv may be: on PATH, where its installer puts it, and where we do."""
    return os.pathsep.join(
        [os.path.join(workdir, "uv"), os.environ.get("PATH", ""), os.path.expanduser("~/.local/bin")]
    )


def _version(path: Optional[str], *words: str) -> Optional[Answer]:
    if path is None:
        return None
    said = _said([path, *words])
    return {"path": path, "version": said.strip().split("\n")[0][:100] if said else None}


def _said(argv: List[str]) -> Optional[str]:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_PATIENCE
        )
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
    return None


def _disk(place: str) -> Answer:
    """The disk that our folder is on, or will be on, and whether it can be made there."""
    there = place
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    found: Answer = {"path": place, "exists": there == place, "nearest": there, "free": None, "total": None}
    found["writable"] = os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)
    found["folder"] = os.path.isdir(there)
    with contextlib.suppress(OSError):
        stat = os.statvfs(there)
        found["free"], found["total"] = stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
        found["files_free"] = stat.f_favail if stat.f_files else None
    return found


def _processor() -> Optional[str]:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _bf16() -> Optional[bool]:
    """Whether the processor itself multiplies in bfloat16."""
    for line in _lines("/proc/cpuinfo"):
        if line.lower().startswith(("flags", "features")):
            return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(line.partition(":")[2].split()))
    return None


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for line in _lines("/sys/fs/cgroup/cpu.max"):
        quota, _space, period = line.strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory() -> Answer:
    sizes: Dict[str, Optional[int]] = {"total": None, "free": None}
    for line in _lines("/proc/meminfo"):
        for name, key in (("MemTotal:", "total"), ("MemAvailable:", "free")):
            if line.startswith(name):
                sizes[key] = int(line.split()[1]) * 1024
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None and sizes["total"] and limit < sizes["total"]:
        # Copies of files are let go first; they count as used there.
        for line in _lines("/sys/fs/cgroup/memory.stat"):
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        sizes["total"] = limit
        sizes["free"] = max(0, min(sizes["free"] or limit, limit - used))
    if sizes["total"] is None:
        with contextlib.suppress(OSError, ValueError):
            sizes["total"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return dict(sizes)


def _gpus(smi: str) -> Answer:
    said = _said([smi, "--query-gpu=" + _GPU, "--format=csv,noheader,nounits"])
    if said is None:
        return {"gpus": [], "gpu_trouble": _complaint(smi)}
    gpus: List[Answer] = []
    for row in _rows(said, 7):
        index, uuid, name, total, free, busy, driver = row
        gpus.append(
            {
                "index": int(index) if index.isdigit() else None,
                "uuid": uuid,
                "name": name,
                "total": _mib(total),
                "free": _mib(free),
                "busy": int(busy) if busy.isdigit() else None,
                "driver": driver,
                "processes": [],
            }
        )
    for uuid, pid, name, used in _apps(smi):
        for gpu in gpus:
            if gpu["uuid"] == uuid:
                gpu["processes"].append({"pid": pid, "user": _owner(pid), "name": name[:200], "used": _mib(used)})
    return {"gpus": gpus, "gpu_trouble": None}


def _apps(smi: str) -> Iterator[Tuple[str, int, str, str]]:
    """Who is on which GPU. A process's name is its own choice, commas and all: it is what the others leave over."""
    said = _said([smi, "--query-compute-apps=gpu_uuid,pid,process_name,used_memory", "--format=csv,noheader,nounits"])
    for line in (said or "").splitlines():
        parts = line.split(",")
        if len(parts) >= 4 and parts[1].strip().isdigit():
            yield parts[0].strip(), int(parts[1]), ",".join(parts[2:-1]).strip(), parts[-1].strip()


def _complaint(smi: str) -> str:
    """Why nvidia-smi, which is there, says nothing: it writes that on its standard output."""
    try:
        done = subprocess.run(
            [smi], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)[:300]
    return " ".join(done.stdout.decode("utf-8", "replace").split())[:300]


def _cuda(smi: str) -> Optional[str]:
    """The newest CUDA that the driver can run; only the heading of the plain page has it in every release."""
    found = re.search(r"CUDA[A-Za-z ]*Version\s*:\s*([\d.]+)", _said([smi]) or "")
    return found.group(1) if found else None


def _rows(said: Optional[str], width: int) -> Iterator[List[str]]:
    for row in csv.reader((said or "").splitlines(), skipinitialspace=True):
        if len(row) == width:
            yield [cell.strip() for cell in row]


def _mib(text: str) -> Optional[int]:
    return int(text) * _MIB if text.isdigit() else None


def _owner(pid: int) -> Optional[str]:
    with contextlib.suppress(OSError):
        uid = os.stat("/proc/" + str(pid)).st_uid
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
        return str(uid)
    return None


def _number(path: str) -> Optional[int]:
    for line in _lines(path):
        return int(line) if line.strip().isdigit() else None
    return None


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readlines()
    except OSError:
        return []
