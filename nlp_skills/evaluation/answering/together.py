"""Asking several questions at once, such that nothing that was answered gets lost."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

# How long answers under way are waited for once nobody wants to wait any more: they are paid for, and recorded.
_PATIENCE_SECONDS = 5.0


def asked(ask: Callable[[Q], A], questions: Iterable[Q], at_once: int) -> Iterator[A]:
    """Every question's answer as soon as it is there, `at_once` of them being asked at a time.

    After the first that fails no other is begun; those under way are waited for and given, then its error is raised.
    After Ctrl-C they are waited for a little while.
    """
    # Threads of their own, not a pool: a pool's keep a process alive for as long as a server keeps silent.
    came: queue.SimpleQueue[tuple[list[A], BaseException | None]] = queue.SimpleQueue()

    def run(question: Q) -> None:
        try:
            came.put(([ask(question)], None))
        except BaseException as error:
            came.put(([], error))

    problem: BaseException | None = None
    waiting, running = iter(questions), 0
    try:
        while True:
            while problem is None and running < at_once:
                try:
                    question = next(waiting)
                except StopIteration:
                    break
                threading.Thread(target=run, args=(question,), daemon=True).start()
                running += 1
            if not running:
                break
            answers, failed = came.get()
            running -= 1
            problem = problem or failed
            yield from answers
    except BaseException:
        _wait(came, running)
        raise
    if problem is not None:
        raise problem


def _wait(came: queue.SimpleQueue[tuple[list[A], BaseException | None]], running: int) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    for _answer in range(running):
        try:
            came.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return
