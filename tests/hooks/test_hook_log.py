"""The hooks' own logs: a line for every start, nothing of the data in it, and never in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import reviews, write_rows
from hook_events import fire, run, write_digest

from nlp_skills.hooks import log


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task("sentiment")
    write_digest(root)
    return root


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".local" / "share" / "nlp-skills" / "logs" / "hooks"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_start_has_a_line_in_its_program_s_log(task: Path, logs: Path) -> None:
    write_rows(task / "data" / "train.jsonl", [*reviews(6), {"text": "a secret of somebody", "label": "odd secret"}])
    for event in ("Stop", "Stop", "PostToolUse-Bash-background"):
        fire("data_validation", event, task.parent)
    fire("greeting", "SessionStart", task.parent)
    spoke, calm, launched = lines(logs / "data_validation.log")
    assert (spoke["event"], spoke["tasks"]) == ("Stop", ["sentiment"])
    assert spoke["said"] == "sentiment/data/train.jsonl: rows 7, bad 1, first check"
    assert spoke["lines"] > 1
    assert 0 <= spoke["ms"] < 10_000
    assert (calm["silent"], launched["silent"]) == ("nothing to say", "only launched")
    assert lines(logs / "greeting.log")[0]["event"] == "SessionStart"
    assert "secret" not in "".join(path.read_text(encoding="utf-8") for path in logs.iterdir())
    assert oct((logs / "greeting.log").stat().st_mode & 0o777) == "0o600"


def test_where_there_is_no_task_that_is_why_it_was_silent(project: Path, logs: Path) -> None:
    fire("version_tracking", "Stop", project)
    assert lines(logs / "version_tracking.log")[0]["silent"] == "no task"


def test_an_error_is_logged_by_its_place_without_what_it_says(task: Path, logs: Path) -> None:
    said = run("version_tracking", b'{"cwd": "somebody\'s secret', task.parent)
    assert (said.code, said.out, said.err) == (0, "", "")
    (line,) = lines(logs / "version_tracking.log")
    assert line["error"] == "JSONDecodeError"
    assert any("ground.py" in place for place in line["at"])
    assert "secret" not in json.dumps(line)


def test_the_switch_leaves_no_line_either(task: Path, logs: Path) -> None:
    fire("version_tracking", "Stop", task.parent, NLP_SKILLS_HOOKS="off")
    assert not logs.exists()


def test_logs_are_where_setup_puts_what_outlives_an_update(task: Path, tmp_path: Path) -> None:
    fire("version_tracking", "Stop", task.parent, NLP_SKILLS_HOME=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "logs" / "hooks" / "version_tracking.log").is_file()
    fire("version_tracking", "Stop", task.parent, XDG_DATA_HOME=str(tmp_path / "data"))
    assert (tmp_path / "data" / "nlp-skills" / "logs" / "hooks" / "version_tracking.log").is_file()


@pytest.mark.parametrize("home", ["/proc/no", "relative", "in the way"])
def test_where_it_cannot_be_written_nobody_hears_of_it(home: str, task: Path, tmp_path: Path) -> None:
    if home == "in the way":
        (tmp_path / "file").write_text("", encoding="utf-8")
        home = str(tmp_path / "file")
    write_rows(task / "data" / "train.jsonl", reviews(6))
    said = fire("data_validation", "Stop", task.parent, NLP_SKILLS_HOME=home, NLP_SKILLS_HOOKS="debug")
    assert (said.code, said.err) == (0, "")
    assert said.lines
    assert not (task.parent / "relative").exists()


def test_a_log_that_is_full_makes_place_once_and_no_line_is_lost_between_two(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LIMIT_BYTES", 20_000)
    monkeypatch.setattr(log, "_about", {})
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda _number: log.write("greeting"), range(300)))
    new, old = lines(logs / "greeting.log"), lines(logs / "greeting.log.1")
    assert len(new) + len(old) == 300
    assert all(line["silent"] == "no task" for line in [*new, *old])
    size = (logs / "greeting.log.1").stat().st_size
    assert 20_000 < size < 24_000
    assert (logs / "greeting.log").stat().st_size <= 20_000 + 200
    assert sorted(path.name for path in logs.iterdir()) == ["greeting.log", "greeting.log.1", "greeting.log.lock"]
