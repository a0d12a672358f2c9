"""A workspace on a disk that cannot be written is listed and compared all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import made_versions
import pytest
from conftest import Ran

from nlp_skills.workspace import versions


@pytest.fixture
def read_only(make_task: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project with one task of two versions, on a file system that was mounted for reading."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    versions.new_version(folder, changes=["epochs 2 → 3"], settings={"epochs": 3})
    made_versions.finish(folder, "v2", right=0.9)
    place = tmp_path / "archive"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", place]
    if os.geteuid() or subprocess.run(mounting, check=False).returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        shutil.copytree(folder.root, place / "sentiment", symlinks=True)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with monkeypatch.context() as here:
            here.chdir(place)
            yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize(
    "command",
    [
        ["tasks"],
        ["history"],
        ["compare", "v1", "v2"],
        ["lineage", "v2"],
        ["lineage", "verify"],
        ["lineage", "graph"],
        ["du"],
        ["cleanup", "--dry-run"],
        ["status"],
        ["diagnose"],
    ],
    ids=lambda words: " ".join(words),
)
def test_reading_works(read_only: Path, cli: Callable[..., Ran], command: list[str]) -> None:
    ran = cli(*command, "--json")
    assert ran.code in (0, 1), ran.err
    assert isinstance(ran.json, dict) and "error" not in ran.json, ran.out
    shown = cli(*command)
    assert shown.code == ran.code and shown.out and "Traceback" not in shown.err


@pytest.mark.parametrize(
    "command",
    [["new-version", "--set", "epochs=9"], ["rollback", "v1"], ["archive"], ["cleanup", "--yes"], ["plan", "new", "x"]],
    ids=lambda words: " ".join(words),
)
def test_writing_is_refused_with_the_reason(read_only: Path, cli: Callable[..., Ran], command: list[str]) -> None:
    ran = cli(*command)
    assert ran.code == 3, (ran.out, ran.err)
    assert "Traceback" not in ran.err and "writ" in ran.err
