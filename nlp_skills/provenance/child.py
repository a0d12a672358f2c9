"""A program that we start and wait for: it is asked to stop when we are, and we end after it does."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_STANDARD_ERROR = 2
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(NamedTuple):
    """How a program ended, and what it wrote to its standard output."""

    code: int
    out: str


def run(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], listen: bool = False) -> Ended:
    """Run a program to its end; its standard error is ours, and so is its output unless we `listen` to it.

    Raises:
        KeyboardInterrupt: we were asked to stop; the program was too, and has ended in its own way.
        OSError: it cannot be started.
    """
    heard: list[int] = []
    # Our own group, so that a terminal's Ctrl-C reaches the program once: through us.
    program = subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if listen else _STANDARD_ERROR,
        text=True,
        process_group=0,
    )
    with _passed_on(program, heard):
        out, _none = program.communicate()
    if heard:
        raise KeyboardInterrupt
    return Ended(program.returncode, out or "")


@contextlib.contextmanager
def _passed_on(program: subprocess.Popen[str], heard: list[int]) -> Iterator[None]:
    """Within the block, what asks us to stop asks the program. Signals reach the main thread only."""

    def pass_on(number: int, _frame: types.FrameType | None) -> None:
        heard.append(number)
        program.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    before: dict[int, Any] = {}
    for number in _STOPS:
        with contextlib.suppress(ValueError):
            before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)
