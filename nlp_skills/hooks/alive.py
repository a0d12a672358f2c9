"""Whether a run that says it runs may do so: as `workspace.runs` has it, by computer, process and its start."""

from __future__ import annotations

import os
import time

from nlp_skills.hooks import words

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

# A heartbeat comes every five seconds; after so many without one, something is wrong with whoever should send it.
HEARD_SECONDS = 120.0


def is_here(run: dict[str, Any]) -> bool:
    """Whether a run is a process of this computer, and none that was sent to a place (that may be this computer)."""
    host = run.get("host")
    return not run.get("place") and (host is None or host == os.uname().nodename)


def may_live(run: dict[str, Any]) -> bool:
    """Whether a run may go on. What another computer runs cannot be seen from here."""
    return not is_here(run) or lives(run)


def lives(run: dict[str, Any]) -> bool:
    """Whether the process of a run on this computer is there."""
    pid = run.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    letter, born = process(pid)
    heard = words.seconds(run.get("updated"))
    if letter in ("Z", "X") or heard is None:
        return letter is not None and letter not in ("Z", "X")
    if born is None:
        return time.time() - heard < HEARD_SECONDS
    # A process born after the run last wrote has only inherited its number.
    return born <= heard + 1


def process(pid: int) -> tuple[str | None, float | None]:
    """A process's state letter and when it started, in seconds since the epoch; None where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            parts = stream.read().rpartition(b")")[2].split()
        with open("/proc/stat", "rb") as stream:
            boot = next(line for line in stream if line.startswith(b"btime "))
        return parts[0].decode(), int(boot.split()[1]) + int(parts[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError, StopIteration):
        return None, None
