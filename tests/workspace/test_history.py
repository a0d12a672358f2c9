"""`nlp-skills history`: the versions of a task, newest first, and which came from which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from tables import aligned, tables

from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Command = Callable[..., Ran]
Versions = Callable[..., TaskFolder]


@pytest.fixture
def versions(make_task: Callable[..., Path]) -> Versions:
    """A task with versions, each given as its parent or as whole parts of its lineage."""

    def make(current: str, **parents: str | dict[str, Any] | None) -> TaskFolder:
        folder = TaskFolder.at(make_task())
        for day, (name, said) in enumerate(parents.items(), 1):
            parts = said if isinstance(said, dict) else {"parent": said} if said else {}
            version = folder.version(name.replace("_", "-").replace("dot", "."))
            version.root.mkdir(parents=True)
            content = {"version": version.name, "created": f"2026-01-{day:02}T12:00:00+00:00", **parts}
            version.lineage_path.write_text(yaml.dumps(content), encoding="utf-8")
        yaml.change(folder.task_path, {("version",): current})
        return folder

    return make


def drawn(ran: Ran) -> list[str]:
    """The lines under the table."""
    assert ran.code == 0, ran.err
    return ran.out[ran.out.rindex("┘") + 1 :].strip().splitlines()


def test_newest_first_with_the_current_one_marked_and_no_parent_column(versions: Versions, cli: Command) -> None:
    versions("v2", v1=None, v2="v1", v10={"parent": "v2", "changes": ["200 more rows", "LoRA rank 32 → 64"]})
    ran = cli("history")
    (table,) = tables(ran.out)
    assert table[0] == ["Version", "Created", "Macro-F1", "Main changes"]
    assert table[1:] == [
        ["v10", "2026-01-03", "-", "200 more rows, LoRA rank 32 → 64"],
        ["v2 (*)", "2026-01-02", "-", "-"],
        ["v1", "2026-01-01", "-", "-"],
    ]
    assert drawn(ran) == []  # one line of versions needs no tree
    assert [row["parent"] for row in cli("history", "--json").json["versions"]] == ["v2", "v1", None]


def test_branches_are_drawn_below(versions: Versions, cli: Command) -> None:
    versions("v3", v1=None, v2="v1", v2dot1="v2", v3="v2", v4="v3", v4dot1="v4", v5="v4")
    assert drawn(cli("history"))[1:] == [
        "v1 → v2",
        "├── v2.1",
        "└── v3 (*) → v4",
        "    ├── v4.1",
        "    └── v5",
    ]


def test_an_experiment_is_enough_for_a_tree(versions: Versions, cli: Command) -> None:
    versions("v1", v1=None, v1_exp="v1")
    assert drawn(cli("history"))[1:] == ["v1 (*) → v1-exp"]


def test_what_a_version_was_promoted_from_is_named(versions: Versions, cli: Command) -> None:
    versions("v2", v1=None, v1_exp="v1", v2={"parent": "v1", "promoted_from": "v1-exp"})
    assert drawn(cli("history"))[1:] == ["v1", "├── v1-exp", "└── v2 (*), promoted from v1-exp"]
    newest = cli("history", "--json").json["versions"][0]
    assert newest["promoted_from"] == "v1-exp"


def test_a_parent_that_was_purged_is_named(versions: Versions, cli: Command) -> None:
    versions("v3", v2="v1", v3="v1")
    assert drawn(cli("history"))[1:] == ["v1 (gone)", "├── v2", "└── v3 (*)"]


def test_parents_in_a_circle_do_not_hang(versions: Versions, cli: Command) -> None:
    versions("v1", v1="v2", v2="v1", v3="v2", v4="v4")
    assert drawn(cli("history"))[1:] == ["v1 (*) → v2 → v3", "v4"]


def test_a_broken_lineage_is_listed_with_its_reason(versions: Versions, cli: Command) -> None:
    folder = versions("v2", v1=None, v2="v1")
    folder.version("v1").lineage_path.write_text("version: v1\ncreated: [\n", encoding="utf-8")
    results = {"version": "v1", "created": "2026-01-05T12:00:00+00:00", "test_sha256": "sha256:0", "test_rows": 9,
               "metrics": {"macro_f1": 0.72}, "success": {"primary_metric": "macro_f1", "value": 0.72}}  # fmt: skip
    folder.version("v1").results_path.write_text(json.dumps(results), encoding="utf-8")
    ran = cli("history")
    assert tables(ran.out)[0][2][:3] == ["v1", "-", "72.0%"]
    assert tables(ran.out)[0][2][3].startswith("not valid YAML")
    assert "sentiment/versions/v1/lineage.yaml:3: not valid YAML" in ran.out
    newest, oldest = cli("history", "--json").json["versions"]
    assert newest["problem"] is None
    assert oldest["problem"]["line"] == 3 and oldest["value"] == 0.72


def test_long_changes_are_cut_on_the_screen_and_whole_in_json(versions: Versions, cli: Command) -> None:
    change = "新增中立樣本並調整學習率與批次大小，" * 8
    versions("v1", v1={"changes": [change, "two\nlines \x1b[31m"]})
    ran = cli("history")
    cell = tables(ran.out)[0][1][3]
    assert cell.startswith("新增中立樣本") and cell.endswith("…") and aligned(ran.out)
    assert cli("history", "--json").json["versions"][0]["changes"] == [change, "two\nlines \x1b[31m"]


def test_no_control_character_reaches_the_screen(versions: Versions, cli: Command) -> None:
    versions("v1", v1={"changes": ["two\nlines \x1b[31m"]})
    ran = cli("history")
    assert tables(ran.out)[0][1][3] == r"two lines \x1b[31m"


def test_a_task_without_versions_says_how_the_first_is_made(make_task: Callable[..., Path], cli: Command) -> None:
    make_task()
    ran = cli("history")
    assert ran.code == 0 and "nlp-skills generate" in ran.out
    assert cli("history", "--json").json["versions"] == []


def test_versions_by_date(versions: Versions, cli: Command) -> None:
    folder = versions("v1", v1=None)
    for name, parent in (("2025-01-07", None), ("2025-01-07-2", "2025-01-07"), ("2025-02-01", "2025-01-07")):
        version = folder.version(name)
        version.root.mkdir()
        content = {"version": name, "created": "2026-01-05T12:00:00+00:00", **({"parent": parent} if parent else {})}
        version.lineage_path.write_text(yaml.dumps(content), encoding="utf-8")
    (folder.version("v1").lineage_path).unlink()
    folder.version("v1").root.rmdir()
    yaml.change(folder.task_path, {("version",): "2025-02-01"})
    ran = cli("history")
    assert [row[0] for row in tables(ran.out)[0][1:]] == ["2025-02-01 (*)", "2025-01-07-2", "2025-01-07"]
    assert drawn(ran)[1:] == ["2025-01-07", "├── 2025-01-07-2", "└── 2025-02-01 (*)"]
