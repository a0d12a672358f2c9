"""`train --track`: the figures are in Trackio, the real one, on this machine; and Trackio never breaks a run."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_training import job_of

from nlp_skills.training import run, tracking
from nlp_skills.training.job import Job
from nlp_skills.workspace.folder import TaskFolder

pytest.importorskip("trackio")
Ready = Callable[..., TaskFolder]

READ = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage
project = sys.argv[1]
runs = SQLiteStorage.get_run_records(project)
print(json.dumps([
    {**run, "logs": SQLiteStorage.get_logs(project, run["name"], run_id=run["id"]),
     "config": SQLiteStorage.get_run_config(project, run["name"], run_id=run["id"])} for run in runs
]))
"""


def kept(project: str) -> list[dict[str, Any]]:
    """The runs of a project as Trackio reads them, oldest first."""
    done = subprocess.run([sys.executable, "-c", READ, project], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return sorted(found, key=lambda each: str(each["created_at"]))


@pytest.fixture
def job(ready: Ready) -> Job:
    folder = ready()
    job = dataclasses.replace(job_of(folder.version("v1").config(), folder.root), task=folder.task(), track=True)
    job.version.run.mkdir()
    return job


def line(step: int, **figures: float) -> dict[str, Any]:
    return {"step": step, "epoch": step / 3, **figures, "tokens": 10 * step, "seconds": 0.5 * step}


def steps(logs: list[dict[str, Any]], name: str = "loss") -> dict[int, float]:
    return {each["step"]: each[name] for each in logs if name in each}


def test_what_is_trained_with_track_can_be_looked_at(
    ready: Ready, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    folder = ready(train=24, epochs=1)
    ran = cli("train", folder.root, "--track", "--json")
    assert ran.code == 0 and ran.json["state"] == "completed"
    assert ran.err.count("trackio show --project sentiment") == 1
    (only,) = kept("sentiment")
    lines = run.metrics(folder.version("v1"))
    assert only["name"] == "v1" and only["config"]["learning_rate"] == 2e-3
    assert steps(only["logs"]) == {each["step"]: each["loss"] for each in lines if "loss" in each}
    assert steps(only["logs"], "eval_loss") == {3: next(each["eval_loss"] for each in lines if "eval_loss" in each)}
    assert not [name for each in lines for name in each if "flos" in name or "per_second" in name]


def test_a_run_that_goes_on_is_the_same_run_with_no_step_twice(job: Job) -> None:
    with tracking.following(job) as log:
        for step in (1, 2, 3, 4):
            log(line(step, loss=5.0 - step))
    # It was killed after step 4; its last checkpoint is of step 2, and metrics.jsonl says what was before.
    job.version.metrics_path.write_text("".join(json.dumps(line(step, loss=5.0 - step)) + "\n" for step in (1, 2)))
    resumed = dataclasses.replace(job, checkpoint=Path("checkpoint-2"))
    with tracking.following(resumed) as log:
        for step in (3, 4, 5, 6):
            log(line(step, loss=5.0 - step))
    # Once more from the start is another run, under the same name.
    job.version.metrics_path.unlink()
    with tracking.following(job) as log:
        log(line(1, loss=9.0))
    first, second = kept("sentiment")
    assert [(each["step"], each["loss"]) for each in first["logs"]] == [(step, 5.0 - step) for step in range(1, 7)]
    assert first["name"] == second["name"] and steps(second["logs"]) == {1: 9.0}


def test_trackio_that_fails_is_said_once_and_breaks_nothing(
    ready: Ready, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "file"))
    folder = ready(train=24, epochs=1)
    ran = cli("train", folder.root, "--track")
    assert ran.code == 0
    assert ran.err.count("Trackio stopped") == 1 and "Traceback" not in ran.err
    assert "could not be persisted" in (folder.version("v1").run / "train.log").read_text()
    assert [each["step"] for each in run.metrics(folder.version("v1")) if "loss" in each] == [1, 2, 3]


def test_nothing_leaves_the_machine_or_holds_the_run_up_or_is_lost(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracking that is asked for on going on has what was before, and more at once than a pipe holds."""
    asked: list[str] = []

    class Listening(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_HEAD = do_GET

    job.version.metrics_path.write_text("".join(json.dumps(line(step, loss=1.0)) + "\n" for step in (1, 2)))
    with ThreadingHTTPServer(("127.0.0.1", 0), Listening) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_loopbackToken")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("TRACKIO_SERVER_URL", f"{address}?write_token=x")
        with tracking.following(dataclasses.replace(job, checkpoint=Path("checkpoint-2"))) as log:
            begun = time.process_time()
            for step in range(3, 2001):
                log(line(step, loss=1.0 / step, grad_norm=float(step)))
            assert time.process_time() - begun < 2
        server.shutdown()
    assert asked == []
    (only,) = kept("sentiment")
    assert [each["step"] for each in only["logs"]] == list(range(1, 2001))


def test_a_missing_package_is_named_before_anything_begins(
    ready: Ready, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nlp_skills import extras

    monkeypatch.setattr(extras, "installed", lambda module: module != "trackio")
    folder = ready(train=24, epochs=1)
    ran = cli("train", folder.root, "--track")
    assert ran.code == 3 and "[track]" in ran.err
    assert not folder.version("v1").run.exists()
