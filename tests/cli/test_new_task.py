"""new-task: what it writes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task

Cli = Callable[..., Ran]


def test_a_chinese_task(project: Path, cli: Cli) -> None:
    template = "分析以下文本對「{entity}」的情感傾向。\n文本:{text}"
    ran = cli(
        "new-task", "情感分析", "--labels", "正面,負面、中立", "--output-field", "sentiment", "--language", "zh-TW",
        "--template", template, "--threshold", "0.8", "--baseline", "rule_based_0.65",
        "--set", "learning_rate=1e-5", "--set", "lora.r=32",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    task = Task.load(project / "情感分析" / "task.yaml")
    assert task.labels == ["正面", "負面", "中立"]
    assert task.input_fields == ["entity", "text"]
    assert task.input_template.strip() == template
    assert task.status == "created"
    assert task.training is not None and task.training.learning_rate == 1e-5
    assert task.training.lora is not None and task.training.lora.r == 32
    assert task.success_criteria.baseline == "rule_based_0.65"
    assert DataSource.load(project / "情感分析" / "data_source.yaml").sources == []
    assert cli("tasks", "--json").json["tasks"][0]["name"] == "情感分析"


def test_qwen3_does_not_think_by_default(project: Path, cli: Cli) -> None:
    cli("new-task", "quick", "--labels", "a,b", "--base-model", "Qwen/Qwen3-0.6B")
    training = Task.load(project / "quick" / "task.yaml").training
    assert training is not None and training.chat_template_kwargs == {"enable_thinking": False}


@pytest.mark.parametrize("name", ["../up", "a b", "/tmp/absolute", "..", "", "a/../b", "-x", ".hidden"])
def test_names_that_are_no_folder_names_are_refused(project: Path, cli: Cli, name: str) -> None:
    ran = cli("new-task", "--labels", "a,b", "--", name)
    assert ran.code == 2
    assert "cannot be a task name" in ran.err
    assert "mend:" in ran.err
    assert list(project.iterdir()) == []


def test_a_task_that_exists_is_left_alone(project: Path, cli: Cli) -> None:
    cli("new-task", "mine", "--labels", "a,b")
    before = (project / "mine" / "task.yaml").read_bytes()
    ran = cli("new-task", "mine", "--labels", "c,d")
    assert ran.code == 2
    assert "there already" in ran.err
    assert (project / "mine" / "task.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--labels", "a"], 1, "at least two labels"),
        (["--labels", "a,a"], 1, "stands twice"),
        ([], 2, "--labels"),
        (["--labels", "a,b", "--template", "no field"], 1, "names no field"),
        (["--labels", "a,b", "--threshold", "80"], 1, "it must be <= 1"),
        (["--labels", "a,b", "--set", "epoch=3"], 1, "did you mean epochs?"),
        (["--labels", "a,b", "--output-field", "text"], 1, "both an input field and an output"),
    ],
)
def test_wishes_that_make_no_task_leave_nothing(
    project: Path, cli: Cli, arguments: list[str], code: int, part: str
) -> None:
    ran = cli("new-task", "bad", *arguments)
    assert ran.code == code
    assert part in ran.err
    assert not (project / "bad" / "task.yaml").exists()


def test_errors_are_json_for_programs(project: Path, cli: Cli) -> None:
    ran = cli("new-task", "../up", "--labels", "a,b", "--json")
    assert ran.code == 2
    assert ran.json["ok"] is False
    assert ran.json["exit_code"] == 2
    assert ran.json["error"]["mend"]


def test_a_task_for_a_server(project: Path, cli: Cli) -> None:
    ran = cli("new-task", "far", "--labels", "a,b", "--host", "lin@gpu-server:2222", "--workdir", "/data/lin")
    assert "nlp-skills remote check far" in ran.out
    text = (project / "far" / "task.yaml").read_text(encoding="utf-8")
    assert "execution:\n  type: remote_ssh\n  host: lin@gpu-server:2222\n  workdir: /data/lin\n" in text
    assert Task.load(project / "far" / "task.yaml").execution.python is None
    assert cli("generate", "far").code == 0
    assert "lin@gpu-server:2222" in (project / "far" / "docs" / "README.md").read_text(encoding="utf-8")
    assert "fabric==" in (project / "far" / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--workdir", "/data"], 2, "go with --host"),
        (["--host", "lin:secret@gpu-server"], 1, "a password does not belong in a file"),
        (["--host", "-oProxyCommand=x"], 1, "a host is user@server"),
    ],
)
def test_a_server_that_cannot_be_one(given: list[str], code: int, words: str, project: Path, cli: Cli) -> None:
    ran = cli("new-task", "far", "--labels", "a,b", *given)
    assert ran.code == code
    assert words in ran.err
    assert "secret" not in ran.err
    assert list(project.iterdir()) == []
