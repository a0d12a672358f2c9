"""Whether a run is still worth its electricity, and what became of one that is not."""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.version import RunReason, RunStatus

# Of the losses that are logged, so many decide.
_START, _HIGH, _STUCK, _NEAR = 3, 20, 50, 5
# Nobody else sends it, and where nobody listens to it, nothing happens.
_WAKE = signal.SIGURG
# A run without a sign of life for so many minutes is ended; 0 lets it wait for ever.
STALL_MINUTES = "NLP_SKILLS_STALL_MINUTES"
_STALL_DEFAULT = 60.0
# And it is called stalled after so many seconds, or this often what it usually needs between two signs.
_SUSPECT_SECONDS, _SUSPECT_TIMES = 120.0, 20
# What a process that hangs outside Python is left with once it was asked to end.
_GRACE_SECONDS = 30.0


class Unhealthy(Invalid):
    """A run that was ended because going on made no sense; `reason` names the state it ends in."""

    reason: RunReason = "diverged"


class NanLoss(Unhealthy):
    reason: RunReason = "nan_loss"


class Stalled(Unhealthy):
    reason: RunReason = "stalled"


def words(status: RunStatus) -> tuple[str, str] | None:
    """What is wrong with a run and what to do about it; None where nothing is known to be wrong."""
    if status.state == "running" and status.reason == "stalled":
        return _stalling()
    if status.state != "failed" or status.reason is None:
        return None
    lower = _("lower learning_rate (a tenth is a good next try) and train again; it begins anew, as going on from the "
              "last checkpoint would end the same way")  # fmt: skip
    on = _("train again to go on from the last checkpoint")
    found: dict[RunReason, tuple[str, str]] = {
        "nan_loss": (_("the loss was no longer a number"), lower),
        "diverged": (_("the loss shot up and did not come down again"), lower),
        "stalled": (_("the run stopped moving and was ended; run/train.log says where it stood"), on),
        "process_died": (_("one of the run's processes died; its output is in run/ranks/"), on),
        "out_of_memory": (
            _("there was not enough memory, with fewer rows at a time neither")
            if status.halved
            else _("there was not enough memory"),
            _("lower max_length, or take a smaller base model or adapter: qlora; then train again"),
        ),
        "disk_full": (
            _("the disk is full, or may not be written to"),
            _("free some space (nlp-skills cleanup shows what can go); then {then}", then=on),
        ),
    }
    return found.get(status.reason)


def _stalling() -> tuple[str, str]:
    minutes = stall_minutes()
    diagnosis = _("the run has stopped moving; run/train.log says where it stands")
    if minutes:
        return diagnosis, _("wait, or stop it: nlp-skills stop; after {minutes:g} minutes it is ended", minutes=minutes)
    return diagnosis, _("wait, or stop it: nlp-skills stop")


def hopeless(status: RunStatus | None) -> bool:
    """Whether going on from this run's checkpoints would only lead to the same end."""
    return status is not None and status.state == "failed" and status.reason in ("nan_loss", "diverged")


