"""Going back to a version: all that follows the active one switches together, or nothing does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import invariants
import made_versions
import pytest
from conftest import Ran
from killing import run_until

from nlp_skills.schema import yaml
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import deployments, lock, versions
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    """Three trained versions, v3 active, and a deployment that follows through a link."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    for epochs in (3, 4):
        made = versions.new_version(folder, changes=[f"epochs {epochs}"], settings={"epochs": epochs})
        made_versions.finish(folder, made.name)
    made_versions.deploy(folder, "v3")
    return folder


def on_the_hub(folder: TaskFolder, version: str) -> None:
    """A deployment that stands for the active version, on a machine that a link here does not reach."""
    since = deployments.load(folder)[0].since
    entry = Deployment(target="huggingface", name="org/sentiment", version=version, since=since, follows=True)
    with lock.writing(folder):
        deployments.put(folder, entry)


def documents(folder: TaskFolder) -> dict[str, bytes]:
    """What a person sees of a task: every file but the machine's own notes, and where links lead."""
    found = {}
    for path in sorted(folder.root.rglob("*")):
        name = str(path.relative_to(folder.root))
        if path.is_symlink():
            found[name] = os.fsencode(path.readlink())
        elif path.is_file() and not name.startswith(".nlp-skills"):
            found[name] = path.read_bytes()
    return found


def agree(folder: TaskFolder, version: str) -> None:
    """task.yaml, models/current and the deployment that follows all stand for this version."""
    assert folder.task().version == version
    for link in ("current", "live"):
        assert (folder.root / "models" / link).resolve() == folder.version(version).model
    assert [entry.version for entry in deployments.load(folder) if entry.link] == [version]


def test_back_and_forth_with_the_reason_in_the_history_and_both_lineages(task: TaskFolder, cli: Cli) -> None:
    ran = cli("rollback", "sentiment", "v1", "--reason", "v3 答得太慢", "--json")
    assert ran.code == 0, ran.err
    assert ran.json == {
        "ok": True,
        "task": "sentiment",
        "changed": True,
        "before": "v3",
        "version": "v1",
        "model": "models/adapter/v1",
        "moved": [{"target": "local", "name": "live"}],
        "left": [],
    }
    agree(task, "v1")
    last = task.task().history[-1]
    assert (last.version, last.reason) == ("v1", "v3 答得太慢")
    told = {name: invariants.yaml_of(task.version(name).lineage_path)["events"][-1] for name in ("v1", "v3")}
    assert {key: told["v1"][key] for key in ("event", "other", "reason")} == {
        "event": "activated", "other": "v3", "reason": "v3 答得太慢",
    }  # fmt: skip
    assert (told["v3"]["event"], told["v3"]["other"], told["v3"]["reason"]) == ("deactivated", "v1", "v3 答得太慢")
    assert "A comment a person wrote" in task.task_path.read_text(encoding="utf-8")

    assert cli("rollback", "v3").code == 0
    agree(task, "v3")
    invariants.hold(task.root)


def test_without_a_version_it_goes_to_the_one_before_and_says_which(task: TaskFolder, cli: Cli) -> None:
    ran = cli("rollback")
    assert ran.code == 0 and "v2 is the active version now; it was v3" in ran.out
    assert "v3 is the active version now; it was v2" in cli("rollback", "sentiment").out
    agree(task, "v3")


def test_a_purged_version_is_passed_over_on_the_way_back(task: TaskFolder, cli: Cli) -> None:
    shutil.rmtree(task.version("v2").root)
    assert "v1 is the active version now" in cli("rollback").out


def test_the_only_version_there_ever_was_has_none_before_it(make_task: Callable[..., Path], cli: Cli) -> None:
    made_versions.first_version(make_task())
    ran = cli("rollback")
    assert ran.code == 2 and "no other version was active before v1" in ran.err


def test_deployments_that_no_link_here_reaches_are_told(task: TaskFolder, cli: Cli) -> None:
    on_the_hub(task, "v3")
    ran = cli("rollback", "v1")
    assert ran.code == 0
    assert "live (local) answers with it" in ran.out
    assert "org/sentiment (huggingface) still answers with v3; deploy v1 to huggingface again" in ran.err
    again = cli("rollback", "v1", "--json").json
    assert again["changed"] is False and again["left"][0]["name"] == "org/sentiment"


def test_the_active_version_again_writes_nothing(task: TaskFolder, cli: Cli) -> None:
    before = documents(task)
    ran = cli("rollback", "v3", "--reason", "again")
    assert ran.code == 0 and "v3 is the active version already" in ran.out
    assert documents(task) == before


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["v9"], 1, "versions here: v1, v2, v3"),
        (["sentiment", "../v1"], 2, "../v1 is not a version name"),
        (["sentiment", "v1/../v2"], 2, "is not a version name"),
        (["../x"], 2, "no task called ../x"),
        (["sentiment", "v1", "v2"], 2, "too many names"),
        (["nothing", "v1"], 2, "no task called nothing"),
    ],
)
def test_what_cannot_be_gone_back_to(task: TaskFolder, cli: Cli, arguments: list[str], code: int, part: str) -> None:
    before = documents(task)
    ran = cli("rollback", *arguments)
    assert ran.code == code and part in ran.err, ran.err
    assert documents(task) == before


def test_an_archived_task_is_unarchived_first(task: TaskFolder, cli: Cli) -> None:
    yaml.change(task.task_path, {("status",): "archived"})
    ran = cli("rollback", "v1")
    assert ran.code == 1 and "nlp-skills unarchive sentiment" in ran.err


