"""The three tables of the specification, from the three tasks in examples/workspace, in both languages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Ran
from tables import aligned, tables

from nlp_skills.workspace.folder import TaskFolder

TASKS = [
    ["entity-sentiment", "evaluating", "v2", "81.5%", "2026-01-06"],
    ["stance-detection", "training", "v1", "-", "2026-01-06"],
    ["ner-finance", "deployed", "v3", "76.2%", "2026-01-05"],
]
HISTORY = [
    ["v2 (*)", "2026-01-06", "81.5%", "LoRA↑, 中立樣本↑"],
    ["v1", "2026-01-05", "72.0%", "初始版本"],
]
SETTINGS = [
    ["LoRA r", "32", "64", "+100%"],
    ["epochs", "8", "6", "-25%"],
    ["train_count", "500", "700", "+40%"],
]
FIGURES = [
    ["72.0%", "81.5%", "+9.5%"],
    ["72.0%", "82.0%", "+10.0%"],
    ["78%", "86%", "+8%"],
    ["72%", "81%", "+9%"],
    ["62%", "78.5%", "+16.5%"],
]
FIGURE_NAMES = ["Macro-F1", "Accuracy", "正面 F1", "負面 F1", "中立 F1"]
LANGUAGES = pytest.mark.parametrize("lang", ["en", "zh-TW"])


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, which is also the working directory."""
    folder = tmp_path / "workspace"
    shutil.copytree(ROOT / "examples" / "workspace", folder, ignore=shutil.ignore_patterns(".nlp-skills"))
    monkeypatch.chdir(folder)
    return folder


@LANGUAGES
def test_tasks(example: Path, cli: Callable[..., Ran], lang: str) -> None:
    ran = cli("--lang", lang, "tasks")
    assert ran.code == 0, ran.err
    (table,) = tables(ran.out)
    assert table[1:] == TASKS
    assert aligned(ran.out)


@LANGUAGES
def test_history(example: Path, cli: Callable[..., Ran], lang: str) -> None:
    ran = cli("--lang", lang, "history", "entity-sentiment")
    assert ran.code == 0, ran.err
    (table,) = tables(ran.out)
    assert table[1:] == HISTORY
    assert aligned(ran.out)


@LANGUAGES
def test_compare(example: Path, cli: Callable[..., Ran], lang: str) -> None:
    ran = cli("--lang", lang, "compare", "entity-sentiment", "v1", "v2")
    assert ran.code == 0, ran.err
    settings, figures = tables(ran.out)
    assert settings[1:] == SETTINGS
    assert [row[1:] for row in figures[1:]] == FIGURES
    assert aligned(ran.out)


def test_english_headings(example: Path, cli: Callable[..., Ran]) -> None:
    assert tables(cli("tasks").out)[0][0] == ["Task", "State", "Version", "Macro-F1", "Updated"]
    assert tables(cli("history", "entity-sentiment").out)[0][0] == ["Version", "Created", "Macro-F1", "Main changes"]
    settings, figures = tables(cli("compare", "entity-sentiment", "v1", "v2").out)
    assert settings[0] == ["Setting", "v1", "v2", "Change"]
    assert figures[0] == ["Metric", "v1", "v2", "Change"]
    assert [row[0] for row in figures[1:]] == FIGURE_NAMES


def test_chinese_headings(example: Path, cli: Callable[..., Ran]) -> None:
    def shown(*command: str) -> list[list[list[str]]]:
        return tables(cli("--lang", "zh-TW", *command).out)

    assert shown("tasks")[0][0] == ["任務名稱", "狀態", "版本", "Macro-F1", "更新時間"]
    assert shown("history", "entity-sentiment")[0][0] == ["版本", "建立時間", "Macro-F1", "主要變更"]
    settings, figures = shown("compare", "entity-sentiment", "v1", "v2")
    assert settings[0] == ["配置項", "v1", "v2", "變化"]
    assert figures[0] == ["指標", "v1", "v2", "變化"]
    assert [row[0] for row in figures[1:]] == FIGURE_NAMES


def test_every_record_is_valid_and_legal(example: Path, cli: Callable[..., Ran]) -> None:
    from invariants import hold

    for place in sorted(example.iterdir()):
        if place.is_dir():
            hold(place)
            TaskFolder.at(place).sources()
    assert cli("tasks", "--json").json["tasks"][0]["value"] == 0.815


def test_the_example_is_in_the_repository_and_holds_nothing_else(example: Path) -> None:
    """What a clone has: no state of ours, no data, no models; and a README that says where the figures are from."""
    names = {path.name for path in example.rglob("*") if path.is_file()}
    assert names == {
        ".gitignore", "README.md", "task.yaml", "data_source.yaml", "config.yaml", "data_snapshot.json",
        "results.json", "lineage.yaml",
    }  # fmt: skip
    assert "written by hand" in (example / "README.md").read_text(encoding="utf-8")
    assert json.loads((example / "ner-finance/versions/v3/results.json").read_text())["metrics"] == {"macro_f1": 0.762}
