"""Whatever commands a person types, in whatever order: what a task promises stays true."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import invariants
import made_versions
from conftest import DATA_SOURCE_YAML, TASK_YAML
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nlp_skills.cli import frame
from nlp_skills.cli.main import cli
from nlp_skills.workspace import deployments, naming, trash
from nlp_skills.workspace.folder import TaskFolder

CHOICE = st.integers(0, 40)
KINDS = st.sampled_from(["", "--minor", "--exp"])
STRATEGIES = st.sampled_from(["semantic", "date", "hybrid"])


class Commands(RuleBasedStateMachine):
    """One task; each rule is one command line (training and evaluation leave their records without a model)."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp())
        self.root = self.top / "reviews"
        self.seen: dict[str, set[str]] = {}
        self.purged: set[str] = set()

    @initialize(strategy=STRATEGIES)
    def make(self, strategy: str) -> None:
        first = {"semantic": "v1", "date": "2026-01-05", "hybrid": "v1-20260105"}[strategy]
        self.root.mkdir()
        text = TASK_YAML.format(name="reviews", base_model="none/none").replace("version: v1", f"version: {first}")
        retention = "{keep_recent: 1, cleanup_exp_after: 1d}"
        text += f"versioning: {{strategy: {strategy}, retention: {retention}}}\n"
        (self.root / "task.yaml").write_text(text, encoding="utf-8")
        (self.root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
        made_versions.first_version(self.root, first)

    @property
    def folder(self) -> TaskFolder:
        return TaskFolder(self.root.resolve())

    def pick(self, choice: int) -> str:
        names = self.folder.version_names()
        return names[choice % len(names)]

    def run(self, *arguments: str) -> int:
        """A command line; refusing is an answer, a traceback is not."""
        with open(os.devnull, "w") as silent, contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            code = frame.run(cli, [arguments[0], str(self.root), *arguments[1:]])
        assert code in (0, 1, 2), f"{arguments}: {code}"
        return code

    @rule(kind=KINDS, origin=CHOICE, epochs=st.integers(1, 9))
    def new_version(self, kind: str, origin: int, epochs: int) -> None:
        parent = self.pick(origin)
        options = [kind] if kind else []
        self.run("new-version", "--from", parent, "--set", f"epochs={epochs}", "--change", f"epochs {epochs}", *options)

    @rule(kind=KINDS, origin=CHOICE, epochs=st.integers(1, 9), right=st.floats(0.2, 1.0))
    def another_round(self, kind: str, origin: int, epochs: int, right: float) -> None:
        self.new_version(kind, origin, epochs)
        if self.folder.task().status != "archived":
            made_versions.finish(self.folder, self.folder.task().version, right=right)

    @precondition(lambda self: self.folder.task().status != "archived")
    @rule(which=CHOICE, right=st.floats(0.2, 1.0), checkpoint=st.booleans())
    def train_and_evaluate(self, which: int, right: float, checkpoint: bool) -> None:
        made_versions.finish(self.folder, self.pick(which), right=right, checkpoint=checkpoint)

    @rule(which=CHOICE, follows=st.booleans())
    def deploy(self, which: int, follows: bool) -> None:
        name = self.folder.task().version if follows else self.pick(which)
        if self.folder.version(name).model:
            made_versions.deploy(self.folder, name, follows=follows)

    @rule(which=CHOICE)
    def rollback(self, which: int) -> None:
        self.run("rollback", self.pick(which), "--reason", "tried out")

    @rule(which=CHOICE)
    def promote(self, which: int) -> None:
        trials = [name for name in self.folder.version_names() if naming.is_experiment(name)]
        self.run("promote", trials[which % len(trials)] if trials else self.pick(which))

    @rule(to=st.sampled_from(["archive", "unarchive"]))
    def shelve(self, to: str) -> None:
        self.run(to)

    @rule(days=st.integers(2, 40), which=CHOICE)
    def time_passes(self, days: int, which: int) -> None:
        name = self.pick(which)
        if self.folder.version(name).results_path.is_file():
            made_versions.aged(self.folder, name, days)

    @rule(purge=st.booleans())
    def cleanup(self, purge: bool) -> None:
        before = set(self.folder.version_names())
        self.run("cleanup", "--yes", *(["--purge"] if purge else []))
        gone = before - set(self.folder.version_names())
        assert purge or not gone
        self.purged |= gone

    @precondition(lambda self: trash.batches(self.folder))
    @rule()
    def undo(self) -> None:
        self.run("cleanup", "--undo")
        self.purged -= set(self.folder.version_names())

    @precondition(lambda self: trash.batches(self.folder))
    @rule()
    def empty_trash(self) -> None:
        self.run("cleanup", "--empty-trash", "--yes")

    @rule(which=CHOICE, cut=st.integers(0, 600))
    def a_lineage_is_cut_off_and_completed(self, which: int, cut: int) -> None:
        name = self.pick(which)
        path = self.folder.version(name).lineage_path
        path.write_bytes(path.read_bytes()[:cut])
        assert self.run("lineage", name, "--complete") == 0

    @invariant()
    def promises(self) -> None:
        if not (self.root / "task.yaml").exists():
            return
        invariants.hold(self.root)
        invariants.none_lost(self.seen, self.root, purged=self.purged)
        self.seen = {**self.seen, **invariants.records(self.root)}
        for entry in deployments.load(self.folder):
            assert self.folder.version(entry.version).root.is_dir()

    def teardown(self) -> None:
        shutil.rmtree(self.top, ignore_errors=True)


TestAnySequence = Commands.TestCase
TestAnySequence.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_nothing_here_hides_a_traceback(tmp_path: Path) -> None:
    """The machine above trusts exit codes; a bug inside a command leaves as an exception."""
    broken: Any = tmp_path / "task.yaml"
    broken.mkdir()
    assert frame.run(cli, ["history", str(tmp_path)]) == 2
