"""The run folder: where a run stands (status.json), how it went (metrics.jsonl), what libraries said (train.log)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import socket
import statistics
import sys
import threading
import time
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.schema.version import RunReason, RunState, RunStatus
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import VersionFolder
from nlp_skills.workspace.runs import metrics as metrics

# status.json is written at most once a second, and by a thread of its own when a step takes long.
WRITE_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
LIBRARIES = ("accelerate", "datasets", "filelock", "huggingface_hub", "peft", "torch", "transformers", "trl")
_EXIT_CODES: dict[RunState, int] = {"completed": 0, "interrupted": 130}


class Recorder:
    """Keeps status.json and metrics.jsonl true while a run goes on. `seconds` counts earlier stretches too."""

    def __init__(self, version: VersionFolder, task: str, *, step: int, started: Any, seconds: float) -> None:
        now = files.now()
        before = version.status() if step else None
        self.version = version
        self.status = RunStatus(
            task=task,
            version=version.name,
            state="running",
            pid=os.getpid(),
            group=_group(),
            host=socket.gethostname(),
            started=started or now,
            updated=now,
            step=step,
            total_steps=before.total_steps if before else 0,
            stepped=now,
        )
        self.tokens = 0
        self.losses: list[float] = []
        self.pace = Pace()
        self.seconds_before, self._begun = seconds, time.monotonic()
        self._measured_at = 0
        self._written = 0.0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._write()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    @property
    def seconds(self) -> float:
        """Seconds of work so far, over all stretches."""
        return self.seconds_before + time.monotonic() - self._begun

    @property
    def final_loss(self) -> float | None:
        """The mean of the last ten logged losses: one batch alone says little."""
        last = self.losses[-10:]
        return sum(last) / len(last) if last else None

    def processes(self, count: int) -> None:
        """How many processes learn together, where it is more than one."""
        if count > 1:
            self._set(processes=count)
            self._write()

    def mark(self, reason: RunReason | None) -> None:
        """Say what is odd about a run that goes on; None: nothing any more."""
        self._set(reason=reason)
        self._write()

    def begin_step(self) -> None:
        """A step begins; what lies between two steps, such as an evaluation, is no part of their pace."""
        self.pace.begin(self.tokens)

    def step(self, step: int, total: int, epoch: float | None, eta: float | None) -> None:
        """A step is done; the file follows at most once a second."""
        seconds = self.pace.end()
        self._set(step=step, total_steps=total, epoch=epoch, eta_seconds=eta, stepped=files.now(), step_seconds=seconds)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self._set(memory_gb=_memory_gb())
            self._write()

    def measure(self, **values: Any) -> dict[str, Any]:
        """Append one line to metrics.jsonl: step, epoch and whatever was measured there. Returns the line."""
        if (loss := values.get("loss")) is not None:
            self.losses.append(loss)
            self._set(loss=loss, tokens_per_second=self.pace.tokens_per_second(self.tokens))
        if valid := {name: value for name, value in values.items() if name.startswith("eval_")}:
            earlier = self.status.metric if values.get("step") == self._measured_at else None
            self._measured_at = values.get("step", 0)
            self._set(metric={**(earlier or {}), **valid})
        line = {**values, "tokens": self.tokens, "seconds": round(self.seconds, 3)}
        self._append(line)
        return line

    def adopt(self, values: dict[str, Any], tokens: int) -> None:
        """What another process of this training says of where it stands."""
        self.tokens = tokens
        self._set(**values)
        self._write()

    def halve(self, step: int, kept: list[dict[str, Any]]) -> None:
        """Memory ran out: the run goes on from `step` with smaller batches, `kept` being its figures up to there."""
        self.losses = [line["loss"] for line in kept if "loss" in line]
        self.tokens = kept[-1].get("tokens", 0) if kept else 0
        self.pace = Pace()
        self._set(step=step, halved=(self.status.halved or 0) + 1, stepped=files.now(), step_seconds=None)
        self._write()

    def end(
        self,
        state: RunState,
        message: str | None = None,
        *,
        reason: RunReason | None = None,
        exit_code: int | None = None,
    ) -> RunStatus:
        """The run is over. `exit_code`: what the program ends with, where that does not follow from the state."""
        code = _EXIT_CODES.get(state, 1) if exit_code is None else exit_code
        self._over.set()
        self._set(state=state, message=message, reason=reason, ended=files.now(), exit_code=code, eta_seconds=None)
        self._write()
        return self.status

    def _append(self, line: dict[str, Any]) -> None:
        with open(self.version.metrics_path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")

    def _set(self, **values: Any) -> None:
        with self._lock:
            self.status = self.status.model_copy(update=values)

    def _write(self) -> None:
        with self._lock:
            self._set(updated=files.now())
            self.status.save(self.version.status_path)
            self._written = time.monotonic()

    def _beat(self) -> None:
        """Say that the run lives, also within a long step. A disk that is full for a while must not end it."""
        while not self._over.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception), self._lock:
                if not self._over.is_set() and time.monotonic() - self._written >= WRITE_SECONDS:
                    self._write()


class Pace:
    """How long a step takes and how many tokens go through in a second, later steps counting more."""

    HALF_LIFE_SECONDS = 30.0

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=20)
        self._begun: float | None = None
        self._counted: int | None = None
        self._worked = 0.0
        self._sums = (0.0, 0.0)

    def begin(self, tokens: int) -> None:
        """A step begins, `tokens` having been seen when the first one did."""
        self._begun = time.monotonic()
        if self._counted is None:
            self._counted = tokens

    def end(self) -> float | None:
        """A step has ended; what one takes, in seconds: the median of the last twenty."""
        if self._begun is not None:
            seconds, self._begun = time.monotonic() - self._begun, None
            self._steps.append(seconds)
            self._worked += seconds
        return round(statistics.median(self._steps), 4) if self._steps else None

    def tokens_per_second(self, tokens: int) -> float | None:
        """The speed, `tokens` having been seen by now: what is half a minute old counts half."""
        if self._counted is not None and self._worked > 0:
            keep = 0.5 ** (self._worked / self.HALF_LIFE_SECONDS)
            seen, seconds = self._sums
            self._sums = (seen * keep + tokens - self._counted, seconds * keep + self._worked)
            self._counted, self._worked = tokens, 0.0
        seen, seconds = self._sums
        return round(seen / seconds, 1) if seconds else None


def _group() -> int | None:
    """The process group of a run that was started detached."""
    given = os.environ.get(runs.GROUP, "")
    return int(given) if given.isdigit() else None


def _memory_gb() -> float:
    """What this process holds now: of the GPU's memory where it computes there, else of the computer's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(float(torch.cuda.memory_reserved()) / 1e9, 3)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)
    return round(pages * resource.getpagesize() / 1e9, 3)


def rewind(version: VersionFolder, step: int) -> list[dict[str, Any]]:
    """Keep the metrics up to `step`, where the run goes on from, and return them."""
    kept = [line for line in metrics(version) if line["step"] <= step]
    files.write_text(version.metrics_path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


class Interrupted(Exception):
    """A run stopped as asked, its checkpoint saved at `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class Stop:
    """Ctrl-C and SIGTERM: the first asks the loop to stop after its step, where there is one; the second stops at once.

    Signals reach the main thread of a program only; elsewhere this leaves them alone.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.on_request = on_request
        self.in_loop = False
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: types.FrameType | None) -> None:
        if self.requested or not self.in_loop:
            raise KeyboardInterrupt
        self.requested = True
        self.on_request()


@contextlib.contextmanager
def library_log(path: Path) -> Iterator[None]:
    """What the libraries log or warn goes to a file, not to the user's terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in (*LIBRARIES, "py.warnings")]
    before = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            for logger in loggers:
                logger.handlers, logger.propagate = [handler], False
            yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        logging.captureWarnings(False)
        handler.close()
