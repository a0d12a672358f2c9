"""An experiment becomes the next version: trained and measured already, linked and not copied, whole or absent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import invariants
import made_versions
import pytest
from conftest import Ran
from killing import run_until

from nlp_skills import files
from nlp_skills.schema import yaml
from nlp_skills.workspace import versions
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Cli = Callable[..., Ran]


def model_files(version: VersionFolder) -> dict[str, os.stat_result]:
    assert version.model is not None
    return {str(path.relative_to(version.model)): path.stat() for path in version.model.rglob("*") if path.is_file()}


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_promoted_version_is_trained_and_measured_already(
    ready: Callable[..., TaskFolder], cli: Cli, adapter: str
) -> None:
    settings = {"adapter": "full", "lora": None, "learning_rate": 1e-4} if adapter == "full" else {}
    task = ready(train=24, epochs=1, **settings)
    assert cli("train", task.root).code == 0
    assert cli("evaluate", task.root).code == 0
    made = cli("new-version", "--exp", "--set", "epochs=2", "--set", "seed=5", "--json")
    assert made.json["version"] == "v1-exp"
    assert cli("train").code == 0
    assert cli("evaluate").code == 0
    assert cli("report").code == 0
    experiment = task.version("v1-exp")
    before = {
        path: path.read_bytes() for path in experiment.root.rglob("*") if path.name != "lineage.yaml" and path.is_file()
    }

    ran = cli("promote", "v1-exp", "--change", "kept after a week beside v1", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["version"] == "v2" and ran.json["promoted_from"] == "v1-exp" and ran.json["active"] == "v2"
    version = task.version("v2")
    assert task.task().version == "v2"
    assert (task.root / "models" / "current").resolve() == (version.model or Path()).resolve()
    assert model_files(version) == model_files(experiment), "the same files, by inode"
    assert not version.report_path.exists()
    assert {path: path.read_bytes() for path in before} == before

    lineage, origin = version.lineage(), experiment.lineage()
    assert lineage is not None and origin is not None and lineage.model is not None and lineage.results is not None
    assert (lineage.version, lineage.parent, lineage.promoted_from) == ("v2", "v1", "v1-exp")
    assert lineage.changes == ["epochs 1 → 2", "seed 3 → 5", "kept after a week beside v1"]
    assert [(event.event, event.other) for event in lineage.events] == [("promoted", "v1-exp"), ("activated", "v1-exp")]
    assert ("promoted", "v2") in [(event.event, event.other) for event in origin.events]
    for path, sha256 in lineage.model.hashes.items():
        assert path.startswith(f"models/{'adapter' if adapter == 'lora' else 'merged'}/v2/")
        assert files.sha256_file(task.root / path) == sha256
    for name, sha256 in lineage.results.hashes.items():
        assert files.sha256_file(version.root / name) == sha256
    assert lineage.run == origin.run and lineage.environment == origin.environment and lineage.data == origin.data

    results = version.results_path.read_bytes()
    trained = cli("train")
    assert trained.code == 0, trained.err
    assert "v2 is trained already" in trained.out
    measured = cli("evaluate")
    assert measured.code == 0, measured.err
    assert version.results_path.read_bytes() == results
    compared = cli("compare", "v1-exp", "v2", "--json")
    assert compared.code == 0, compared.err
    assert compared.json["settings"] == []
    assert compared.json["pairs"][0]["disagree"] == 0
    assert all(row["change"] == 0 for row in compared.json["figures"])
    verified = cli("lineage", "verify", "v2")
    assert verified.code == cli("lineage", "verify", "v1-exp").code, verified.out
    assert "v2 (*), promoted from v1-exp" in cli("history").out


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    """v1 is active and measured; v1-exp was tried out on it, and measured as well."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    versions.new_version(folder, changes=["epochs 2 → 9"], settings={"epochs": 9}, kind="exp")
    made_versions.finish(folder, "v1-exp", right=0.9)
    return folder


def test_figures_are_said_and_records_kept(task: TaskFolder, cli: Cli) -> None:
    path = task.version("v1-exp").lineage_path
    text = path.read_text().replace("parent: v1", "parent: v1  # the one in use\nseen_by: the whole team")
    path.write_text(text)
    exported = {"gguf_path": "models/gguf/sentiment-v1-exp-q8_0.gguf", "hf_repo": "org/sentiment"}
    for key, value in exported.items():
        yaml.change(path, {("model", key): value})
    ran = cli("promote", "v1-exp")
    assert ran.code == 0, ran.err
    assert "v1-exp is now v2, and v2 is active" in ran.out
    assert "next: nlp-skills compare sentiment v1 v2" in ran.out
    made = task.version("v2").lineage_path.read_text()
    assert "# the one in use" in made and "seen_by: the whole team" in made
    assert "gguf" not in made and "hf_repo" not in made, "what was exported is the experiment's"
    names = {path.name for path in task.version("v2").root.iterdir()}
    assert names == {"config.yaml", "data_snapshot.json", "lineage.yaml", "model_info.json", "predictions.jsonl",
                     "results.json", "run"}  # fmt: skip
    status, results, info = (task.version("v2").status(), task.version("v2").results(), task.version("v2").model_info())
    assert status is not None and results is not None and info is not None
    assert (status.version, results.version, info.version, info.adapter_path) == ("v2", "v2", "v2", "models/adapter/v2")
    invariants.hold(task.root)


