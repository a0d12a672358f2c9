"""From two trained versions to all places, and back: exports, the Hub, Ollama, an API under load, and one rollback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import minihub
import ollama
import pytest
from conftest import Ran, reviews
from fake_ollama import FakeOllama, Llamas
from fixtures_models import USER_CACHE
from fixtures_serving import gateway

from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

ROWS = [{"text": row["text"]} for row in reviews(6, start=400)]


def _online(monkeypatch: pytest.MonkeyPatch, hub: minihub.Hub) -> None:
    """The Hub's client of this process has read at its import that it is offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", minihub.TOKEN)


def _labels(address: str, version: str) -> list[str]:
    told = httpx2.post(f"{address}/api/v1/predict", params={"version": version}, json=ROWS, timeout=60).json()
    return [one["answer"]["label"] for one in told["predictions"]]


def test_one_task_goes_everywhere_and_one_rollback_brings_it_back(
    servable: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", USER_CACHE)
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    made = cli("export", "sentiment", "v2", "--merged", "--gguf", "q8_0", "--json")
    assert made.code == 0, made.err
    checks = {check.subject: check for check in servable.version("v2").parity()}
    assert set(checks) == {"merged", "q8_0"}
    for check in checks.values():
        assert check.prompts and check.prompts.equal_ids == check.prompts.equal_text == check.prompts.asked == 32
        assert check.answers and check.answers.drop <= check.answers.max_drop

    llamas = Llamas()
    with minihub.running() as hub, FakeOllama(tmp_path / "blobs", llamas) as models, gateway(servable) as served:
        _online(monkeypatch, hub)
        for version, more in (("v1", ["--force"]), ("v2", [])):
            for target, options in (
                ("huggingface", []),
                ("ollama", ["--host", models.address]),
                ("local", []),
            ):
                ran = cli("deploy", "sentiment", version, "--to", target, *options, *more)
                assert ran.code == 0, f"{version} to {target}: {ran.err}"
        right = {version: _labels(served.address, version) for version in ("v1", "v2")}
        assert right["v1"] != right["v2"]
        faults, seen = _under_load(served.address, right, lambda: cli("rollback", "sentiment", "v1", "--json"))
        done = cli("rollback", "sentiment", "v2", "--json").json
        back = cli("rollback", "sentiment", "v1", "--json").json

        assert not faults and seen == {"v1", "v2"}
        assert not done["left"] and not back["left"]
        assert {entry["target"] for entry in back["moved"]} == {"huggingface", "ollama", "local", "api"}
        standing = {entry.name: entry.version for entry in deployments.load(servable)}
        assert standing == {
            "anna/sentiment": "v1", "anna/sentiment@v1": "v1", "anna/sentiment@v2": "v2",
            "sentiment:latest": "v1", "sentiment:v1": "v1", "sentiment:v2": "v2",
            "models/deployed": "v1", "models/deployed-v1": "v1", served.address: "v1",
        }  # fmt: skip
        _is_v1_everywhere(servable, hub, models)
    llamas.close()


def _under_load(address: str, right: dict[str, list[str]], switch: Callable[[], Ran]) -> tuple[list[str], set[str]]:
    """What went wrong while versions were switched, and which versions answered."""
    stop, faults, seen = threading.Event(), [], set()

    def ask(number: int) -> None:
        with httpx2.Client(base_url=address, timeout=60) as client:
            while not stop.is_set():
                number = (number + 1) % len(ROWS)
                found = client.post("/api/v1/predict", json=ROWS[number])
                told = found.json()
                if found.status_code != 200 or told["answer"]["label"] != right[told["version"]][number]:
                    faults.append(found.text)
                seen.add(told["version"])

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for one in askers:
        one.start()
    ran = switch()
    stop.set()
    for one in askers:
        one.join()
    return [*faults, *([] if ran.code == 0 else [ran.err])], seen


def _is_v1_everywhere(folder: TaskFolder, hub: minihub.Hub, models: FakeOllama) -> None:
    weights = (folder.version("v1").adapter / "adapter_model.safetensors").read_bytes()
    repo = hub.repos["anna/sentiment"]
    assert repo.commits[repo.heads["main"]]["adapter_model.safetensors"] == weights
    assert (folder.root / "models" / "deployed" / "adapter_model.safetensors").read_bytes() == weights
    exported = {
        version: next(one.sha256 for one in folder.version(version).exports() if one.name == "q8_0")
        for version in ("v1", "v2")
    }
    held = models.names()
    assert held == {"sentiment:v1": exported["v1"], "sentiment:v2": exported["v2"], "sentiment:latest": exported["v1"]}
    client, template = ollama.Client(models.address), folder.task().input_template.rstrip("\n")
    asked = [[{"role": "user", "content": template.replace("{text}", row["text"])}] for row in ROWS]
    said = {name: [client.chat(name, each).message.content for each in asked] for name in held}
    assert said["sentiment:latest"] == said["sentiment:v1"] != said["sentiment:v2"]
