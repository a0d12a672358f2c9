"""The plugin as a marketplace delivers it: from another folder, without the repository around it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_code import bash, call, copy_plugin
from conftest import write_rows

pytestmark = pytest.mark.client


@pytest.fixture
def installed(claude: Path, environment: dict[str, str], tmp_path: Path) -> Path:
    """Installed into the client's empty home from a local marketplace whose path has spaces and Chinese."""
    marketplace = copy_plugin(tmp_path / "外掛 市集" / "nlp skills")
    for arguments in (["marketplace", "add", str(marketplace)], ["install", "nlp-skills@nlp-skills"]):
        done = subprocess.run(
            [claude, "plugin", *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return marketplace


def test_hooks_and_command_line_find_what_they_need(
    installed: Path, session: Callable[..., Any], make_task: Callable[..., Path]
) -> None:
    task = make_task("sentiment")
    write_rows(task / "data" / "train.jsonl", [{"text": "good", "label": "neutral"}])
    run = task / "versions" / "v1" / "run"
    run.mkdir(parents=True)
    (run / "status.json").write_text(json.dumps({"state": "failed", "started": "s", "message": "no space left"}))
    seen = session(
        call("Write", file_path=str(task / "data" / "valid.jsonl"), content="{oops\n"),
        bash("nlp-skills tasks --json; command -v nlp-skills"),
        plugin=None,
    )
    assert seen.init.get("plugin_errors", []) == []
    assert [plugin["name"] for plugin in seen.init["plugins"]] == ["nlp-skills"]
    assert "sentiment v1: training failed" in seen.ours(0)
    assert "sentiment/data/valid.jsonl: rows 1, bad 1" in seen.ours(1)
    assert '"name": "sentiment"' in seen.heard(2)
    assert "/bin/nlp-skills" in seen.heard(2)
    assert {hook["exit_code"] for hook in seen.hooks} == {0}


def test_the_copy_in_the_cache_is_whole(
    installed: Path, session: Callable[..., Any], environment: dict[str, str], make_task: Callable[..., Path]
) -> None:
    """A marketplace on a git host is run from the client's cache: the same session with only that copy."""
    registry = Path(environment["HOME"]) / ".claude" / "plugins" / "installed_plugins.json"
    copy = Path(json.loads(registry.read_text(encoding="utf-8"))["plugins"]["nlp-skills@nlp-skills"][0]["installPath"])
    assert copy != installed
    task = make_task("sentiment")
    subprocess.run(["rm", "-rf", installed], check=True)
    seen = session(
        call("Write", file_path=str(task / "data" / "train.jsonl"), content="{oops\n"),
        bash("nlp-skills tasks --json"),
        plugin=copy,
    )
    assert "sentiment/data/train.jsonl: rows 1, bad 1" in seen.ours(1)
    assert '"name": "sentiment"' in seen.heard(2)
