"""Training learns, records what it did, stops and goes on without a trace, and breaks in plain words."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, write_rows
from fixtures_training import moved_reviews, stopped

from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.schema import yaml
from nlp_skills.training import run
from nlp_skills.training import train as training
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Ready = Callable[..., TaskFolder]
# Enough steps (5 an epoch, dropout on) that a signal meets the run half-way.
LONG = {"epochs": 12, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}, "batch_size": 5, "gradient_accumulation": 2}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def accuracy(version: VersionFolder, folder: TaskFolder) -> float:
    """Share of test rows that the saved model answers rightly, by its own greedy words."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from nlp_skills.data.render import Renderer

    info = version.model_info()
    assert info is not None
    base = info.base_model if info.adapter_path else str(folder.root / str(info.merged_path))
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if info.adapter_path:
        model = PeftModel.from_pretrained(model, folder.root / info.adapter_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    renderer, right = Renderer.from_model_info(info), 0
    rows = [json.loads(line) for line in folder.split("test").read_text().splitlines()]
    for row in rows:
        prompt, answer = renderer.ids(tokenizer, row)
        with torch.no_grad():
            said = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].argmax(-1)
        right += said.tolist() == answer
    return right / len(rows)


def weights(folder: TaskFolder) -> bytes:
    return (folder.version("v1").adapter / "adapter_model.safetensors").read_bytes()


