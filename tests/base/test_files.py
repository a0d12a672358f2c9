"""Files are whole or absent, and stay inside their task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nlp_skills import files
from nlp_skills.errors import Invalid, Unavailable, Usage


def test_a_failing_block_leaves_the_earlier_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_writer(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["a.json"]


def test_permissions_survive_a_replacement(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text("old")
    path.chmod(0o750)
    files.write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o750


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"loss": float("nan")})
    assert not path.exists()


_FULL = """
import resource, sys
from pathlib import Path
from nlp_skills import files
from nlp_skills.errors import Unavailable
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
files.write_bytes(Path(sys.argv[1]), b"x" * 5000)
"""


def test_a_file_that_cannot_grow_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("old")
    ended = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["data.jsonl"]


def test_a_full_disk_is_named_with_its_mend() -> None:
    with pytest.raises(OSError, match="No space") as caught, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    problem = files.storage_problem(caught.value, Path("data/train.jsonl"))
    assert isinstance(problem, Unavailable)
    assert problem.exit_code == 3
    assert problem.cause is not None and "no space left" in problem.cause
    assert problem.mend


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable) as caught:
        files.write_text(tmp_path / "file" / "below.json", "x")
    assert caught.value.file is not None


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "link/x"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "task"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(Usage):
        files.inside(root, path)


def test_paths_inside_are_resolved(tmp_path: Path) -> None:
    assert files.inside(tmp_path, "a/../b") == tmp_path.resolve() / "b"


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{\n "a": 1,\n}')
    with pytest.raises(Invalid) as caught:
        files.read_json(path)
    assert caught.value.line == 3


def test_hashes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert files.sha256_file(path) == files.sha256_bytes(b"abc")
    assert files.sha256_bytes(b"abc").startswith("sha256:ba7816bf")


def test_times_carry_their_offset() -> None:
    assert files.now().utcoffset() is not None
    assert files.now().microsecond == 0


def test_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
