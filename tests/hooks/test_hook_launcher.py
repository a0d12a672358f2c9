"""The launcher: which interpreter it takes, and that nothing it lacks is ever in the way."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
from claude_code import copy_plugin
from conftest import ROOT
from hook_events import WAKING, Said, fire, run

PROGRAMS = ("data_validation", "version_tracking")
ALL = (*PROGRAMS, "greeting", "watcher")


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return copy_plugin(tmp_path / "外 掛")


@pytest.fixture
def task(project: Path) -> Path:
    """A task with something to say for both programs."""
    root = project / "sentiment"
    (root / "data").mkdir(parents=True)
    (root / "task.yaml").write_text("task_name: sentiment\n", encoding="utf-8")
    (root / "data" / "train.jsonl").write_text("{oops\n", encoding="utf-8")
    (root / "versions" / "v1" / "run").mkdir(parents=True)
    status = {"state": "failed", "started": "s", "message": "no"}
    (root / "versions" / "v1" / "run" / "status.json").write_text(json.dumps(status), encoding="utf-8")
    return root


def silent(said: Said) -> bool:
    return (said.code, said.out) == (0, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_speak_from_a_folder_with_spaces_and_chinese(program: str, plugin: Path, task: Path) -> None:
    assert fire(program, "Stop", task.parent, plugin=plugin).lines


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("missing", ["hooks/run", "nlp_skills", "nlp_skills/hooks", "nlp_skills/hooks/words.py"])
def test_without_a_part_of_the_plugin(program: str, missing: str, plugin: Path, task: Path) -> None:
    part = plugin / missing
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    assert silent(fire(program, "Stop", task.parent, plugin=plugin))


@pytest.mark.parametrize("program", PROGRAMS)
def test_with_a_program_that_does_not_parse(program: str, plugin: Path, task: Path) -> None:
    (plugin / "nlp_skills" / "hooks" / f"{program}.py").write_text("def (", encoding="utf-8")
    said = fire(program, "Stop", task.parent, plugin=plugin)
    assert silent(said)
    assert said.err == ""
    assert "SyntaxError" in fire(program, "Stop", task.parent, plugin=plugin, NLP_SKILLS_HOOKS="debug").err


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_an_interpreter(program: str, plugin: Path, task: Path) -> None:
    assert silent(fire(program, "Stop", task.parent, NLP_SKILLS_PYTHON="/nowhere/python3"))
    launcher = plugin / "hooks" / "run"
    launcher.write_text(launcher.read_text(encoding="utf-8").replace("/usr/bin/python3", "/nowhere/python3"))
    said = fire(program, "Stop", task.parent, plugin=plugin, NLP_SKILLS_PYTHON="", PATH="/nowhere")
    assert silent(said)


def test_without_a_home_or_a_path_the_system_s_python_is_enough(task: Path) -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("this machine has no /usr/bin/python3")
    assert fire("data_validation", "Stop", task.parent, NLP_SKILLS_PYTHON="", HOME="", PATH="/bin").lines


def test_the_environment_that_setup_made_comes_first(task: Path, tmp_path: Path) -> None:
    program = tmp_path / "managed" / "env" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\ntouch "{tmp_path}/was here"\nexec {sys.executable} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    env = {"NLP_SKILLS_PYTHON": "", "NLP_SKILLS_HOME": str(tmp_path / "managed")}
    assert fire("data_validation", "Stop", task.parent, **env).lines
    assert (tmp_path / "was here").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_switch(program: str, task: Path) -> None:
    assert silent(fire(program, "Stop", task.parent, NLP_SKILLS_HOOKS="off"))
    assert fire(program, "Stop", task.parent).lines


@pytest.mark.parametrize("program", ALL)
@pytest.mark.parametrize(
    "stdin", [b"", b"null", b"{", b"\xff\xfe", b'{"tool_input": 3, "tool_response": "x", "cwd": 7}']
)
def test_an_event_nobody_knows(program: str, stdin: bytes, project: Path) -> None:
    said = run(program, stdin, project)
    assert silent(said)
    assert said.err == ""


def test_the_user_s_folder_cannot_change_what_a_hook_does(task: Path) -> None:
    for name in ("json.py", "nlp_skills.py", "sitecustomize.py"):
        (task.parent / name).write_text("raise SystemExit(2)", encoding="utf-8")
    assert fire("data_validation", "Stop", task.parent, PYTHONPATH=str(task.parent)).lines


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_tool_s_task_yaml_is_left_alone(program: str, task: Path) -> None:
    (task / "task.yaml").write_text("summary: check the snap\nexecute: |\n  true\n", encoding="utf-8")
    for event in ("SessionStart", "Stop", "PostToolUse-Bash"):
        assert silent(fire(program, event, task.parent))
    edited = fire(program, "PostToolUse-Write", task.parent, file_path=str(task / "task.yaml"))
    assert silent(edited)
    assert not (task / ".nlp-skills").exists()


def test_every_hook_of_the_plugin_starts_the_launcher_and_every_program_exists() -> None:
    hooks = json.loads((ROOT / "hooks" / "hooks.json").read_text(encoding="utf-8"))["hooks"]
    handlers = [hook for groups in hooks.values() for group in groups for hook in group["hooks"]]
    assert {hook["args"][2] for hook in handlers} == {"${CLAUDE_PLUGIN_ROOT}/hooks/run"}
    assert {hook["args"][3] for hook in handlers} == set(ALL)
    waiting = [hook for hook in handlers if hook["args"][3] == "watcher"]
    others = [hook for hook in handlers if hook not in waiting]
    assert {hook["args"][1] for hook in others} == {'sh "$0" "$@"; exit 0'}
    assert {hook["timeout"] for hook in others} == {10}
    assert {hook["args"][1] for hook in waiting} == {WAKING}
    assert all(hook["asyncRewake"] for hook in waiting)
    assert all((ROOT / "nlp_skills" / "hooks" / f"{hook['args'][3]}.py").exists() for hook in handlers)


HOOKS = sorted(f"hooks/{path.stem}" for path in (ROOT / "nlp_skills" / "hooks").glob("*.py"))


@pytest.mark.parametrize("name", [*HOOKS, "data/rows", "data/entities", "data/__init__", "__init__"])
def test_what_a_hook_loads_is_python_3_9(name: str) -> None:
    path = ROOT / "nlp_skills" / f"{name}.py"
    ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 9))