def start(folder: TaskFolder, *arguments: str) -> subprocess.Popen[str]:
    """`nlp-skills train` as a program of its own."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", "train", str(folder.root), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_for(ready: Callable[[], bool], program: subprocess.Popen[str], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < until, "the run did not get that far"
        time.sleep(0.01)


def test_adapters_learn_what_the_base_gets_wrong_and_leave_a_full_record(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=96, epochs=8, learning_rate=5e-3)
    version = folder.version("v1")
    ran = cli("train", folder.root)
    assert ran.code == 0, ran.err
    assert "v1 is trained" in ran.out and "nlp-skills evaluate sentiment" in ran.out
    assert "⟦" in ran.err and "training v1: 96/96" in ran.err
    assert accuracy(version, folder) >= 0.8

    lineage = version.lineage()
    assert lineage is not None and lineage.run is not None and lineage.data is not None and lineage.model is not None
    assert lineage.run.state == "completed"
    assert (lineage.run.steps, lineage.run.seed, lineage.run.device) == (96, 3, "cpu")
    assert lineage.run.tokens == 8 * sum(len(line["t"]) for line in token_counts(folder))
    assert lineage.run.peak_memory_gb and lineage.run.seconds and lineage.run.final_loss
    assert lineage.data.train_count == 96
    assert lineage.model.adapter_path == "models/adapter/v1"
    assert {"python", "torch", "transformers", "trl", "peft", "nlp-skills"} <= lineage.environment.keys()

    lines = run.metrics(version)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 97))
    assert [line["step"] for line in lines if "eval_loss" in line] == list(range(12, 97, 12))
    task = folder.task()
    assert task.status == "evaluating"
    assert [move.to for move in task.history] == ["training", "evaluating"]
    assert not version.checkpoints.exists()
    assert sorted(path.name for path in version.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def token_counts(folder: TaskFolder) -> Iterator[dict[str, list[int]]]:
    """The training rows as ids, through the same renderer."""
    from nlp_skills.data.render import Renderer
    from nlp_skills.training import base_model

    config = folder.version("v1").config()
    tokenizer, renderer = base_model.load_tokenizer(config.base_model), Renderer.of(folder.task(), config)
    for line in folder.split("train").read_text().splitlines():
        prompt, answer = renderer.ids(tokenizer, json.loads(line))
        yield {"t": prompt + answer}


def test_libraries_keep_quiet_and_json_is_alone_on_stdout(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=96, epochs=1)
    ran = cli("train", folder.root, "--json")
    assert ran.json["ok"] is True and ran.json["state"] == "completed"
    assert (folder.root / ran.json["model"]).is_dir()
    assert "Warning" not in ran.err and "it/s" not in ran.err
    ours = ("one row as", "  <|im_start|>", "train: rows", "valid: rows", "training v1: ")
    assert [line for line in ran.err.splitlines() if not line.startswith(ours)] == []
    assert "FutureWarning" in (folder.version("v1").run / "train.log").read_text()


def test_a_second_train_changes_nothing_and_again_makes_the_same_anew(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    assert cli("train", folder.root).code == 0
    before, at = weights(folder), folder.version("v1").adapter.stat().st_mtime_ns
    ran = cli("train", folder.root)
    assert ran.code == 0 and "trained already" in ran.out
    assert folder.version("v1").adapter.stat().st_mtime_ns == at

    folder.version("v1").results_path.write_text("{}")
    assert cli("train", folder.root, "--again").code == 0
    assert weights(folder) == before
    assert not folder.version("v1").results_path.exists(), "results of the model before"


def test_a_trained_version_is_not_replaced_silently(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    assert cli("train", folder.root).code == 0
    yaml.change(folder.version("v1").config_path, {("learning_rate",): 1e-4})
    ran = cli("train", folder.root)
    assert ran.code == 1
    assert "versions/v1/config.yaml" in ran.err and "--again" in ran.err and "new-version" in ran.err


def test_full_fine_tuning_saves_a_whole_model(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=96, adapter="full", lora=None, epochs=14, learning_rate=1e-3)
    ran = cli("train", folder.root)
    assert ran.code == 0 and "Writing" not in ran.err
    version, info = folder.version("v1"), folder.version("v1").model_info()
    assert info is not None
    assert info.merged_path == "models/merged/v1" and info.adapter_path is None
    assert info.parameters == info.trainable_parameters
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {p.name for p in version.merged.iterdir()}
    assert "eager" not in (version.merged / "config.json").read_text(), "how it was trained is not how it is asked"
    assert accuracy(version, folder) >= 0.8


def test_no_valid_rows_means_the_last_weights(ready: Ready) -> None:
    folder = ready(train=24, epochs=1)
    yaml.change(folder.sources_path, {("split", "valid"): 0.0, ("split", "train"): 0.7})
    folder.split("valid").write_text("")
    status = training.train(folder)
    assert status.state == "completed" and status.message is None
    assert not [line for line in run.metrics(folder.version("v1")) if "eval_loss" in line]


def test_ctrl_c_saves_and_the_next_train_ends_bit_for_bit_alike(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=50, **LONG)
    straight = shutil.copytree(folder.root, folder.root.parent / "straight")
    version = folder.version("v1")
    program = start(folder)
    wait_for(lambda: len(run.metrics(version)) >= 12, program)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert "stopping after this step" in err and "checkpoint saved" in out
    status = version.status()
    assert status is not None and status.state == "interrupted"
    assert 10 <= status.step < 60
    assert folder.task().status == "configuring"
    assert not version.adapter.exists()

    assert cli("train", folder.root).code == 0
    lines = run.metrics(version)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 61)), "no step twice, none missing"
    again = version.status()
    assert again is not None and again.started == status.started

    whole = TaskFolder.at(straight)
    assert training.train(whole).state == "completed"
    assert weights(folder) == weights(whole)
    figures = ("step", "loss", "eval_loss", "tokens")
    cut = [{key: line.get(key) for key in figures} for line in lines]
    assert cut == [{key: line.get(key) for key in figures} for line in run.metrics(whole.version("v1"))]


def test_a_killed_run_is_seen_as_dead_and_goes_on_from_its_checkpoint(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=50, **LONG)
    version = folder.version("v1")
    program = start(folder)
    wait_for(lambda: len(list(version.checkpoints.glob("*/complete.json"))) >= 2, program)
    running = version.status()
    assert runs.alive(running)
    with pytest.raises(Invalid, match=str(program.pid)):
        training.train(folder)
    program.kill()
    program.communicate(timeout=60)
    dead = version.status()
    assert dead is not None and dead.state == "running" and not runs.alive(dead)

    # A checkpoint that was being written when the process died is newer, and no use.
    (version.checkpoints / "checkpoint-59").mkdir()
    ran = cli("train", folder.root, "--json")
    assert ran.code == 0 and ran.json["step"] == 60
    begun, killed, again, done = folder.task().history
    assert (begun.to, killed.to, again.to, done.to) == ("training", "configuring", "training", "evaluating")
    assert "killed" in killed.reason
    assert int(again.reason.rpartition(" ")[2]) >= 10, "the first steps were not done again"


def test_a_checkpoint_of_other_data_is_refused_and_again_starts_over(
    ready: Ready, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ready(train=24, epochs=3)
    stopped(folder, monkeypatch, at=4)
    write_rows(folder.split("train"), moved_reviews(24, start=200))
    ran = cli("train", folder.root)
    assert ran.code == 1
    assert "data/train.jsonl" in ran.err and "--again" in ran.err
    assert cli("train", folder.root, "--again").code == 0


def test_a_full_disk_fails_in_words_and_the_task_can_go_on(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        ran = cli("train", folder.root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.code == 3, ran.err
    assert "cannot write the file" in ran.err and "mend:" in ran.err and "Traceback" not in ran.err
    status = folder.version("v1").status()
    assert status is not None and status.state == "failed"
    assert folder.task().status == "configuring"
    assert not folder.version("v1").adapter.exists()
    assert cli("train", folder.root).code == 0


def test_a_missing_base_model_fails_before_anything_is_written(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(base="/no/such/model")
    ran = cli("train", folder.root)
    assert ran.code == 3
    assert "/no/such/model" in ran.err and "training.base_model" in ran.err
    assert folder.task().status == "configuring"
    assert not folder.version("v1").run.exists()


def test_a_refused_preflight_leaves_no_run(ready: Ready) -> None:
    folder = ready(max_length=30)
    with pytest.raises(Invalid, match="longer than max_length"):
        training.train(folder)
    assert folder.task().history == []
    assert not folder.version("v1").run.exists()


def test_settings_the_base_model_does_not_fit_are_named(ready: Ready) -> None:
    folder = ready(lora={"r": 8, "alpha": 16, "target_modules": ["no_such_layer"]})
    with pytest.raises(Invalid, match="do not fit") as refused:
        training.train(folder)
    assert refused.value.file == str(folder.version("v1").config_path)
    assert "no_such_layer" in str(refused.value.cause) and "q_proj" in str(refused.value.mend)
    assert folder.task().status == "configuring"
    assert not folder.version("v1").run.exists()


def test_a_loss_that_is_not_a_number_stops_the_run(
    ready: Ready, tuned_base: Path, tmp_path: Path, cli: Callable[..., Ran]
) -> None:
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tuned_base, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"] *= float("nan")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    ran = cli("train", ready(train=24, base=base).root)
    assert ran.code == 1
    assert "diverged" in ran.err and "learning_rate" in ran.err


def test_no_data_names_the_command_that_makes_it(ready: Ready) -> None:
    folder = ready()
    folder.split("train").unlink()
    with pytest.raises(Invalid) as refused:
        training.train(folder)
    assert refused.value.mend == "make it with: nlp-skills regenerate sentiment"


def test_an_archived_task_is_not_trained(ready: Ready) -> None:
    folder = ready()
    yaml.change(folder.task_path, {("status",): "archived"})
    with pytest.raises(Invalid, match="archived"):
        training.train(folder)
    assert folder.task().status == "archived"
    assert not folder.version("v1").run.exists()


def test_the_environment_names_the_commit(ready: Ready) -> None:
    folder = ready(train=24, epochs=1)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "task.yaml"], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(folder.root), *words], check=True)
    training.train(folder)
    head = subprocess.run(["git", "-C", str(folder.root), "rev-parse", "HEAD"], capture_output=True, text=True)
    lineage = folder.version("v1").lineage()
    # The run itself has changed task.yaml (its status) by then.
    assert lineage is not None and lineage.environment["git_commit"] == f"{head.stdout.strip()}-dirty"


def test_unavailable_is_for_the_machine(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_skills import extras

    monkeypatch.setattr(extras, "installed", lambda module: module != "trl")
    with pytest.raises(Unavailable) as refused:
        training.train(ready())
    assert "[train]" in str(refused.value.mend)
