"""`regenerate` killed at any moment: whoever reads sees whole files, and the next run ends in the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import reviews, write_rows
from killing import run_for

KILLS = 50
ROWS = 400
# What the entry point does, so that a kill hits our process and no launcher before it.
COMMAND = [sys.executable, "-c", "import sys; from nlp_skills.cli.main import main; sys.exit(main())", "regenerate"]

CONFIG = """\
sources:
  - type: file_import
    name: reviews
    path: reviews.jsonl
  - type: database
    name: stored
    connection: sqlite:///stored.db
    query: SELECT text, label FROM reviews ORDER BY id
split: {{train: 0.6, valid: 0.1, test: 0.3, seed: {seed}}}
"""


def fill(root: Path, *, start: int, seed: int) -> None:
    """The two sources and the settings; another `start` and `seed` make other splits."""
    write_rows(root / "reviews.jsonl", reviews(ROWS, start=start))
    (root / "stored.db").unlink(missing_ok=True)
    with sqlite3.connect(root / "stored.db") as connection:
        connection.execute("create table reviews(id integer primary key, text text, label text)")
        rows = reviews(ROWS, start=start + ROWS)
        connection.executemany("insert into reviews(text, label) values(:text, :label)", rows)
    connection.close()
    (root / "data_source.yaml").write_text(CONFIG.format(seed=seed))


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, str(root), *options], capture_output=True, text=True, timeout=60, check=False)


def rows_of(root: Path) -> dict[str, bytes]:
    """Every data file by its path, records and times left aside."""
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "data").rglob("*.jsonl")}


def litter(root: Path) -> list[Path]:
    return [*root.rglob("*.tmp"), *(root / ".nlp-skills").glob("work*")]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> tuple[Path, dict[str, bytes], dict[str, bytes]]:
    """A task whose data is of the old sources, its old files, and the files that the new sources give."""
    root = make_task()
    fill(root, start=0, seed=8)
    assert run(root).returncode == 0
    old = rows_of(root)
    fill(root, start=ROWS // 2, seed=7)
    whole = Path(shutil.copytree(root, root.parent / "whole"))
    assert run(whole, "--all").returncode == 0
    new = rows_of(whole)
    assert set(old) == set(new)
    assert all(old[path] != new[path] for path in old if "dropped" not in path)
    return root, old, new


class Killer:
    """Runs `regenerate --all` and kills it at a random moment of its run, however long a run takes just now."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.length = 1.0  # seconds, as guessed; what is seen corrects it

    def kill(self, root: Path) -> bool:
        """Whether the signal came before the end."""
        begun = time.monotonic()
        # Most of the run is reading, of which a kill spoils nothing: most kills come after.
        code = run_for(self.length * self.chance.triangular(0.1, 1.05, 0.8), ["regenerate", str(root), "--all"])
        self.length = self.length * 1.02 if code else time.monotonic() - begun
        return code == -signal.SIGKILL


def test_killed_fifty_times_it_always_ends_in_the_same_bytes(
    task: tuple[Path, dict[str, bytes], dict[str, bytes]],
) -> None:
    root, old, new = task
    fresh = Path(shutil.copytree(root, root.parent / "fresh"))
    killer, killed, tries = Killer(20), 0, 0
    stages: set[tuple[bool, ...]] = set()
    while killed < KILLS:
        tries += 1
        assert tries < 3 * KILLS, f"only {killed} of {tries} were still running when the signal came"
        killed += killer.kill(root)
        found = rows_of(root)
        assert set(old) <= set(found)
        for path, content in found.items():
            assert content in (old[path], new[path]), f"{path} is neither what it was nor what it becomes"
            assert all(json.loads(line) for line in content.splitlines())
        stages.add(tuple(found[path] == new[path] for path in sorted(new)))
        splits = {found[f"data/{name}.jsonl"] == new[f"data/{name}.jsonl"] for name in ("train", "valid", "test")}
        if len(splits) == 2:
            assert (root / ".nlp-skills" / "regenerating.json").exists(), "a mixture that nothing tells of"
        if splits == {True}:
            # It got through: from here on the old data again, so that every kill has something to spoil.
            shutil.rmtree(root)
            shutil.copytree(fresh, root)
    assert len(stages) >= 2, "the kills came too early or too late to spoil anything"
    ended = run(root, "--all")
    assert ended.returncode == 0, ended.stderr
    assert rows_of(root) == new
    time.sleep(2.1)  # notes that others may be writing are swept when they are old
    assert run(root).returncode == 0
    assert rows_of(root) == new
    assert litter(root) == []


def test_each_next_run_after_a_kill_goes_on(task: tuple[Path, dict[str, bytes], dict[str, bytes]]) -> None:
    """The very next run, and not only the one after fifty, ends in the same bytes."""
    root, _old, new = task
    killer = Killer(21)
    for number in range(4):
        copy = Path(shutil.copytree(root, root.parent / f"killed{number}"))
        killer.kill(copy)
        ended = run(copy)
        assert ended.returncode == 0, ended.stderr
        assert rows_of(copy) == new


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_ctrl_c_says_how_to_go_on(
    task: tuple[Path, dict[str, bytes], dict[str, bytes]], options: tuple[str, ...]
) -> None:
    root, old, new = task
    source = root / "reviews.jsonl"
    # Enough rows that the signal comes while it works.
    write_rows(source, reviews(60_000, start=5000))
    process = subprocess.Popen(
        [*COMMAND, str(root), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not list((root / "data" / "raw").glob(".*.tmp")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nlp-skills regenerate" in (out if options else err)
    assert "Traceback" not in err
    assert rows_of(root) == old
    assert litter(root) == []
    write_rows(source, reviews(ROWS, start=ROWS // 2))
    assert run(root).returncode == 0
    assert rows_of(root) == new
