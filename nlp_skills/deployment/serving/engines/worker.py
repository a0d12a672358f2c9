"""The parent's side of `transformers_worker`: requests as lines, replies to whoever waits for them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.evaluation.answering.constrained import NoGrammar
from nlp_skills.i18n import _

_PROGRAM = "nlp_skills.deployment.serving.engines.transformers_worker"
_LOG_BYTES = 1_000_000
_PROBLEMS: dict[str, type[Problem]] = {one.__name__: one for one in (Invalid, Usage, Unavailable, NoGrammar)}


class Worker:
    """One process, asked by any number of threads; it ends with this object, or with our process, however that ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: Ctrl-C is for us, who then close it. -P: nothing in the working directory is a module.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._numbers = itertools.count()
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[Any]] = {}
        self._gone = False
        self._write({"root": str(root.resolve())})
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return not self._gone and self.process.poll() is None

    def ask(self, do: str, **wanted: Any) -> list[dict[str, Any]]:
        """The reply to one request; this waits for it.

        Raises:
            Problem: what went wrong there.
            Unavailable: the process has ended.
        """
        reply: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._lock:
            if self._gone:
                raise self._ended()
            number = next(self._numbers)
            self._waiting[number] = reply
        self._write({"id": number, "do": do, **wanted})
        found = reply.get()
        if found is None:
            raise self._ended()
        if "error" in found:
            raise _problem(found["error"])
        return list(found["items"])

    def close(self) -> None:
        """End the process; whoever still waits is told so."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        if not self._log.closed:
            self._log.close()

    def _write(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        text = json.dumps(request) + "\n"
        with self._writing:
            try:
                self.process.stdin.write(text)
                self.process.stdin.flush()
            except (OSError, ValueError):
                # It is gone; the thread that listens tells everybody.
                return

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                reply = json.loads(line)
            except ValueError:
                # Half a line of a process that was killed.
                break
            with self._lock:
                waiting = self._waiting.pop(reply["id"], None)
            if waiting is not None:
                waiting.put(reply)
        with self._lock:
            self._gone = True
            left = [*self._waiting.values()]
            self._waiting.clear()
        for one in left:
            one.put(None)
        self.process.stdout.close()

    def _ended(self) -> Unavailable:
        return Unavailable(
            _("the process that holds the model has ended"),
            cause=self._last_words() or _("it ended with {code}", code=self.process.poll()),
            mend=_("look at the memory it needs"),
        )

    def _last_words(self) -> str | None:
        if self._log.closed:
            return None
        # Not read, which would move the place where the process writes.
        written = os.pread(self._log.fileno(), _LOG_BYTES, 0).decode("utf-8", "replace").strip().splitlines()
        return lines.cut(written[-1].strip(), 300) if written else None


def _problem(said: dict[str, Any]) -> Problem:
    kind = _PROBLEMS.get(said["kind"])
    if kind is None:
        return Unavailable(_("the model could not answer"), cause=lines.cut(str(said.get("cause")), 300))
    return kind(
        said["message"], file=said.get("file"), line=said.get("line"), cause=said.get("cause"), mend=said.get("mend")
    )