class Guard:
    """Looks at every logged figure and ends what cannot come right.

    `before` are the losses of earlier stretches, `points` how many a whole run logs. A loss that shoots up and comes
    down again, as the first steps of a bold run do, is none of its business.
    """

    def __init__(self, before: Sequence[float] = (), points: int = 0) -> None:
        self.losses = list(before)
        self.stuck = max(_STUCK, points // 4)

    def look(self, step: int, measured: Mapping[str, float]) -> None:
        """Look at one line of the log.

        Raises:
            Unhealthy: the run has gone wrong.
        """
        if any(not math.isfinite(value) for value in measured.values()):
            raise NanLoss(
                _("training diverged: the loss is not a number at step {step}", step=step),
                mend=_("lower learning_rate (a tenth is a good next try), then train again"),
            )
        if "loss" in measured:
            self.losses.append(measured["loss"])
            if self._high():
                raise _diverged(
                    _("the loss began with {start:.2f}, and for {count} measurements has been above {low:.2f}",
                      start=self._start(), count=_HIGH, low=min(self.losses[-_HIGH:])),
                    step,
                )  # fmt: skip
            if self._thrown():
                raise _diverged(
                    _("the loss began with {start:.2f}, shot up to {peak:.2f}, and for {count} measurements has been "
                      "no better than at first", start=self._start(), peak=max(self.losses), count=self.stuck),
                    step,
                )  # fmt: skip

    def _start(self) -> float:
        return statistics.median(self.losses[:_START])

    def _high(self) -> bool:
        """Far above the beginning, and nothing but."""
        if len(self.losses) < _START + _HIGH:
            return False
        start = self._start()
        return min(self.losses[-_HIGH:]) > start + max(1.0, abs(start))

    def _thrown(self) -> bool:
        """Thrown far off once, and since then never below the beginning, single batches aside."""
        if len(self.losses) < _START + self.stuck:
            return False
        start, last = self._start(), self.losses[-self.stuck :]
        if max(self.losses) <= start + max(1.0, abs(start)):
            return False
        return min(statistics.median(last[at : at + _NEAR]) for at in range(len(last) - _NEAR)) > 0.9 * start


def _diverged(cause: str, step: int) -> Unhealthy:
    return Unhealthy(
        _("training diverged, and was ended at step {step}", step=step),
        cause=cause,
        mend=_("lower learning_rate (a tenth is a good next try), then train again"),
    )


def stall_minutes() -> float:
    """Minutes without a sign of life after which a run is ended; 0: never."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(os.environ.get(STALL_MINUTES, _STALL_DEFAULT)))
    return _STALL_DEFAULT


class Watch:
    """Notices a loop that has stopped moving. `sign` is called whenever it moves, the first time when it begins.

    A stalled run is marked in its status, with where each thread stands in train.log; the mark goes when it moves
    again. Once the limit is passed the loop is interrupted where it is, and where even that is of no use, the process
    ends. Time in which the whole process slept (a closed laptop, a stopped job) does not count.
    """

    def __init__(self, recorder: Any, log: Path, *, suspect: float = _SUSPECT_SECONDS, grace: float = _GRACE_SECONDS):
        self.recorder, self.log, self.suspect, self.grace = recorder, log, suspect, grace
        self.limit = stall_minutes() * 60
        self.tick = min(5.0, suspect / 4, self.limit / 4 or 5.0)
        self.idle, self.moving, self.marked = 0.0, False, False
        self._gaps: deque[float] = deque(maxlen=50)
        self._last = time.monotonic()
        self._asked = False
        self._over = threading.Event()

    def sign(self) -> None:
        """The loop has moved."""
        now = time.monotonic()
        if self.moving:
            self._gaps.append(now - self._last)
        self.moving = True
        self._last, self.idle, self._asked = now, 0.0, False
        if self.marked:
            self.marked = False
            self.recorder.mark(None)

    def run(self) -> None:
        """Look every few seconds until the run is over: the work of a thread."""
        before = time.monotonic()
        while not self._over.wait(self.tick):
            now = time.monotonic()
            self.idle += min(now - before, 2 * self.tick) if self.moving else 0.0
            before = now
            if not self.marked and self.idle > self.patience():
                self._mark()
            if self.limit and self.idle > self.limit:
                self._end()

    def patience(self) -> float:
        """Seconds without a sign that are nothing unusual; an evaluation between two steps is a long one."""
        usual = statistics.median(self._gaps) if self._gaps else 0.0
        return max(self.suspect, _SUSPECT_TIMES * usual, 3 * max(self._gaps, default=0.0))

    def stop(self) -> None:
        """The run is over."""
        self._over.set()

    def _mark(self) -> None:
        self.marked = True
        with contextlib.suppress(OSError), open(self.log, "a", encoding="utf-8") as stream:
            stream.write(f"no step for {self.idle:.0f} s; every thread stands at:\n")
            stream.flush()
            faulthandler.dump_traceback(stream, all_threads=True)
        with contextlib.suppress(Exception):  # a disk that is full must not end the watch
            self.recorder.mark("stalled")

    def _end(self) -> None:
        if not self._asked:
            self._asked = True
            signal.pthread_kill(threading.main_thread().ident or 0, _WAKE)
        elif self.idle > self.limit + self.grace:
            with contextlib.suppress(Exception):
                self.recorder.end("failed", str(stalled(self.idle)), reason="stalled")
            os._exit(1)


def stalled(seconds: float) -> Stalled:
    """The end of a run that has not moved for so long."""
    return Stalled(
        _("training stopped moving: no step for {minutes:.0f} minutes", minutes=seconds / 60),
        mend=_("where it stood is in run/train.log; train again to go on from the last checkpoint"),
    )


@contextlib.contextmanager
def watching(recorder: Any, log: Path, **patience: float) -> Iterator[Watch]:
    """Watch over a loop in the main thread of a program; elsewhere it could not be interrupted.

    Raises:
        Stalled: it has not moved for longer than `NLP_SKILLS_STALL_MINUTES`.
    """
    watch = Watch(recorder, log, **patience)
    if threading.current_thread() is not threading.main_thread():
        yield watch
        return

    def interrupt(*_signal: object) -> None:
        if watch.limit and watch.idle > watch.limit:
            raise stalled(watch.idle)

    before = signal.signal(_WAKE, interrupt)
    threading.Thread(target=watch.run, name="watch", daemon=True).start()
    try:
        yield watch
    finally:
        watch.stop()
        signal.signal(_WAKE, before)
