"""The demo, walked through for real on a tiny model: real reviews, both versions, and every way of stopping it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from fixtures_models import USER_CACHE

from nlp_skills.demo import reviews, story
from nlp_skills.schema.version import DataSnapshot
from nlp_skills.workspace.folder import TaskFolder


def _environment() -> dict[str, str]:
    # The reviews are fetched once into the user's own cache.
    return {**os.environ, "XDG_CACHE_HOME": USER_CACHE, "NLP_SKILLS_DETERMINISTIC": "1"}


def _demo(folder: Path, base: Path, *more: str) -> list[str]:
    program = [sys.executable, "-m", "nlp_skills.cli.main", "demo"]
    return [*program, "--dir", str(folder), "--base-model", str(base), *more]


def _play(folder: Path, base: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _demo(folder, base, *more), capture_output=True, text=True, check=False, env=_environment(), timeout=600
    )


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned tiny model that has the words of these reviews for tokens: spelled out, they take twice as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", USER_CACHE)
        texts = [review.text for review in reviews.fetch()[:1000]]
    folder = tmp_path_factory.mktemp("models")
    untuned = tiny.build(folder / "tiny", vocabulary=1000, texts=[*texts, *story.SETTINGS, *reviews.LABELS])
    return tiny.tune(untuned, folder / "tuned", rows=240, epochs=2)


@pytest.fixture(scope="session")
def shown(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo played to its end: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "first look"
    ended = _play(folder, base)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder, ended.stdout


def test_the_reviews_are_the_published_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", USER_CACHE)
    found = reviews.fetch()
    assert len(found) == 3708
    assert found[0] == reviews.Review("1_1", "troubleshooting ad-2500 and ad-2600 no picture scrolling b/w.", -0.9)
    assert {review.label for review in found} == set(reviews.LABELS)
    assert all(-4 <= review.rating <= 4 for review in found)
    first, second = tmp_path / "a.db", tmp_path / "b.db"
    reviews.write_database(first, [10, 5])
    reviews.write_database(second, [10, 5])
    assert first.read_bytes() == second.read_bytes()


def test_two_versions_measured_on_the_same_rows(shown: tuple[Path, str]) -> None:
    folder = TaskFolder.at(shown[0] / story.TASK)
    v1, v2 = (folder.version(name).results() for name in ("v1", "v2"))
    assert v1 is not None and v2 is not None
    assert v1.test_sha256 == v2.test_sha256
    assert v1.test_rows == v2.test_rows >= 300
    assert {"majority", "tfidf"} <= {name.split("_")[0] for name in v2.baselines}
    snapshots = [DataSnapshot.load(folder.version(name).snapshot_path) for name in ("v1", "v2")]
    assert [snapshot.splits["train"].rows for snapshot in snapshots] == [
        pytest.approx(200, abs=5),
        pytest.approx(400, abs=15),
    ]
    assert snapshots[0].test_keys == snapshots[1].test_keys


def test_the_lineage_says_it_all(shown: tuple[Path, str]) -> None:
    folder = TaskFolder.at(shown[0] / story.TASK)
    lineage = folder.version("v2").lineage()
    assert lineage is not None
    assert lineage.parent == "v1"
    assert lineage.changes == ["240 more annotated rows"]
    assert lineage.data is not None and sum(lineage.data.class_distribution.values()) == lineage.data.train_count
    assert lineage.config is not None and lineage.config.lora is not None
    assert lineage.run is not None and lineage.run.state == "completed" and (lineage.run.tokens or 0) > 1000
    assert lineage.results is not None and set(lineage.results.per_class) == set(reviews.LABELS)
    assert lineage.model is not None and lineage.model.adapter_path == "models/adapter/v2"
    assert {"python", "torch", "transformers", "trl", "peft"} <= set(lineage.environment)
    moves = [move.to for move in folder.task().history]
    assert moves == ["configuring", "training", "evaluating"] * 2


def test_it_says_whether_the_second_version_is_better(shown: tuple[Path, str]) -> None:
    _, printed = shown
    assert "Conclusion:" in printed
    assert "report.html" in printed
    assert "v2 (*)" in printed
    assert "peak memory" in printed
    assert printed.count("$ nlp-skills train") == 2


def test_played_again_it_trains_nothing(shown: tuple[Path, str], base: Path) -> None:
    folder = TaskFolder.at(shown[0] / story.TASK)
    models = [folder.version(name).model_info_path for name in ("v1", "v2")]
    before = [path.stat().st_mtime_ns for path in models]
    ended = _play(shown[0], base)
    assert ended.returncode == 0, ended.stderr
    assert "there already" in ended.stdout
    assert "Conclusion:" in ended.stdout
    assert [path.stat().st_mtime_ns for path in models] == before


def _interrupted_while_training(folder: Path, base: Path, version: str) -> None:
    run = TaskFolder(folder / story.TASK).version(version).run
    process = subprocess.Popen(
        _demo(folder, base), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment()
    )
    waited = time.monotonic()
    metrics = run / "metrics.jsonl"
    # The file is there, empty, before the run is: training has begun once something was measured.
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None and time.monotonic() - waited < 300
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "goes on from this step" in said
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"


def test_stopped_twice_while_training_it_ends_with_the_same_figures(
    shown: tuple[Path, str], base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    _interrupted_while_training(folder, base, "v1")
    _interrupted_while_training(folder, base, "v2")
    ended = _play(folder, base, "--lang", "zh-TW")
    assert ended.returncode == 0, ended.stderr
    assert "結論" in ended.stdout
    for name in ("v1", "v2"):
        straight = TaskFolder(shown[0] / story.TASK).version(name).results()
        stopped = TaskFolder(folder / story.TASK).version(name).results()
        assert straight is not None and stopped is not None
        assert stopped.metrics == straight.metrics
