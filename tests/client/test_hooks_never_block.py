"""Whatever is broken, the client's tools run, nothing is reported as a failure, and the rest still speaks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_code import bash, call, copy_plugin
from conftest import write_rows

pytestmark = pytest.mark.client


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task("sentiment")
    write_rows(root / "data" / "train.jsonl", [{"text": "fine", "label": "positive"}])
    return root


def _everything(session: Callable[..., Any], task: Path, **options: Any) -> Any:
    """One session that wakes every hook there is; checks that none was in the way."""
    path = task / "data" / "valid.jsonl"
    seen = session(
        call("Write", file_path=str(path), content="{oops\n"),
        call("Edit", file_path=str(path), old_string="oops", new_string="ooops"),
        bash("echo regenerate, train and evaluate"),
        bash("echo train; false"),
        **options,
    )
    assert path.read_text(encoding="utf-8") == "{ooops\n"
    events = {hook["hook_event"] for hook in seen.hooks}
    assert events == {"SessionStart", "PostToolUse", "PostToolUseFailure", "Stop"}
    assert {(hook["exit_code"], hook["outcome"]) for hook in seen.hooks} == {(0, "success")}
    told = "\n".join(seen.heard(number) for number in range(len(seen.requests)))
    assert "hook error" not in told
    assert "blocking error" not in told
    return seen


def test_the_interpreter_is_missing(session: Callable[..., Any], task: Path) -> None:
    seen = _everything(session, task, NLP_SKILLS_PYTHON="/nowhere/python3")
    assert {hook["stdout"] for hook in seen.hooks} == {""}
    assert {hook["stderr"] for hook in seen.hooks} == {""}


@pytest.mark.parametrize("missing", ["hooks/run", "nlp_skills", "nlp_skills/hooks", "nlp_skills/data/rows.py", "bin"])
def test_a_part_of_the_plugin_is_missing(missing: str, session: Callable[..., Any], task: Path, tmp_path: Path) -> None:
    plugin = copy_plugin(tmp_path / "plugin")
    part = plugin / missing
    shutil.rmtree(part) if part.is_dir() else part.unlink()
    _everything(session, task, plugin=plugin)


def test_the_documents_and_our_own_notes_are_corrupt(session: Callable[..., Any], task: Path) -> None:
    (task / "task.yaml").write_bytes(b"\xff\x00: [")
    notes = task / ".nlp-skills"
    notes.mkdir()
    for name in ("digest.json", "checked.json", "announced.json", "noticed.json"):
        (notes / name).write_text('{"files": [', encoding="utf-8")
    version = task / "versions" / "v1"
    (version / "run").mkdir(parents=True)
    for path in (version / "results.json", version / "run" / "status.json", version / "lineage.yaml"):
        path.write_text("[1, ", encoding="utf-8")
    seen = _everything(session, task)
    assert "sentiment/data/valid.jsonl: rows 1, bad 1" in seen.ours(1)


def test_the_switch_silences_everything(session: Callable[..., Any], task: Path) -> None:
    seen = _everything(session, task, NLP_SKILLS_HOOKS="off")
    assert {hook["stdout"] for hook in seen.hooks} == {""}
