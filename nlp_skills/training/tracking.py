"""Live curves in Trackio, for whoever asks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from nlp_skills.training.job import Job

Log = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def following(job: Job) -> Iterator[Log]:
    """A function that takes one line of figures; it does nothing where nobody asked for tracking."""
    yield lambda _line: None
