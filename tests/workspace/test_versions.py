"""The next version: what it copies, what it says, and what an interruption leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from nlp_skills.schema import yaml
from nlp_skills.schema.version import Results
from nlp_skills.workspace import naming, versions
from nlp_skills.workspace.folder import TaskFolder

CONFIG = "# mine\nbase_model: none/none\nlora: {r: 8, alpha: 16}\nlearning_rate: 1e-3  # found by hand\nepochs: 2\n"


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    folder = TaskFolder.at(make_task())
    v1 = folder.version("v1")
    v1.root.mkdir(parents=True)
    v1.config_path.write_text(CONFIG, encoding="utf-8")
    return folder


def test_new_version_copies_the_configuration_with_its_comments(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("new-version", "sentiment", "--change", "LoRA rank 8 → 32", "--set", "lora.r=32", "--json")
    assert ran.code == 0, ran.err
    assert ran.json == {"ok": True, "version": "v2", "parent": "v1", "changes": ["LoRA rank 8 → 32"]}
    text = task.version("v2").config_path.read_text(encoding="utf-8")
    assert "# mine" in text and "# found by hand" in text
    config = task.version("v2").config()
    assert config.lora is not None and config.lora.r == 32
    assert config.learning_rate == 1e-3
    assert task.task().version == "v2"
    assert task.task().status == "configuring"
    assert "A comment a person wrote" in task.task_path.read_text(encoding="utf-8")


def test_what_was_set_is_described_when_nobody_says(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("new-version", "--set", "lora.r=32", "--set", "learning_rate=5e-4", "--json")
    assert ran.json["changes"] == ["lora.r 8 → 32", "learning_rate 0.001 → 0.0005"]


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ([], 2, "nothing says what changes"),
        (["--change", "x", "--set", "lora.rank=3"], 1, "unknown key lora.rank"),
        (["--change", "x", "--set", "learning_rate=1.0"], 1, "it must be <= 0.1"),
        (["--change", "x", "--set", "learning_rate"], 2, "KEY=VALUE"),
        (["--change", "x", "--from", "v7"], 1, "v7 does not exist"),
        (["--change", "x", "--from", "../v1"], 2, "not a version name"),
    ],
)
def test_bad_requests_change_nothing(
    task: TaskFolder, cli: Callable[..., Ran], arguments: list[str], code: int, part: str
) -> None:
    before = {path: path.read_bytes() for path in task.root.rglob("*.yaml")}
    ran = cli("new-version", *arguments)
    assert ran.code == code
    assert part in ran.err
    assert {path: path.read_bytes() for path in task.root.rglob("*.yaml")} == before


_KILLER = """
import os, sys
from pathlib import Path
from nlp_skills.workspace import versions
from nlp_skills.workspace.folder import TaskFolder
left = int(sys.argv[2])
def counted(original):
    def call(*arguments, **named):
        global left
        if left == 0:
            os._exit(137)
        left -= 1
        return original(*arguments, **named)
    return call
os.replace, os.rename = counted(os.replace), counted(os.rename)
versions.new_version(TaskFolder.at(Path(sys.argv[1])), changes=["more rows"], settings={})
"""


def test_killed_before_any_write_the_same_command_goes_on(task: TaskFolder) -> None:
    codes = []
    for survived in range(20):
        ended = subprocess.run([sys.executable, "-c", _KILLER, str(task.root), str(survived)], check=False)
        codes.append(ended.returncode)
        task.task()
        if ended.returncode == 0:
            break
    assert codes[-1] == 0 and codes[:-1] == [137] * (len(codes) - 1) and len(codes) > 2
    assert task.version_names() == ["v1", "v2"]
    lineage = task.version("v2").lineage()
    assert lineage is not None and lineage.parent == "v1"
    assert task.task().version == "v2"


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["v10", "v2", "v2.1", "v1", "v3-exp", "v3"], ["v1", "v2", "v2.1", "v3", "v3-exp", "v10"]),
        (["2025-02-01", "2025-01-15"], ["2025-01-15", "2025-02-01"]),
        (["v3-20250101", "v2-20250301"], ["v2-20250301", "v3-20250101"]),
    ],
)
def test_versions_sort_as_people_count(names: list[str], ordered: list[str]) -> None:
    assert sorted(names, key=naming.sort_key) == ordered


@pytest.mark.parametrize("name", ["..", "v", "v1/..", "V1", "1", "v1 ", "v2.tmp", ""])
def test_other_names_are_no_versions(name: str) -> None:
    assert not naming.is_version(name)


def _results(value: float) -> Results:
    per_class = {
        name: {"precision": value, "recall": value, "f1": value, "support": 5}
        for name in ("positive", "neutral", "negative")
    }
    return Results.model_validate(
        {
            "version": "v1",
            "created": "2026-01-06T14:00:00+08:00",
            "test_sha256": "sha256:0",
            "test_rows": 15,
            "metrics": {"macro_f1": value, "accuracy": value},
            "per_class": per_class,
            "success": {"primary_metric": "macro_f1", "value": value, "threshold": 0.6, "met": value >= 0.6},
        }
    )


def test_history_and_tasks_show_the_primary_metric(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    versions.new_version(task, changes=["中立樣本 +200"], settings={})
    _results(0.815).save(task.version("v2").results_path)
    ran = cli("history")
    assert "v2 (*)" in ran.out and "81.5%" in ran.out and "中立樣本 +200" in ran.out
    lines = [line for line in ran.out.splitlines() if line.startswith(("│", "┌"))]
    from rich.cells import cell_len

    assert len({cell_len(line) for line in lines}) == 1
    listed = cli("tasks")
    assert "Macro-F1" in listed.out and "81.5%" in listed.out and "v2" in listed.out


def test_a_broken_task_is_listed_with_its_reason(task: TaskFolder, cli: Callable[..., Ran], project: Path) -> None:
    (project / "broken").mkdir()
    (project / "broken" / "task.yaml").write_text("task_name: broken\nstatu: created\n", encoding="utf-8")
    ran = cli("tasks")
    assert ran.code == 0
    assert "sentiment" in ran.out
    assert "broken/task.yaml" in ran.out
    by_name = {entry["name"]: entry for entry in cli("tasks", "--json").json["tasks"]}
    assert by_name["broken"]["error"]["line"] is not None
    assert by_name["sentiment"]["status"] == "created"


def test_looking_at_a_lineage_makes_none(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("lineage", "v1")
    assert ran.code == 1
    assert "no lineage yet" in ran.err and "--complete" in ran.err
    assert not task.version("v1").lineage_path.exists()


def test_lineage_is_completed_from_the_versions_own_files(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    v1 = task.version("v1")
    _results(0.7).save(v1.results_path)
    ran = cli("lineage", "v1", "--complete", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["mended"] == ["config", "results"]
    lineage = yaml.read(v1.lineage_path).data
    assert lineage["results"]["macro_f1"] == 0.7
    assert lineage["results"]["per_class"]["neutral"]["f1"] == 0.7
    assert lineage["config"]["lora"]["r"] == 8
    again = cli("lineage", "sentiment", "v1", "--complete", "--json")
    assert again.json["mended"] == []
