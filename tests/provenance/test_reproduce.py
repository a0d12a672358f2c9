"""A version is trained again from its record: the same bytes come out, or what differs is said."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran

from nlp_skills import files
from nlp_skills.extras import installed
from nlp_skills.schema import yaml
from nlp_skills.training import run
from nlp_skills.workspace import lineage, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Ready = Callable[..., TaskFolder]
# What learns enough to be right on most rows, with chance in it (dropout) that has to be the same chance again.
LEARNING = {"train": 96, "epochs": 6, "learning_rate": 5e-3, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}}


def program(*arguments: object, **variables: str) -> Ran:
    """`nlp-skills ARGS…` as a program of its own."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def made(folder: TaskFolder, by: Callable[..., Ran], *, evaluated: bool = True, **variables: str) -> VersionFolder:
    """Train v1 and, unless told otherwise, evaluate it, by `cli` in this process or by `program` in others.

    What `reproduce` does is in a process of its own anyway.
    """
    trained = by("train", folder.root, **variables)
    assert trained.code == 0, trained.err
    if evaluated:
        assert by("evaluate", folder.root, "--no-base-baseline").code == 0
    return folder.version("v1")


def hashes(version: VersionFolder) -> dict[str, str]:
    """Every file of the version and of its model."""
    assert version.model is not None
    places = (version.root, version.model)
    return {key: value for place in places for key, value in lineage.file_hashes(place, version.task_root).items()}


def scratch(folder: TaskFolder) -> Path:
    return folder.root / ".nlp-skills" / "reproduce" / "v1"


def change_record(version: VersionFolder, *keys: str, value: Any) -> None:
    """What somebody else's machine would have recorded."""
    yaml.change(version.lineage_path, {keys: value})


