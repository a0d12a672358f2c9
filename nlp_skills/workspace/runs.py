"""Whether a run that says it is running still is."""

from __future__ import annotations

import os
from pathlib import Path

from nlp_skills.schema.version import RunStatus


def alive(status: RunStatus | None) -> bool:
    """Whether a run that says it is running still is: killed processes leave their last words behind."""
    if status is None or status.state != "running":
        return False
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    born = _started(status.pid)
    # A process born after the run last wrote has only inherited its number (a second for rounding).
    return born is None or born <= status.updated.timestamp() + 1


def _started(pid: int) -> float | None:
    """When a process started, in seconds since the epoch; None where /proc does not tell, or it has just ended."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, IndexError, ValueError, StopIteration):
        return None
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
