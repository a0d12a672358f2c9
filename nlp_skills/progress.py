"""Progress on standard error: a live bar in a terminal, a plain line now and then in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from nlp_skills.i18n import _

PLAIN_SECONDS = 10.0
# Hears, in words that are translated already, what is being done.
Tell = Callable[[str], None]


class Bar(ABC):
    """Something that counts up to `total` and may carry a short note (loss, source, …)."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done, self.note = label, total, 0, ""
        self.started = time.monotonic()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count `steps` more; `note` replaces the text beside the bar."""
        self.done += steps
        self.note = self.note if note is None else note
        self._show()

    def eta_seconds(self) -> float | None:
        """Seconds left at the pace so far; None before the first step."""
        if not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)

    @abstractmethod
    def _show(self) -> None: ...


class _Plain(Bar):
    """One line at the start, at the end and every few seconds, for logs, pipes and agents."""

    shown = 0.0

    def _show(self) -> None:
        now = time.monotonic()
        if self.done < self.total and now - self.shown < PLAIN_SECONDS:
            return
        self.shown = now
        eta = self.eta_seconds()
        left = _(", {seconds:.0f} s left", seconds=eta) if eta and self.done < self.total else ""
        print(f"{self.label}: {self.done}/{self.total}{left} {self.note}".rstrip(), file=sys.stderr, flush=True)


class Hidden(Bar):
    """Counts, and shows nothing."""

    def _show(self) -> None:
        pass


class _Live(Bar):
    def __init__(self, label: str, total: int, drawn: Any) -> None:
        super().__init__(label, total)
        self.drawn = drawn
        self.task = drawn.add_task(label, total=total, note="")

    def _show(self) -> None:
        self.drawn.update(self.task, completed=self.done, note=self.note)


def notice(text: str) -> None:
    """One line of what goes on, for whoever watches."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(label: str, total: int) -> Iterator[Bar]:
    """A progress bar for a block of work; `label` is already translated."""
    if not sys.stderr.isatty():
        yield _Plain(label, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as drawn:
        yield _Live(label, total, drawn)
