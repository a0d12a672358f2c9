"""Clearing away: what goes and what stays on the disk, the trash and the way back, and what is never touched."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import invariants
import made_versions
import pexpect
import pytest
from conftest import DATA_SOURCE_YAML, TASK_YAML, Ran
from killing import run_until

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.workspace import cleanup, lock, store, trash, versions
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1 ← v2 ← v3 ← v4, all trained; v1 has all kinds of artefacts, v4 is active and has checkpoints left over."""
    root = tmp_path_factory.mktemp("made") / "sentiment"
    root.mkdir()
    text = TASK_YAML.format(name="sentiment", base_model="none/none")
    text += "versioning: {retention: {keep_recent: 1, keep_best: false}}\n"
    (root / "task.yaml").write_text(text, encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    folder = made_versions.first_version(root)
    made_versions.finish(folder, "v1", checkpoint=True)
    for number in range(2, 5):
        versions.new_version(folder, changes=[f"epochs {number}"], settings={"epochs": number})
        made_versions.finish(folder, f"v{number}", checkpoint=number == 4)
    for path in (
        folder.version("v1").merged / "model.safetensors",
        root / "models" / "gguf" / "sentiment-v1-q8_0.gguf",
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"w" * 5000)
    return root


@pytest.fixture
def four(made_once: Path, project: Path) -> TaskFolder:
    shutil.copytree(made_once, project / "sentiment", symlinks=True)
    return TaskFolder.at(project / "sentiment")


def models(folder: TaskFolder) -> set[str]:
    """What is under models/, by kind and name; links and the machine's own folders left out."""
    found = [path for kind in (folder.root / "models").iterdir() if kind.is_dir() for path in kind.iterdir()]
    return {
        f"{path.parent.name}/{path.name}"
        for path in found
        if not path.parent.is_symlink() and "." not in (path.name[0], path.parent.name[0])
    }


ALL = {
    "checkpoints/v1", "checkpoints/v4", "merged/v1", "gguf/sentiment-v1-q8_0.gguf",
    "adapter/v1", "adapter/v2", "adapter/v3", "adapter/v4",
}  # fmt: skip


def whole(root: Path) -> dict[str, bytes]:
    """Every byte of models and versions; lineages left out (they tell what happened), and what a kill left half."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for place in ("models", "versions")
        for path in sorted((root / place).rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != "lineage.yaml" and path.suffix != ".tmp"
    }


def events(folder: TaskFolder, name: str) -> list[str]:
    lineage = folder.version(name).lineage()
    assert lineage is not None
    return [entry.event for entry in lineage.events]


def test_a_dry_run_says_it_all_and_writes_nothing(four: TaskFolder, cli: Cli) -> None:
    before = sorted(four.root.rglob("*"))
    ran = cli("cleanup", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    found = {version["version"]: version for version in ran.json["versions"]}
    assert {name: version["kept"] for name, version in found.items()} == {
        "v1": False, "v2": False, "v3": False, "v4": True,
    }  # fmt: skip
    assert found["v1"]["bytes"] == {"checkpoints": 3000, "merged": 5000, "gguf": 5000, "adapter": 3003}
    assert [entry["path"] for entry in found["v4"]["goes"]] == ["models/checkpoints/v4"]
    assert ran.json["bytes"] == 3000 + 5000 + 5000 + 3 * 3003 + 3000
    shown = cli("cleanup", "--dry-run").out
    assert "goes: not one of the newest 1" in shown and "kept: active" in shown and "comes back: 25 kB" in shown
    assert sorted(four.root.rglob("*")) == before


def test_models_go_records_stay_and_everything_comes_back(four: TaskFolder, cli: Cli) -> None:
    before, records = whole(four.root), invariants.records(four.root)
    assert models(four) == ALL
    ran = cli("cleanup", "--yes")
    assert ran.code == 0 and "moved to the trash: 25 kB" in ran.out
    assert models(four) == {"adapter/v4"}
    invariants.none_lost(records, four.root)
    assert [events(four, name) for name in ("v1", "v4")] == [["cleaned"], ["cleaned"]]
    back = cli("cleanup", "--undo")
    assert back.code == 0 and "back: models/merged/v1 (5.0 kB)" in back.out
    assert whole(four.root) == before
    assert [events(four, name) for name in ("v1", "v4")] == [["cleaned", "restored"]] * 2
    assert list((four.state / "trash").iterdir()) == []
    invariants.hold(four.root)


def test_again_there_is_nothing_to_do(four: TaskFolder, cli: Cli) -> None:
    assert cli("cleanup", "--yes").code == 0
    ran = cli("cleanup", "--yes", "--json")
    assert ran.code == 0 and ran.json["moved"] is None and ran.json["bytes"] == 0
    assert len(ran.json["trash"]) == 1
    shown = cli("cleanup", "--dry-run").out
    assert "nothing goes" in shown and "its records stay" in shown and ran.json["trash"][0]["id"] in shown


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--purge"], ["--empty-trash"], ["--empty-trash", "--json"]])
def test_a_script_has_to_say_yes(four: TaskFolder, cli: Cli, arguments: list[str]) -> None:
    ran = cli("cleanup", *arguments)
    assert ran.code == 2 and "--yes" in ran.out + ran.err
    assert models(four) == ALL


@pytest.mark.parametrize(("answer", "left"), [("n", ALL), ("y", {"adapter/v4"})])
def test_a_person_is_asked(four: TaskFolder, answer: str, left: set[str]) -> None:
    command = ["-m", "nlp_skills.cli.main", "cleanup", "sentiment"]
    child = pexpect.spawn(sys.executable, command, cwd=str(four.root.parent), encoding="utf-8", timeout=60)
    child.expect("not one of the newest")
    child.expect("Move this to the trash")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == (0 if answer == "y" else 130)
    assert models(four) == left


@pytest.mark.parametrize(
    "arguments", [["--undo", "--purge"], ["--undo", "--empty-trash"], ["--empty-trash", "--dry-run"]]
)
def test_options_that_do_not_go_together(four: TaskFolder, cli: Cli, arguments: list[str]) -> None:
    assert cli("cleanup", "sentiment", *arguments).code == 2


# --- purge


def test_purge_takes_records_unless_a_version_descends_from_them(four: TaskFolder, cli: Cli) -> None:
    versions.new_version(four, changes=["epochs 9"], settings={"epochs": 9}, parent="v1")
    made_versions.finish(four, "v5")
    before = whole(four.root)
    found = cli("cleanup", "--dry-run", "--purge", "--json").json
    assert [version["version"] for version in found["versions"] if version["purged"]] == ["v2", "v3", "v4"]
    assert cli("cleanup", "--yes", "--purge").code == 0
    assert four.version_names() == ["v1", "v5"]
    invariants.hold(four.root)
    assert cli("history", "--json").code == 0
    assert cli("cleanup", "--undo").code == 0
    assert whole(four.root) == before
    invariants.hold(four.root)
    assert events(four, "v3")[-2:] == ["cleaned", "restored"]


def test_a_name_that_was_purged_is_not_given_again(four: TaskFolder, cli: Cli) -> None:
    versions.new_version(four, changes=["epochs 9"], settings={"epochs": 9}, kind="exp")
    made_versions.finish(four, "v4-exp")
    assert cli("rollback", "v4").code == 0
    made_versions.aged(four, "v4-exp", 30)
    (four.root / "models" / "current").unlink()
    assert cli("cleanup", "--yes", "--purge").code == 0
    assert "v4-exp" not in four.version_names()
    assert versions.new_version(four, changes=["epochs 8"], settings={"epochs": 8}, kind="exp").name == "v4-exp2"


def test_a_child_comes_back_after_its_parent(four: TaskFolder, cli: Cli) -> None:
    """v3 is purged, then v2; v3 alone would have no parent."""
    with lock.writing(four):
        yaml.change(four.version("v4").lineage_path, {("parent",): "v1"})
    first = cleanup.plan(four, purge=True)
    only = [entry for entry in first.entries if entry.version == "v3"]
    assert cleanup.carry_out(four, cleanup.Plan([], only, [], [], purge=True)).batch
    assert four.version_names() == ["v1", "v2", "v4"]
    assert cli("cleanup", "--yes", "--purge").code == 0
    assert four.version_names() == ["v1", "v4"]
    older, newer = (batch["id"] for batch in cli("cleanup", "--dry-run", "--json").json["trash"])
    ran = cli("cleanup", "--undo", older)
    assert ran.code == 1 and "version v2" in ran.err and f"--undo {newer}" in ran.err
    assert cli("cleanup", "--undo", newer).code == 0
    assert cli("cleanup", "--undo", older).code == 0
    invariants.hold(four.root)


# --- the store


def test_what_the_store_keeps_for_nobody_goes_and_comes_back(four: TaskFolder, cli: Cli) -> None:
    hashes = {}
    for name in ("v1", "v3", "v4", "nobody"):
        file = four.root / f"{name}.bytes"
        file.write_text(f"rows of {name}\n", encoding="utf-8")
        hashes[name] = store.keep(four, file)
    pins = {("run", "pinned"): {"uv.lock": hashes["v3"]}}
    yaml.change(four.version("v3").lineage_path, pins)
    for name in ("v1", "v4"):
        path = four.version(name).snapshot_path
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, "files": {"data/train.jsonl": hashes[name]}}), encoding="utf-8")

    def there() -> set[str]:
        return {name for name, digest in hashes.items() if store.blob(four, digest).is_file()}

    shown = cli("cleanup", "--dry-run").out
    assert "files of the store that no version refers to: 1 (15 B)" in shown
    assert cli("cleanup", "--yes").code == 0
    assert there() == {"v1", "v3", "v4"}
    yaml.change(four.version("v4").lineage_path, {("parent",): "v1"})
    assert cli("cleanup", "--yes", "--purge").code == 0
    assert four.version_names() == ["v1", "v4"] and there() == {"v1", "v4"}
    assert cli("cleanup", "--undo").code == 0
    assert there() == {"v1", "v3", "v4"}
    assert cli("cleanup", "--undo").code == 0
    assert there() == set(hashes)


def test_a_blob_of_a_version_in_the_trash_stays(four: TaskFolder, cli: Cli) -> None:
    file = four.root / "rows"
    file.write_bytes(b"shared\n")
    digest = store.keep(four, file)
    for name in ("v2", "v3"):
        yaml.change(four.version(name).lineage_path, {("run", "pinned"): {"uv.lock": digest}})
    with lock.writing(four):
        yaml.change(four.version("v4").lineage_path, {("parent",): "v1"})
    only = [entry for entry in cleanup.plan(four, purge=True).entries if entry.version == "v3"]
    cleanup.carry_out(four, cleanup.Plan([], only, [], [], purge=True))
    assert cli("cleanup", "--yes", "--purge").code == 0
    assert four.version_names() == ["v1", "v4"] and store.blob(four, digest).is_file()


# --- never


def test_what_is_deployed_meanwhile_stays(four: TaskFolder) -> None:
    plan = cleanup.plan(four)
    assert any(entry.path == "models/adapter/v1" for entry in plan.entries)
    made_versions.deploy(four, "v1", follows=False)
    done = cleanup.carry_out(four, plan)
    assert done.batch and {entry.path for entry in done.batch.entries} == {
        "models/checkpoints/v1", "models/checkpoints/v4", "models/adapter/v2", "models/adapter/v3",
    }  # fmt: skip
    invariants.hold(four.root)


def test_a_model_behind_a_link_is_left_and_said(four: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    adapter = four.version("v1").adapter
    adapter.rename(tmp_path / "elsewhere")
    adapter.symlink_to(tmp_path / "elsewhere")
    checkpoints = four.root / "models" / "checkpoints"
    checkpoints.rename(tmp_path / "scratch")
    checkpoints.symlink_to(tmp_path / "scratch")
    ran = cli("cleanup", "--yes", "--purge")
    assert ran.code == 0
    assert "models/adapter/v1 leads out of the task folder; it is left as it is" in ran.err
    assert "models/checkpoints/v1 leads out" in ran.err
    assert adapter.is_symlink() and (tmp_path / "elsewhere" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "scratch" / "v1").is_dir() and (tmp_path / "scratch" / "v4").is_dir()
    assert models(four) == {"adapter/v4", "adapter/v1"}
    assert "v1" in four.version_names()


def test_models_that_are_another_tasks_are_not_touched(four: TaskFolder, cli: Cli, project: Path) -> None:
    other = project / "tone"
    shutil.copytree(four.root, other, symlinks=True)
    shutil.rmtree(four.root / "models")
    (four.root / "models").symlink_to("../tone/models")
    before = whole(other)
    assert cli("cleanup", "sentiment", "--yes").code == 0
    assert whole(other) == before


def test_what_is_in_the_trash_is_deleted_without_following_links(four: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "gold").write_text("gold", encoding="utf-8")
    (four.version("v1").adapter / "notes").symlink_to(treasure)
    assert cli("cleanup", "--yes").code == 0
    assert cli("cleanup", "--empty-trash", "--yes").code == 0
    assert (treasure / "gold").is_file()


def test_a_trash_that_is_a_link_is_refused(four: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (four.state / "trash").symlink_to(tmp_path / "far")
    ran = cli("cleanup", "--yes")
    assert ran.code == 1 and "the trash is not in the task folder" in ran.err
    assert models(four) == ALL and list((tmp_path / "far").iterdir()) == []


@pytest.mark.parametrize(
    "planted",
    [
        {"path": "task.yaml", "kind": "adapter", "version": "v1"},
        {"path": "models/adapter/../../task.yaml", "kind": "adapter", "version": "v1"},
        {"path": "../tone/models/adapter/v1", "kind": "adapter", "version": "v1"},
        {"path": "models/gguf/../../task.gguf", "kind": "gguf", "version": "v1"},
        {"path": ".nlp-skills/store/sha256/aa/../../../lock", "kind": "store"},
        {"path": "versions/v1/../../x", "kind": "version", "version": "v1/../../x"},
    ],
)
def test_a_manifest_that_names_other_places_is_not_obeyed(four: TaskFolder, cli: Cli, planted: dict[str, str]) -> None:
    assert cli("cleanup", "--yes").code == 0
    (batch,) = (four.state / "trash").iterdir()
    content = json.loads((batch / "manifest.json").read_text(encoding="utf-8"))
    content["entries"].append({**planted, "bytes": 1, "why": "planted"})
    (batch / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    before = sorted(path for path in four.root.parent.rglob("*") if four.state not in path.parents)
    assert cli("cleanup", "--undo").code in (1, 2)
    assert sorted(path for path in four.root.parent.rglob("*") if four.state not in path.parents) == before


# --- other disks


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Mount another file system at a folder and put its contents there."""
    places: list[Path] = []

    def mount(place: Path) -> None:
        kept = tmp_path / f"kept{len(places)}"
        shutil.move(place, kept)
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", place]
        if os.geteuid() or subprocess.run(command, check=False).returncode:
            pytest.skip("needs to mount a tmpfs")
        places.append(place)
        shutil.copytree(kept, place, symlinks=True, dirs_exist_ok=True)

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("where", ["models", "models/adapter", "disk", "versions"])
def test_what_is_on_another_disk_stays_on_it(
    four: TaskFolder, cli: Cli, mounted: Callable[[Path], None], tmp_path: Path, where: str
) -> None:
    if where == "disk":
        (four.root / "models").rename(tmp_path / "disk")
        (four.root / "models").symlink_to(tmp_path / "disk")
        mounted(tmp_path / "disk")
    else:
        mounted(four.root / where)
    before = whole(four.root)
    with lock.writing(four):
        yaml.change(four.version("v4").lineage_path, {("parent",): "v1"})
    ran = cli("cleanup", "--yes", "--purge")
    assert ran.code == 0, ran.err
    assert models(four) == {"adapter/v4"} and four.version_names() == ["v1", "v4"]
    assert cli("du", "sentiment", "--json").json["kinds"]["trash"] > 25_000
    assert cli("cleanup", "--undo").code == 0
    assert whole(four.root) == before
    assert cli("cleanup", "--yes", "--purge").code == 0
    assert cli("cleanup", "--empty-trash", "--yes").code == 0
    assert not list(four.root.rglob(".trash")) and not list((tmp_path).rglob("disk/.trash"))
    assert cli("du", "sentiment", "--json").json["kinds"].get("trash", 0) == 0


def test_a_disk_mounted_at_a_models_place_is_left(four: TaskFolder, cli: Cli, mounted: Callable[[Path], None]) -> None:
    mounted(four.version("v1").merged)
    ran = cli("cleanup", "--yes")
    assert ran.code == 0 and "models/merged/v1 leads out" in ran.err
    assert models(four) == {"adapter/v4", "merged/v1"}


def test_a_full_disk_moves_nothing_or_says_what_it_did(
    four: TaskFolder, cli: Cli, mounted: Callable[[Path], None]
) -> None:
    mounted(four.root)
    folder = TaskFolder.at(four.root)
    before = whole(folder.root)
    filler = folder.root / "filler"
    with pytest.raises(OSError), open(filler, "wb", buffering=0) as stream:
        while True:
            stream.write(b"0" * 4096)
    ran = cli("cleanup", "sentiment", "--yes")
    assert ran.code == 3 and "no space left" in ran.err
    assert whole(folder.root) == before
    filler.unlink()
    assert cli("cleanup", "sentiment", "--yes").code == 0
    with pytest.raises(OSError), open(filler, "wb", buffering=0) as stream:
        while True:
            stream.write(b"0" * 4096)
    assert cli("cleanup", "sentiment", "--empty-trash", "--yes").code == 0
    assert models(folder) == {"adapter/v4"}


# --- the trash


def older(folder: TaskFolder, days: int) -> None:
    """Make everything in the trash look so many days older."""
    for path in (folder.state / "trash").glob("*/manifest.json"):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        time = dt.datetime.fromisoformat(content["time"]) - dt.timedelta(days=days)
        path.write_text(json.dumps({**content, "time": time.isoformat()}), encoding="utf-8")


def test_the_trash_is_kept_for_seven_days_and_then_deleted_by_the_next_cleanup(four: TaskFolder, cli: Cli) -> None:
    assert cli("cleanup", "--yes").code == 0
    older(four, 6)
    assert cli("cleanup", "--yes").code == 0
    assert len(cli("cleanup", "--dry-run", "--json").json["trash"]) == 1
    older(four, 1)
    dry = cli("cleanup", "--dry-run")
    assert "in the trash for longer than 7 days, deleted for good: 25 kB" in dry.out
    assert list((four.state / "trash").iterdir())
    ran = cli("cleanup", "--yes", "--json")
    assert ran.json["deleted"][0]["bytes"] == 25009 and ran.json["trash"] == []
    assert list((four.state / "trash").iterdir()) == []
    assert cli("cleanup", "--undo").code == 1


def test_an_empty_trash_has_nothing_to_undo(four: TaskFolder, cli: Cli) -> None:
    ran = cli("cleanup", "--undo")
    assert ran.code == 1 and "nothing in the trash" in ran.err
    assert cli("cleanup", "--empty-trash", "--yes").out == "there is nothing in the trash\n"


def test_a_list_that_cannot_be_read_is_said(four: TaskFolder, cli: Cli) -> None:
    assert cli("cleanup", "--yes").code == 0
    (batch,) = (four.state / "trash").iterdir()
    (batch / "manifest.json").write_text("{", encoding="utf-8")
    ran = cli("cleanup", "--undo")
    assert ran.code == 1 and "by hand" in ran.err and batch.name in ran.err
    assert cli("cleanup", "--yes").code == 0
    assert (batch / "models" / "adapter" / "v1").is_dir()


def test_batches_come_back_by_name_or_the_newest_first(four: TaskFolder, cli: Cli) -> None:
    first = cli("cleanup", "--yes", "--json").json["moved"]["id"]
    made_versions.finish(four, "v2")
    made_versions.aged(four, "v2", 3)
    made_versions.finish(four, "v4", checkpoint=True)
    second = cli("cleanup", "--yes", "--json").json["moved"]["id"]
    assert [batch["id"] for batch in cli("cleanup", "--dry-run", "--json").json["trash"]] == [first, second]
    unknown = cli("cleanup", "--undo", "20200101-000000-000000")
    assert unknown.code == 2 and first in unknown.err and second in unknown.err
    newest = cli("cleanup", "--undo", "sentiment", "--json")
    assert newest.code == 0 and newest.json["restored"]["id"] == second
    ran = cli("cleanup", "--undo", first)
    assert ran.code == 1 and "models/adapter/v2" in ran.err and "not overwritten" in ran.err
    assert "adapter/v1" not in models(four)


def test_undo_does_not_overwrite_what_came_meanwhile(four: TaskFolder, cli: Cli) -> None:
    assert cli("cleanup", "--yes").code == 0
    made_versions.finish(four, "v1", right=0.9)
    mine = whole(four.root)
    ran = cli("cleanup", "--undo")
    assert ran.code == 1 and "models/adapter/v1" in ran.err and "move it away first" in ran.err
    assert whole(four.root) == mine
    four.version("v1").adapter.rename(four.root / "models" / "mine")
    assert cli("cleanup", "--undo").code == 0
    assert "merged/v1" in models(four)


def test_a_model_does_not_come_back_without_its_version(four: TaskFolder, cli: Cli) -> None:
    first = cli("cleanup", "--yes", "--json").json["moved"]["id"]
    with lock.writing(four):
        yaml.change(four.version("v4").lineage_path, {("parent",): "v1"})
    second = cli("cleanup", "--yes", "--purge", "--json").json["moved"]["id"]
    ran = cli("cleanup", "--undo", first)
    assert ran.code == 1 and f"cleanup sentiment --undo {second}" in ran.err
    assert cli("cleanup", "--undo").code == 0 and cli("cleanup", "--undo").code == 0
    assert models(four) == ALL


# --- cut off


COMMANDS = {
    "purge": ([], ["cleanup", "TASK", "--yes", "--purge"]),
    "undo": ([["cleanup", "TASK", "--yes", "--purge"]], ["cleanup", "TASK", "--undo"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_any_change_nothing_is_lost(name: str, four: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    """After the next command everything is either in its place or can be brought back, and all of it is."""
    with lock.writing(four):
        yaml.change(four.version("v4").lineage_path, {("parent",): "v1"})
    before, (earlier, command) = whole(four.root), COMMANDS[name]
    for words in earlier:
        assert cli(*[str(four.root) if word == "TASK" else word for word in words]).code == 0
    codes = []
    for write in range(200):
        copy = tmp_path / f"turn{write}" / "sentiment"
        shutil.copytree(four.root, copy, symlinks=True)
        codes.append(run_until(write, copy, [str(copy) if word == "TASK" else word for word in command]))
        folder = TaskFolder.at(copy)
        invariants.hold(copy)
        with lock.writing(folder):
            pass
        gone = ALL - models(folder)
        cleaned = {version for version in ("v1", "v2", "v3") if version in folder.version_names()}
        for version in cleaned:
            told = events(folder, version)
            if f"adapter/{version}" in gone:
                assert told[-1] == "cleaned"
        with contextlib.suppress(Invalid):
            while cleanup.undo(folder):
                invariants.hold(copy)
        assert whole(copy) == before, f"write {write}"
        assert trash.batches(folder) == []
        shutil.rmtree(copy.parent)
        if codes[-1] == 0:
            break
    assert codes[-1] == 0 and set(codes[:-1]) == {-9} and len(codes) > 20


def test_killed_while_the_trash_is_emptied_half_a_model_never_comes_back(
    four: TaskFolder, cli: Cli, tmp_path: Path
) -> None:
    assert cli("cleanup", "--yes").code == 0
    complete = {str(p.relative_to(four.state)): p.stat().st_size for p in four.state.rglob("*.safetensors")}
    assert complete
    for write in range(100):
        copy = tmp_path / f"turn{write}" / "sentiment"
        shutil.copytree(four.root, copy, symlinks=True)
        code = run_until(write, copy, ["cleanup", str(copy), "--empty-trash", "--yes"])
        undone = cli("cleanup", str(copy), "--undo").code == 0
        assert models(TaskFolder.at(copy)) == (ALL if undone else {"adapter/v4"})
        assert cli("cleanup", str(copy), "--yes").code == 0
        left = list((copy / ".nlp-skills" / "trash").iterdir())
        assert len(left) == undone
        if code == 0:
            break
    assert code == 0 and write > 3


def test_ctrl_c_anywhere_leaves_what_was_moved_in_the_trash(four: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    before, kept, said = whole(four.root), set(), tmp_path / "said"
    for write in range(0, 300, 3):
        copy = tmp_path / f"turn{write}" / "sentiment"
        shutil.copytree(four.root, copy, symlinks=True)
        said.unlink(missing_ok=True)
        code = run_until(write, copy, ["cleanup", str(copy), "--yes"], by=signal.SIGINT, said=said)
        assert code in (0, 130) and "Traceback" not in said.read_text(), said.read_text()
        folder = TaskFolder.at(copy)
        kept.add(len(models(folder)))
        undone = cli("cleanup", str(copy), "--undo")
        assert undone.code == (1 if models(folder) == ALL and "nothing in the trash" in undone.err else 0)
        assert whole(copy) == before
        assert cli("cleanup", str(copy), "--dry-run", "--json").json["trash"] == []
        if code == 0:
            break
    assert code == 0 and write > 40
    assert {1, 8} < kept and len(kept) > 4
