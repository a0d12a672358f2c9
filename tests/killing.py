"""Run a command in a child process and kill it (SIGKILL) before its n-th change of the file system, or after a time.

The children are forked by one small program of its own (this file): a fork of the test process, which may hold a
language model by now, would copy the pages of all that each time.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def run_until(
    write: int, root: Path, arguments: list[str], *, by: signal.Signals = signal.SIGKILL, said: Path | None = None
) -> int:
    """The command's exit code, or -9 when it was killed before change number `write` (from 0) in `root`.

    `by` is another signal than SIGKILL; what the command says goes to the file `said`.
    """
    return _asked(arguments, write=write, root=str(root), by=by, said=str(said) if said else os.devnull)


def run_for(seconds: float, arguments: list[str]) -> int:
    """The command's exit code, or -9 when it was killed after so many seconds."""
    return _asked(arguments, seconds=seconds)


def _asked(arguments: list[str], **wanted: Any) -> int:
    about = {"arguments": arguments, "cwd": str(Path.cwd()), "environ": dict(os.environ), **wanted}
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(about) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )


def _serve() -> None:
    """One line in, one exit code out, until the tests are over."""
    _import_everything()
    answers = os.dup(1)
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silent, stream)
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            _in_child(wanted)
        os.write(answers, f"{_ended(child, wanted.get('seconds'))}\n".encode())


def _ended(child: int, seconds: float | None) -> int:
    """A child's exit code; where it is given so many seconds, it is killed after them."""
    until = time.monotonic() + (seconds or 0)
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    if seconds is not None:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _import_everything() -> None:
    """What commands import when they run, so that no child has to."""
    import nlp_skills

    for place in ("cli", "data", "provenance", "schema", "workspace"):
        for module in pkgutil.walk_packages([str(Path(nlp_skills.__path__[0], place))], f"nlp_skills.{place}."):
            if ".templates" not in module.name:
                importlib.import_module(module.name)
    for name in ("filelock", "ruamel.yaml", "ruamel.yaml.scalarstring", "rich.table", "rich.console", "sqlalchemy"):
        importlib.import_module(name)


def _in_child(wanted: dict[str, Any]) -> None:
    code = 70
    try:
        from nlp_skills.cli import frame
        from nlp_skills.cli.main import cli

        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        said = os.open(wanted.get("said", os.devnull), os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ.clear()
        os.environ.update(wanted["environ"])
        os.chdir(wanted["cwd"])
        left, root = wanted.get("write", -1), wanted.get("root", "")

        def hook(event: str, details: tuple[Any, ...]) -> None:
            nonlocal left
            if _changes(event, details, root):
                if left == 0:
                    signal.raise_signal(wanted["by"])
                left -= 1

        if root:
            sys.addaudithook(hook)
        code = frame.run(cli, wanted["arguments"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _changes(event: str, details: tuple[Any, ...], root: str) -> bool:
    if event == "open":
        path, _mode, flags = details
        return isinstance(flags, int) and bool(flags & _WRITING) and _within(path, root)
    return event in _CHANGES and any(_within(detail, root) for detail in details)


def _within(path: Any, root: str) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(root)


if __name__ == "__main__":
    _serve()
