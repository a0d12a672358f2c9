"""The watcher beside a session: what wakes it, what does not, and when it goes away by itself."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hook_events import WAKING, captured, fire, run, write_digest

# The program itself, impatient: it looks often, waits little for last words, and misses a heartbeat soon.
IMPATIENT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from nlp_skills.hooks import alive, start, watcher
watcher.POLL_SECONDS, watcher.LAST_WORDS_SECONDS, watcher.LOOK_SECONDS = 0.05, 0.3, 0.1
alive.HEARD_SECONDS = float(sys.argv.pop(1))
start.main("watcher", sys.argv[1:])
"""


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task("sentiment")
    write_digest(root)
    return root


@pytest.fixture
def sleeper() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Processes that live until the test ends them."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def status(task: Path, pid: int, state: str = "running", version: str = "v1", **more: Any) -> None:
    """The record of a run that was started detached."""
    now = dt.datetime.now().astimezone().isoformat()
    known = {"task": task.name, "version": version, "kind": "train", "state": state, "pid": pid, "group": pid,
             "host": platform.node(), "started": "2026-01-06T10:00:00+08:00", "updated": now, "stepped": now,
             "step": 40, "total_steps": 300, "loss": 0.25}  # fmt: skip
    folder = task / "versions" / version / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json.new").write_text(json.dumps({**known, **more}), encoding="utf-8")
    os.replace(folder / "status.json.new", folder / "status.json")


