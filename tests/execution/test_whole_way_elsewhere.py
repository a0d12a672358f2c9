"""From a laptop with nothing that trains to a report, through a server that has nothing but Python.

The server's user is a stranger with an empty home; the environment there is made by the run itself. What comes back
equals, byte for byte, what the same commands give on this machine. Those are gigabytes, and a user of this machine:
`make elsewhere` runs it.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import LABELS, ROOT, write_rows
from fixtures_ssh import Far
from fixtures_training import moved_reviews

SETTINGS = ("epochs=3", "batch_size=6", "gradient_accumulation=1", "learning_rate=2e-3", "seed=3", "max_length=128",
            "lora={r: 8, alpha: 16}")  # fmt: skip


class Program(NamedTuple):
    """An installed nlp-skills and the folder its user works in."""

    path: Path
    project: Path
    environ: dict[str, str]

    def __call__(self, *arguments: object, code: int = 0) -> str:
        command = [str(self.path), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.project, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def laptop(tmp_path: Path, environ: dict[str, str]) -> Program:
    """An environment with the extras remote, data and quality: nothing in it can train."""
    folder = tmp_path / "laptop"
    extras = [word for name in ("remote", "data", "quality") for word in ("--extra", name)]
    command = [environ["UV"], "sync", "--quiet", "--frozen", "--no-dev", *extras]
    subprocess.run(command, cwd=ROOT, env={**environ, "UV_PROJECT_ENVIRONMENT": str(folder)}, check=True)
    assert not list(folder.glob("lib/*/site-packages/torch"))
    (tmp_path / "at home").mkdir()
    same = {"NLP_SKILLS_DETERMINISTIC": "1", "OMP_NUM_THREADS": "1"}
    return Program(folder / "bin" / "nlp-skills", tmp_path / "at home", {**environ, **same})


def let_in(far: Far, stranger: pwd.struct_passwd) -> str:
    """The stranger as `execution.host` names them."""
    keys = Path(stranger.pw_dir) / ".ssh"
    keys.mkdir(exist_ok=True)
    shutil.copy(f"{far.server.key}.pub", keys / "authorized_keys")
    (keys / "authorized_keys").chmod(0o644)
    return f"{stranger.pw_name}@127.0.0.1:{far.link.port}"


def until(ready: Callable[[], Any], seconds: float = 600) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < limit, "it did not get that far"
        time.sleep(0.05)


def cut_twice(far: Far, metrics: Path) -> threading.Thread:
    """Cut the link once while the run's files are sent, and once while it learns; each time for a second."""

    def lines() -> int:
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def cut() -> None:
        far.link.limit = 200_000
        until(lambda: not far.link.up)
        time.sleep(1)
        far.link.mend()
        until(lambda: lines() >= 2)
        far.link.cut()
        time.sleep(1)
        far.link.mend()

    thread = threading.Thread(target=cut, daemon=True)
    thread.start()
    return thread


def way(program: Program, base: Path, train: Callable[[], str], *execution: str) -> Path:
    """new-task, data-source, regenerate, generate, train, evaluate, report; the task's folder."""
    rows = write_rows(program.project / "rows.jsonl", moved_reviews(108))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    program("new-task", "reviews", "--labels", ",".join(LABELS), "--output-type", "text", "--base-model", base,
            "--template", "Is this review positive, neutral or negative?\n{text}", "--threshold", "0.5", *settings,
            *execution)  # fmt: skip
    program("data-source", "add", "--type", "file_import", "--path", rows, "--name", "rows")
    program("regenerate")
    program("generate")
    train()
    program("evaluate")
    program("report")
    return program.project / "reviews"


@pytest.mark.whole_stack
@pytest.mark.skipif("NLP_SKILLS_WHOLE_STACK" not in os.environ, reason="gigabytes for a server: make elsewhere")
def test_from_a_clean_laptop_to_a_report(
    laptop: Program, far: Far, stranger: pwd.struct_passwd, tuned_base: Path, tmp_path: Path
) -> None:
    host = let_in(far, stranger)
    metrics = laptop.project / "reviews" / "versions" / "v1" / "run" / "metrics.jsonl"
    cutter = cut_twice(far, metrics)
    elsewhere = way(laptop, tuned_base, lambda: laptop("train"), "--host", host)
    cutter.join()
    (tmp_path / "here").mkdir()
    here = Program(ROOT / ".venv" / "bin" / "nlp-skills", tmp_path / "here", laptop.environ)
    straight = way(here, tuned_base, lambda: here("train"))
    for name in ("models/adapter/v1/adapter_model.safetensors", "models/adapter/v1/adapter_config.json",
                 "data/train.jsonl", "data/test.jsonl"):  # fmt: skip
        assert (elsewhere / name).read_bytes() == (straight / name).read_bytes(), name
    for name in ("metrics", "intervals", "baselines", "confusion_matrix", "test_sha256"):
        assert results(elsewhere)[name] == results(straight)[name], name
    assert answers(elsewhere) == answers(straight)
    assert (elsewhere / "versions" / "v1" / "report.html").is_file()
    lineage = (elsewhere / "versions" / "v1" / "lineage.yaml").read_text()
    assert f"place: {host}" in lineage
    # Nothing of ours is outside our folder, and what we put there can be taken away.
    laptop("remote", "clean", "--everything", "--yes")
    assert not (Path(stranger.pw_dir) / "nlp-skills").exists()


def results(task: Path) -> Any:
    return json.loads((task / "versions" / "v1" / "results.json").read_text())


def answers(task: Path) -> list[Any]:
    lines = (task / "versions" / "v1" / "predictions.jsonl").read_text().splitlines()
    kept = ("key", "prompt_sha256", "gold", "predicted", "probabilities")
    return [{name: json.loads(line).get(name) for name in kept} for line in lines]
