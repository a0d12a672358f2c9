"""A server over a real SSH link: the agent gets there once, jobs outlive the link."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures_ssh import Far

from nlp_skills.execution.ssh.connection import Connection
from nlp_skills.execution.ssh.server import Server


@pytest.fixture
def server(far: Far) -> Iterator[Server]:
    with Connection(far.host) as link:
        yield Server(link, str(far.workdir))


def wait_for(server: Server, name: str, state: str) -> dict[str, Any]:
    until = time.monotonic() + 30
    while (found := server.ask("poll", workdir=server.workdir, id=name))["state"] != state:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_a_job_goes_on_when_the_link_is_cut(server: Server, far: Far) -> None:
    script = "import sys, time; print('begun', flush=True); time.sleep(1); print('說完', flush=True); sys.exit(7)"
    job = {"workdir": server.workdir, "id": "a-1", "cwd": "/", "env": {"PYTHONUTF8": "1"}}
    argv = [sys.executable, "-c", script]
    assert server.ask("start", argv=argv, **job)["state"] == "running"
    far.link.cut()
    time.sleep(0.2)
    far.link.mend()
    server.link.close()
    # Sent again, it starts nothing.
    server.ask("start", argv=[sys.executable, "-c", "print('twice')"], **job)
    ended = wait_for(server, "a-1", "ended")
    assert (ended["exit_code"], ended["out"]["text"]) == (7, "begun\n說完\n")
    assert [one["id"] for one in server.ask("jobs", workdir=server.workdir)["jobs"]] == ["a-1"]
    assert server.ask("forget", workdir=server.workdir, id="a-1")["state"] == "none"


def test_a_job_that_is_killed_says_so(server: Server) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    server.ask("start", workdir=server.workdir, id="b", argv=argv, cwd="/", env={})
    assert server.ask("stop", workdir=server.workdir, id="b", now=True)["state"] == "ended"
    ended = wait_for(server, "b", "ended")
    assert (ended["exit_code"], ended["how"]) == (137, "stopped")
