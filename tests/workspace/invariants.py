"""What is true of a task after any command, and after any command that was killed once the next one has run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nlp_skills.schema.yaml import read
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lifecycle import LEGAL, OF_A_VERSION

RECORDS = ("config.yaml", "lineage.yaml", "results.json", "data_snapshot.json", "model_info.json", "predictions.jsonl")


def hold(root: Path) -> None:
    """Every version has a readable record and a parent that exists; the active one exists; the log is legal."""
    folder = TaskFolder.at(root)
    task, names = folder.task(), folder.version_names()
    assert task.version in names, f"the active version {task.version} is not among {names}"
    for name in names:
        version = folder.version(name)
        version.config()
        lineage = version.lineage()
        assert lineage is not None and lineage.version == name
        assert lineage.parent is None or lineage.parent in names, f"{name} has no parent {lineage.parent}"
        if results := version.results():
            assert results.version == name
    _legal(task.history, task.status)
    _deployed(folder)


def _legal(history: list[Any], status: str) -> None:
    state, version = (history[0].from_, history[0].version) if history else (status, None)
    for entry in history:
        assert entry.from_ == state, f"the log jumps from {state} to {entry.from_}"
        switched = entry.version != version and entry.to in OF_A_VERSION and entry.from_ != "archived"
        legal = entry.to == entry.from_ or entry.to in LEGAL[entry.from_] or switched
        assert legal, f"{entry.from_} → {entry.to}"
        state, version = entry.to, entry.version
    assert state == status


def _deployed(folder: TaskFolder) -> None:
    """What answers somewhere has its model, and its link leads there."""
    for entry in deployments.load(folder):
        model = folder.version(entry.version).model
        assert model is not None, f"{entry.name} answers with {entry.version}, whose model is gone"
        if entry.link:
            assert (folder.root / entry.link).resolve() == model.resolve()
    link = folder.root / "models" / "current"
    assert not link.is_symlink() or link.is_dir(), "models/current leads nowhere"


def records(root: Path) -> dict[str, set[str]]:
    """The record files there are of each version."""
    folder = TaskFolder.at(root)
    return {
        name: {file for file in RECORDS if (folder.version(name).root / file).is_file()}
        for name in folder.version_names()
    }


def none_lost(before: dict[str, set[str]], root: Path, *, purged: Iterable[str] = ()) -> None:
    """Every record there was is there still."""
    now = records(root)
    for name in before.keys() - set(purged):
        assert before[name] <= now.get(name, set()), f"{name} lost {before[name] - now.get(name, set())}"


def listed(cli: Callable[..., Any], root: Path) -> None:
    """The reading commands see the task whole."""
    tasks = cli("tasks", "--json").json["tasks"]
    mine = [row for row in tasks if Path(row["path"]) == root]
    assert len(mine) == 1 and "error" not in mine[0], tasks
    versions = cli("history", str(root), "--json").json["versions"]
    assert [row["version"] for row in reversed(versions)] == TaskFolder.at(root).version_names()
    assert all(not row.get("problem") for row in versions), versions


def yaml_of(path: Path) -> Any:
    return read(path).data
