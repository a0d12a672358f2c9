"""Memory that runs out: once more with half the rows at a time from the last checkpoint, or an end in words."""

from __future__ import annotations

import contextlib
import ctypes
import json
import random
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ran, write_rows

from nlp_skills.training import run, step
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Ready = Callable[..., TaskFolder]
SETTINGS = {"epochs": 3, "batch_size": 64, "max_length": 512}
WORDS = [first + rest for first in "bcdfgl" for rest in ("anana", "ook", "ell", "ird", "at", "og")]


@pytest.fixture
def long_rows(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    """One batch of rows of some 200 tokens, in memory whole: 400 MB at once, 200 by halves.

    A CPU takes few tokens at once whatever the batch, and would not run out: here it does as a GPU does.
    """
    monkeypatch.setattr(step, "AT_ONCE", 1 << 20)
    folder, draw = ready(train=64, **SETTINGS), random.Random(1)
    rows = [json.loads(line) for line in folder.split("train").read_text().splitlines()]
    for row in rows:
        row["text"] = " ".join([*draw.choices(WORDS, k=60), row["text"]])
    write_rows(folder.split("train"), rows)
    return folder


@pytest.fixture(autouse=True)
def _large_blocks_are_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Else what an earlier step freed would be there for the next, whatever the limit."""
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    libc, threshold = ctypes.CDLL(None), -3
    libc.mallopt(threshold, 64 << 10)
    libc.malloc_trim(0)
    yield
    libc.mallopt(threshold, 32 << 20)


def size() -> int:
    """This process's address space in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def scarce(version: VersionFolder, share: float) -> Iterator[None]:
    """From the first checkpoint on, only this share of the memory that a step has needed so far."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    over = threading.Event()

    def squeeze() -> None:
        most = 0
        while not over.wait(0.001):
            most = max(most, size())
            if list(version.checkpoints.glob("*/complete.json")):
                now = size()
                resource.setrlimit(resource.RLIMIT_AS, (now + int(share * (most - now)), hard))
                return

    watching = threading.Thread(target=squeeze)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def test_a_run_goes_on_from_its_checkpoint_with_half_the_rows_at_a_time(
    long_rows: TaskFolder, cli: Callable[..., Ran]
) -> None:
    folder, version = long_rows, long_rows.version("v1")
    with scarce(version, 0.75):
        ran = cli("train", folder.root)
    assert ran.code == 0, ran.err
    assert "memory ran out; going on from step 1 with 32 rows at a time, 2 times a step" in ran.err
    status, lineage = version.status(), version.lineage()
    assert status is not None and (status.state, status.step, status.halved) == ("completed", 3, 1)
    assert lineage is not None and lineage.run is not None
    assert (lineage.run.micro_batch, lineage.run.steps) == (32, 3)
    assert [line["step"] for line in run.metrics(version) if "loss" in line] == [1, 2, 3]
    assert folder.task().status == "evaluating"


def test_where_half_is_too_much_as_well_the_run_fails_in_words(long_rows: TaskFolder, cli: Callable[..., Ran]) -> None:
    folder, version = long_rows, long_rows.version("v1")
    with scarce(version, 0.05):
        ran = cli("train", folder.root)
    assert ran.code == 3 and "Traceback" not in ran.err, ran.err
    assert "not enough memory" in ran.err and "batch_size" in ran.err
    status = version.status()
    assert status is not None
    assert (status.state, status.reason, status.halved, status.exit_code) == ("failed", "out_of_memory", 1, 3)
    assert folder.task().status == "configuring"
    assert not version.adapter.exists()
    assert cli("train", folder.root).code == 0, "with its memory back it goes on"
    assert [line["step"] for line in run.metrics(version) if "loss" in line] == [1, 2, 3]
