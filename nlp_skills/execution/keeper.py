"""The parent of a detached run: it waits, and records how the run ended where that could not do so itself.

    python -m nlp_skills.execution.keeper TASK_PATH VERSION VARIABLE PROGRAM…

A run that a signal ends (the system's memory killer, a crash in a library) writes nothing any more; its parent knows.
VARIABLE is where the program finds its process group. While it waits, this holds nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

LOCK_SECONDS = 3600.0


def main(arguments: list[str]) -> int:
    """Run the program to its end and return its exit code, 128 and the signal's number where one ended it."""
    root, version, variable, *program = arguments
    for number in (signal.SIGINT, signal.SIGTERM):
        # What the whole group is told is the run's business. Unlike SIG_IGN, this is not inherited.
        signal.signal(number, lambda *_: None)
    group = os.getpgrp()
    code = subprocess.Popen(program, env={**os.environ, variable: str(group)}).wait()
    exit_code = 128 - code if code < 0 else code
    _record(Path(root), version, group, exit_code, how(code))
    return exit_code


def how(code: int) -> str:
    """How a program ended, from what waiting for it gave: negative where a signal ended it."""
    if code >= 0:
        return f"the process ended with exit code {code}"
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
    words = f"the process was ended by {name}"
    return f"{words}, as the system does where memory runs out" if code == -signal.SIGKILL else words


def _record(root: Path, name: str, group: int, exit_code: int, words: str) -> None:
    from nlp_skills.execution import ending
    from nlp_skills.workspace.folder import TaskFolder

    folder = TaskFolder.at(root)
    version = folder.version(name)
    status = version.status()
    if status is not None and status.state == "running" and status.group == group:
        print(f"--- {words}", flush=True)
        ending.record(folder, version, "dead", words, exit_code=exit_code, wait_seconds=LOCK_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
