"""One training on several devices: who is first, how rows are shared, and how the programs are started."""

from __future__ import annotations

import os


def count() -> int:
    """The processes this training is made of; 1 where nobody started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this process is the one that keeps the records."""
    return os.environ.get("RANK", "0") == "0"
