"""What every peer checks, and how it says what it found."""

from __future__ import annotations

import json
import resource
import sys

FIELDS = ["text"]
LABEL = ("label", ["正面", "中立", "負面"])
LEAST = 5


def path() -> str:
    """The file to check."""
    return sys.argv[1]


def finish(found: dict[str, list[int]] | dict[str, int], distribution: dict[str, int]) -> None:
    """Print line numbers (or, where there are none, counts) by fault, and what this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "found": found,
                "distribution": distribution,
                "cpu_s": used.ru_utime + used.ru_stime,
                "peak_mb": used.ru_maxrss / 1024,
            }
        )
    )
