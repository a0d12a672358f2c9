"""A server over a real SSH link: the agent gets there once, jobs outlive the link."""

from __future__ import annotations

import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_ssh import Far

from nlp_skills.errors import Problem
from nlp_skills.execution.ssh.connection import Connection, Unreachable
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


def refused(host: str, workdir: Path | str | None) -> Problem:
    """How a server is refused when the agent is to answer."""
    with pytest.raises(Problem) as told, Connection(host) as link:
        Server(link, str(workdir) if workdir else None).ask("jobs", workdir="/")
    assert told.value.exit_code == 3 and told.value.mend and not isinstance(told.value, Unreachable), told.value
    return told.value


def test_what_is_asked_first_writes_nothing_there(server: Server, far: Far) -> None:
    assert server.workdir == str(far.workdir) and Path(server.home).is_dir() and Path(server.python).is_absolute()
    assert server.glance("jobs", "jobs", workdir=server.workdir) == {"jobs": []}
    assert server.glance("probe", "probe", workdir=server.workdir)["workdir"]["exists"] is False
    assert not far.workdir.exists()


@pytest.mark.parametrize("wanted", ["~/deep/er", "deep/er", None])
def test_a_workdir_in_the_home_there(serve: Callable[..., Far], tmp_path: Path, wanted: str | None) -> None:
    own = serve(SetEnv=f"HOME={tmp_path / 'their-home'}")
    (tmp_path / "their-home").mkdir()
    with Connection(own.host) as link:
        found = Server(link, wanted)
        assert found.workdir == f"{tmp_path}/their-home/{'deep/er' if wanted else 'nlp-skills'}"
        assert found.ask("jobs", workdir=found.workdir) == {"jobs": []}
        assert Path(found.agent).is_relative_to(found.workdir)


def test_an_agent_that_was_half_sent_is_sent_again(server: Server) -> None:
    path = Path(server.agent)
    path.write_bytes(path.read_bytes()[:1000])
    again = Server(server.link, server.workdir)
    assert again.ask("jobs", workdir=again.workdir) == {"jobs": []}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_no_python_and_one_that_is_too_old(serve: Callable[..., Far], tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    own = serve(SetEnv=f"HOME={tmp_path} PATH={bare}")
    told = refused(own.host, tmp_path / "far")
    assert told.message == f"{own.host} has no Python 3.8 or later" and "not found" in str(told.cause)
    # No release before 3.8 is to be had here; this one only says that it is.
    old = "import sys; sys.version_info = (3, 6, 9); exec(sys.stdin.read())"
    (bare / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{old}"\n')
    (bare / "python3").chmod(0o755)
    assert "python3 is 3.6.9" in str(refused(own.host, tmp_path / "far").cause)
    with Connection(own.host) as link:
        found = Server(link, str(tmp_path / "far"), python=sys.executable)
        assert found.ask("jobs", workdir=found.workdir) == {"jobs": []}


def test_a_workdir_that_cannot_be(far: Far, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = refused(far.host, tmp_path / "file")
    assert told.cause == "there is a file where our folder should be" and "execution.workdir" in str(told.mend)
    assert str(told.file).startswith(far.host)


def test_another_user_without_rights_or_a_home(far: Far, stranger: pwd.struct_passwd, tmp_path: Path) -> None:
    host = f"{stranger.pw_name}@127.0.0.1:{far.link.port}"
    (tmp_path / "mine").mkdir(mode=0o700)
    assert refused(host, tmp_path / "mine" / "far").cause == "no permission"
    home = Path(stranger.pw_dir)
    away = home.rename(home.with_name(f"{home.name}-away"))
    try:
        told = refused(host, None)
        assert told.message == f"the home folder on {host} is not there"
    finally:
        away.rename(home)
    with Connection(host) as link:
        assert Server(link).workdir == f"{home}/nlp-skills"


def test_a_full_disk_leaves_no_half_agent(far: Far, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", tmp_path / "small"], check=False,
                             capture_output=True)  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        told = refused(far.host, tmp_path / "small" / "far")
        assert told.cause == "no space left on the device"
        assert not list((tmp_path / "small").rglob("*.pyz*"))
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)
