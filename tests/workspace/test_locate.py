"""Which task a command means."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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


def shell(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a new shell: nothing of the environment but where programs and the home are."""
    env = {name: os.environ[name] for name in ("PATH", "HOME")} | {"PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "nlp_skills.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_new_shell_knows_the_current_task_anywhere_in_the_project(make_task: MakeTask, project: Path) -> None:
    make_task("alpha")
    make_task("beta")
    below = project / "notes" / "2026"
    below.mkdir(parents=True)
    assert shell(project, "use", "beta").returncode == 0
    for folder in (project, below):
        assert json.loads(shell(folder, "history", "--json").stdout)["task"] == "beta"
    assert shell(below, "use", "alpha").returncode == 0
    assert json.loads(shell(project, "history", "--json").stdout)["task"] == "alpha"
    inside = shell(project / "beta", "history", "--json")
    assert json.loads(inside.stdout)["task"] == "beta"  # where one stands is meant before what was chosen


def test_an_unknown_name_leaves_the_choice_as_it_was(
    make_task: MakeTask, project: Path, cli: Callable[..., Ran]
) -> None:
    make_task("alpha")
    make_task("beta")
    cli("use", "beta")
    ran = cli("use", "alhpa")
    assert ran.code == 2 and "did you mean alpha?" in ran.err
    assert cli("history", "--json").json["task"] == "beta"


def test_a_current_task_that_moved_is_found_for_whoever_asks(
    make_task: MakeTask, project: Path, cli: Callable[..., Ran]
) -> None:
    make_task("alpha")
    make_task("beta")
    cli("use", "beta")
    (project / "2026").mkdir()
    (project / "beta").rename(project / "2026" / "beta")
    ran = cli("history")
    assert ran.code == 2
    assert "no longer there" in ran.err and "nlp-skills use 2026/beta" in ran.err
    assert cli("use", "2026/beta").code == 0
    assert cli("history", "--json").json["task"] == "beta"


def test_no_other_task_takes_the_place_of_one_that_was_deleted(
    make_task: MakeTask, project: Path, cli: Callable[..., Ran]
) -> None:
    make_task("alpha")
    make_task("beta")
    cli("use", "beta")
    shutil.rmtree(project / "beta")
    before = (project / "alpha" / "task.yaml").read_bytes()
    ran = cli("archive")
    assert ran.code == 2
    assert "no longer there" in ran.err and "nlp-skills use NAME" in ran.err
    assert (project / "alpha" / "task.yaml").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"../elsewhere\n", b"/etc\n"])
def test_a_damaged_choice_is_refused_without_a_traceback(
    make_task: MakeTask, project: Path, cli: Callable[..., Ran], content: bytes
) -> None:
    make_task("alpha")
    (project / ".nlp-skills").mkdir()
    (project / ".nlp-skills" / "current").write_bytes(content)
    ran = cli("history")
    assert ran.code == 2 and ran.err
    assert cli("use", "alpha").code == 0
    assert cli("history", "--json").json["task"] == "alpha"


def test_a_name_that_two_folders_have_is_asked_about(
    make_task: MakeTask, project: Path, cli: Callable[..., Ran]
) -> None:
    make_task("alpha")
    (project / "old").mkdir()
    (project / "new").mkdir()
    shutil.copytree(project / "alpha", project / "old" / "alpha")
    (project / "alpha").rename(project / "new" / "alpha")
    ran = cli("use", "alpha")
    assert ran.code == 2
    assert "new/alpha, old/alpha" in ran.err
    assert cli("use", "old/alpha").code == 0


def test_a_task_in_a_renamed_folder_goes_by_either_name(make_task: MakeTask, project: Path) -> None:
    make_task("alpha")
    (project / "alpha").rename(project / "kept")
    make_task("broken").joinpath("task.yaml").write_text("task_name: [", encoding="utf-8")
    assert locate.task("kept").root == project / "kept"
    assert locate.task("alpha").root == project / "kept"


def test_looking_a_name_up_parses_no_other_task(make_task: MakeTask, project: Path, cli: Callable[..., Ran]) -> None:
    make_task("alpha")
    for number in range(50):
        folder = project / f"broken-{number}"
        folder.mkdir()
        (folder / "task.yaml").write_bytes(b"\xff{[")
    assert cli("use", "alpha").code == 0
    assert cli("history", "--json").json["task"] == "alpha"
