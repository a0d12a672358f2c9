"""What a task takes on the disk: each file of its kind and version, counted once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import made_versions
import pytest
from conftest import Ran

from nlp_skills.workspace import usage, versions
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    """Two trained versions, and a file of every kind there is."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    versions.new_version(folder, changes=["epochs 2 → 3"], settings={"epochs": 3})
    made_versions.finish(folder, "v2", checkpoint=True)
    for path, size in {
        "models/merged/v1/model.safetensors": 70_000,
        "models/gguf/sentiment-v1-q8_0.gguf": 40_000,
        "models/gguf/of-somebody.gguf": 100,
        "data/train.jsonl": 20_000,
        ".venv/lib/package.py": 11_000,
        ".nlp-skills/store/sha256/ab/" + "ab" * 32: 9_000,
        "models/.trash/20260101-000000-000000/models/merged/v1/old": 8_000,
    }.items():
        place = folder.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"0" * size)
    return folder


def test_every_kind_is_counted_where_it_belongs(task: TaskFolder, cli: Cli) -> None:
    found = cli("du", "sentiment", "--json").json
    kinds = found["kinds"]
    assert {kind: kinds[kind] for kind in ("checkpoints", "merged", "gguf", "adapter", "data")} == {
        "checkpoints": 3000, "merged": 70_000, "gguf": 40_100, "adapter": 2 * 3003, "data": 20_000,
    }  # fmt: skip
    assert (kinds["environment"], kinds["store"], kinds["trash"]) == (11_000, 9_000, 8_000)
    assert found["versions"]["v1"]["gguf"] == 40_000 and "gguf" not in found["versions"]["v2"]
    assert found["versions"]["v2"]["checkpoints"] == 3000
    records = sum(path.stat().st_size for path in (task.root / "versions").rglob("*") if path.is_file())
    assert kinds["records"] == records
    assert found["bytes"] == sum(kinds.values())


def test_it_agrees_with_du(task: TaskFolder, cli: Cli) -> None:
    """The program everybody has, asked for the sizes and for the blocks, folders themselves left out."""
    found = cli("du", "sentiment", "--json").json
    paths = [str(path) for path in task.root.rglob("*") if not path.is_dir() or path.is_symlink()]
    for options, figure in ((["-b"], "bytes"), (["-B1"], "allocated")):
        said = subprocess.run(["du", *options, "-c", *paths], capture_output=True, text=True, check=True).stdout
        assert int(said.splitlines()[-1].split()[0]) == found[figure]
    assert found["files"] == len(paths)


def test_a_file_with_two_links_is_counted_once(task: TaskFolder, cli: Cli) -> None:
    before = cli("du", "sentiment", "--json").json
    os.link(task.root / "data" / "train.jsonl", task.root / ".nlp-skills" / "store" / "same")
    assert cli("du", "sentiment", "--json").json == before


def test_links_are_not_followed_except_to_the_disk_of_the_models(task: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    before = cli("du", "sentiment", "--json").json
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(b"0" * 500_000)
    (task.root / "data" / "elsewhere").symlink_to(tmp_path / "big")
    (task.root / "data" / "loop").symlink_to("..")
    (task.root / "models").rename(tmp_path / "disk")
    (task.root / "models").symlink_to(tmp_path / "disk")
    after = cli("du", "sentiment", "--json").json
    assert after["kinds"]["merged"] == 70_000
    assert 0 < after["bytes"] - before["bytes"] < 300


def test_all_tasks_or_the_versions_of_one(task: TaskFolder, make_task: Callable[..., Path], cli: Cli) -> None:
    make_task("tone")
    shown = cli("du")
    assert shown.code == 0
    assert shown.out.index("sentiment") < shown.out.index("tone") < shown.out.index("together")
    assert "70 kB" in shown.out and "sizes of the files; the blocks they take on the disk" in shown.out
    found = cli("du", "--json").json
    assert [entry["task"] for entry in found["tasks"]] == ["sentiment", "tone"]
    assert found["bytes"] == sum(entry["bytes"] for entry in found["tasks"])
    one = cli("du", "sentiment").out
    assert "v1" in one and "v2" in one and "of no version" in one and "tone" not in one
    assert cli("du", "nobody").code == 2


def test_nothing_there_is_said(project: Path, cli: Cli) -> None:
    ran = cli("du")
    assert ran.code == 0 and "no tasks under" in ran.out


def test_a_broken_task_is_weighed_all_the_same(task: TaskFolder, cli: Cli) -> None:
    task.task_path.write_text("version: [\n", encoding="utf-8")
    found = cli("du", "sentiment", "--json")
    assert found.code == 0 and found.json["kinds"]["merged"] == 70_000


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1049, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB"),
        (999_499, "999 kB"), (999_500, "1.0 MB"), (12_345_678, "12 MB"), (7_300_000_000, "7.3 GB"), (10**21, "1000 EB"),
    ],
)  # fmt: skip
def test_bytes_as_people_read_them(count: int, text: str) -> None:
    assert usage.human(count) == text


def test_twenty_thousand_files_take_no_time(task: TaskFolder) -> None:
    for place in (task.root / ".venv" / f"lib{n}" for n in range(100)):
        place.mkdir(parents=True)
        for number in range(200):
            (place / f"{number}.py").touch()
    started = time.process_time()
    found = usage.of(task)
    assert found.files > 20_000
    assert time.process_time() - started < 2
