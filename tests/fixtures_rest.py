"""Web servers that others wrote, on loopback, and one of our own for what those never do."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

_PACKAGES = ("json-server@0.17.4", "json-graphql-server@3.3.2")
# Read now: every test gets a home of its own later.
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nlp-skills-tests"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

REVIEW_COUNT = 90
ARTICLE_COUNT = 2500


@dataclass(frozen=True)
class Server:
    """A program that answers at `url`; what it prints goes to `log`."""

    url: str
    log: Path

    def requests(self, method: str = "GET") -> list[str]:
        """The addresses it was asked for, in order, as its log has them."""
        lines = _COLOUR.sub("", self.log.read_text(encoding="utf-8", errors="replace")).splitlines()
        return [line.split()[1] for line in lines if line.startswith(f"{method} ")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str | Path], port: int, log: Path, path: str = "/") -> Iterator[Server]:
    """Start a server and wait until it answers, whatever the status; kill it and its children at the end."""
    url = f"http://127.0.0.1:{port}"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        until = time.monotonic() + 60
        while not _answers(url + path):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{command[0]} does not answer: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.1)
        log.write_bytes(b"")
        yield Server(url, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def node_servers() -> Path:
    """The folder of programs of json-server and json-graphql-server, installed once into a cache."""
    npm = shutil.which("npm")
    if npm is None:
        # A contributor may do without; where the whole suite must hold, a missing server is a failure.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("npm is not here, and these servers come from npm")
    folder = _CACHE / "-".join(["rest", *(name.replace("@", "-") for name in _PACKAGES)])
    programs = folder / "node_modules" / ".bin"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((programs / name.split("@")[0]).exists() for name in _PACKAGES):
            subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, *_PACKAGES], check=True)
    return programs


def review_rows(count: int = REVIEW_COUNT) -> list[dict[str, Any]]:
    """Distinct rows `{id, number, content, label}`, of three classes in turn."""
    labels = ("positive", "neutral", "negative")
    things = ("相機", "耳機", "背包", "檯燈", "鍵盤", "水壺")
    words = {"positive": "用起來很順手", "neutral": "普通，沒有特別之處", "negative": "第二天就壞了"}
    return [
        {
            "id": number,
            "number": number,
            "content": f"訂單 {number * 7919 % 100003}：這個{things[number // 3 % 6]}{words[labels[number % 3]]}",
            "label": labels[number % 3],
        }
        for number in range(1, count + 1)
    ]


@pytest.fixture(scope="session")
def json_server(node_servers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """json-server with `/reviews`, paged by `_page`/`_limit` with a Link header, or by `_start`/`_limit`."""
    folder = tmp_path_factory.mktemp("json-server")
    (folder / "db.json").write_text(json.dumps({"reviews": review_rows()}), encoding="utf-8")
    port = free_port()
    command = [node_servers / "json-server", "--host", "127.0.0.1", "--port", str(port), folder / "db.json"]
    with running(command, port, folder / "log", "/reviews/1") as server:
        yield server


@pytest.fixture
def slow_json_server(node_servers: Path, tmp_path: Path) -> Iterator[Server]:
    """The same, taking its time over every answer."""
    (tmp_path / "db.json").write_text(json.dumps({"reviews": review_rows()}), encoding="utf-8")
    port = free_port()
    command = [node_servers / "json-server", "--host", "127.0.0.1", "--port", str(port), "--delay", "60"]
    with running([*command, tmp_path / "db.json"], port, tmp_path / "json-server.log", "/reviews/1") as server:
        yield server


@pytest.fixture(scope="session")
def graphql_server(node_servers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """json-graphql-server with `allReviews(page, perPage, sortField, filter)`; pages are counted from 0."""
    folder = tmp_path_factory.mktemp("graphql")
    (folder / "db.json").write_text(json.dumps({"reviews": review_rows()}), encoding="utf-8")
    port = free_port()
    command = [node_servers / "json-graphql-server", folder / "db.json", "-p", str(port), "-h", "127.0.0.1"]
    with running(command, port, folder / "log") as server:
        yield server


@pytest.fixture(scope="session")
def datasette(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Datasette with the table `archive/articles`; a page of its JSON has `next` and `next_url`."""
    folder = tmp_path_factory.mktemp("datasette")
    with contextlib.closing(sqlite3.connect(folder / "archive.db")) as database, database:
        database.execute("CREATE TABLE articles (id INTEGER PRIMARY KEY, body TEXT, label TEXT)")
        rows = [(n, f"第 {n} 篇：市場今天上漲 {n % 7} 點", ("up", "down")[n % 2]) for n in range(1, ARTICLE_COUNT + 1)]
        database.executemany("INSERT INTO articles VALUES (?, ?, ?)", rows)
    port = free_port()
    command = [sys.executable, "-m", "datasette", "serve", folder / "archive.db", "--host", "127.0.0.1"]
    with running([*command, "--port", str(port)], port, folder / "log", "/-/versions.json") as server:
        yield server


@pytest.fixture(scope="session")
def httpbin(uv: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """httpbin: credentials, statuses, delays, redirects, pages."""
    folder, port = tmp_path_factory.mktemp("httpbin"), free_port()
    command = [uv["UV"], "run", "--isolated", "--no-project", "--cache-dir", uv["UV_CACHE_DIR"]]
    command += ["--with", "httpbin==0.10.2", "python", "-m", "httpbin.core", "--port", str(port)]
    with running(command, port, folder / "log", "/status/200") as server:
        yield server


@dataclass
class Reply:
    """What FakeApi answers; `broken` sends the headers and `keep` bytes of the body, then hangs up."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    broken: bool = False
    keep: int = 0

    def bytes(self) -> bytes:
        return self.content if self.content is not None else json.dumps(self.body, ensure_ascii=False).encode()


@dataclass
class Seen:
    """A request that FakeApi got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    raw_query: str
    at: float


class FakeApi:
    """A server for what real ones do too rarely to wait for: `answer` decides on every request."""

    def __init__(self) -> None:
        self.answer: Callable[[Seen], Reply] = lambda seen: Reply([])
        self.seen: list[Seen] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def replies(self, *replies: Reply) -> None:
        """Answer with these in turn, and with the last one from then on."""
        left = list(replies)
        self.answer = lambda seen: left.pop(0) if len(left) > 1 else left[0]


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            raw, parts = self.rfile.read(length), urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(
                self.command,
                parts.path,
                query,
                headers,
                json.loads(raw) if raw else None,
                parts.query,
                time.monotonic(),
            )
            api.seen.append(seen)
            self.reply(api.answer(seen))

        do_POST = do_GET

        def reply(self, reply: Reply) -> None:
            content = reply.bytes()
            self.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: reply.keep] if reply.broken else content)
            if reply.broken:
                self.wfile.flush()
                # Without a farewell: the client sees a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                self.close_connection = True

    return Handler


@pytest.fixture
def fake_api() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.server.shutdown()
    api.server.server_close()
