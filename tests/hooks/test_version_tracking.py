"""version-tracking, started as Claude Code starts it."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from hook_events import Said, fire, run, write_digest


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task("sentiment")
    write_digest(root)
    return root


def status(task: Path, version: str = "v1", **changes: Any) -> None:
    """The status of a run, as training leaves it."""
    known = {"task": task.name, "version": version, "kind": "train", "state": "completed", "pid": os.getpid(),
             "started": "2026-01-06T10:00:00+08:00", "updated": "2026-01-06T10:05:00+08:00", "step": 40,
             "total_steps": 40, "loss": 0.31234}  # fmt: skip
    folder = task / "versions" / version / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({**known, **changes}), encoding="utf-8")


def now() -> str:
    return dt.datetime.now().astimezone().isoformat()


def results(task: Path, value: float, version: str = "v1", *, parent: str | None = None, **changes: Any) -> None:
    """What an evaluation leaves, lineage included."""
    known = {
        "version": version, "created": f"2026-01-06T11:00:00+08:00 {value}", "test_sha256": "sha256:1", "test_rows": 60,
        "metrics": {"macro_f1": value, "accuracy": 0.8}, "intervals": {"macro_f1": [value - 0.1, value + 0.1]},
        "baselines": {"majority": {"macro_f1": 0.2}, "tfidf": {"macro_f1": 0.55}},
        "success": {"primary_metric": "macro_f1", "value": value, "threshold": 0.6, "met": value >= 0.6},
    }  # fmt: skip
    folder = task / "versions" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({**known, **changes}), encoding="utf-8")
    lineage = f"version: {version}\ncreated: 2026-01-06T10:00:00+08:00\n"
    lineage += f"parent: {parent}\n" if parent else ""
    lineage += f"run:\n  state: completed\nresults:\n  macro_f1: {value}\n"
    (folder / "lineage.yaml").write_text(lineage, encoding="utf-8")


def ran(task: Path, command: str, event: str = "PostToolUse-Bash", **more: str) -> Said:
    word = "train" if "train" in command else "evaluate"
    return fire("version_tracking", event, task.parent, word, command=command, **more)


def looked(task: Path, event: str = "Stop", **more: str) -> Said:
    return fire("version_tracking", event, task.parent, **more)


def test_an_evaluation_against_criterion_baseline_and_parent(task: Path) -> None:
    results(task, 0.62)
    assert ran(task, "nlp-skills evaluate").lines == [
        "[nlp-skills] sentiment v1: evaluated, test rows 60",
        "macro_f1 62.0% (95%: 52.0%–72.0%); criterion ≥ 60.0%: met",
        "accuracy 80.0%",
        "best baseline tfidf: 55.0%",
        "the agent nlp-skills:result-analyzer reads these: task sentiment, version v1, macro_f1 62.0%, "
        "criterion ≥ 60.0%, versions/v1/results.json",
        "next command: nlp-skills report sentiment",
    ]
    results(task, 0.585, "v2", parent="v1")
    said = ran(task, "nlp-skills evaluate sentiment --version v2")
    assert said.person == "[nlp-skills] sentiment v2: evaluated, test rows 60"
    assert "criterion ≥ 60.0%: not met" in said.lines[1]
    assert said.lines[3] == "best baseline tfidf: 55.0%"
    assert said.lines[-3:] == [
        "parent v1 had macro_f1 62.0% on the same test rows (-3.5 points)",
        "the agent nlp-skills:problem-diagnoser reads these: task sentiment, version v2, parent v1, macro_f1 58.5%, "
        "criterion ≥ 60.0%, versions/v2/results.json",
        "next command: nlp-skills compare sentiment v1 v2",
    ]
    assert looked(task).out == ""


def test_scores_on_different_test_rows_are_not_subtracted(task: Path) -> None:
    results(task, 0.62)
    results(task, 0.7, "v2", parent="v1", test_sha256="sha256:2")
    assert "parent v1 had macro_f1 62.0%, on other test rows: not comparable" in ran(task, "nlp-skills evaluate").lines


def test_a_first_version_that_falls_short_is_followed_by_a_new_one(task: Path) -> None:
    results(task, 0.3)
    said = ran(task, "nlp-skills evaluate")
    assert "best baseline tfidf: 55.0%, which this version does not beat" in said.lines
    assert said.lines[-1] == 'next command: nlp-skills new-version sentiment --change "…"'


def test_a_training_that_ended_well_is_to_be_measured(task: Path) -> None:
    status(task)
    (task / "versions" / "v1" / "lineage.yaml").write_text("version: v1\nmodel:\n  adapter_path: a\n", encoding="utf-8")
    assert ran(task, "uv run python scripts/04_train.py").lines == [
        "[nlp-skills] sentiment v1: training completed, not evaluated yet",
        "steps 40, last loss 0.3123",
        "next command: nlp-skills evaluate sentiment",
    ]


def test_training_again_makes_earlier_results_old(task: Path) -> None:
    results(task, 0.7)
    status(task)
    assert "training completed, not evaluated yet" in ran(task, "nlp-skills train --again").person


@pytest.mark.parametrize(
    ("state", "first", "following"),
    [
        ("failed", "training failed", "nlp-skills preflight sentiment --version v2"),
        ("interrupted", "training was interrupted", "nlp-skills train sentiment --version v2"),
    ],
)
def test_a_training_that_did_not_end_well(state: str, first: str, following: str, task: Path) -> None:
    status(task, "v2", state=state, step=17, message="CUDA out of memory\nTraceback")
    said = ran(task, "nlp-skills train sentiment --version v2", "PostToolUseFailure-Bash")
    agent = "the agent nlp-skills:problem-diagnoser reads these: task sentiment, version v2, at step 17 of 40"
    assert said.lines == [
        f"[nlp-skills] sentiment v2: {first}",
        "at step 17 of 40",
        "cause: CUDA out of memory\\nTraceback",
        *([agent] if state == "failed" else []),  # what a person interrupted has no cause to be found
        f"next command: {following}",
    ]


def test_a_run_whose_process_is_gone_has_died_and_one_that_lives_is_left_alone(task: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    status(task, state="running", pid=os.getpid(), step=3, updated=now())
    assert looked(task).out == ""
    status(task, state="running", pid=gone.pid, step=3, updated=now())
    said = looked(task, "SessionStart")
    assert said.lines[0].startswith("[nlp-skills] sentiment v1: training died")
    assert said.lines[1] == "at step 3 of 40"
    assert looked(task, "SessionStart").out == ""


def test_a_process_that_only_has_the_number_of_the_run_is_not_the_run(task: Path) -> None:
    status(task, state="running", pid=os.getpid(), step=3, updated="2026-01-06T10:05:00+08:00")
    assert looked(task).lines[0].startswith("[nlp-skills] sentiment v1: training died")


def test_a_process_that_has_ended_and_was_not_asked_how_is_dead(task: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    status(task, state="running", pid=ended.pid, step=3, updated=now())
    assert "training died" in looked(task).person
    ended.wait()


@pytest.mark.parametrize("host", ["gpu-box", platform.node()])
def test_a_run_on_another_computer_is_not_judged_by_a_process_of_this_one(task: Path, host: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    status(task, state="running", pid=gone.pid, step=3, updated=now(), host=host)
    assert bool(looked(task).lines) == (host == platform.node())


def test_a_detached_run_that_died_goes_on_from_its_checkpoint_and_a_second_death_is_told_too(task: Path) -> None:
    checkpoint = task / "models" / "checkpoints" / "v1" / "checkpoint-20"
    checkpoint.mkdir(parents=True)
    dead = {"state": "dead", "host": platform.node(), "group": 77, "step": 23,
            "message": "the process was ended by SIGKILL"}  # fmt: skip
    status(task, pid=77, **dead)
    assert looked(task).lines == [
        "[nlp-skills] sentiment v1: training died; its process is gone and its last state was running",
        "at step 23 of 40",
        "cause: the process was ended by SIGKILL",
        "the agent nlp-skills:problem-diagnoser reads these: task sentiment, version v1, at step 23 of 40",
        "next command: nlp-skills train sentiment --detach",
    ]
    assert looked(task).out == ""
    (checkpoint / "complete.json").write_text("{}")
    status(task, pid=78, **dead)
    assert looked(task).lines[-1] == "next command: nlp-skills resume sentiment --detach"


def test_a_run_that_failed_for_a_known_reason_is_told_with_its_mend(task: Path) -> None:
    status(task, state="failed", step=3, reason="out_of_memory", message="CUDA out of memory")
    (task / "versions" / "v1" / "run" / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    said = looked(task)
    assert said.lines[2:5] == [
        "cause: CUDA out of memory",
        "mend: halve batch_size and double gradient_accumulation, or lower max_length",
        "the agent nlp-skills:problem-diagnoser reads these: task sentiment, version v1, reason out_of_memory, "
        "at step 3 of 40, versions/v1/run/metrics.jsonl",
    ]


def test_a_background_command_is_told_when_it_has_ended(task: Path) -> None:
    status(task)
    assert fire("version_tracking", "PostToolUse-Bash-background", task.parent, "train").out == ""
    assert "training completed" in looked(task).person


def test_each_end_is_told_once_and_the_next_one_again(task: Path) -> None:
    status(task)
    assert looked(task).lines
    assert looked(task).out == ""
    status(task, started="2026-01-07T10:00:00+08:00")
    assert looked(task).lines


def test_years_of_versions_are_not_recited_to_whoever_opens_the_folder(task: Path) -> None:
    for number in range(1, 9):
        results(task, 0.5 + number / 100, f"v{number}")
        os.utime(task / "versions" / f"v{number}" / "results.json", (number, number))
    said = looked(task, "SessionStart")
    assert said.person == "[nlp-skills] sentiment v8: evaluated, test rows 60"
    assert sum("evaluated," in line for line in said.lines) == 1
    assert looked(task).out == ""


def test_a_command_that_failed_before_it_ran_changed_nothing(task: Path) -> None:
    said = ran(task, "cd x && CUDA_VISIBLE_DEVICES=0 nlp-skills --lang en train sentiment", "PostToolUseFailure-Bash")
    assert said.lines == [
        "[nlp-skills] the training command failed before it recorded a run",
        "next command: nlp-skills preflight sentiment",
    ]


@pytest.mark.parametrize("command", ["ls data/train.jsonl", "grep evaluate README.md", "nlp-skills tasks # train"])
def test_other_commands_that_fail_are_not_ours(command: str, task: Path) -> None:
    assert ran(task, command, "PostToolUseFailure-Bash").out == ""


def test_one_line_that_trains_and_evaluates_is_told_once_though_two_hooks_start(task: Path) -> None:
    status(task)
    line = "nlp-skills train && nlp-skills evaluate"
    with ThreadPoolExecutor() as pool:
        words = ["train", "evaluate"] * 4
        said = list(
            pool.map(lambda word: fire("version_tracking", "PostToolUse-Bash", task.parent, word, command=line), words)
        )
    assert sum(bool(each.lines) for each in said) == 1


def test_one_line_that_fails_before_either_is_told_once(task: Path) -> None:
    line = "nlp-skills train && nlp-skills evaluate"
    event = "PostToolUseFailure-Bash"
    said = [fire("version_tracking", event, task.parent, word, command=line) for word in ("train", "evaluate")]
    assert [bool(each.lines) for each in said] == [True, False]


def test_a_lineage_that_is_behind_is_completed_by_the_command_line(cli: Callable[..., Ran], project: Path) -> None:
    made = cli("new-task", "reviews", "--labels", "positive,neutral,negative", "--threshold", "0.6")
    assert made.code == 0, made.err
    task = project / "reviews"
    results(task, 0.7, created="2026-01-06T11:00:00+08:00")
    lineage = task / "versions" / "v1" / "lineage.yaml"
    lineage.write_text("version: v1\ncreated: 2026-01-06T10:00:00+08:00\n", encoding="utf-8")
    (task / "versions" / "v1" / "config.yaml").write_text("base_model: none/none\nmethod: sft\n", encoding="utf-8")
    without = looked(task, NLP_SKILLS_PYTHON="")
    assert "lineage.yaml lacks these results: nlp-skills lineage reviews v1 --complete" in without.lines
    (task / ".nlp-skills" / "announced.json").unlink()
    assert "lineage.yaml was behind and has been completed" in looked(task).lines
    assert "macro_f1: 0.7" in lineage.read_text(encoding="utf-8")


def test_chinese_for_whoever_reads_chinese(task: Path) -> None:
    results(task, 0.62)
    said = looked(task, NLP_SKILLS_LANG="", LC_ALL="zh_TW.UTF-8")
    assert said.person == "[nlp-skills] sentiment v1：已在 60 筆測試資料上評估"
    assert "macro_f1 62.0%(95%:52.0%–72.0%); 成功標準 ≥ 60.0%：達成" in said.lines


def test_the_task_s_own_language_counts_when_the_machine_has_none(task: Path) -> None:
    results(task, 0.62)
    write_digest(task, lang="zh-TW")
    assert "已在 60 筆測試資料上評估" in looked(task, NLP_SKILLS_LANG="").person


def test_records_that_are_no_records_do_no_harm(task: Path) -> None:
    for content in (
        "",
        "[]",
        '{"state": 3, "metrics": [], "success": 1}',
        '{"metrics": {"macro_f1": "x"}, "created": []}',
    ):
        for name in ("results.json", "run/status.json", "lineage.yaml"):
            path = task / "versions" / "v1" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        said = looked(task)
        assert (said.code, said.err) == (0, "")


def test_no_task_no_word(project: Path) -> None:
    for event in ("SessionStart", "Stop", "PostToolUse-Bash", "PostToolUseFailure-Bash"):
        assert fire("version_tracking", event, project).out == ""


def test_nothing_on_standard_input(task: Path) -> None:
    status(task)
    for stdin in (b"", b"[]", b"\xff", b'{"tool_input": []}'):
        assert run("version_tracking", stdin, task.parent).code == 0