class Watching(subprocess.Popen[bytes]):
    """A watcher that was started for a session, this process unless another is given."""

    def __init__(self, task: Path, event: str = "Stop", session: int = 0, heard: float = 60, **given: Any) -> None:
        self.task = task
        env = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "CLAUDE_PROJECT_DIR": str(task.parent),
               "NLP_SKILLS_LANG": "en", "NLP_SKILLS_PYTHON": sys.executable,
               "CLAUDE_CODE_ENTRYPOINT": "cli"}  # fmt: skip
        env |= {name: given.pop(name) for name in list(given) if name.isupper()}
        super().__init__(
            [sys.executable, "-I", "-S", "-c", IMPATIENT, str(heard), str(session or os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=task.parent,
        )  # fmt: skip
        assert self.stdin is not None
        self.stdin.write(json.dumps(captured(event, task.parent, **given)).encode())
        self.stdin.close()
        self.stdin = None

    def said(self) -> list[str]:
        """What it wakes the session with; it has ended by then."""
        out, err = self.communicate(timeout=20)
        assert (self.returncode, err) == (0, b"")
        return out.decode().splitlines()

    def is_waiting(self, *versions: str) -> bool:
        """Whether it has come to watch the runs of these versions, else of v1."""
        until = time.monotonic() + 20
        while self.poll() is None and time.monotonic() < until:
            if all(is_held(self.task, version) for version in versions or ("v1",)):
                return self.poll() is None
            time.sleep(0.02)
        return False


def is_held(task: Path, version: str) -> bool:
    """Whether some process watches the run; asked of the system, since taking the lock would be in its way."""
    path = task / ".nlp-skills" / "watched" / f"{version}.lock"
    if not path.exists():
        return False
    inode = path.stat().st_ino
    return any(line.split()[5].endswith(f":{inode}") for line in Path("/proc/locks").read_text().splitlines())


def why() -> list[str]:
    """What the log says of each watcher so far."""
    path = Path(os.environ["HOME"], ".local", "share", "nlp-skills", "logs", "hooks", "watcher.log")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line.get("silent") or line.get("said") or str(line.get("error")) for line in lines]


def test_a_run_that_ends_wakes_the_session_and_no_other_hook_says_it_again(
    task: Path, sleeper: Callable[..., Any]
) -> None:
    training = sleeper()
    status(task, training.pid)
    watching = Watching(task, "PostToolUse-Bash", command="nlp-skills train sentiment --detach")
    assert watching.is_waiting()
    status(task, training.pid, "failed", reason="nan_loss", message="training diverged")
    end(training)
    assert watching.said() == [
        "sentiment v1: training failed",
        "at step 40 of 300",
        "cause: training diverged",
        "mend: lower learning_rate; a tenth of it is a good next try",
        "the agent nlp-skills:problem-diagnoser reads these: task sentiment, version v1, reason nan_loss, "
        "at step 40 of 300",
        "next command: nlp-skills preflight sentiment",
    ]
    assert fire("version_tracking", "Stop", task.parent).out == ""
    assert not any("failed" in line for line in fire("greeting", "SessionStart", task.parent).lines)


def test_a_run_that_is_killed_wakes_it_too(task: Path, sleeper: Callable[..., Any]) -> None:
    training = sleeper()
    status(task, training.pid)
    watching = Watching(task)
    assert watching.is_waiting()
    end(training)
    assert watching.said()[0].startswith("sentiment v1: training died")


def test_an_end_that_fell_between_two_looks_wakes_it_unless_it_was_told(task: Path) -> None:
    status(task, 2**22 + 7, "completed")
    assert Watching(task).said()[0] == "sentiment v1: training completed, not evaluated yet"
    status(task, 2**22 + 8, "completed")
    assert fire("version_tracking", "Stop", task.parent).lines
    assert Watching(task).said() == []


def test_what_another_hook_told_first_wakes_nobody(task: Path, sleeper: Callable[..., Any]) -> None:
    training = sleeper()
    status(task, training.pid)
    watching = Watching(task)
    assert watching.is_waiting()
    status(task, training.pid, "completed")  # and its process still has something to write
    assert fire("version_tracking", "Stop", task.parent).lines
    end(training)
    assert watching.said() == []
    assert why() == ["somebody else was told"]


def test_a_run_that_stands_still_is_told_once_and_then_its_end(task: Path, sleeper: Callable[..., Any]) -> None:
    training = sleeper()
    status(task, training.pid, reason="stalled", stepped="2026-01-06T10:00:00+08:00")
    said = Watching(task).said()
    assert said[:2] == [
        "sentiment v1: training has stopped moving; its process is still there",
        "at step 40 of 300",
    ]
    assert "reason stalled" in said[3]
    assert said[-1] == "next command: nlp-skills logs sentiment"
    again = Watching(task)
    assert again.is_waiting()
    status(task, training.pid, "completed")
    end(training)
    assert again.said()[0] == "sentiment v1: training completed, not evaluated yet"


def test_a_process_without_a_heartbeat_stands_still(task: Path, sleeper: Callable[..., Any]) -> None:
    status(task, sleeper().pid)
    assert "has stopped moving" in Watching(task, heard=0.3).said()[0]


def test_of_two_runs_each_wakes_it_for_itself(task: Path, sleeper: Callable[..., Any]) -> None:
    first, second = sleeper(), sleeper()
    status(task, first.pid)
    status(task, second.pid, version="v2")
    watching = Watching(task)
    assert watching.is_waiting("v1", "v2")
    status(task, first.pid, "completed")
    end(first)
    assert [line for line in watching.said() if "v2" in line] == []
    following = Watching(task)  # hooks.json starts one at the end of every turn
    assert following.is_waiting("v2")
    status(task, second.pid, "completed", version="v2")
    end(second)
    assert following.said()[0] == "sentiment v2: training completed, not evaluated yet"


def test_a_run_has_one_watcher_and_a_dead_one_is_none(task: Path, sleeper: Callable[..., Any]) -> None:
    training = sleeper()
    status(task, training.pid)
    first = Watching(task)
    assert first.is_waiting()
    assert Watching(task).said() == []
    assert why() == ["no run to watch"]
    end(first)
    second = Watching(task)
    assert second.is_waiting()
    end(training)
    assert "training died" in second.said()[0]


def test_it_goes_when_the_session_has_gone(task: Path, sleeper: Callable[..., Any]) -> None:
    status(task, sleeper().pid)
    session = sleeper()
    watching = Watching(task, session=session.pid)
    assert watching.is_waiting()
    session.kill()
    assert watching.said() == []
    assert why() == ["the session is over"]


def test_years_of_versions_are_not_recited_after_it(task: Path, sleeper: Callable[..., Any]) -> None:
    for number in range(2, 5):
        status(task, 2**22 + number, "completed", f"v{number}", group=None)
    training = sleeper()
    status(task, training.pid)
    watching = Watching(task)
    assert watching.is_waiting()
    end(training)
    assert "v1" in watching.said()[0]
    assert fire("version_tracking", "Stop", task.parent).out == ""


@pytest.mark.parametrize("command", ["cat data/train.jsonl", "nlp-skills tasks # train", "nlp-skills evaluate"])
def test_a_command_that_starts_no_run_is_none_of_its_business(
    command: str, task: Path, sleeper: Callable[..., Any]
) -> None:
    status(task, sleeper().pid)
    assert Watching(task, "PostToolUse-Bash", command=command).said() == []


def test_a_run_in_somebody_s_terminal_is_watched_by_them(task: Path, sleeper: Callable[..., Any]) -> None:
    status(task, sleeper().pid, group=None)
    assert Watching(task).said() == []
    assert why() == ["no run to watch"]


def test_what_was_sent_to_another_machine_is_asked_for(task: Path) -> None:
    status(task, 2**22 + 7, place="lin@gpu-server", host=None)
    job = {"id": "train-v1-0", "step": "train", "version": "v1", "place": "lin@gpu-server", "state": "running"}
    path = task / ".nlp-skills" / "jobs" / "train-v1.json"
    path.parent.mkdir()
    path.write_text(json.dumps(job), encoding="utf-8")
    watching = Watching(task)
    assert watching.is_waiting()
    while not (task / ".nlp-skills" / "look.lock").exists():
        assert watching.poll() is None
        time.sleep(0.02)
    path.write_text(json.dumps({**job, "state": "fetched"}), encoding="utf-8")
    status(task, 2**22 + 7, "completed", place="lin@gpu-server", host=None)
    assert watching.said()[0] == "sentiment v1: training completed, not evaluated yet"


@pytest.mark.parametrize("entrypoint", ["sdk-cli", "sdk-py", ""])
def test_where_nobody_can_be_woken_it_ends_at_once(entrypoint: str, task: Path, sleeper: Callable[..., Any]) -> None:
    status(task, sleeper().pid)
    assert Watching(task, CLAUDE_CODE_ENTRYPOINT=entrypoint).said() == []
    assert why() == ["not an interactive session"]


def test_the_switch_and_odd_events_leave_it_silent(task: Path, sleeper: Callable[..., Any]) -> None:
    status(task, sleeper().pid)
    env = {"CLAUDE_CODE_ENTRYPOINT": "cli", "NLP_SKILLS_HOOKS": "off"}
    assert run("watcher", json.dumps(captured("Stop", task.parent)).encode(), task.parent, **env).out == ""
    for stdin in (b"", b"[]", b"{", b"\xff"):
        assert run("watcher", stdin, task.parent, CLAUDE_CODE_ENTRYPOINT="cli").out == ""


@pytest.mark.parametrize(
    ("launcher", "entrypoint", "code", "words"),
    [
        ("echo one; echo two; exit 1", "cli", 2, "one\ntwo\n"),
        ("exit 0", "cli", 0, ""),
        ("exit 2", "cli", 0, ""),
        ("echo trouble >&2; exit 2", "cli", 0, None),
        ("(", "cli", 0, None),
        (None, "cli", 0, None),
        ("echo one", "sdk-cli", 0, ""),
    ],
)
def test_only_words_become_an_exit_code_of_2(
    launcher: str | None, entrypoint: str, code: int, words: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    if launcher is not None:
        path.write_text(launcher, encoding="utf-8")
    done = subprocess.run(
        ["sh", "-c", WAKING, str(path), "watcher"], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "CLAUDE_CODE_ENTRYPOINT": entrypoint},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert words is None or done.stderr == words
