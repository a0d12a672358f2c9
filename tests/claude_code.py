"""A real Claude Code whose model is a script on loopback: what it sends is what a model would have seen."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

VERSION = "2.1.197"
# Read now: every test gets a home of its own later.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nlp-skills-tests"

Block = dict[str, Any]
Reply = list[Block]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def call(tool: str, **arguments: object) -> Reply:
    """A reply of the scripted model: one tool call."""
    return [{"type": "tool_use", "name": tool, "input": arguments}]


def bash(command: str, **more: object) -> Reply:
    return call("Bash", command=command, description="a step", **more)


@pytest.fixture(scope="session")
def claude() -> Path:
    """Claude Code from npm, installed once into a cache outside the repository."""
    npm = shutil.which("npm")
    if npm is None:
        # A contributor may do without; where the whole suite must hold, a missing client is a failure.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("npm is not here, and Claude Code comes from npm")
    folder = _CACHE / f"claude-code-{VERSION}"
    program = folder / "node_modules" / ".bin" / "claude"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            package = f"@anthropic-ai/claude-code@{VERSION}"
            subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, package], check=True)
    return program


class Model:
    """The Messages API, answering each request that offers tools with the next reply of its script."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, body: dict[str, Any]) -> Reply:
        with self.lock:
            if not body.get("tools"):
                return [text("ok")]
            self.requests.append(body)
            return self.script.pop(0) if self.script else [text("done")]


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.reply("application/json", b'{"data": []}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
                self.reply("application/json", b'{"input_tokens": 1}')
                return
            blocks = model.answer(body)
            if body.get("stream"):
                self.reply("text/event-stream", _stream(blocks))
            else:
                self.reply("application/json", json.dumps(_message(blocks)).encode())

        def reply(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


def _message(blocks: Reply) -> dict[str, Any]:
    content = [{**b, "id": f"toolu_{os.urandom(8).hex()}"} if b["type"] == "tool_use" else b for b in blocks]
    stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {"id": f"msg_{os.urandom(8).hex()}", "type": "message", "role": "assistant", "model": "scripted",
            "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}  # fmt: skip


def _stream(blocks: Reply) -> bytes:
    message = _message(blocks)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": empty},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stop, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


@dataclass
class Session:
    """What the client printed (stream-json events) and what it asked the model."""

    events: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    errors: str
    init: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        started = [e for e in self.events if e.get("type") == "system" and e.get("subtype") == "init"]
        assert started, f"the client did not start: {self.events[:3]} {self.errors[-2000:]}"
        self.init = started[0]

    @property
    def hooks(self) -> list[dict[str, Any]]:
        """Every hook that ran: `hook_name`, `exit_code`, `outcome`, `stdout`, `stderr`."""
        return [event for event in self.events if event.get("subtype") == "hook_response"]

    def heard(self, number: int) -> str:
        """What request `number` tells the model that the one before it did not."""
        before = set(_texts(self.requests[number - 1])) if number else set()
        return "\n".join(part for part in _texts(self.requests[number]) if part not in before)

    def ours(self, number: int) -> str:
        """Our own words in that request: from the tag to the end of the reminder around it."""
        parts = self.heard(number).split("[nlp-skills] ")[1:]
        return "\n".join(part.split("</system-reminder>")[0].strip() for part in parts)


def _texts(value: Any) -> Iterator[str]:
    """Every text of a request's system prompt and messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in ("system", "messages", "content", "text"):
            if name in value:
                yield from _texts(value[name])


def copy_plugin(to: Path) -> Path:
    """The plugin as a user has it: what is in the repository, without tests and environments."""
    left_out = shutil.ignore_patterns(".*_cache", ".git", ".venv", "__pycache__", "tests", "benchmarks")
    return Path(shutil.copytree(ROOT, to, ignore=left_out))


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.server.shutdown()
    model.server.server_close()


@pytest.fixture
def environment(tmp_path: Path, model: Model) -> dict[str, str]:
    """An empty home, no telemetry, the scripted model, and our development interpreter."""
    home = tmp_path / "client-home"
    home.mkdir()
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "NLP_SKILLS_LANG": "en",
        "NLP_SKILLS_PYTHON": sys.executable,
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "none",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


@pytest.fixture
def session(claude: Path, model: Model, environment: dict[str, str], project: Path) -> Callable[..., Session]:
    """Run one headless session in the project with the plugin; each reply is one turn of the model."""

    def run(*script: Reply, plugin: Path | None = ROOT, **env: str) -> Session:
        model.script, model.requests = list(script), []
        options = ["--plugin-dir", str(plugin)] if plugin else []
        done = subprocess.run(
            [str(claude), "-p", "go", "--output-format", "stream-json", "--verbose",
             "--include-hook-events", *options,
             "--allowedTools", "Bash,Write,Edit,Read"],
            cwd=project, env={**environment, **env}, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return Session(events, model.requests, done.stderr)

    return run
