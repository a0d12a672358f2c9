"""The run folder: where a run stands (status.json), how it went (metrics.jsonl), what libraries said (train.log)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.schema.version import RunReason, RunState, RunStatus
from nlp_skills.workspace.folder import VersionFolder

HEARTBEAT_SECONDS = 1.0
LIBRARIES = ("accelerate", "datasets", "filelock", "huggingface_hub", "peft", "torch", "transformers", "trl")


class Recorder:
    """Keeps status.json and metrics.jsonl true while a run goes on. `seconds` counts earlier stretches too."""

    def __init__(self, version: VersionFolder, task: str, *, step: int, started: Any, seconds: float) -> None:
        now = files.now()
        self.version = version
        self.status = RunStatus(
            task=task,
            version=version.name,
            state="running",
            pid=os.getpid(),
            host=socket.gethostname(),
            started=started or now,
            updated=now,
            step=step,
        )
        self.tokens = 0
        self.losses: list[float] = []
        self._before, self._begun = seconds, time.monotonic()
        self._written = 0.0
        self._write()

    @property
    def seconds(self) -> float:
        """Seconds of work so far, over all stretches."""
        return self._before + time.monotonic() - self._begun

    @property
    def final_loss(self) -> float | None:
        """The mean of the last ten logged losses: one batch alone says little."""
        last = self.losses[-10:]
        return sum(last) / len(last) if last else None

    def step(self, step: int, total: int, epoch: float | None, eta: float | None) -> None:
        """A step is done; the file follows at most once a second."""
        self._set(step=step, total_steps=total, epoch=epoch, eta_seconds=eta)
        if time.monotonic() - self._written >= HEARTBEAT_SECONDS:
            self._write()

    def measure(self, **values: Any) -> dict[str, Any]:
        """Append one line to metrics.jsonl: step, epoch and whatever was measured there. Returns the line."""
        if (loss := values.get("loss")) is not None:
            self.losses.append(loss)
            self._set(loss=loss)
        line = {**values, "tokens": self.tokens, "seconds": round(self.seconds, 3)}
        with open(self.version.metrics_path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")
        return line

    def halve(self, step: int, kept: list[dict[str, Any]]) -> None:
        """Memory ran out: the run goes on from `step` with smaller batches, `kept` being its figures up to there."""
        self.losses = [line["loss"] for line in kept if "loss" in line]
        self.tokens = kept[-1].get("tokens", 0) if kept else 0
        self._set(step=step, halved=(self.status.halved or 0) + 1)
        self._write()

    def end(self, state: RunState, message: str | None = None, *, reason: RunReason | None = None) -> RunStatus:
        """The run is over."""
        self._set(state=state, message=message, reason=reason, ended=files.now(), eta_seconds=None)
        self._write()
        return self.status

    def _set(self, **values: Any) -> None:
        self.status = self.status.model_copy(update=values)

    def _write(self) -> None:
        self._set(updated=files.now())
        self.status.save(self.version.status_path)
        self._written = time.monotonic()


def metrics(version: VersionFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a line cut off by a kill is left out."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for line in version.metrics_path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
    return lines


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
