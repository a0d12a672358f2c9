"""Waits for the end of runs that go on by themselves, and wakes the open session when one has come to it.

Started by hooks.json beside a session (asyncRewake), with Claude Code's process number. What this prints, hooks.json
passes on as standard error with exit code 2, which is what wakes a session; silence ends well, whatever happened.
"""

from __future__ import annotations

import os
import sys
import time

from nlp_skills.hooks import alive, ground, log, other_machines, shell_line, version_tracking

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

POLL_SECONDS = 3.0
# So long a process may take to be gone after it recorded its end, and its keeper to record one for it.
LAST_WORDS_SECONDS = 15.0
# What goes on elsewhere is asked for that often.
LOOK_SECONDS = 120.0
_FRESH_SECONDS = 30.0


def main(arguments: list[str]) -> None:
    """Find the runs nobody watches, wait until one has something to tell, and print it."""
    if os.environ.get("CLAUDE_CODE_ENTRYPOINT") != "cli":
        log.note(silent="not an interactive session")  # there, the next step would wait for this to end
        return
    said = ground.event()
    command = ground.mapping(said.get("tool_input")).get("command")
    if said.get("hook_event_name") != "Stop" and not shell_line.first(command, "train", "resume"):
        log.note(silent="not a command that starts a run")
        return
    runs = [run for task in ground.tasks(said) for run in _claimed(task)]
    if not runs:
        log.note(silent="no run to watch")
        return
    _watch(runs, Session(int(arguments[0]) if arguments else 0))


def _watch(runs: list[Run], session: Session) -> None:
    looked = time.monotonic()
    while runs:
        time.sleep(POLL_SECONDS)
        if session.is_over():
            log.note(silent="the session is over")
            return
        blocks = [block for run in runs for block in [run.news()] if block]
        if blocks:
            _wake(runs[0].lang, blocks)
            return
        runs = [run for run in runs if not run.over]
        away = list(dict.fromkeys(run.task for run in runs if run.is_away))
        if away and time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            other_machines.look(away, runs[0].lang)
    log.note(silent="somebody else was told")


def _wake(lang: str, blocks: list[list[str]]) -> None:
    lines = ground.fit(lang, blocks)
    log.note(said=lines[0], lines=len(lines))
    sys.stdout.buffer.write("\n".join(lines).encode("utf-8", "replace"))


class Session:
    """The Claude Code that started us. It leaves its hooks behind when it ends: we have to notice."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.parent = os.getppid()
        self.born = alive.process(pid)[1] if pid > 0 else None

    def is_over(self) -> bool:
        """Whether there is nobody left to be woken."""
        if os.getppid() != self.parent:
            return True
        if self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            pass
        except OSError:
            return True
        letter, born = alive.process(self.pid)
        return letter in ("Z", "X") or born != self.born


class Run:
    """A run that goes on, and the lock that says that it is watched: it goes with the process that holds it."""

    def __init__(self, task: str, version: str, lock: Any) -> None:
        self.task, self.version, self.lock = task, version, lock
        self.lang = version_tracking.Task(task).lang
        self.path = _status(task, version)
        self.status = ground.read_json(self.path)
        self.over = False
        self._seen = ground.fingerprint(self.path)
        self._silent = 0.0

    @property
    def is_away(self) -> bool:
        """Whether it goes on on another machine, as far as is known here."""
        return bool(self.status.get("place")) or self.version in _sent(self.task)

    def news(self) -> list[str]:
        """What there is to tell, once: its end, or that it stands still. `over` says whether it has ended."""
        self._read()
        task = version_tracking.Task(self.task)
        if not self._goes_on():
            self.over = True
            self._wait_for_last_words()
            ground.begin_again()
            return task.end_of(self.version)
        return task.stall_of(self.version) if self._stands_still() else []

    def _read(self) -> None:
        """Read the status where the file changed; else count for how long it has not.

        By our own looks and not by the clock: while the computer slept, nobody could have written.
        """
        now = ground.fingerprint(self.path)
        if now == self._seen:
            self._silent += POLL_SECONDS
            return
        self._seen, self._silent = now, 0.0
        self.status = ground.read_json(self.path) or self.status

    def _goes_on(self) -> bool:
        return _goes_on(self.status) or self.version in _sent(self.task)

    def _stands_still(self) -> bool:
        if not alive.is_here(self.status) or self.status.get("state") != "running":
            return False
        return self.status.get("reason") == "stalled" or self._silent > alive.HEARD_SECONDS

    def _wait_for_last_words(self) -> None:
        """A process that has recorded its end still writes; one that was killed has a keeper that records it."""
        until = time.monotonic() + LAST_WORDS_SECONDS
        while time.monotonic() < until and alive.is_here(self.status):
            if self.status.get("state") != "running" and not alive.lives(self.status):
                return
            time.sleep(0.2)
            self.status = ground.read_json(self.path) or self.status


def _claimed(task: str) -> list[Run]:
    """The runs of a task that go on by themselves and that nobody watches; from now on we do."""
    try:
        names = sorted(os.listdir(os.path.join(task, "versions")))
    except OSError:
        return []
    sent = _sent(task)
    found = []
    for name in names:
        status = ground.read_json(_status(task, name))
        detached = status.get("group") is not None and alive.is_here(status)
        if name in sent or ((detached or status.get("place")) and (_goes_on(status) or _is_fresh(task, name))):
            lock = ground.claim(os.path.join(ground.state(task), "watched", f"{name}.lock"))
            found += [Run(task, name, lock)] if lock else []
    return found


def _goes_on(status: dict[str, Any]) -> bool:
    return status.get("state") == "running" and alive.may_live(status)


def _is_fresh(task: str, version: str) -> bool:
    """Whether a run that has ended did so just now: the other hooks may have looked a moment before."""
    written = ground.fingerprint(_status(task, version))
    return bool(written) and time.time() - written[1] / 1e9 < _FRESH_SECONDS


def _sent(task: str) -> list[str]:
    """The versions with a step on another machine that is not fetched yet."""
    jobs = other_machines.open_jobs(task)
    return [str(job.get("version")) for job in jobs if job.get("step") in ("train", "evaluate")]


def _status(task: str, version: str) -> str:
    return os.path.join(task, "versions", version, "run", "status.json")
