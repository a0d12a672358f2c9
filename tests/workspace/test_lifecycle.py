"""States move legally, with time and reason, and comments survive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.workspace import lifecycle
from nlp_skills.workspace.folder import TaskFolder

MakeTask = Callable[..., Path]


def test_each_move_is_recorded_with_time_version_and_reason(make_task: MakeTask) -> None:
    folder = TaskFolder.at(make_task())
    lifecycle.move(folder, "configuring", "data source added")
    lifecycle.move(folder, "training", "started")
    task = folder.task()
    assert task.status == "training"
    assert [(move.from_, move.to, move.reason) for move in task.history] == [
        ("created", "configuring", "data source added"),
        ("configuring", "training", "started"),
    ]
    assert all(move.time.tzinfo is not None and move.version == "v1" for move in task.history)
    assert folder.task_path.read_text(encoding="utf-8").startswith("# A comment a person wrote.")


def test_training_again_passes_through_configuring(make_task: MakeTask) -> None:
    folder = TaskFolder.at(make_task())
    for state in ("configuring", "training", "evaluating", "training"):
        lifecycle.move(folder, state, "step")
    assert [move.to for move in folder.task().history] == [
        "configuring", "training", "evaluating", "configuring", "training",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("start", "to"), [("created", "deployed"), ("archived", "training"), ("created", "evaluating")]
)
def test_illegal_moves_are_refused_and_change_nothing(make_task: MakeTask, start: str, to: str) -> None:
    folder = TaskFolder.at(make_task())
    yaml.change(folder.task_path, {("status",): start})
    before = folder.task_path.read_bytes()
    with pytest.raises(Invalid) as caught:
        lifecycle.move(folder, to, "step")  # type: ignore[arg-type]
    assert caught.value.mend
    assert folder.task_path.read_bytes() == before


def test_staying_moves_nothing_but_the_time(make_task: MakeTask) -> None:
    folder = TaskFolder.at(make_task())
    lifecycle.move(folder, "created", "again")
    task = folder.task()
    assert task.history == []
    assert task.updated is not None
