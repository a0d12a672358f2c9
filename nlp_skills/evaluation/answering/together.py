"""Asking several questions at once, such that nothing that was answered gets lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


def asked(ask: Callable[[Q], A], questions: Iterable[Q], at_once: int) -> Iterator[A]:
    """Every question's answer as soon as it is there, `at_once` of them being asked at a time.

    After the first that fails no other is begun; those under way are waited for and given, then its error is raised.
    """
    problem: BaseException | None = None
    waiting, running = iter(questions), set[Future[A]]()
    with ThreadPoolExecutor(at_once) as pool:
        while True:
            while problem is None and len(running) < at_once:
                try:
                    running.add(pool.submit(ask, next(waiting)))
                except StopIteration:
                    break
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                failed = future.exception()
                problem = problem or failed
                if failed is None:
                    yield future.result()
    if problem is not None:
        raise problem
