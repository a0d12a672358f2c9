"""Jobs: programs that go on when the link is cut, and leave behind how they ended.

WORKDIR/jobs/ID/ has job.json (what was started), keeper.json (by which processes), out.log and err.log (what it
said) and exit.json (how it ended). Each is written whole. Starting a job that is there already starts nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

Answer = Dict[str, Any]

CHUNK = 1 << 18
# What exit.json takes is taken when the job begins: how it ended can be written on a full disk too.
RESERVED = 1024
# How long a job may take from its folder to its keeper; longer, and whoever started it was killed in between.
BIRTH_SECONDS = 30.0


def start(workdir: str, id: str, argv: List[str], cwd: str, env: Dict[str, str]) -> Answer:
    """Start `argv` in `cwd` with `env` added, in a session of its own; answers as `poll`."""
    place = _place(workdir, id)
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    fresh = place + ".new-" + str(os.getpid())
    os.mkdir(fresh, 0o700)
    _write(os.path.join(fresh, "job.json"), {"argv": argv, "cwd": cwd, "env": env, "created": time.time()})
    try:
        os.rename(fresh, place)  # of two that start it, one can
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        os.unlink(os.path.join(fresh, "job.json"))
        os.rmdir(fresh)
        return poll(workdir, id)
    _launch(place)
    return poll(workdir, id)


def _launch(place: str) -> None:
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is ignored is inherited
    try:
        with open(os.path.join(place, "err.log"), "ab") as errors:
            keeper = subprocess.Popen(
                [sys.executable, sys.argv[0], "keep", place],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                cwd="/",
            )
    finally:
        signal.signal(signal.SIGHUP, hangup)
    until = time.monotonic() + BIRTH_SECONDS
    while time.monotonic() < until and keeper.poll() is None:
        if os.path.exists(os.path.join(place, "keeper.json")):
            return
        time.sleep(0.01)


def keep(place: str) -> int:
    """The job's parent: it starts the program, waits for it, and writes how it ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The whole group hears it; it is the program's business. Unlike SIG_IGN, this is not inherited.
        signal.signal(number, lambda *_: None)
    job = _read(os.path.join(place, "job.json"))
    group = os.getpgrp()
    code, how = 127, None
    try:
        with open(os.path.join(place, "exit.reserved"), "w") as reserved:
            reserved.write(" " * RESERVED)
        with open(os.path.join(place, "out.log"), "ab") as out, open(os.path.join(place, "err.log"), "ab") as errors:
            env = dict(os.environ, **job["env"])
            env["NLP_SKILLS_GROUP"] = str(group)
            program = subprocess.Popen(
                job["argv"], cwd=job["cwd"], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
            _write(
                os.path.join(place, "keeper.json"),
                {"keeper": _mark(os.getpid()), "program": _mark(program.pid), "group": group},
            )
            code = program.wait()
    except OSError as error:
        how = f"{error.strerror}: {error.filename}"
    if code < 0:
        how = signal.Signals(-code).name
    _ended(place, 128 - code if code < 0 else code, how)
    return 0


def _ended(place: str, code: int, how: Optional[str]) -> None:
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    content = json.dumps({"exit_code": code, "how": how, "ended": time.time(), "free": free})
    reserved, path = os.path.join(place, "exit.reserved"), os.path.join(place, "exit.json")
    try:
        with open(reserved, "r+", encoding="utf-8") as stream:
            stream.write(content.ljust(RESERVED))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(reserved, path)
    except OSError:
        _write(path, json.loads(content))


def poll(
    workdir: str,
    id: str,
    out: int = 0,
    err: int = 0,
    watched: Sequence[Tuple[str, int]] = (),
    checkpoints: Optional[str] = None,
) -> Answer:
    """How a job stands, what it has said from these bytes on, and the watched files.

    `state` is starting, running, ended, lost (its processes are gone without a word) or none (never heard of).
    `watched` are [path, offset]: a file's text from a byte on, null where it is not there; one that was begun anew
    is given whole, from 0. `group` is the job's process group; `checkpoint` the newest whole one's step in a folder.
    """
    place = _place(workdir, id)
    answer: Answer = {"now": time.time(), "state": _state(place), "exit_code": None, "how": None, "ended": None}
    with contextlib.suppress(OSError, ValueError):
        answer["group"] = _read(os.path.join(place, "keeper.json"))["group"]
    answer["checkpoint"] = _checkpoint(checkpoints) if checkpoints else None
    if answer["state"] == "ended":
        answer.update(_read(os.path.join(place, "exit.json")))
    answer["out"] = _tail(os.path.join(place, "out.log"), out)
    answer["err"] = _tail(os.path.join(place, "err.log"), err)
    answer["watched"] = [_tail(path, offset) for path, offset in watched]
    return answer


def _state(place: str) -> str:
    if not os.path.exists(os.path.join(place, "job.json")):
        return "none"
    if os.path.exists(os.path.join(place, "exit.json")):
        return "ended"
    with contextlib.suppress(OSError, ValueError):
        marks = _read(os.path.join(place, "keeper.json"))
        if any(_lives(marks[name]) for name in ("keeper", "program")):
            return "running"
        # It may have ended between two looks.
        return "ended" if os.path.exists(os.path.join(place, "exit.json")) else "lost"
    born = os.stat(os.path.join(place, "job.json")).st_mtime
    return "starting" if time.time() - born < BIRTH_SECONDS else "lost"


def stop(workdir: str, id: str, now: bool = False) -> Answer:
    """Ask a job's program to come to its end (SIGTERM), or end all of the job at once; answers its state."""
    place = _place(workdir, id)
    if _state(place) == "running":
        marks = _read(os.path.join(place, "keeper.json"))
        with contextlib.suppress(ProcessLookupError):
            if now:
                # The keeper goes too, and how it ended is written for it.
                os.killpg(marks["group"], signal.SIGKILL)
                _ended(place, 137, "stopped")
            elif _lives(marks["program"]):
                os.kill(marks["program"][0], signal.SIGTERM)
    return {"state": _state(place)}


def jobs(workdir: str) -> Answer:
    """Every job there: its name, state, what it runs and since when."""
    folder = os.path.join(_home(workdir), "jobs")
    found = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError, ValueError):
            job = _read(os.path.join(folder, name, "job.json"))
            found.append(
                {"id": name, "state": _state(os.path.join(folder, name)), "cwd": job["cwd"], "created": job["created"]}
            )
    return {"jobs": found}


