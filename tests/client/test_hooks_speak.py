"""Each hook's words in the next request to the model, for every event they are about."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_code import bash, call
from conftest import Ran, reviews, write_rows

pytestmark = pytest.mark.client

# What a training or an evaluation leaves behind, without the minutes: the hook reads only this.
STEP = """\
import json, os, pathlib, sys, time
kind, state, score = sys.argv[1:]
here = pathlib.Path(__file__).resolve().parent.parent / "versions" / "v1"
(here / "run").mkdir(parents=True, exist_ok=True)
now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
status = {"task": "sentiment", "version": "v1", "kind": kind, "state": state, "pid": os.getpid(),
          "started": now, "updated": now, "step": 4, "total_steps": 8, "message": "loss is NaN" * (state == "failed")}
(here / "run" / "status.json").write_text(json.dumps(status))
if kind == "evaluate":
    success = {"primary_metric": "macro_f1", "value": float(score), "threshold": 0.6, "met": float(score) >= 0.6}
    (here / "results.json").write_text(json.dumps({
        "version": "v1", "created": now, "test_sha256": "sha256:0", "test_rows": 40,
        "metrics": {"macro_f1": float(score), "accuracy": float(score)}, "intervals": {"macro_f1": [0.5, 0.9]},
        "success": success}))
    (here / "lineage.yaml").write_text(f"version: v1\\ncreated: {now}\\nresults:\\n  macro_f1: {float(score)}\\n")
