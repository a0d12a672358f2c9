"""What each start of a hook came to: one line of JSON in NLP_SKILLS_HOME/logs/hooks/PROGRAM.log, kept in bounds.

Nothing of the data stands there, and no message of an error, which could quote them: only where it happened.
"""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

_STARTED = time.monotonic()
# So large may a log become; then it makes place for a new one, and the one before that goes.
LIMIT_BYTES = 256 << 10
_SAID = 200
_TASKS = 20
_about: dict[str, Any] = {}


def note(**facts: Any) -> None:
    """Keep something for this start's line: `event`, `tasks`, `said`, or `silent` with the reason."""
    _about.update(facts)


def folder() -> str | None:
    """Where the logs are, beside the environment that `setup` makes; None where there is no such place."""
    home = os.environ.get("NLP_SKILLS_HOME")
    if not home:
        user = os.environ.get("HOME") or ""
        home = os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.join(user, ".local", "share"), "nlp-skills")
    return os.path.join(home, "logs", "hooks") if os.path.isabs(home) else None


def write(program: str, error: BaseException | None = None) -> None:
    """Write this start's line; where that cannot be done, nobody hears of it."""
    place = folder()
    if place is None:
        return
    path = os.path.join(place, f"{program}.log")
    line = json.dumps(_line(error), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        handle = os.open(path, flags, 0o600)
        try:
            os.write(handle, line)  # at once, so that lines of hooks that run beside each other do not mix
            full = os.fstat(handle).st_size > LIMIT_BYTES
        finally:
            os.close(handle)
        if full:
            _turn(path)
    except OSError:
        pass


def _line(error: BaseException | None) -> dict[str, Any]:
    about = dict(_about)
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "event": about.get("event"),
        "ms": round((time.monotonic() - _STARTED) * 1000),
        "tasks": about.get("tasks", [])[:_TASKS],
    }
    if error is not None:
        return {**line, "error": type(error).__name__, "at": _places(error)}
    if about.get("said"):
        return {**line, "said": str(about["said"])[:_SAID], "lines": about.get("lines")}
    return {**line, "silent": about.get("silent") or ("nothing to say" if about.get("tasks") else "no task")}


def _places(error: BaseException) -> list[str]:
    """Where an error was raised, innermost last."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]


def _turn(path: str) -> None:
    """Begin a new log. One at a time, and only while this one is still large: another hook may have done it."""
    import fcntl

    with open(f"{path}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.stat(path).st_size > LIMIT_BYTES:
            os.replace(path, f"{path}.1")
