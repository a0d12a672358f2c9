"""Which task a command means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from nlp_skills.errors import Usage
from nlp_skills.workspace import locate

MakeTask = Callable[..., Path]


def test_by_name_by_path_and_from_inside(make_task: MakeTask, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_task("alpha")
    make_task("beta")
    assert locate.task("alpha").root == root
    assert locate.task(str(root)).root == root
    (root / "data").mkdir()
    monkeypatch.chdir(root / "data")
    assert locate.task().root == root


def test_use_is_seen_by_a_later_shell(make_task: MakeTask, project: Path, cli: Callable[..., Ran]) -> None:
    make_task("alpha")
    make_task("beta")
    with pytest.raises(Usage):
        locate.task()
    assert cli("use", "beta").code == 0
    assert locate.task().root == project / "beta"
    assert cli("history", "--json").json["task"] == "beta"


def test_the_nearest_name_is_offered(make_task: MakeTask, cli: Callable[..., Ran]) -> None:
    make_task("entity-sentiment")
    ran = cli("use", "entity-sentment")
    assert ran.code == 2
    assert "entity-sentiment" in ran.err


def test_a_marker_cannot_lead_out_of_the_project(make_task: MakeTask, project: Path, cli: Callable[..., Ran]) -> None:
    make_task("alpha")
    (project / ".nlp-skills").mkdir()
    (project / ".nlp-skills" / "current").write_text("../../etc\n", encoding="utf-8")
    ran = cli("history")
    assert ran.code == 2
    assert "leaves" in ran.err


def test_links_and_deep_folders_are_not_searched(make_task: MakeTask, project: Path, tmp_path: Path) -> None:
    make_task("alpha")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "task.yaml").write_text("task_name: x\n", encoding="utf-8")
    (project / "link").symlink_to(elsewhere)
    deep = project / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "task.yaml").write_text("task_name: deep\n", encoding="utf-8")
    assert [path.name for path in locate.find(project)] == ["alpha"]
