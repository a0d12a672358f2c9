"""Each command that changes a task, killed before each of its changes: nothing is lost, and it can be run again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import invariants
import made_versions
import pytest
from conftest import Ran
from killing import run_until

from nlp_skills.workspace import versions
from nlp_skills.workspace.folder import TaskFolder

MOST = 400


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    """Two finished versions and an old experiment; v1 is deployed by name, the active one by an alias."""
    folder = made_versions.first_version(make_task())
    made_versions.finish(folder, "v1")
    versions.new_version(folder, changes=["epochs 2 → 3"], settings={"epochs": 3})
    made_versions.finish(folder, "v2", checkpoint=True)
    versions.new_version(folder, changes=["epochs 3 → 9"], settings={"epochs": 9}, kind="exp")
    made_versions.finish(folder, "v2-exp", right=0.4)
    versions.new_version(folder, changes=["epochs 3 → 4"], settings={"epochs": 4}, parent="v2")
    made_versions.finish(folder, "v3", right=0.9)
    made_versions.aged(folder, "v2-exp", 30)
    made_versions.deploy(folder, "v1", follows=False)
    made_versions.deploy(folder, "v3")
    text = folder.task_path.read_text(encoding="utf-8")
    short = "versioning: {retention: {keep_recent: 1, keep_best: false}}\n"
    folder.task_path.write_text(text + short, encoding="utf-8")
    return folder.root


COMMANDS: dict[str, tuple[list[list[str]], list[str]]] = {
    "new-version": ([], ["new-version", "TASK", "--set", "epochs=5"]),
    "new-version --minor": ([], ["new-version", "TASK", "--minor", "--set", "epochs=5"]),
    "new-version --exp": ([], ["new-version", "TASK", "--exp", "--set", "epochs=5"]),
    "promote": ([], ["promote", "TASK", "v2-exp"]),
    "rollback": ([], ["rollback", "TASK", "v1", "--reason", "v3 answers too slowly"]),
    "archive": ([], ["archive", "TASK"]),
    "unarchive": ([["archive", "TASK"]], ["unarchive", "TASK"]),
    "cleanup": ([], ["cleanup", "TASK", "--yes"]),
    "cleanup --purge": ([], ["cleanup", "TASK", "--yes", "--purge"]),
    "cleanup --undo": ([["cleanup", "TASK", "--yes"]], ["cleanup", "TASK", "--undo"]),
    "cleanup --undo of a purge": ([["cleanup", "TASK", "--yes", "--purge"]], ["cleanup", "TASK", "--undo"]),
    "cleanup --empty-trash": ([["cleanup", "TASK", "--yes"]], ["cleanup", "TASK", "--empty-trash", "--yes"]),
    "lineage --complete": ([], ["lineage", "TASK", "v1", "--complete"]),
    "plan new": ([], ["plan", "new", "TASK", "raise the neutral class"]),
    "plan next": ([["plan", "new", "TASK", "raise the neutral class"]], ["plan", "next", "TASK"]),
    "plan done": ([["plan", "new", "TASK", "raise the neutral class"]], ["plan", "done", "TASK", "1"]),
    "use": ([], ["use", "TASK"]),
}


def at(root: Path, arguments: list[str]) -> list[str]:
    return [str(root) if word == "TASK" else word for word in arguments]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_before_any_change_loses_nothing(
    name: str, task: Path, cli: Callable[..., Ran], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, command = COMMANDS[name]
    for earlier in before:
        assert cli(*at(task, earlier)).code == 0
    if name == "lineage --complete":
        path = task / "versions" / "v1" / "lineage.yaml"
        path.write_bytes(path.read_bytes()[:300])
    had = invariants.records(task)
    purged = {"v2-exp"} if "purge" in name else set()
    killed = 0
    for write in range(MOST):
        copy = project / f"turn{write}" / task.name
        shutil.copytree(task, copy, symlinks=True)
        monkeypatch.chdir(copy.parent)
        code = run_until(write, copy.parent, at(copy, command))
        again(copy, command, cli, finished=code == 0)
        invariants.hold(copy)
        invariants.none_lost(had, copy, purged=purged)
        invariants.listed(cli, copy)
        monkeypatch.chdir(project)
        if code != -9:
            assert code == 0, f"unharmed, it ends with {code}"
            break
        killed += 1
        shutil.rmtree(copy.parent)
    assert 0 < killed < MOST, f"{killed} kills"


def again(copy: Path, command: list[str], cli: Callable[..., Ran], *, finished: bool) -> None:
    """Whatever was cut off: a reading command works at once, and the command itself goes through (or is done)."""
    if not finished:
        assert cli("tasks", "--json").code == 0
        ran = cli(*at(copy, command))
        assert ran.code in (0, 1, 2) and "Traceback" not in ran.err, ran.err
        assert TaskFolder.at(copy).task().version in TaskFolder.at(copy).version_names()
