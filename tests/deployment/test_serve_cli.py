"""`serve` and `deploy --to api` as programs: the port, the end, and what is left of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import Ran, reviews
from fixtures_models import USER_CACHE

from nlp_skills import files
from nlp_skills.schema.deployment import Deployment
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

ROW = {"text": reviews(1, start=400)[0]["text"]}


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _program(folder: TaskFolder, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "nlp_skills.cli.main", "serve", str(folder.root), "--port", str(port), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for _try in range(600):
            assert process.poll() is None, process.communicate()
            with suppress(httpx2.TransportError):
                if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _children(pid: int) -> list[int]:
    """A process that a thread started is that thread's child."""
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]


def _gone(pids: list[int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() and "Z" not in _state(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(servable: TaskFolder, cli: Callable[..., Ran]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        began = time.monotonic()
        done = cli("serve", str(servable.root), "--port", port)
        assert done.code == 3
        assert f"port {port}" in done.err
        assert "--port" in done.err
        assert time.monotonic() - began < 5
    assert deployments.load(servable) == []


def test_told_to_end_it_finishes_what_is_asked_and_leaves_nothing(servable: TaskFolder) -> None:
    port = _free()
    with _program(servable, port) as process:
        assert [entry.pid for entry in deployments.load(servable)] == [process.pid]
        engines = _children(process.pid)
        assert engines
        found: list[Any] = []
        body = {"model": "sentiment", "messages": [{"role": "user", "content": "go on"}], "stream": True}
        more = {"max_tokens": 1500, "ignore_eos": True}

        def ask() -> None:
            address = f"http://127.0.0.1:{port}/v1/chat/completions"
            found.append(httpx2.post(address, json={**body, **more}, timeout=60))

        slow = threading.Thread(target=ask)
        slow.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        slow.join()
        assert found[0].status_code == 200
        assert found[0].text.rstrip().endswith("data: [DONE]")
        assert process.wait(30) == 0
        assert _gone(engines)
    assert deployments.load(servable) == []


def test_engines_end_with_a_gateway_that_is_killed(servable: TaskFolder) -> None:
    with _program(servable, _free()) as process:
        engines = _children(process.pid)
        assert engines
        process.kill()
        process.wait()
        assert _gone(engines)


def test_a_key_goes_to_no_address_that_a_file_names_and_no_other_program_is_ended(
    servable: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(str(self.headers))
            self.send_error(404)

        def log_message(self, *_arguments: Any) -> None:
            pass

    monkeypatch.setenv("NLP_SKILLS_ADMIN_KEYS", "the-administrator-s")
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "serve"])
    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        entry = Deployment(target="api", name=f"http://127.0.0.1:{server.server_port}", version="v2",
                           since=files.now(), follows=True, pid=other.pid, host=socket.gethostname())  # fmt: skip
        deployments.save(servable, [entry])
        try:
            assert cli("deployments", str(servable.root)).code == 0
            assert cli("rollback", str(servable.root), "v1", "--json").json["left"]
            assert heard and "the-administrator-s" not in "".join(heard)
            assert cli("undeploy", str(servable.root), "api").code == 0
            assert other.poll() is None, "its number may be anybody's"
        finally:
            server.shutdown()
            other.kill()
            other.wait()


def test_a_version_goes_out_to_an_api_is_switched_and_taken_away(
    servable: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", USER_CACHE)
    port = _free()
    address = f"http://127.0.0.1:{port}"
    try:
        done = cli("deploy", str(servable.root), "--to", "api", "--port", port, "--json")
        assert done.code == 0, done.err
        (entry,) = deployments.load(servable)
        assert (entry.target, entry.name, entry.version, entry.follows) == ("api", address, "v2", True)
        assert httpx2.post(f"{address}/api/v1/predict", json=ROW, timeout=60).json()["version"] == "v2"
        (check,) = [one for one in servable.version("v2").parity() if one.engine == "api"]
        assert check.verdict == "met"
        again = cli("deploy", str(servable.root), "--to", "api", "--port", port, "--json")
        assert again.code == 0, again.err
        assert [one.pid for one in deployments.load(servable)] == [entry.pid]
        assert cli("rollback", str(servable.root), "v1").code == 0
        assert httpx2.get(f"{address}/readyz").json()["version"] == "v1"
        assert cli("undeploy", str(servable.root), "api").code == 0
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{address}/healthz")
        assert deployments.load(servable) == []
    finally:
        for entry in deployments.load(servable):
            with suppress(OSError):
                os.kill(entry.pid or 0, signal.SIGKILL) if entry.pid else None
