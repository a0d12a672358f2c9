"""The engine of vLLM against a fake that speaks as vLLM does and asks the real tiny model; vLLM itself wants a GPU."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_vllm
import pytest

from nlp_skills.deployment.asker import Asker
from nlp_skills.deployment.serving.engines import tethered
from nlp_skills.deployment.serving.engines.engine import Engine
from nlp_skills.deployment.serving.engines.vllm import Vllm
from nlp_skills.deployment.serving.engines.vllm_server import Wanted, arguments
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation import predictions, subject
from nlp_skills.evaluation.answering.scorer import Question
from nlp_skills.schema.version import Sampling
from nlp_skills.workspace.folder import TaskFolder

BODY: dict[str, Any] = {
    "model": "sentiment",
    "messages": [
        {"role": "user", "content": "Is this review positive, neutral or negative?\nOrder 5: this camera is great."}
    ],
    "max_tokens": 8,
}


@pytest.fixture(scope="module")
def folder(two_versions: Path) -> TaskFolder:
    return TaskFolder.at(two_versions)


@pytest.fixture(scope="module")
def engine(folder: TaskFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """Both versions, loaded."""
    programs = fake_vllm.install(tmp_path_factory.mktemp("vllm"), sys.executable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        made = Vllm(folder)
        for version in ("v1", "v2"):
            asyncio.run(made.load(version))
        yield made
        asyncio.run(made.close())


def test_the_command_line_leaves_room_for_every_adapter(tmp_path: Path) -> None:
    told = arguments(Wanted(tmp_path, "base", "float32", 16, 4), 7000, tmp_path / "t.jinja")
    assert told[:2] == ["serve", str(tmp_path)]
    pairs = dict(itertools.pairwise(told))
    assert pairs["--host"] == "127.0.0.1"
    assert (pairs["--max-lora-rank"], pairs["--max-loras"]) == ("16", "4")
    assert pairs["--chat-template"] == str(tmp_path / "t.jinja")
    assert "--trust-remote-code" not in told
    assert "--enable-lora" not in arguments(Wanted(tmp_path, "v1", "float32", None, 0), 7000, None)


def test_both_versions_answer_as_they_were_evaluated_from_one_server(engine: Vllm, folder: TaskFolder) -> None:
    as_promised: Engine = engine
    assert as_promised.alive
    assert engine.versions == ("v1", "v2")
    assert len(engine._servers) == 1
    for version in ("v1", "v2"):
        chosen = subject.asked(folder, version)
        rows = predictions.load(folder.version(version).predictions_path)[:6]
        given = Asker(chosen, engine.scorer(version)).answers(chosen.test[:6])
        for said, row in zip(given, rows, strict=True):
            assert said.probabilities == pytest.approx(row["probabilities"], abs=1e-4)


def test_text_comes_within_the_schema_and_a_row_that_is_too_long_is_refused(engine: Vllm, folder: TaskFolder) -> None:
    chosen = subject.asked(folder, "v2")
    questions = [Question(place, chosen.renderer.messages(row)) for place, row in enumerate(chosen.test[:3])]
    scorer, sampling = engine.scorer("v2"), Sampling(max_new_tokens=8)
    said = [one.text for one in scorer.generate(questions, sampling, chosen.info.output_format)]
    assert said == [row["label"] for row in chosen.test[:3]]
    assert [one.cut for one in scorer.generate(questions[:1], Sampling(max_new_tokens=1), None)] == [True]
    with pytest.raises(Invalid) as refused:
        Asker(chosen, scorer).answers([{"text": "x" * 5000}])
    assert "maximum context" in str(refused.value.cause)


def test_conversations_are_passed_on_whole_and_as_streams(engine: Vllm) -> None:
    reply = asyncio.run(engine.chat("v2", BODY))
    assert reply.status == 200
    assert isinstance(reply.body, dict)
    assert reply.body["choices"][0]["message"]["content"] == "positive"
    stream = asyncio.run(engine.chat("v2", {**BODY, "stream": True}))
    assert stream.events is not None
    *events, last = [event.removeprefix(b"data: ") for event in stream.events]
    assert last == b"[DONE]\n\n"
    assert "".join(json.loads(one)["choices"][0]["delta"]["content"] for one in events) == "positive"
    assert asyncio.run(engine.chat("v2", {**BODY, "messages": []})).status == 400


def test_a_version_is_taken_off_and_put_back(engine: Vllm) -> None:
    asyncio.run(engine.unload("v1"))
    with pytest.raises(Unavailable):
        engine.scorer("v1")
    asyncio.run(engine.load("v1"))
    assert asyncio.run(engine.chat("v1", BODY)).status == 200
    assert set(engine.versions) == {"v1", "v2"}


def test_a_killed_server_is_noticed(engine: Vllm, folder: TaskFolder) -> None:
    (server,) = engine._servers.values()
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait(10)
    assert not engine.alive
    chosen = subject.asked(folder, "v2")
    with pytest.raises(Unavailable):
        Asker(chosen, engine.scorer("v2")).answers(chosen.test[:1])
    with pytest.raises(Unavailable):
        asyncio.run(engine.chat("v2", BODY))


def test_without_vllm_it_is_said_how_to_get_it(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    engine = Vllm(folder)
    with pytest.raises(Unavailable) as refused:
        asyncio.run(engine.load("v2"))
    assert "uv pip install vllm" in str(refused.value.mend)
    assert engine.versions == ()


def test_what_is_tethered_ends_with_whoever_started_it(tmp_path: Path) -> None:
    told = [sys.executable, "-P", str(tethered.__file__), "sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; wait"]
    process = subprocess.Popen(told, stdin=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 10
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)
    child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.02)
