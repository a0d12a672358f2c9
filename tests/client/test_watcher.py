"""The watcher beside a real, interactive session: its words come to the model in a turn of their own."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from claude_code import VERSION, Model, bash, text
from conftest import ROOT

pytestmark = pytest.mark.client

# A run of its own, in a session of its own, as `train --detach` starts one: it trains for a moment, and fails.
RUN = """\
import json, os, pathlib, platform, sys, time
here = pathlib.Path(sys.argv[1]) / "versions" / "v1" / "run"
here.mkdir(parents=True, exist_ok=True)
def write(state, **more):
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    status = {"task": "sentiment", "version": "v1", "kind": "train", "state": state, "pid": os.getpid(),
              "group": os.getpgrp(), "host": platform.node(), "started": now, "updated": now, "step": 7,
              "total_steps": 90, **more}
    (here / "status.json.new").write_text(json.dumps(status))
    os.replace(here / "status.json.new", here / "status.json")
write("running")
for _moment in range(600):
    if (here / "end").exists():
        break
    time.sleep(0.1)
write("failed", reason="diverged", message="training diverged, and was ended at step 7")
"""


class Screen(pexpect.spawn):  # type: ignore[misc]
    """An interactive session in a terminal."""

    def until(self, reached: Callable[[], bool], seconds: float = 30) -> bool:
        """Read what it draws until something is so."""
        end = time.monotonic() + seconds
        while not reached() and time.monotonic() < end:
            try:
                self.read_nonblocking(100_000, 0.1)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
        return reached()

    def enter(self, words: str) -> None:
        self.send(words)
        self.until(lambda: False, 0.3)
        self.send("\r")


@pytest.fixture
def terminal(claude: Path, model: Model, environment: dict[str, str], project: Path) -> Iterator[Callable[..., Screen]]:
    """Start Claude Code in a terminal; the questions it asks a new user are answered beforehand."""
    known = {
        "hasCompletedOnboarding": True, "lastOnboardingVersion": VERSION, "theme": "dark",
        "customApiKeyResponses": {"approved": [environment["ANTHROPIC_API_KEY"]], "rejected": []},
        "projects": {str(project): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}},
    }  # fmt: skip
    Path(environment["HOME"], ".claude.json").write_text(json.dumps(known), encoding="utf-8")
    started: list[Screen] = []

    def start(*script: Any, **env: str) -> Screen:
        model.script, model.requests = list(script), []
        screen = Screen(
            str(claude), ["--plugin-dir", str(ROOT), "--allowedTools", "Bash"], cwd=str(project),
            env={**environment, "TERM": "xterm-256color", **env}, dimensions=(50, 160), encoding="utf-8",
            codec_errors="replace",
        )  # fmt: skip
        started.append(screen)
        drawn = {"": ""}

        def ready() -> bool:
            return bool(re.search('shortcuts|Try "', drawn[""]))

        screen.logfile_read = _Keeping(drawn)
        assert screen.until(ready), drawn[""][-2000:]
        return screen

    yield start
    for screen in started:
        screen.close(force=True)


class _Keeping:
    def __init__(self, drawn: dict[str, str]) -> None:
        self.drawn = drawn

    def write(self, words: str) -> None:
        self.drawn[""] += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", words)

    def flush(self) -> None:
        pass


@pytest.fixture
def task(make_task: Callable[..., Path], tmp_path: Path) -> Path:
    root = make_task("sentiment")
    (tmp_path / "run.py").write_text(RUN, encoding="utf-8")
    return root


def detached(task: Path) -> str:
    """A shell line that trains detached, as far as the hooks can see."""
    program = task.parent.parent / "run.py"
    return (
        f"setsid {sys.executable} {program} {task} >/dev/null 2>&1 & sleep 1; true nlp-skills train sentiment --detach"
    )


def watchers(home: str) -> list[dict[str, Any]]:
    log = Path(home, ".local", "share", "nlp-skills", "logs", "hooks", "watcher.log")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def test_the_end_of_a_detached_run_wakes_the_idle_session_once(
    terminal: Callable[..., Screen], model: Model, task: Path, environment: dict[str, str]
) -> None:
    screen = terminal(bash(detached(task)), [text("started")], [text("I see")])
    screen.enter("go")
    assert screen.until(lambda: len(model.requests) == 2)
    screen.until(lambda: len(model.requests) > 2, 1.5)
    assert len(model.requests) == 2  # idle, and the run goes on
    (task / "versions" / "v1" / "run" / "end").touch()
    assert screen.until(lambda: len(model.requests) == 3)
    said = str(model.requests[2]["messages"][-1])
    assert "<task-notification>" in said
    assert "[nlp-skills] sentiment v1: training failed" in said
    assert "cause: training diverged, and was ended at step 7" in said
    assert "nlp-skills:problem-diagnoser reads these: task sentiment, version v1, reason diverged" in said
    assert "next command: nlp-skills preflight sentiment" in said
    screen.until(lambda: len(model.requests) > 3, 2)
    assert len(model.requests) == 3  # Stop had nothing to add