def test_a_record_that_did_not_match_is_not_made_to_match(task: TaskFolder, cli: Cli) -> None:
    yaml.change(task.version("v1-exp").lineage_path, {("results", "hashes", "results.json"): made_versions.HASH})
    assert cli("promote", "v1-exp").code == 0
    lineage = task.version("v2").lineage()
    assert lineage is not None and lineage.results is not None
    assert lineage.results.hashes["results.json"] == made_versions.HASH


@pytest.mark.parametrize(("strategy", "first"), [("date", "2026-01-05"), ("hybrid", "v1-20260105")])
def test_by_date_it_gets_the_name_of_today(make_task: Callable[..., Path], cli: Cli, strategy: str, first: str) -> None:
    root = make_task()
    yaml.change(root / "task.yaml", {("version",): first, ("versioning",): {"strategy": strategy}})
    folder = made_versions.first_version(root, first)
    made_versions.finish(folder, first)
    assert cli("new-version", "--exp", "--set", "epochs=9").code == 0
    made_versions.finish(folder, f"{first}-exp")
    day = f"{files.now():%Y-%m-%d}" if strategy == "date" else f"v2-{files.now():%Y%m%d}"
    assert cli("promote", f"{first}-exp", "--json").json["version"] == day
    invariants.hold(root)


@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("v1", 2, ["v1 is not an experiment", "rollback"]),
        ("v7-exp", 1, ["v7-exp does not exist"]),
        ("v1-exp2", 1, ["v1-exp2 is not trained to its end", "nlp-skills train sentiment --version v1-exp2"]),
        ("main", 2, ["no task called main"]),
    ],
)
def test_only_trained_experiments_are_promoted(
    task: TaskFolder, cli: Cli, name: str, code: int, parts: list[str]
) -> None:
    assert cli("new-version", "--from", "v1", "--exp", "--set", "epochs=3").code == 0
    before = sorted(task.root.rglob("*"))
    ran = cli("promote", name)
    assert ran.code == code, ran.err
    assert all(part in ran.err for part in parts), ran.err
    assert [path for path in sorted(task.root.rglob("*")) if path not in before] == []
    assert cli("promote").code == 2


def test_a_running_or_stopped_training_is_not_promoted(task: TaskFolder, cli: Cli) -> None:
    path = task.version("v1-exp").status_path
    status = json.loads(path.read_text())
    files.write_json(path, {**status, "state": "running", "pid": os.getpid(), "updated": files.now().isoformat()})
    ran = cli("promote", "v1-exp")
    assert ran.code == 1 and f"is being trained by process {os.getpid()}" in ran.err
    files.write_json(path, {**status, "state": "interrupted"})
    ran = cli("promote", "v1-exp")
    assert ran.code == 1 and "not trained to its end" in ran.err
    assert task.version_names() == ["v1", "v1-exp"]


def test_weights_that_are_gone_are_asked_for(task: TaskFolder, cli: Cli) -> None:
    shutil.rmtree(task.version("v1-exp").adapter)
    ran = cli("promote", "v1-exp")
    assert ran.code == 1
    assert "the weights of version v1-exp are gone" in ran.err and "--version v1-exp --again" in ran.err


def test_an_archived_task_promotes_nothing(task: TaskFolder, cli: Cli) -> None:
    assert cli("archive").code == 0
    ran = cli("promote", "v1-exp")
    assert ran.code == 1 and "archived" in ran.err
    assert task.version_names() == ["v1", "v1-exp"]


def test_another_strategy_mid_way_promotes_nothing(task: TaskFolder, cli: Cli) -> None:
    yaml.change(task.task_path, {("versioning",): {"strategy": "date"}})
    ran = cli("promote", "v1-exp")
    assert ran.code == 1 and "named by the strategy semantic here" in ran.err
    assert task.version_names() == ["v1", "v1-exp"]


def test_a_vague_change_is_sent_back_here_too(task: TaskFolder, cli: Cli) -> None:
    ran = cli("promote", "v1-exp", "--change", "調整參數")
    assert ran.code == 2
    assert 'the change "調整參數" says nothing' in ran.err and "it differs from v1 in: epochs 2 → 9" in ran.err
    assert task.version_names() == ["v1", "v1-exp"]


