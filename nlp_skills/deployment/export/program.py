"""Programs of ours that do heavy work in a process of their own: started, heard and ended from here.

The one who starts it writes one line of JSON to its standard input and leaves that open; the program ends when it is
closed, so that nothing goes on after a kill. What it has to say are lines of JSON on its standard output: a step, a
problem, or at last the result. Whatever its libraries print goes to its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nlp_skills import errors
from nlp_skills.data import rows as lines
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.i18n import _

# Hears of each step.
Tell = Callable[[str], None]
_LOG_BYTES = 4_000_000


@dataclass(frozen=True)
class Ended:
    """What a program came to, and what its libraries wrote meanwhile."""

    result: dict[str, Any]
    log: str


def run(module: str, told: Mapping[str, Any], *, what: str, tell: Tell, first: Sequence[Path] = ()) -> Ended:
    """Run a module of ours as a program and wait for it.

    Args:
        module: its full name.
        told: what it needs to know, plain data.
        what: it is called in a message, translated.
        tell: hears of each step.
        first: folders whose modules go before those that are installed.

    Raises:
        Problem: the program's own.
        Unavailable: it ended in another way.
    """
    with tempfile.TemporaryFile() as log:
        process = _started(module, first, log)
        try:
            assert process.stdin is not None
            _write(process.stdin, told)
            result = _heard(process, tell)
            process.wait()
        finally:
            _end(process)
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
        said = log.read().decode("utf-8", "replace")
    if result is None:
        raise _fell(what, said, process.returncode)
    return Ended(result, said)


def _started(module: str, first: Sequence[Path], log: IO[bytes]) -> subprocess.Popen[str]:
    # The package may not be installed but lie on this process's path. -P: no folder of the user's comes before.
    ours = Path(__file__).parents[3]
    path = os.pathsep.join([*map(str, first), str(ours), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        env={**os.environ, **quiet},
        # Ctrl-C is for us, who then end it.
        start_new_session=True,
    )


def _write(stream: IO[str], told: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        stream.write(json.dumps(told) + "\n")
        stream.flush()


def _heard(process: subprocess.Popen[str], tell: Tell) -> dict[str, Any] | None:
    assert process.stdout is not None
    result = None
    for message in _messages(process.stdout):
        if "step" in message:
            tell(str(message["step"]))
        elif "problem" in message:
            raise _problem(message["problem"])
        elif "result" in message:
            result = dict(message["result"])
    return result


def _messages(stream: IO[str]) -> Iterator[dict[str, Any]]:
    for line in stream:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _problem(told: dict[str, Any]) -> Problem:
    kinds = {"Invalid": errors.Invalid, "Usage": errors.Usage, "Unavailable": errors.Unavailable}
    named: dict[str, Any] = {key: told.get(key) for key in ("file", "line", "cause", "mend")}
    return kinds.get(str(told.get("kind")), errors.Unavailable)(str(told.get("message")), **named)


def _end(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def _fell(what: str, log: str, code: int) -> Unavailable:
    said = [line.strip() for line in log.splitlines() if line.strip()]
    cause = lines.cut(said[-1] if said else _("it ended with exit code {code}", code=code), 300)
    if code < 0:
        cause = _("it was killed by signal {number}, as a system without memory does", number=-code)
    return Unavailable(
        _("{what} failed", what=what),
        cause=cause,
        mend=_("check free memory and disk, then run the command again; nothing is left half made"),
    )


def serve(work: Callable[[dict[str, Any], Tell], dict[str, Any]]) -> None:
    """The program's side: be told, work, say what came of it; end at once when nobody listens any more."""
    # The libraries' own words must not be taken for ours.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    told = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, daemon=True).start()
    try:
        say(result=work(told, lambda step: say(step=step)))
    except Problem as problem:
        kind = next(base.__name__ for base in type(problem).__mro__ if base.__module__ == errors.__name__)
        say(problem={"kind": kind, **problem.as_dict(), "also": None})
        sys.exit(1)


def _watch() -> None:
    sys.stdin.read()
    os._exit(1)
