"""Switching while clients ask, engines that die, and gateways that are told to end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from conftest import Ran, reviews
from fixtures_models import USER_CACHE
from fixtures_serving import Gateway, gateway

from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

ROWS = [{"text": row["text"]} for row in reviews(6, start=400)]


def _labels(address: str, version: str) -> list[str]:
    told = httpx2.post(f"{address}/api/v1/predict", params={"version": version}, json=ROWS, timeout=60).json()
    return [one["answer"]["label"] for one in told["predictions"]]


def _until(wanted: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_no_answer_is_lost_or_another_version_s_while_versions_are_switched(servable: TaskFolder) -> None:
    with gateway(servable) as served:
        right = {version: _labels(served.address, version) for version in ("v1", "v2")}
        assert right["v1"] != right["v2"]
        stop, faults, counted = threading.Event(), [], {"v1": 0, "v2": 0}

        def ask(number: int) -> None:
            with httpx2.Client(base_url=served.address, timeout=60) as client:
                while not stop.is_set():
                    number = (number + 1) % len(ROWS)
                    found = client.post("/api/v1/predict", json=ROWS[number])
                    told = found.json()
                    if found.status_code != 200 or told["answer"]["label"] != right[told["version"]][number]:
                        faults.append(found.text)
                    else:
                        counted[told["version"]] += 1

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for version in ("v1", "v2", "v1", "v2"):
            time.sleep(0.4)
            found = httpx2.post(f"{served.address}/api/v1/rollback", params={"version": version}, timeout=60)
            assert found.status_code == 200, found.text
            assert found.json()["after"] == version == servable.task().version
            # Whoever asks after the switch is answered by the new version.
            assert httpx2.post(f"{served.address}/api/v1/predict", json=ROWS[0]).json()["version"] == version
        stop.set()
        for thread in threads:
            thread.join()
        assert not faults, faults[:3]
        assert min(counted.values()) > 5
        (entry,) = deployments.load(servable)
        assert (entry.version, entry.follows, entry.name) == ("v2", True, served.address)
        back = httpx2.post(f"{served.address}/api/v1/rollback", timeout=60).json()
        assert (back["before"], back["after"]) == ("v2", "v1")
    assert deployments.load(servable) == []


def test_a_rollback_of_another_process_is_followed(servable: TaskFolder, cli: Callable[..., Ran]) -> None:
    with gateway(servable) as served:
        done = cli("rollback", str(servable.root), "v1", "--json")
        assert done.code == 0, done.err
        assert httpx2.get(f"{served.address}/readyz").json()["version"] == "v1"
        (entry,) = deployments.load(servable)
        assert entry.version == "v1"


def test_a_version_whose_model_is_gone_changes_nothing(servable: TaskFolder) -> None:
    with gateway(servable) as served:
        (servable.version("v1").adapter / "adapter_model.safetensors").unlink()
        found = httpx2.post(f"{served.address}/api/v1/rollback", params={"version": "v1"}, timeout=60)
        assert found.status_code in (404, 409, 503), found.text
        assert servable.task().version == "v2"
        assert httpx2.post(f"{served.address}/api/v1/predict", json=ROWS[0]).json()["version"] == "v2"


def _engine_pids(served: Gateway) -> list[int]:
    return served.call(lambda: served.service.pool.seats["v2"].engine.pids)  # type: ignore[no-any-return]


def test_an_engine_that_dies_is_started_again_and_says_so_meanwhile(servable: TaskFolder) -> None:
    with gateway(servable) as served:
        (pid,) = _engine_pids(served)
        os.kill(pid, signal.SIGKILL)
        _until(lambda: httpx2.get(f"{served.address}/readyz").status_code == 503, 5)
        assert httpx2.get(f"{served.address}/healthz").status_code == 200
        found = httpx2.post(f"{served.address}/api/v1/predict", json=ROWS[0], timeout=60)
        assert found.status_code in (200, 503)
        if found.status_code == 503:
            assert found.headers["retry-after"]
            assert "error" in found.json()
        _until(lambda: httpx2.get(f"{served.address}/readyz").status_code == 200)
        assert _engine_pids(served) != [pid]
        assert httpx2.post(f"{served.address}/api/v1/predict", json=ROWS[0], timeout=60).json()["version"] == "v2"


def test_versions_that_nobody_asks_are_let_go(servable: TaskFolder) -> None:
    from nlp_skills.deployment.serving.settings import Settings

    with gateway(servable, Settings(parallel=2, context=512, threads=1, keep=1)) as served:
        for version in ("v1", "v2", "v1"):
            assert len(_labels(served.address, version)) == len(ROWS)

        def loaded() -> Any:
            told = httpx2.get(f"{served.address}/api/v1/versions").json()
            return [one["version"] for one in told["versions"] if one["loaded"]]

        _until(lambda: loaded() == ["v2"])


def test_versions_on_one_base_share_an_engine_of_transformers(servable: TaskFolder) -> None:
    from nlp_skills.deployment.serving.settings import Settings

    with gateway(servable, Settings(engine="transformers")) as served:
        right = {version: _labels(served.address, version) for version in ("v1", "v2")}
        assert right["v1"] != right["v2"]
        began = time.monotonic()
        assert httpx2.post(f"{served.address}/api/v1/rollback", timeout=60).json()["after"] == "v1"
        assert time.monotonic() - began < 5
        body = {"model": "sentiment", "messages": [{"role": "user", "content": ROWS[0]["text"]}], "stream": True}
        found = httpx2.post(f"{served.address}/v1/chat/completions", json=body, timeout=60)
        assert found.headers["x-nlp-skills-version"] == "v1"
        assert found.text.rstrip().endswith("data: [DONE]")
        seats = served.call(lambda: {id(seat.engine) for seat in served.service.pool.seats.values()})
        assert len(seats) == 1


def _experiment(folder: TaskFolder) -> None:
    """v1's model once more, as the experiment v2-exp."""
    for path in ("versions/v1", "models/adapter/v1"):
        shutil.copytree(folder.root / path, folder.root / path.replace("v1", "v2-exp"))
    for path in (folder.version("v2-exp").root).rglob("*"):
        if path.suffix in (".json", ".yaml") and path.is_file():
            text = path.read_text(encoding="utf-8").replace("adapter/v1", "adapter/v2-exp")
            path.write_text(re.sub(r'(version"?: "?)v1\b', r"\1v2-exp", text), encoding="utf-8")
    folder.version("v2-exp").exports_path.unlink(missing_ok=True)


def test_an_experiment_is_promoted_and_answers_under_its_new_name(
    servable: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", USER_CACHE)
    _experiment(servable)
    with gateway(servable, Settings(engine="transformers", threads=1)) as served:
        right = _labels(served.address, "v2-exp")
        refused = httpx2.post(f"{served.address}/api/v1/promote", params={"version": "v1"}, timeout=60)
        assert refused.status_code == 409 and "not an experiment" in refused.json()["error"]["message"]
        assert servable.task().version == "v2"
        found = httpx2.post(f"{served.address}/api/v1/promote", params={"version": "v2-exp"}, timeout=120)
        assert found.status_code == 200, found.text
        assert found.json()["after"] == "v3" == servable.task().version
        told = httpx2.post(f"{served.address}/api/v1/predict", json=ROWS, timeout=60).json()
        assert told["version"] == "v3" and [one["answer"]["label"] for one in told["predictions"]] == right
