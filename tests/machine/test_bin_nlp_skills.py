"""`bin/nlp-skills`, the way a client's Bash tool and a user's shell call it."""

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Ran


def test_a_fresh_plugin_says_how_it_is_set_up_and_installs_nothing(launch: Callable[..., Ran], tmp_path: Path) -> None:
    asked = launch("tasks")
    assert asked.code == 3
    assert "nlp-skills setup" in asked.err and asked.out == ""
    assert not (tmp_path / "home" / ".local").exists()


def test_it_says_so_in_json_and_in_the_users_locale(launch: Callable[..., Ran]) -> None:
    asked = launch("tasks", "--json", NLP_SKILLS_LANG="", LC_ALL="", LANG="zh_TW.UTF-8")
    assert asked.code == 3
    assert asked.json["exit_code"] == 3 and "nlp-skills setup" in asked.json["error"]["mend"]


def test_it_finds_its_plugin_through_links(launch: Callable[..., Ran], plugin: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a link" / "nlp", tmp_path / "連結" / "nlp-skills"
    for link, target in ((first, plugin / "bin" / "nlp-skills"), (second, Path("..") / "a link" / "nlp")):
        link.parent.mkdir()
        link.symlink_to(target)
    shown = launch("--version", program=second, NLP_SKILLS_PYTHON=sys.executable)
    assert shown.code == 0 and shown.out.startswith("nlp-skills")


def test_a_chosen_interpreter_runs_this_plugins_code_not_the_working_directorys(
    launch: Callable[..., Ran], plugin: Path, project: Path
) -> None:
    (project / "click.py").write_text("raise SystemExit('the user has a file of this name')\n")
    shown = launch("doctor", "--json", NLP_SKILLS_PYTHON=sys.executable)
    package = next(check for check in shown.json["checks"] if check["name"] == "nlp-skills")
    assert str(plugin) in package["value"]


def test_a_chosen_interpreter_that_is_not_there(launch: Callable[..., Ran]) -> None:
    asked = launch("tasks", NLP_SKILLS_PYTHON="/no/such/python")
    assert asked.code == 3 and "/no/such/python" in asked.err


@pytest.mark.parametrize("name", ["machine/environment.py", "machine/setup.py", "files.py", "errors.py", "i18n.py"])
def test_what_runs_before_set_up_parses_on_an_old_python(name: str) -> None:
    ast.parse((ROOT / "nlp_skills" / name).read_text(encoding="utf-8"), feature_version=(3, 9))
