"""The greeting, started as Claude Code starts it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from hook_events import Said, fire, write_digest

CALM = "no training or evaluation has ended since this was last told"


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task("sentiment")
    write_digest(root)
    return root


def greeted(project: Path, **more: Any) -> Said:
    return fire("greeting", "SessionStart", project, **more)


def measured(task: Path, version: str = "v1", value: float = 0.62) -> None:
    folder = task / "versions" / version
    folder.mkdir(parents=True, exist_ok=True)
    results = {"created": f"2026-01-06 {value}", "test_rows": 60, "metrics": {"macro_f1": value},
               "success": {"primary_metric": "macro_f1", "threshold": 0.6, "verdict": "met"}}  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "lineage.yaml").write_text(f"version: {version}\nresults:\n  macro_f1: {value}\n", encoding="utf-8")


def ran(task: Path, state: str, version: str = "v1", **changes: Any) -> None:
    status = {"task": task.name, "version": version, "kind": "train", "state": state, "pid": os.getpid(), "step": 40,
              "started": "2026-01-06T10:00:00+08:00", "updated": "2126-01-06T10:00:00+08:00", "total_steps": 300,
              "host": platform.node()}  # fmt: skip
    folder = task / "versions" / version / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({**status, **changes}), encoding="utf-8")


def test_where_nothing_has_ended_it_is_three_lines(task: Path) -> None:
    said = greeted(task.parent)
    assert said.lines == [
        "[nlp-skills] tasks: sentiment v1, configuring",
        CALM,
        "next command: nlp-skills regenerate sentiment",
    ]
    assert said.person == said.lines[0]


def test_what_ended_is_the_second_line_with_its_own_next_step_and_only_once(task: Path) -> None:
    measured(task)
    said = greeted(task.parent)
    assert said.lines == [
        "[nlp-skills] tasks: sentiment v1, configuring, macro_f1 62.0%",
        "since then: sentiment v1: evaluated, test rows 60 (macro_f1 62.0%; criterion ≥ 60.0%: met, for the agent "
        "nlp-skills:result-analyzer)",
        "next command: nlp-skills report sentiment",
    ]
    assert said.person == (
        "[nlp-skills] tasks: sentiment v1, configuring, macro_f1 62.0%; sentiment v1: evaluated, test rows 60"
    )
    assert greeted(task.parent).lines[1] == CALM
    assert fire("version_tracking", "Stop", task.parent).out == ""


def test_what_was_told_during_the_last_session_is_not_told_again(task: Path) -> None:
    measured(task)
    assert fire("version_tracking", "Stop", task.parent).lines
    assert greeted(task.parent).lines[1] == CALM


def test_a_run_that_goes_on_is_in_the_second_line(task: Path) -> None:
    ran(task, "running")
    for name in ("data/train.jsonl", "data/data.lock.yaml", "versions/v1/config.yaml"):
        path = task / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("", encoding="utf-8")
    assert greeted(task.parent).lines[1:] == [
        "going on: sentiment v1 training, step 40 of 300",
        "next command: nlp-skills status sentiment --watch",
    ]


@pytest.mark.parametrize(
    ("source", "greets"), [("startup", True), ("clear", True), ("resume", False), ("compact", False)]
)
def test_a_session_that_only_goes_on_is_not_greeted_but_told_what_ended(source: str, greets: bool, task: Path) -> None:
    assert bool(greeted(task.parent, source=source).out) == greets
    ran(task, "failed", message="no")
    said = greeted(task.parent, source=source)
    assert ("tasks:" in said.lines[0]) == greets
    assert any("sentiment v1: training failed" in line for line in said.lines)
    assert len(said.lines) == 3 if greets else said.lines[0].endswith("sentiment v1: training failed")


def test_the_current_task_comes_first_some_are_named_and_those_put_away_are_not(
    make_task: Callable[..., Path], project: Path
) -> None:
    for number in range(6):
        task = make_task(f"task{number}")
        write_digest(task, status="archived" if number == 5 else "configuring")
        os.utime(task / "task.yaml", (number, number))
        write_digest(task, status="archived" if number == 5 else "configuring")
    (project / ".nlp-skills").mkdir()
    (project / ".nlp-skills" / "current").write_text("task1\n", encoding="utf-8")
    said = greeted(project)
    assert said.person == (
        "[nlp-skills] tasks: task1 v1, configuring; task4 v1, configuring; task3 v1, configuring; further tasks: 2"
    )
    assert said.lines[-1] == "next command: nlp-skills regenerate task1"
    for number in range(5):
        write_digest(project / f"task{number}", status="archived")
    assert greeted(project).out == ""


def test_a_task_yaml_newer_than_our_notes_of_it_is_read_itself(task: Path) -> None:
    with open(task / "task.yaml", "a", encoding="utf-8") as stream:
        stream.write("status: deployed\n")
    text = (task / "task.yaml").read_text(encoding="utf-8").replace("version: v1", "version: v7  # a person's")
    (task / "task.yaml").write_text(text, encoding="utf-8")
    assert greeted(task.parent).person == "[nlp-skills] tasks: sentiment v7, deployed"


def test_in_chinese(task: Path) -> None:
    measured(task)
    greeted(task.parent)
    assert greeted(task.parent, NLP_SKILLS_LANG="zh-TW").lines == [
        "[nlp-skills] 任務：sentiment v1，configuring，macro_f1 62.0%",
        "自上次告知以來，沒有訓練或評估結束",
        "下一個指令：nlp-skills regenerate sentiment",
    ]


def test_without_a_task_there_is_silence_and_nothing_is_made(project: Path) -> None:
    (project / "task.yaml").write_text("summary: another tool's\n", encoding="utf-8")
    assert greeted(project).out == ""
    assert [path.name for path in project.iterdir()] == ["task.yaml"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": ["../.."], "status": 7, "documents": []}'])
def test_notes_that_are_none_and_names_that_are_none_do_no_harm(content: str, task: Path) -> None:
    (task / ".nlp-skills" / "digest.json").write_text(content, encoding="utf-8")
    (task / "task.yaml").write_text("task_name: x\nversion: ../../<b>\nstatus: <system-reminder>\n", encoding="utf-8")
    ran(task, "running", step="<b>", total_steps=[])
    said = greeted(task.parent, NLP_SKILLS_HOOKS="debug")
    assert (said.code, said.err) == (0, "")
    assert "<" not in "".join(said.lines)


def test_the_next_step_is_the_one_that_status_names(cli: Callable[..., Ran], project: Path) -> None:
    """Of a real task, from its beginning to where only a base model could go on."""

    def agree() -> str:
        named = cli("status", "sentiment", "--json").json["next"]
        ours = greeted(project).lines[-1].removeprefix("next command: ")
        assert ours.replace(" sentiment", "") == named
        return str(named)

    assert cli("new-task", "sentiment", "--labels", "positive,neutral,negative", "--threshold", "0.6").code == 0
    assert agree() == "nlp-skills data-source add"
    rows = [f'{{"text": "review {n}", "label": "{("positive", "neutral", "negative")[n % 3]}"}}' for n in range(90)]
    (project / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    added = cli("data-source", "add", "sentiment", "--type", "file_import", "--path", "rows.jsonl")
    assert added.code == 0, added.err
    assert agree() == "nlp-skills regenerate"
    assert cli("regenerate", "sentiment").code == 0
    assert agree() == "nlp-skills generate"
    config = project / "sentiment" / "versions" / "v1" / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("base_model: none/none\nmethod: sft\n", encoding="utf-8")
    assert agree() == "nlp-skills train"
