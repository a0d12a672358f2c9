"""A small web site of our own on loopback: a real server, whose pages, rules and moods a test sets."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What the server says to one path. `wait` is in seconds."""

    body: bytes
    type: str = HTML
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0


def page(title: str, *body: str, head: str = "") -> str:
    return f"<!doctype html><html><head><title>{title}</title>{head}</head><body>{''.join(body)}</body></html>"


def review(text: str, label: str) -> str:
    return f'<div class="review" data-label="{label}"><p>{text}</p></div>'


class Site:
    """The pages by path, and what was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.moods: dict[str, list[Answer]] = {}
        self.asked: list[tuple[float, str]] = []
        self.agents: set[str] = set()
        self.address = ""

    def put(self, path: str, body: str | bytes, *, kind: str = HTML, status: int = 200, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = Answer(content, kind, status, named)

    def slow(self, path: str, seconds: float) -> None:
        found = self.answers[path]
        self.answers[path] = Answer(found.body, found.type, found.status, found.headers, seconds)

    def first(self, path: str, *statuses: int, **headers: str) -> None:
        """Answer these statuses first, then as usual."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.moods[path] = [Answer(b"<p>not now", HTML, status, named) for status in statuses]

    def robots(self, text: str) -> None:
        self.put("/robots.txt", text, kind="text/plain")

    @property
    def paths(self) -> list[str]:
        """Every path that was asked for, in order."""
        return [path for _time, path in self.asked]

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.paths)

    def gaps(self) -> list[float]:
        """Seconds between one request and the next."""
        times = [at for at, _path in self.asked]
        return [later - earlier for earlier, later in pairwise(times)]

    def forget(self) -> None:
        self.asked.clear()


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port of this machine."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # the head and the body of an answer leave together

        def do_GET(self) -> None:
            site.asked.append((time.monotonic(), self.path))
            site.agents.add(self.headers.get("User-Agent", ""))
            missing = Answer(b"<title>Not here</title>", HTML, 404)
            mood = site.moods.get(self.path)
            answer = mood.pop(0) if mood else site.answers.get(self.path, missing)
            time.sleep(answer.wait)
            try:
                self.send_response(answer.status)
                if answer.type:
                    self.send_header("Content-Type", answer.type)
                self.send_header("Content-Length", str(len(answer.body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
