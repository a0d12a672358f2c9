"""Looking at a run again and again until it has ended; it does not notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from nlp_skills.workspace import runs
from nlp_skills.workspace.runs import Run


def looks(run: Run, seconds: float, *, before: Callable[[], None] = lambda: None) -> Iterator[Run]:
    """The run as it stands, every so many seconds; the last look is at its end. `before` is called before each."""
    while True:
        before()
        run = runs.of(run.folder, run.version.name) or run
        yield run
        if not run.alive:
            return
        time.sleep(seconds)


def losses(run: Run) -> list[float]:
    """The training loss as it was logged, oldest first."""
    return [line["loss"] for line in runs.metrics(run.version) if isinstance(line.get("loss"), int | float)]