def forget(workdir: str, id: str) -> Answer:
    """Remove what is kept of a job that does not run."""
    place = _place(workdir, id)
    if _state(place) in ("running", "starting"):
        return {"state": _state(place)}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(place):
            os.unlink(os.path.join(place, name))
        os.rmdir(place)
    return {"state": _state(place)}


def _checkpoint(folder: str) -> Optional[int]:
    """The step of the newest checkpoint that was written to its end."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            step = name.rpartition("-")[2]
            if step.isdigit() and os.path.isfile(os.path.join(folder, name, "complete.json")):
                found.append(int(step))
    return max(found) if found else None


def _home(workdir: str) -> str:
    return os.path.abspath(os.path.expanduser(workdir))


def _place(workdir: str, id: str) -> str:
    if os.path.basename(id) != id or id.startswith("."):
        raise OSError(errno.EINVAL, "not a job's name", id)
    return os.path.join(_home(workdir), "jobs", id)


def _tail(path: str, offset: int) -> Optional[Answer]:
    """{"text", "at"}: what stands from a byte on, at most a chunk of it, and the byte after that."""
    try:
        with open(os.path.expanduser(path), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            at = offset if offset <= size else 0
            stream.seek(at)
            found = stream.read(CHUNK)
    except FileNotFoundError:
        return None
    # A character that is not written to its end waits for the next look.
    for cut in range(4):
        with contextlib.suppress(UnicodeDecodeError):
            return {"text": found[: len(found) - cut].decode("utf-8"), "from": at, "at": at + len(found) - cut}
    return {"text": found.decode("utf-8", "surrogateescape"), "from": at, "at": at + len(found)}


def _mark(pid: int) -> List[Optional[int]]:
    """A process's number and when it was born, by which it is told from a later one of the same number."""
    return [pid, _born(pid)]


def _lives(mark: List[Any]) -> bool:
    pid, born = mark
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return born is None or _born(pid) == born


def _born(pid: int) -> Optional[int]:
    try:
        with open(f"/proc/{pid}/stat") as stream:
            words = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    # A zombie has ended; nobody has asked yet how.
    return None if words[0] in "ZX" else int(words[19])


def _write(path: str, content: Answer) -> None:
    fresh = f"{path}.{os.getpid()}.tmp"
    with open(fresh, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


def _read(path: str) -> Answer:
    with open(path, encoding="utf-8") as stream:
        found: Answer = json.load(stream)
    return found
