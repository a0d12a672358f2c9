"""One secret is planted in `.env` and used by every kind of source: nothing that is written or said may hold it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Everything that an address, JSON or a shell would spell in another way.
SECRET = 'pl4nted/s&cret+"7" x'
SPELLINGS = {
    SECRET,
    quote(SECRET),
    quote(SECRET, safe=""),
    quote_plus(SECRET),
    json.dumps(SECRET)[1:-1],
    base64.b64encode(SECRET.encode()).decode(),
    base64.b64encode(f"nlp:{SECRET}".encode()).decode(),
}
REVIEWS = [
    {"text": f"訂單 {number}：這台相機的{what}很{word}。", "label": label}
    for number in range(20)
    for what, word, label in (("鏡頭", "好", "positive"), ("螢幕", "普通", "neutral"), ("電池", "差", "negative"))
]


class EchoServer(BaseHTTPRequestHandler):
    """A server without manners: it repeats what it was told, in good answers and in refusals."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        told = {**parse_qs(url.query), **{name: [value] for name, value in self.headers.items()}}
        if url.path == "/robots.txt":
            self._send(404, "text/plain", b"")
        elif url.path == "/rows":
            rows = [{**row, "asked_by": self.headers.get("Authorization", "")} for row in REVIEWS]
            self._send(200, "application/json", json.dumps(rows).encode())
        elif url.path == "/page":
            items = "".join(f'<li><p class="{row["label"]}">{row["text"]}</p></li>' for row in REVIEWS)
            self._send(200, "text/html; charset=utf-8", f"<title>評論</title><ul>{items}</ul>".encode())
        else:
            self._send(401, "application/json", json.dumps({"error": {"message": f"no access: {told}"}}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), EchoServer)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    thread.join(timeout=10)


def entries(server: str) -> dict[str, dict[str, Any]]:
    """A source of each kind; those called bad_… are refused by the other side."""
    bearer = {"type": "bearer", "token": "${PLANTED}"}
    return {
        "good_api": {"type": "api", "endpoint": f"{server}/rows", "auth": bearer},
        "bad_api": {"type": "api", "endpoint": f"{server}/none?api_key=${{PLANTED}}", "auth": bearer},
        "bad_basic": {
            "type": "api",
            "endpoint": f"{server}/none",
            "auth": {"type": "basic", "user": "nlp", "password": "${PLANTED}"},
            "headers": {"X-Trace": "${PLANTED}"},
        },
        "good_web": {
            "type": "web_scrape",
            "urls": [f"{server}/page?token=${{PLANTED}}"],
            "row": "li",
            "selectors": {"text": "p", "label": "p@class"},
            "rate_limit": 50,
        },
        "bad_web": {"type": "web_scrape", "urls": [f"{server}/none?sid=${{PLANTED}}"], "rate_limit": 50},
        "bad_sql": {
            "type": "database",
            "driver": "postgresql",
            "host": "127.0.0.1",
            "port": 1,
            "user": "nlp",
            "password": "${PLANTED}",
            "database": "none",
            "query": "SELECT text, label FROM reviews ORDER BY id",
        },
        "bad_llm": {
            "type": "llm_generated",
            "model": "m",
            "base_url": f"{server}/v1",
            "api_key": "${PLANTED}",
            "prompt_template": "Write {count} reviews.",
            "count": 2,
        },
        "bad_hub": {"type": "huggingface", "dataset": "o/n", "revision": "main", "token": "${PLANTED}"},
    }


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task(rows=30)
    (root / ".env").write_text(f"PLANTED='{SECRET}'\n", encoding="utf-8")
    return root


def run(task: Path, server: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, its own log lines at their most talkative."""
    environment = {**os.environ, "HF_ENDPOINT": server, "HF_HUB_OFFLINE": "0", "HF_DEBUG": "1", "OPENAI_LOG": "debug"}
    command = [sys.executable, "-m", "nlp_skills.cli.main", *words]
    return subprocess.run(command, cwd=task, env=environment, capture_output=True, text=True, timeout=120, check=False)


def leaks(text: str) -> set[str]:
    return {spelling for spelling in SPELLINGS if spelling in text}


def written(task: Path) -> Iterator[tuple[Path, str]]:
    for path in task.parent.rglob("*"):
        if path.is_file() and path.name != ".env":
            yield path, path.read_bytes().decode("utf-8", "replace")


def remains(task: Path) -> dict[str, set[str]]:
    """Every file that holds the secret, and how it is spelt there."""
    return {str(path): found for path, text in written(task) if (found := leaks(text))}


def source_file(task: Path, chosen: dict[str, dict[str, Any]]) -> None:
    from nlp_skills.schema import yaml

    listed = [{"name": name, **entry} for name, entry in chosen.items()]
    (task / "data_source.yaml").write_text(yaml.dumps({"sources": listed}), encoding="utf-8")


@pytest.mark.parametrize("name", sorted(entries("http://h")))
def test_no_kind_of_source_lets_it_out(task: Path, server: str, name: str) -> None:
    source_file(task, {name: entries(server)[name]})
    good = name.startswith("good")
    for words in (["data-source", "check"], ["regenerate", "--json"]):
        done = run(task, server, *words)
        assert (done.returncode == 0) is good, done.stderr
        assert "Traceback" not in done.stderr
        assert not leaks(done.stdout + done.stderr), words
    assert remains(task) == {}


def test_what_a_version_keeps_and_the_audit_writes_does_not_hold_it(task: Path, server: str) -> None:
    from nlp_skills.data import snapshot
    from nlp_skills.workspace.folder import TaskFolder

    found = entries(server)
    source_file(task, {name: found[name] for name in ("good_api", "good_web")})
    assert run(task, server, "regenerate").returncode == 0
    snapshot.write(TaskFolder.at(task), "v1")
    for words in (
        ["status"],
        ["data-source", "show", "good_api"],
        ["validate"],
        ["audit"],
    ):
        done = run(task, server, *words)
        assert done.returncode == 0, done.stderr
        assert not leaks(done.stdout + done.stderr), words
    assert (task / "docs" / "data_card.md").is_file()
    assert remains(task) == {}


def test_the_search_itself_would_find_it(task: Path) -> None:
    (task / "note.json").write_text(json.dumps({"url": f"http://h/?q={quote_plus(SECRET)}"}), encoding="utf-8")
    assert any(leaks(text) for _path, text in written(task))
