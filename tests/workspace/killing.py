"""Run a command in a child process and kill it (SIGKILL) before its n-th change of the file system."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def run_until(write: int, root: Path, arguments: list[str]) -> int:
    """The command's exit code, or -9 when it was killed before change number `write` (from 0) in `root`."""
    child = os.fork()
    if child == 0:
        _in_child(write, str(root), arguments)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _in_child(write: int, root: str, arguments: list[str]) -> None:
    code = 70
    try:
        from nlp_skills.cli import frame
        from nlp_skills.cli.main import cli

        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        left = write

        def hook(event: str, details: tuple[Any, ...]) -> None:
            nonlocal left
            if _changes(event, details, root):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(hook)
        code = frame.run(cli, arguments)
    finally:
        os._exit(code)


def _changes(event: str, details: tuple[Any, ...], root: str) -> bool:
    if event == "open":
        path, _mode, flags = details
        return isinstance(flags, int) and bool(flags & _WRITING) and _within(path, root)
    return event in _CHANGES and any(_within(detail, root) for detail in details)


def _within(path: Any, root: str) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(root)