sys.exit(state == "failed")
"""

REGENERATE = """\
import pathlib, shutil
here = pathlib.Path(__file__).resolve().parent.parent
(here / "data").mkdir(exist_ok=True)
shutil.copy(here / "new.jsonl", here / "data" / "train.jsonl")
"""


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def task(cli: Callable[..., Ran], project: Path) -> Path:
    """A task `sentiment` made by the command line, and in it scripts that end as they are told to."""
    made = cli("new-task", "sentiment", "--labels", "positive,neutral,negative", "--threshold", "0.6")
    assert made.code == 0, made.err
    scripts = project / "sentiment" / "scripts"
    scripts.mkdir(exist_ok=True)
    for name in ("04_train.py", "05_evaluate.py"):
        (scripts / name).write_text(STEP, encoding="utf-8")
    (scripts / "01_regenerate_data.py").write_text(REGENERATE, encoding="utf-8")
    return project / "sentiment"


def step(task: Path, name: str, *arguments: str) -> str:
    return f"{sys.executable} {task}/scripts/{name} {' '.join(arguments)}"


def test_writing_and_editing_data(session: Callable[..., Any], task: Path) -> None:
    train, rows = str(task / "data" / "train.jsonl"), reviews(6)
    worse = [*rows, {"text": "odd", "label": "postive"}]
    seen = session(
        call("Write", file_path=train, content=jsonl(rows)),
        call("Write", file_path=train, content=jsonl(rows)),
        call("Write", file_path=train, content=jsonl(worse)),
        call("Edit", file_path=train, old_string="postive", new_string="positive"),
        call("Write", file_path=str(task / "data" / "notes.txt"), content="x"),
    )
    assert "sentiment/data/train.jsonl: rows 6, bad 0" in seen.ours(1)
    assert "negative 2 (33.3%)" in seen.ours(1)
    assert seen.ours(2) == ""
    assert "rows 7, bad 1" in seen.ours(3)
    assert "line 7" in seen.ours(3)
    assert "'postive'" in seen.ours(3)
    assert "rows 7, bad 0" in seen.ours(4)
    assert "bad 1 → 0" in seen.ours(4)
    assert "positive +1" in seen.ours(4)
    assert seen.ours(5) == ""
    assert len(seen.requests) == 6  # Stop had nothing to add


def test_file_names_in_chinese_and_with_spaces(session: Callable[..., Any], task: Path, project: Path) -> None:
    other = project / "中文 專案" / "情感 分析"
    shutil.copytree(task, other)
    seen = session(
        call("Write", file_path=str(task / "data" / "raw" / "產品評論.jsonl"), content="{oops\n"),
        call("Write", file_path=str(task / "data" / "raw" / "more reviews.jsonl"), content="{oops\n"),
        call("Write", file_path=str(other / "data" / "test.jsonl"), content="{oops\n"),
    )
    assert "sentiment/data/raw/產品評論.jsonl: rows 1, bad 1" in seen.ours(1)
    assert "sentiment/data/raw/more reviews.jsonl: rows 1, bad 1" in seen.ours(2)
    assert "情感 分析/data/test.jsonl: rows 1, bad 1" in seen.ours(3)
    assert "nlp-skills validate '情感 分析'" in seen.ours(3)


def test_a_mistake_in_a_document(session: Callable[..., Any], task: Path) -> None:
    path = str(task / "task.yaml")
    seen = session(
        call("Read", file_path=path),
        call("Edit", file_path=path, old_string="task_type:", new_string="task_tipe:"),
        call("Edit", file_path=path, old_string="task_tipe:", new_string="task_type:"),
        call("Read", file_path=str(task / "data_source.yaml")),
        call("Write", file_path=str(task / "data_source.yaml"), content="sources: [\n"),
    )
    line = (task / "task.yaml").read_text(encoding="utf-8").split("task_type:")[0].count("\n") + 1
    assert f"sentiment/task.yaml:{line}: unknown key task_tipe" in seen.ours(2)
    assert "did you mean task_type?" in seen.ours(2)
    assert seen.ours(3) == ""
    assert "sentiment/data_source.yaml: errors 1" in seen.ours(5)
    assert "not valid YAML" in seen.ours(5)


def test_a_step_that_succeeds_one_that_fails_and_one_in_the_background(session: Callable[..., Any], task: Path) -> None:
    seen = session(
        bash(step(task, "04_train.py", "train", "completed", "0")),
        bash(f"cd sentiment && PYTHONUTF8=1 {sys.executable} scripts/05_evaluate.py evaluate completed 0.75"),
        bash("cd .. && ls sentiment/data/train.jsonl sentiment/versions || true"),
        bash(step(task, "04_train.py", "train", "failed", "0")),
        bash("nlp-skills train nowhere"),
        bash(f"sleep 2; {step(task, '05_evaluate.py', 'evaluate', 'completed', '0.5')}", run_in_background=True),
        bash("sleep 4"),
    )
    assert "sentiment v1: training completed, not evaluated yet" in seen.ours(1)
    assert "next command: nlp-skills evaluate sentiment" in seen.ours(1)
    assert "sentiment v1: evaluated, test rows 40" in seen.ours(2)
    assert "macro_f1 75.0% (95%: 50.0%–90.0%); criterion ≥ 60.0%: met" in seen.ours(2)
    assert seen.ours(3) == ""
    assert "sentiment v1: training failed" in seen.ours(4)
    assert "cause: loss is NaN" in seen.ours(4)
    assert "the training command failed before it recorded a run" in seen.ours(5)
    assert seen.ours(6) == ""  # launched, not ended
    assert seen.ours(7) == ""
    assert "macro_f1 50.0%" in seen.ours(8)  # Stop: it has ended meanwhile
    assert "criterion ≥ 60.0%: not met" in seen.ours(8)
    agent = "the agent nlp-skills:{} reads these: task sentiment, version v1, "
    assert agent.format("result-analyzer") + "macro_f1 75.0%" in seen.ours(2)
    assert agent.format("problem-diagnoser") + "at step 4 of 8" in seen.ours(4)
    assert agent.format("problem-diagnoser") + "macro_f1 50.0%" in seen.ours(8)
    assert len(seen.requests) == 9


def test_regenerated_data_and_data_changed_by_anything_else(session: Callable[..., Any], task: Path) -> None:
    write_rows(task / "new.jsonl", [*reviews(9), {"text": "", "label": "positive"}])
    seen = session(
        bash(step(task, "01_regenerate_data.py")),
        bash("head -n 6 sentiment/new.jsonl > sentiment/data/test.jsonl"),
    )
    assert "sentiment/data/train.jsonl: rows 10, bad 1" in seen.ours(1)
    assert "line 10: empty text" in seen.ours(1)
    assert seen.ours(2) == ""
    assert "sentiment/data/test.jsonl: rows 6, bad 0" in seen.ours(3)  # Stop
    assert "train.jsonl" not in seen.ours(3)
    assert len(seen.requests) == 4


def test_what_happened_while_nobody_looked_is_told_at_the_start(session: Callable[..., Any], task: Path) -> None:
    write_rows(task / "data" / "train.jsonl", [{"text": "x", "label": "no such"}])
    run = task / "versions" / "v1" / "run"
    run.mkdir(parents=True, exist_ok=True)
    status = {"kind": "train", "state": "running", "pid": 2**22 + 1, "started": "s", "step": 3, "total_steps": 9}
    (run / "status.json").write_text(json.dumps(status), encoding="utf-8")
    first, second = session(), session()
    assert "sentiment/data/train.jsonl: rows 1, bad 1" in first.ours(0)
    assert "sentiment v1: training died" in first.ours(0)
    assert "at step 3 of 9" in first.ours(0)
    assert "tasks: sentiment v1, created" in first.ours(0)
    assert second.ours(0).splitlines()[:3] == [
        "tasks: sentiment v1, created",
        "no training or evaluation has ended since this was last told",
        "next command: nlp-skills data-source add sentiment",
    ]
    assert len(first.requests) == len(second.requests) == 1


def test_chinese_is_spoken_to_who_asks_for_it(session: Callable[..., Any], task: Path) -> None:
    path = str(task / "data" / "train.jsonl")
    seen = session(call("Write", file_path=path, content=jsonl(reviews(3))), NLP_SKILLS_LANG="zh-TW")
    assert "sentiment/data/train.jsonl：3 筆，0 筆有問題" in seen.ours(1)


def test_a_folder_without_a_task_hears_nothing(session: Callable[..., Any], project: Path) -> None:
    seen = session(
        call("Write", file_path=str(project / "data" / "train.jsonl"), content="{oops\n"),
        bash("echo train evaluate regenerate"),
        bash("nlp-skills train; false"),
    )
    assert all(seen.ours(number) == "" for number in range(len(seen.requests)))
    assert len(seen.requests) == 4
    assert not (project / ".nlp-skills").exists()
