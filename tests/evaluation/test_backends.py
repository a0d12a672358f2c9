"""A version's test rows answered by something else: its own weights in llama.cpp, and a model behind an address."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Ran
from fixtures_llm import FakeChat, Said, Script
from gguf_files import as_gguf

from nlp_skills.data import llm_providers
from nlp_skills.evaluation import model
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
Start = Callable[[Script], FakeChat]


def predictions(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def merged_gguf(folder: TaskFolder, path: Path) -> Path:
    """The version with its adapter merged, as a GGUF file."""
    loaded = model.load(folder, "v1")
    loaded.model.merge_and_unload().save_pretrained(path / "merged")
    loaded.tokenizer.save_pretrained(path / "merged")
    return as_gguf(path / "merged", path / "reviews.gguf")


def test_other_backends_on_the_same_rows(
    ready: Callable[..., TaskFolder],
    cli: Cli,
    fake_chat: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    monkeypatch.setattr(llm_providers, "RETRIES", 0)
    folder = ready(train=24, epochs=1)
    assert cli("train", folder.root).code == 0
    own = cli("evaluate", folder.root, "--baselines", "none", "--json").json
    found = cli("evaluate", folder.root, "--backend", "llama.cpp", "--model", merged_gguf(folder, tmp_path), "--json")
    assert found.json["asked"]["backend"] == "llama.cpp"
    assert found.json["metrics"]["macro_f1"] == pytest.approx(own["metrics"]["macro_f1"])
    ours = predictions(folder.version("v1").predictions_path)
    theirs = predictions(folder.root / "benchmarks" / "llama.cpp-reviews" / "predictions.jsonl")
    for one, other in zip(ours, theirs, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=0.01)
        assert one["prompt_sha256"] == other["prompt_sha256"]
    assert folder.version("v1").results().asked.backend == "transformers"
    _endpoint(folder, cli, fake_chat)


def _endpoint(folder: TaskFolder, cli: Cli, fake_chat: Start) -> None:
    """A server that breaks in the middle; the same command goes on, and --again asks anew."""
    left = [10]

    def script(body: dict[str, Any]) -> Said:
        left[0] -= 1
        broken = Said(status=503, error="overloaded")
        return Said(json.dumps({"label": LABELS[left[0] % 3]})) if left[0] >= 0 else broken

    fake = fake_chat(script)
    command = ("evaluate", folder.root, "--backend", "endpoint", "--model", "fake-small")
    address = ("--base-url", f"{fake.url}/v1")
    failed = cli(*command, *address)
    assert failed.code == 3
    assert f"{fake.url}/v1 fails (503)" in failed.err
    assert "Traceback" not in failed.err
    left[0] = 1000
    before = fake.questions
    done = cli(*command, *address, "--json")
    rows = done.json["test_rows"]
    # Each row once within the schema and once without, less the ten that were there already.
    assert fake.questions - before == 2 * rows - 10
    assert done.json["asked"]["backend"] == "endpoint"
    # What was asked for, not what the version itself would have been.
    assert fake.requests[-1][2]["max_tokens"] == done.json["asked"]["sampling"]["max_new_tokens"]
    assert done.json["metrics"]["parse_rate"] == 1.0
    before = fake.questions
    assert cli(*command, *address, "--json").json["metrics"] == done.json["metrics"]
    assert fake.questions == before
    assert cli(*command, *address, "--again", "--json").code == 0
    assert fake.questions - before == 2 * rows
