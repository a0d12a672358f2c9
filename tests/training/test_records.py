"""What training and evaluation leave in lineage.yaml is true, and is all that doing it again needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import Ran, write_rows
from fixtures_training import moved_reviews

from nlp_skills import files
from nlp_skills.scaffold import wheel
from nlp_skills.training import own_code, run
from nlp_skills.workspace import lineage, store
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]


def start(*arguments: object) -> subprocess.Popen[str]:
    """`nlp-skills ARGS…` as a program of its own."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def stop_when(ready: Callable[[], bool], started: subprocess.Popen[str], seconds: float = 120) -> None:
    """Ctrl-C once it is so."""
    until = time.monotonic() + seconds
    while not ready():
        assert started.poll() is None and time.monotonic() < until, started.communicate()
        time.sleep(0.005)
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=60) == 130, started.communicate()


def test_a_training_records_what_doing_it_again_needs(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    assert cli("generate", folder.root).code == 0
    version = folder.version("v1")
    assert cli("train", folder.root).code == 0

    record = lineage.existing(version)
    assert record.run is not None and record.model is not None
    assert record.run.threads == int(os.environ["OMP_NUM_THREADS"])
    assert record.run.by == lineage.whoami()
    assert record.run.config_hash == lineage.config_hash(version.config_path)
    info = version.model_info()
    assert info is not None and record.run.base_model_hash == info.base_model_hash
    wheels = [path.relative_to(folder.root).as_posix() for path in (folder.root / "vendor").iterdir()]
    assert set(record.run.pinned) == {"pyproject.toml", *wheels}
    for name, sha256 in record.run.pinned.items():
        assert store.check(folder, sha256).read_bytes() == (folder.root / name).read_bytes()

    assert version.model is not None
    assert record.model.hashes == {
        f"models/adapter/v1/{path.name}": files.sha256_file(path) for path in version.model.iterdir()
    }
    assert {"tokenizers", "safetensors", "numpy", "processor", "precision"} <= record.environment.keys()
    assert "resumed_at" not in record.environment
    assert (folder.root / "models" / "current").resolve() == version.model.resolve()


def test_the_code_has_one_hash_wherever_its_wheel_is_installed(tmp_path: Path) -> None:
    packed = wheel.build()
    path = tmp_path / packed.name
    path.write_bytes(packed.content)
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(path), str(site)], check=True)

    def hash_there() -> str:
        words = "from nlp_skills.training import own_code; print(own_code.running())"
        variables = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(
            [sys.executable, "-c", words], env=variables, cwd=tmp_path, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert hash_there() == own_code.in_wheel(path) == own_code.running()
    with open(site / "nlp_skills" / "errors.py", "a") as code:
        code.write("# changed\n")
    assert hash_there() not in ("", own_code.running())


def test_the_model_folder_has_the_same_bytes_in_every_process(ready: Ready, cli: Callable[..., Ran]) -> None:
    """PEFT keeps the adapted layers as a set, which every process orders in its own way."""
    folder = ready(train=24, epochs=1)

    def hashes() -> dict[str, str]:
        model = lineage.existing(folder.version("v1")).model
        assert model is not None and model.hashes
        return model.hashes

    assert cli("train", folder.root).code == 0
    here = hashes()
    command = [sys.executable, "-m", "nlp_skills.cli.main", "train", str(folder.root), "--again"]
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    program = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert program.returncode == 0, program.stderr
    assert hashes() == here


def test_a_stopped_and_resumed_training_counts_all_its_stretches(ready: Ready) -> None:
    folder = ready(train=50, epochs=12, batch_size=5, gradient_accumulation=2)
    version = folder.version("v1")
    started = start("train", folder.root)
    stop_when(lambda: len(run.metrics(version)) >= 12, started)
    first = lineage.existing(version).run
    assert first is not None and first.state == "interrupted" and first.seconds and first.tokens
    assert first.peak_memory_gb and first.config_hash

    started = start("train", folder.root)
    started.communicate()
    assert started.returncode == 0
    record = lineage.existing(version)
    assert record.run is not None and record.run.seconds is not None and record.run.tokens is not None
    assert record.run.steps == 60
    assert record.run.seconds > first.seconds
    assert record.run.started == first.started
    assert record.run.peak_memory_gb is not None and record.run.peak_memory_gb >= first.peak_memory_gb
    assert record.environment["resumed_at"] == str(first.steps)
    assert "before" not in record.environment, "nothing was otherwise in the second stretch"
    epochs = [line["tokens"] for line in run.metrics(version) if "eval_loss" in line]
    assert record.run.tokens == epochs[-1] == 12 * epochs[0], "each epoch has the same tokens, none twice"


def test_a_configuration_keeps_its_identity_under_another_name(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    assert cli("train", folder.root).code == 0
    path = folder.version("v1").run / "identity.json"
    identity = json.loads(path.read_text())
    # As the first release wrote it, for a version that was called otherwise then.
    identity["versions/v1-exp/config.yaml"] = identity.pop("config.yaml")
    path.write_text(json.dumps(identity))
    again = cli("train", folder.root)
    assert again.code == 0 and "trained already" in again.out


def test_an_evaluation_records_hashes_and_the_seconds_of_all_stretches(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    write_rows(folder.split("test"), moved_reviews(2000, start=200))
    assert cli("train", folder.root).code == 0
    version = folder.version("v1")
    partial = version.root / "predictions.partial"
    started = start("evaluate", folder.root, "--no-base-baseline")
    stop_when(lambda: partial.is_file() and partial.read_bytes().count(b"\n") > 1, started)
    note = version.run / "evaluation.json"
    before = json.loads(note.read_text())["seconds"]
    assert before > 0

    begun = time.monotonic()
    assert cli("evaluate", folder.root, "--no-base-baseline").code == 0
    results, record = version.results(), lineage.existing(version)
    assert results is not None and results.seconds is not None and record.results is not None
    assert before < results.seconds <= before + time.monotonic() - begun
    assert not note.exists()
    assert (record.results.seconds, record.results.device) == (results.seconds, "cpu")
    assert record.results.hashes == {
        path.name: files.sha256_file(path) for path in (version.results_path, version.predictions_path)
    }

    # Only the base model is asked now: the version's own answers took the time they took.
    assert cli("evaluate", folder.root).code == 0
    both = version.results()
    assert both is not None and both.seconds is not None and both.seconds > results.seconds