def test_a_model_that_is_gone_is_said_with_the_way_to_have_it_back(task: TaskFolder, cli: Cli) -> None:
    text = task.task_path.read_text(encoding="utf-8")
    short = "versioning: {retention: {keep_recent: 1, keep_best: false}}\n"
    task.task_path.write_text(text + short, encoding="utf-8")
    moved = cli("cleanup", "--yes", "--json").json["moved"]["id"]
    ran = cli("rollback", "v1")
    assert ran.code == 1 and f"nlp-skills cleanup sentiment --undo {moved}" in ran.err
    assert cli("cleanup", "--empty-trash", "--yes").code == 0
    ran = cli("rollback", "v1")
    assert ran.code == 1 and "nlp-skills reproduce sentiment v1" in ran.err
    agree(task, "v3")


def test_an_untrained_version_is_refused_while_a_deployment_follows(task: TaskFolder, cli: Cli) -> None:
    versions.new_version(task, changes=["epochs 5"], settings={"epochs": 5})
    versions.new_version(task, changes=["epochs 6"], settings={"epochs": 6})
    ran = cli("rollback", "v4")
    assert ran.code == 1 and "never trained" in ran.err and "live" in ran.err
    assert cli("rollback", "v3").code == 0
    agree(task, "v3")


def test_an_untrained_version_may_be_active_and_models_current_waits_for_it(
    make_task: Callable[..., Path], cli: Cli
) -> None:
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    versions.new_version(folder, changes=["epochs 5"], settings={"epochs": 5})
    assert cli("rollback", "v1").code == 0
    assert folder.task().status == "evaluating", "the task stands where its active version stands"
    made_versions.finish(folder, "v1")
    ran = cli("rollback", "v2")
    assert ran.code == 0 and "no model yet" in ran.out
    assert folder.task().status == "configuring"
    assert (folder.root / "models" / "current").resolve() == folder.version("v1").model


def test_a_broken_lineage_holds_nobody_up(task: TaskFolder, cli: Cli) -> None:
    task.version("v3").lineage_path.write_text("version: [\n", encoding="utf-8")
    assert cli("rollback", "v1").code == 0
    agree(task, "v1")


def test_a_folder_in_the_links_place_is_refused_before_anything_is_written(task: TaskFolder, cli: Cli) -> None:
    live = task.root / "models" / "live"
    live.unlink()
    live.mkdir()
    before = documents(task)
    ran = cli("rollback", "v1")
    assert ran.code == 1 and "not a link" in ran.err and "models/live" in ran.err
    assert documents(task) == before


@pytest.mark.parametrize("link", ["../outside", "/tmp/outside", "models/../../outside"])
def test_a_link_outside_the_task_is_never_made(task: TaskFolder, cli: Cli, link: str) -> None:
    path = task.deployments_path
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content["deployments"][0]["link"] = link
    path.write_text(json.dumps(content), encoding="utf-8")
    before = documents(task)
    ran = cli("rollback", "v1")
    assert ran.code == 2 and "leaves the task folder" in ran.err
    assert documents(task) == before and not (task.root.parent / "outside").is_symlink()


def test_models_may_be_on_another_disk(task: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    (task.root / "models").rename(tmp_path / "disk")
    (task.root / "models").symlink_to(tmp_path / "disk")
    assert cli("rollback", "v1").code == 0
    for link in ("current", "live"):
        assert (task.root / "models" / link).resolve() == tmp_path / "disk" / "adapter" / "v1"


def test_killed_before_any_change_the_next_command_finishes_all_or_nothing(task: TaskFolder, tmp_path: Path) -> None:
    ended = []
    for write in range(60):
        copy = tmp_path / f"turn{write}" / "sentiment"
        shutil.copytree(task.root, copy, symlinks=True)
        code = run_until(write, copy, ["rollback", str(copy), "v1"])
        folder = TaskFolder.at(copy)
        with lock.writing(folder):
            pass
        ended.append((code, folder.task().version))
        agree(folder, folder.task().version)
        invariants.hold(copy)
        told = [entry.event for entry in folder.version("v1").lineage().events]  # type: ignore[union-attr]
        assert told.count("activated") == (folder.task().version == "v1")
        if code == 0:
            break
        assert run_until(-1, copy, ["rollback", str(copy), "v1"]) == 0
        agree(folder, "v1")
    codes, after = zip(*ended, strict=True)
    assert codes[-1] == 0 and set(codes[:-1]) == {-9} and len(codes) > 10
    assert after.index("v1") < len(after) - 5 and list(after) == sorted(after, reverse=True)


def test_trained_versions_for_real(ready: Callable[..., TaskFolder], cli: Cli) -> None:
    """What a user does: train, a new version, train, back, forth; models/current is the model each time."""
    folder = ready(epochs=1)
    current = folder.root / "models" / "current"
    assert cli("train").code == 0
    assert current.resolve() == folder.version("v1").adapter
    assert cli("new-version", "--set", "lora.r=4", "--change", "LoRA rank 8 → 4").code == 0
    assert current.resolve() == folder.version("v1").adapter
    assert cli("train").code == 0
    assert current.resolve() == folder.version("v2").adapter
    for name, rank in (("v1", 8), ("v2", 4)):
        assert cli("rollback", name).code == 0
        config = json.loads((current / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["r"] == rank and folder.task().version == name
