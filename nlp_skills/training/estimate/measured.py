"""What runs on this machine took, beside what was foretold: a file of its own, that the next estimate learns from."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nlp_skills import files

# The file is cut to the newer half when it is longer.
_LINES = 1000
# A run of a model at most so many times larger or smaller says something about this one.
_LIKE = 4.0
# What a correction may come to: further off, the run was of another kind than its record says.
_TRUSTED = (0.4, 2.5)
# Of many runs, the newest.
_RUNS = 20


@dataclass(frozen=True)
class Run:
    """One completed run. GB are peaks; `speed` is in operations a second; `expected_gb` is before any correction."""

    time: str
    device: str
    family: str
    parameters: int
    method: str
    adapter: str
    micro_batch: int
    length: int
    checkpointing: bool
    expected_gb: float
    measured_gb: float | None = None
    tokens_per_second: float | None = None
    speed: float | None = None


def path() -> Path:
    """`$XDG_DATA_HOME/nlp-skills/measured.jsonl`, by default in ~/.local/share."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "nlp-skills" / "measured.jsonl"


def keep(run: Run) -> None:
    """Add a run at the end; where that cannot be written, it is not kept."""
    line = json.dumps(asdict(run)) + "\n"
    with contextlib.suppress(OSError):
        path().parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        _cut()


def _cut() -> None:
    lines = path().read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if len(lines) > _LINES:
        files.write_text(path(), "".join(lines[-_LINES // 2 :]))


def runs() -> Iterator[Run]:
    """Every run that can be read; what is no run is passed over."""
    known = {field.name for field in fields(Run)}
    with contextlib.suppress(OSError):
        for line in path().read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                run = Run(**{name: value for name, value in json.loads(line).items() if name in known})
                if run.expected_gb > 0 and run.parameters > 0:
                    yield run


def like(device: str, parameters: int, adapter: str, method: str) -> Sequence[Run]:
    """The newest runs on a device of models of like size, trained in like manner."""
    preference = method != "sft"
    found = [
        run
        for run in runs()
        if run.device == device
        and run.adapter == adapter
        and (run.method != "sft") == preference
        and 1 / _LIKE <= run.parameters / parameters <= _LIKE
    ]
    return found[-_RUNS:]


def correction(found: Sequence[Run]) -> tuple[float, int]:
    """What foretold memory is multiplied with, and by how many runs that is known."""
    ratios = [run.measured_gb / run.expected_gb for run in found if run.measured_gb]
    kept = [ratio for ratio in ratios if _TRUSTED[0] <= ratio <= _TRUSTED[1]]
    return (statistics.median(kept), len(kept)) if kept else (1.0, 0)


def speed(found: Sequence[Run]) -> tuple[tuple[float, float] | None, int]:
    """Operations a second that runs reached, a fifth to either side, and by how many that is known."""
    reached = [run.speed for run in found if run.speed]
    return ((min(reached) * 0.8, max(reached) * 1.2), len(reached)) if reached else (None, 0)
