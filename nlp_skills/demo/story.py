"""The demo's steps: each a command a user could type, skipped when what it makes is there."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import i18n
from nlp_skills.demo import reviews
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

TASK = "reviews"
DATABASE = "reviews.db"
# Sentences annotated at first and later. With the shares below: 200 to train on at first, then 400, and
# the same 320 to test on.
BATCHES = [560, 240]
SPLIT = {"train": 0.36, "valid": 0.07, "test": 0.57}
QUERY = "SELECT id, text, label FROM reviews WHERE batch <= {batch} ORDER BY id"
# A short system prompt takes the place of the model's own, longer one: a quarter of the tokens, and so of the time.
SETTINGS = (
    "system_prompt=Rate this product review sentence as positive, neutral or negative.",
    "epochs=2",
    "learning_rate=5e-4",
    "batch_size=8",
)


@dataclass(frozen=True)
class Step:
    """A sentence for the reader, the thing to do, and how to know that it is done."""

    title: str
    action: list[str] | Callable[[], None]
    done: Callable[[], bool] = lambda: False


class Stopped(Problem):
    """A step's command ended badly; it has said why itself."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(_("the demo stops here"), mend=_("run the same command again: it goes on from this step"))
        self.exit_code = exit_code


def play(folder: Path, base_model: str, say: Callable[[str], None]) -> float:
    """Walk through the demo in `folder`; returns the seconds it took.

    Raises:
        Stopped: with the exit code of the command that failed.
    """
    started = time.monotonic()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for step in steps(folder, base_model):
        say(f"\n== {step.title}")
        if step.done():
            say(_("   there already"))
            continue
        if not isinstance(step.action, list):
            step.action()
            continue
        say(f"$ nlp-skills {shlex.join(step.action)}")
        if code := run(step.action):
            raise Stopped(code)
    return time.monotonic() - started


def run(words: list[str]) -> int:
    """One command of ours, as a user would start it: what it took of memory goes with its process.

    Ctrl-C and SIGTERM are passed on to it, once each, wherever they were sent.
    """
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "nlp_skills.cli.main", *words, "--lang", i18n.language()]
    # A process group of its own: the terminal's Ctrl-C would reach it beside ours, and twice means at once.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda heard, _frame: process.send_signal(heard)) for number in signals}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def steps(folder: Path, base_model: str) -> Iterator[Step]:
    """The story, in order. `done` looks at files only, so that an interrupted demo goes on anywhere."""
    task = TaskFolder(folder / TASK)
    v1, v2 = task.version("v1"), task.version("v2")
    database = task.root / DATABASE
    yield Step(_("A task"), _new_task(base_model), task.task_path.exists)
    yield Step(
        _("Real review sentences, rated by people, become a SQLite database"),
        lambda: reviews.write_database(database, BATCHES),
        database.exists,
    )
    yield Step(_("Its data comes from the database, by a query"), _data_source(), lambda: bool(task.sources().sources))
    yield Step(_("Most of the first batch is for testing: few rows measure badly"), lambda: _share(task))
    yield Step(_("Its folder: scripts, configuration, lock"), ["generate", TASK], v1.config_path.exists)
    yield from _version_steps(task, "v1", done=v2.config_path.exists)
    yield Step(_("More annotated rows arrive: the query takes the second batch too"), lambda: _widen(task))
    change = _("{count} more annotated rows", count=BATCHES[1])
    yield Step(_("A second version"), ["new-version", TASK, "--change", change], v2.config_path.exists)
    yield from _version_steps(task, "v2", done=lambda: False)
    yield Step(_("What there is"), ["tasks"])
    yield Step(_("How it came about"), ["history", TASK])
    yield Step(_("Is the second version better?"), ["compare", TASK, "v1", "v2", "--html"])
    yield Step(_("A page to read and to show"), ["report", TASK, "--version", "v2"])


def _new_task(base_model: str) -> list[str]:
    words = ["new-task", TASK, "--labels", ",".join(reviews.LABELS), "--output-type", "text"]
    words += ["--language", "en", "--domain", "retail", "--threshold", "0.6", "--base-model", base_model]
    return words + [part for setting in SETTINGS for part in ("--set", setting)]


def _data_source() -> list[str]:
    words = ["data-source", "add", TASK, "--type", "database", "--name", "annotations"]
    return [*words, "--connection", f"sqlite:///{DATABASE}", "--query", QUERY.format(batch=1)]


def _version_steps(task: TaskFolder, name: str, done: Callable[[], bool]) -> Iterator[Step]:
    version = task.version(name)
    trained = version.model_info_path.exists
    yield Step(_("{name}: fetch the rows and split them", name=name), ["regenerate", TASK], lambda: done() or trained())
    yield Step(_("{name}: check them", name=name), ["validate", TASK], lambda: done() or trained())
    yield Step(_("{name}: train", name=name), ["train", TASK, "--version", name], trained)
    measure = ["evaluate", TASK, "--version", name]
    yield Step(_("{name}: measure on rows it never saw", name=name), measure, version.results_path.exists)


def _widen(task: TaskFolder) -> None:
    """The edit a person would make in data_source.yaml."""
    yaml.change(task.sources_path, {("sources", 0, "query"): QUERY.format(batch=2)})


def _share(task: TaskFolder) -> None:
    """Another edit a person would make there."""
    yaml.change(task.sources_path, {("split", name): share for name, share in SPLIT.items()})