def test_the_same_bytes_come_out_again_and_the_version_itself_is_left_alone(
    ready: Ready, cli: Callable[..., Ran], tuned_base: Path
) -> None:
    # The base model is named as a folder of the task, and must mean the same one from the scratch folder.
    folder = ready(base="models/base", **{**LEARNING, "epochs": 2})
    shutil.copytree(tuned_base, folder.root / "models" / "base")
    version = made(folder, program, evaluated=False)
    assert cli("evaluate", folder.root, "--no-base-baseline").code == 0
    before, task = hashes(version), folder.task_path.read_bytes()
    for split in ("train", "test"):
        folder.split(split).unlink()  # what it was trained on is in the store

    ran = cli("reproduce", folder.root, "v1", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["verdict"] == "identical" and ran.json["ok"] is True
    assert {one["name"]: one["same"] for one in ran.json["files"]} == {
        "adapter_config.json": True,
        "adapter_model.safetensors": True,
    }
    assert ran.json["environment"] == "here" and ran.json["differences"] == [] and ran.json["why"] == []
    assert ran.json["rows"]["compared"] == 36 and ran.json["rows"]["others"] == 0
    assert [one["difference"] for one in ran.json["metrics"]] == [0] * len(ran.json["metrics"])
    assert "training v1: 24/24" in ran.err and "the record says" in ran.err
    assert not scratch(folder).exists()

    after = hashes(version)
    assert {name for name in after if after[name] != before.get(name)} == {"versions/v1/lineage.yaml"}
    assert folder.task_path.read_bytes() == task
    noted = lineage.existing(version).events[-1]
    assert noted.event == "reproduced" and noted.reason is not None and noted.by == lineage.whoami()
    assert noted.reason.startswith("identical: ") and "same files: 2 of 2" in noted.reason


def test_what_is_missing_or_changed_is_named_all_at_once(
    ready: Ready, cli: Callable[..., Ran], tuned_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tuned_base, tmp_path / "base")
    folder = ready(train=24, base=base, epochs=1)
    refused = cli("reproduce", folder.root)
    assert refused.code == 1, "it was never trained"
    version = made(folder, cli, evaluated=False)
    snapshot = version.snapshot()
    assert snapshot is not None
    lost, damaged = (store.blob(folder, snapshot.files[f"data/{name}.jsonl"]) for name in ("train", "valid"))
    kept = {path: path.read_bytes() for path in (lost, damaged)}

    lost.unlink()
    damaged.chmod(0o644)
    damaged.write_bytes(b"{}\n")
    (base / "tokenizer_config.json").write_text((base / "tokenizer_config.json").read_text() + "\n")
    yaml.change(version.config_path, {("learning_rate",): 1e-4})
    refused = cli("reproduce", folder.root, "v1")
    assert refused.code == 1
    for words in (
        "data/train.jsonl of version v1: the store does not have it",
        "data/valid.jsonl of version v1: the kept copy is damaged",
        "learning_rate: recorded 0.002, now 0.0001",
        f"the base model {base} is not the one version v1 was trained on",
    ):
        assert words in refused.err
    assert refused.err.count("error:") == 4
    assert not scratch(folder).exists()

    for path, content in kept.items():
        files.write_bytes(path, content)
    yaml.change(version.config_path, {("learning_rate",): 2e-3})
    shutil.rmtree(base)
    refused = cli("reproduce", folder.root, "v1", "--json")
    assert refused.code == 3 and str(base) in refused.json["error"]["message"]

    # The rows on record decide, not what data_snapshot.json was made to say.
    change_record(version, "data", "hashes", "test", value=files.sha256_bytes(b"other rows"))
    shutil.copytree(tuned_base, base)
    refused = cli("reproduce", folder.root, "v1")
    assert refused.code == 1 and "other test rows than version v1 was trained with" in refused.err


def test_other_weights_are_within_noise_where_the_answers_cannot_tell_and_differ_where_they_can(
    ready: Ready, cli: Callable[..., Ran]
) -> None:
    folder = ready(**LEARNING)
    version = made(folder, cli)

    def claim(**settings: Any) -> None:
        """Let configuration and record both say something that the model was not trained with."""
        for name, value in settings.items():
            yaml.change(version.config_path, {(name,): value})
            change_record(version, "config", name, value=value)
        change_record(version, "run", "config_hash", value=lineage.config_hash(version.config_path))

    claim(learning_rate=0.005001)
    near = cli("reproduce", folder.root, "v1", "--json")
    assert near.code == 0, near.err
    assert near.json["verdict"] == "within_noise" and near.json["same_weights"] is False
    assert near.json["rows"]["told_apart"] is False
    assert any("adapter_model.safetensors" in why for why in near.json["why"])

    claim(learning_rate=1e-6)
    change_record(version, "environment", "numpy", value="0.0.1")
    far = cli("reproduce", folder.root, "v1", "--environment", "here", "--keep")
    assert far.code == 1, far.err
    assert "v1, trained again: differs" in far.out
    assert "the paired test tells the two apart" in far.out and "numpy 0.0.1 → " in far.out
    assert (scratch(folder) / "models" / "adapter" / "v1" / "adapter_model.safetensors").is_file()
    assert [event.event for event in lineage.existing(version).events] == ["reproduced", "reproduced"]
    assert str(lineage.existing(version).events[1].reason).startswith("differs: ")


def test_threads_are_those_of_the_record_and_never_evaluated_means_bytes_alone(
    ready: Ready, cli: Callable[..., Ran]
) -> None:
    folder = ready(train=24, epochs=1)
    version = made(folder, program, evaluated=False, OMP_NUM_THREADS="2")
    record = lineage.existing(version)
    assert record.run is not None and record.run.threads == 2
    ran = cli("reproduce", folder.root, "v1", "--json", "--keep")
    assert ran.code == 0, ran.err
    assert ran.json["verdict"] == "identical" and ran.json["rows"] is None and ran.json["metrics"] == []
    again = VersionFolder(scratch(folder), "v1").lineage()
    assert again is not None and again.run is not None and again.run.threads == 2


def test_a_stopped_reproduction_goes_on_and_is_identical_to_a_run_that_was_stopped_itself(
    ready: Ready, cli: Callable[..., Ran]
) -> None:
    folder = ready(train=50, epochs=12, batch_size=5, gradient_accumulation=2, lora=LEARNING["lora"])
    stopped(["train", folder.root], folder.version("v1"))
    version = made(folder, cli, evaluated=False)
    assert "resumed_at" in lineage.existing(version).environment

    err = stopped(["reproduce", folder.root, "v1"], VersionFolder(scratch(folder), "v1"))
    assert "the same command goes on from there" in err
    status = VersionFolder(scratch(folder), "v1").status()
    assert status is not None and status.state == "interrupted"
    assert lineage.existing(version).events == []

    ran = cli("reproduce", folder.root, "v1", "--json")
    assert ran.code == 0, ran.err
    assert "going on with v1" in ran.err
    assert ran.json["verdict"] == "identical"
    assert not scratch(folder).exists()


def stopped(arguments: list[Any], version: VersionFolder) -> str:
    """Start a command, press Ctrl-C half-way through its training; what it said on standard error."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", *map(str, arguments)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(run.metrics(version)) < 12:
        assert started.poll() is None and time.monotonic() < until, started.communicate()
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _out, err = started.communicate(timeout=120)
    assert started.returncode == 130, err
    assert "checkpoint" in err
    return err


def test_two_at_once_are_refused_and_links_are_left_alone(
    ready: Ready, cli: Callable[..., Ran], tmp_path: Path
) -> None:
    from filelock import FileLock

    folder = ready(train=24, epochs=1)
    made(folder, cli, evaluated=False)
    path = folder.root / ".nlp-skills" / "reproduce" / "v1.lock"
    path.parent.mkdir()
    with FileLock(path):
        refused = cli("reproduce", folder.root)
    assert refused.code == 1 and "being reproduced by another command" in refused.err

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    scratch(folder).symlink_to(elsewhere)
    refused = cli("reproduce", folder.root)
    assert refused.code == 1 and "link" in refused.err
    assert (elsewhere / "mine.txt").read_text() == "mine"


def test_a_hub_model_is_taken_at_the_recorded_commit(
    ready: Ready, tuned_base: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub" / "models--someone--tiny"
    then, now = "a" * 40, "b" * 40
    shutil.copytree(tuned_base, cache / "snapshots" / then)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(then)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = ready(train=24, epochs=1, base="someone/tiny")
    version = made(folder, program, evaluated=False)
    record = lineage.existing(version)
    assert record.run is not None and record.run.base_model_revision == then

    shutil.copytree(tiny_base, cache / "snapshots" / now)
    (cache / "refs" / "main").write_text(now)
    ran = program("reproduce", folder.root, "v1", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["verdict"] == "identical"

    shutil.rmtree(cache / "snapshots" / then)
    refused = program("reproduce", folder.root, "v1", "--json")
    assert refused.code == 3 and "someone/tiny" in refused.json["error"]["message"]


def test_other_packages_need_the_pinned_environment_which_is_made_from_what_was_kept(
    ready: Ready, cli: Callable[..., Ran], uv: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in uv.items():
        monkeypatch.setenv(name, value)
    folder = ready(train=24, epochs=1)
    first = made(folder, cli, evaluated=False)
    change_record(first, "environment", "peft", value="0.0.1")
    refused = cli("reproduce", folder.root, "v1")
    assert refused.code == 1
    assert "peft 0.0.1 → " in refused.err and "--environment here" in refused.err
    assert "the environment of version v1 was not kept" in refused.err

    assert cli("generate", folder.root).code == 0
    assert cli("train", folder.root, "--again").code == 0
    version = folder.version("v1")
    shutil.rmtree(folder.root / "vendor")
    (folder.root / "pyproject.toml").unlink()
    change_record(version, "environment", "peft", value="0.0.1")
    ran = cli("reproduce", folder.root, "v1", "--json", "--keep")
    assert ran.code == 0, ran.err
    assert ran.json["environment"] == "pinned" and ran.json["verdict"] == "identical"
    assert [one["name"] for one in ran.json["differences"]] == ["peft"], "its code is the wheel's, to the byte"
    python = scratch(folder) / ".venv" / "bin" / "python"
    shown = subprocess.run(
        [python, "-I", "-c", "import nlp_skills; print(nlp_skills.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith(str(scratch(folder)))


@pytest.mark.skipif(installed("uv"), reason="this interpreter has uv in it")
def test_without_uv_the_pinned_environment_is_refused(
    ready: Ready, cli: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ready(train=24, epochs=1)
    made(folder, cli, evaluated=False)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = cli("reproduce", folder.root, "--environment", "pinned", "--json")
    told = [refused.json["error"]["message"], *(one["message"] for one in refused.json["error"]["also"])]
    assert refused.code == 1
    assert any("not kept" in text for text in told) and any("uv" in text for text in told)


def test_help_says_what_bit_for_bit_needs(cli: Callable[..., Ran]) -> None:
    shown = " ".join(cli("reproduce", "--help").out.split())
    assert "OMP_NUM_THREADS=1" in shown and "processor" in shown and "nlp-skills reproduce reviews v1" in shown


def test_a_version_whose_model_was_cleaned_up_gets_it_back(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(epochs=1)
    version = made(folder, cli, evaluated=False)
    assert version.model is not None
    before = lineage.file_hashes(version.model, folder.root)
    lineage.note(version, "cleaned", reason="adapter: nobody keeps it")
    shutil.rmtree(version.adapter)
    assert (folder.root / "models" / "current").is_symlink()

    ran = cli("reproduce", folder.root, "v1")
    assert ran.code == 0, ran.err
    assert "has it again" in ran.out
    assert lineage.file_hashes(version.adapter, folder.root) == before
    assert [entry.event for entry in lineage.existing(version).events] == ["cleaned", "reproduced", "restored"]
    assert cli("lineage", "verify", folder.root, "v1").code == 0
    assert (folder.root / "models" / "current").resolve() == version.adapter