def test_a_second_time_nothing_is_done(task: TaskFolder, cli: Cli) -> None:
    assert cli("promote", "v1-exp").code == 0
    assert cli("rollback", "v1").code == 0
    before = {path: path.read_bytes() for path in task.root.rglob("*.yaml")}
    ran = cli("promote", "v1-exp")
    assert ran.code == 0 and "v1-exp is v2 already" in ran.out
    again = cli("promote", "v1-exp", "--json").json
    assert again["already"] and (again["version"], again["active"]) == ("v2", "v1")
    assert {path: path.read_bytes() for path in task.root.rglob("*.yaml")} == before
    assert task.version_names() == ["v1", "v1-exp", "v2"]


def test_an_experiment_that_was_trained_again_is_another_one(task: TaskFolder, cli: Cli) -> None:
    assert cli("promote", "v1-exp").code == 0
    path = task.version("v1-exp").model_info_path
    files.write_json(path, {**json.loads(path.read_text()), "created": "2027-01-05T10:00:00+08:00"})
    assert cli("promote", "v1-exp", "--json").json["version"] == "v3"
    invariants.hold(task.root)


def test_what_users_are_answered_with_is_not_changed_by_a_promotion(task: TaskFolder, cli: Cli) -> None:
    assert cli("rollback", "v1").code == 0
    made_versions.deploy(task, "v1")
    made_versions.deploy(task, "v1", follows=False)
    ran = cli("promote", "v1-exp", "--json")
    assert ran.code == 0, ran.err
    assert [(entry["name"], entry["version"]) for entry in ran.json["left"]] == [("live", "v1")]
    assert (task.root / "models" / "live").resolve() == task.version("v1").adapter.resolve()
    assert (task.root / "models" / "current").resolve() == task.version("v2").adapter.resolve()
    invariants.hold(task.root)
    assert cli("rollback", "v1").code == 0 and cli("rollback", "v2").code == 0
    assert (task.root / "models" / "live").resolve() == task.version("v2").adapter.resolve(), "told to, it moves"


_NO_LINKS = """
import errno, os, sys
def refuse(event, details):
    if event == "os.link":
        raise OSError(errno.EPERM, "this file system knows no hard links")
sys.addaudithook(refuse)
from nlp_skills.cli.main import main
main()
"""


def test_where_files_cannot_be_linked_they_are_copied(task: TaskFolder) -> None:
    command = [sys.executable, "-c", _NO_LINKS, "promote", str(task.root), "v1-exp"]
    # The command line is what follows -c; sys.argv[0] is "-c" itself.
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    ours, theirs = task.version("v2").adapter, task.version("v1-exp").adapter
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.iterdir()) == names
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
        assert (ours / name).stat().st_ino != (theirs / name).stat().st_ino


def test_a_model_on_another_disk_stays_there(task: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    place = task.version("v1-exp").adapter
    elsewhere = tmp_path / "big disk" / "v1-exp"
    elsewhere.parent.mkdir()
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    assert cli("promote", "v1-exp").code == 0
    made = task.version("v2").adapter
    assert made.is_symlink() and made.resolve() == elsewhere.resolve()
    assert (made / "adapter_model.safetensors").is_file()


def test_killed_before_any_change_the_same_command_goes_on(task: TaskFolder, project: Path, cli: Cli) -> None:
    had = invariants.records(task.root)
    killed = 0
    for write in range(300):
        copy = project / f"turn{write}" / "sentiment"
        shutil.copytree(task.root, copy, symlinks=True)
        code = run_until(write, copy, ["promote", str(copy), "v1-exp", "--change", "kept after a week"])
        folder = TaskFolder.at(copy)
        again = cli("promote", copy, "v1-exp", "--change", "kept after a week", "--json")
        assert again.code == 0, f"killed at {write}: {again.out}"
        assert folder.version_names() == ["v1", "v1-exp", "v2"] and folder.task().version == "v2"
        assert model_files(folder.version("v2")) == model_files(folder.version("v1-exp"))
        lineage, origin = folder.version("v2").lineage(), folder.version("v1-exp").lineage()
        assert lineage is not None and lineage.changes == ["epochs 2 → 9", "kept after a week"]
        assert origin is not None and [event.event for event in origin.events].count("promoted") == 1
        assert [event.event for event in lineage.events] == ["promoted", "activated"]
        left = [path for path in copy.rglob("*") if path.name.endswith((".tmp", ".promoting"))]
        assert not [path for path in left if "adapter" in path.parts or path.parent.name == "versions"], left
        invariants.hold(copy)
        invariants.none_lost(had, copy)
        if code == 0:
            break
        assert code == -9
        killed += 1
        shutil.rmtree(copy.parent)
    assert killed > 20
