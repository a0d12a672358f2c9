"""`remote check`: what a server has and what would stop a run there, on one page.

No GPU is here: a program named nvidia-smi on the server's PATH answers in the form of the real one.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_cloud import FakeSky, on_cloud
from fixtures_ssh import Far

from nlp_skills.execution.ssh.connection import Connection
from nlp_skills.execution.ssh.server import Server
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
Ready = Callable[..., TaskFolder]
ME = getpass.getuser()

SMI = """#!/bin/sh
case "$*" in
  *--query-gpu*) cat "$0.gpus" ;;
  *--query-compute-apps*) cat "$0.apps" ;;
  *) echo "| NVIDIA-SMI 550.54.15      Driver Version: 550.54.15      CUDA Version: 12.4     |" ;;
esac
"""
GPUS = """\
0, GPU-11111111-2222-3333-4444-555555555555, NVIDIA A100-SXM4-80GB, 81920, 68000, 97, 550.54.15
1, GPU-99999999-8888-7777-6666-555555555555, NVIDIA A100-SXM4-80GB, 81920, 81050, 0, 550.54.15
"""


@pytest.fixture
def gpus(serve: Callable[..., Far], tmp_path: Path) -> Callable[..., Far]:
    """A server on whose PATH nvidia-smi says this of GPUs and of who is on them."""

    def make(said: str = GPUS, apps: str = "", program: str = SMI) -> Far:
        there = tmp_path / "there"
        there.mkdir()
        (there / "nvidia-smi").write_text(program)
        (there / "nvidia-smi").chmod(0o755)
        (there / "nvidia-smi.gpus").write_text(said)
        (there / "nvidia-smi.apps").write_text(apps)
        # Without the shell's own settings, which may set another PATH.
        (there / "python3").symlink_to(sys.executable)
        return serve(SetEnv=f"HOME={there} PATH={there}:/usr/bin:/bin")

    return make


def on(far: Far, folder: TaskFolder, **execution: Any) -> TaskFolder:
    settings = {"type": "remote_ssh", "host": far.host, "workdir": str(far.workdir), **execution}
    yaml.change(folder.task_path, {("execution",): settings})
    return folder


def written(folder: TaskFolder) -> dict[Path, int]:
    """The task's files; what was found out about its data may be remembered beside them."""
    found = (path for path in folder.root.rglob("*") if path.is_file() and ".nlp-skills" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in found}


def messages(found: Any) -> list[tuple[str, str]]:
    return [(one["severity"], one["code"]) for one in found["findings"]]


def test_a_server_before_there_is_a_task_and_nothing_is_written_there(far: Far, cli: Cli) -> None:
    ran = cli("remote", "check", "--host", far.host, "--workdir", far.workdir, "--json")
    found = ran.json
    assert (ran.code, ran.err, found["ok"]) == (0, "", True)
    assert found["user"] == ME and found["address"] == f"127.0.0.1:{far.link.port}"
    assert found["skew_seconds"] == 0 and found["machine"]["cores"] >= 1
    assert found["machine"]["memory"]["free"] > 1e8 and found["machine"]["workdir"]["free"] > 1e9
    assert found["machine"]["python"]["version"].startswith("3.") and found["plan"] is None
    assert 0 < found["answer_seconds"] <= found["open_seconds"] * 10
    page = cli("remote", "check", "--host", far.host, "--workdir", far.workdir)
    assert page.code == 0 and "a run can begin there" in page.out and str(far.workdir) in page.out
    assert not far.workdir.exists()


def test_a_task_there_its_environment_and_whether_it_fits(far: Far, ready: Ready, cli: Cli) -> None:
    folder = on(far, ready())
    before = written(folder)
    ran = cli("remote", "check", folder.root, "--json")
    assert ran.code == 0, ran
    found = ran.json
    assert "torch" in found["plan"]["packages"] and found["plan"]["ready"] is False
    assert found["estimate"]["verdict"] == "fits" and found["estimate"]["machine"]["local"] is False
    page = cli("remote", "check", folder.root).out
    assert "will be made: " in page and "fits on " in page
    assert written(folder) == before
    assert not far.workdir.exists()
    folder.version("v1").config_path.unlink()
    missing = cli("remote", "check", folder.root)
    assert missing.code == 0 and "not estimated: " in missing.out


def test_gpus_who_is_on_them_and_which_are_chosen(gpus: Callable[..., Far], ready: Ready, cli: Cli) -> None:
    app = f"GPU-11111111-2222-3333-4444-555555555555, {os.getpid()}, python \x1b[31m, or so, 13300\n"
    far = gpus(apps=app)
    folder = on(far, ready(), cuda_devices="0")
    ran = cli("remote", "check", folder.root, "--json")
    assert ran.code == 0 and messages(ran.json) == [("warning", "occupied")]
    first, second = ran.json["machine"]["gpus"]
    assert (first["free"], first["driver"], ran.json["machine"]["cuda"]) == (68000 << 20, "550.54.15", "12.4")
    assert first["processes"] == [
        {"pid": os.getpid(), "user": ME, "name": "python \x1b[31m, or so", "used": 13300 << 20}
    ]
    assert ran.json["chosen"] == [0] and second["processes"] == []
    assert "A100" in ran.json["estimate"]["machine"]["name"]
    page = cli("remote", "check", folder.root).out
    assert f"GPU 0 is in use: {ME} (process {os.getpid()}) with 13.9 GB" in page
    assert 'execution.cuda_devices: "1"' in page and "\x1b" not in page
    on(far, folder, cuda_devices="GPU-9999")
    other = cli("remote", "check", folder.root, "--json").json
    assert (other["chosen"], other["findings"]) == ([1], [])


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"cuda_devices": "1,7"}, "cuda_devices names a GPU that is not there: 7"),
        ({"gpus": 4}, "execution.gpus asks for 4 GPUs, and 2 can be used there"),
    ],
)
def test_gpus_that_are_not_there(
    gpus: Callable[..., Far], ready: Ready, cli: Cli, execution: dict[str, Any], message: str
) -> None:
    ran = cli("remote", "check", on(gpus(), ready(), **execution).root)
    assert ran.code == 1 and message in ran.out and "something would stop a run there" in ran.out


def test_a_run_does_not_begin_on_gpus_that_are_not_there(gpus: Callable[..., Far], ready: Ready, cli: Cli) -> None:
    far = gpus()
    folder = on(far, ready(), cuda_devices="7")
    ran = cli("train", folder.root)
    assert ran.code == 1 and "cuda_devices names a GPU that is not there: 7" in ran.err, ran
    assert not far.workdir.exists() and not (folder.state / "jobs").exists()


def test_a_gpu_that_is_too_full(gpus: Callable[..., Far], ready: Ready, cli: Cli) -> None:
    full = GPUS.replace("81920, 68000", "81920, 20")
    ran = cli("remote", "check", on(gpus(full), ready()).root, "--json")
    assert ran.code == 1 and ("error", "memory") in messages(ran.json)
    assert ran.json["estimate"]["verdict"] == "too big"


def test_a_driver_that_does_not_answer(gpus: Callable[..., Far], cli: Cli) -> None:
    says = "#!/bin/sh\necho NVIDIA-SMI has failed because it could not talk to the driver.\nexit 9\n"
    ran = cli("remote", "check", "--host", gpus(program=says).host)
    assert ran.code == 1 and "could not talk to the driver" in ran.out


def test_a_clock_that_is_off(far: Far, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 90)
    ran = cli("remote", "check", "--host", far.host, "--workdir", far.workdir)
    monkeypatch.undo()
    assert ran.code == 0 and "the clock there is off by -" in ran.out and " s behind" in ran.out


def test_our_other_jobs_there(far: Far, ready: Ready, cli: Cli) -> None:
    folder = on(far, ready())
    with Connection(far.host) as link:
        server = Server(link, str(far.workdir))
        job = {"workdir": server.workdir, "id": "train-v1-1"}
        server.ask("start", argv=[sys.executable, "-c", "import time; time.sleep(60)"], cwd="/", env={}, **job)
        ran = cli("remote", "check", folder.root)
        assert ran.code == 0 and "other jobs of ours run there: train-v1-1" in ran.out
        refused = cli("remote", "clean", folder.root, "--yes", "--everything")
        assert refused.code == 1 and "train-v1-1" in refused.err
        server.ask("stop", now=True, **job)
    assert cli("remote", "clean", folder.root).code == 2, "nobody can be asked here"
    assert cli("remote", "clean", folder.root, "--dry-run", "--everything").code == 0
    assert far.workdir.exists()
    assert cli("remote", "clean", folder.root, "--yes", "--everything").code == 0
    assert not far.workdir.exists()


def test_a_folder_that_cannot_be_there(far: Far, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = cli("remote", "check", "--host", far.host, "--workdir", tmp_path / "file", "--json")
    assert ran.code == 1 and messages(ran.json) == [("error", "disk")]


def test_a_python_of_ones_own_that_will_not_do(gpus: Callable[..., Far], cli: Cli) -> None:
    far = gpus("")
    old = Path(far.server.folder.parent / "there" / "old")
    old.write_text("#!/bin/sh\necho 3 9 2\n")
    old.chmod(0o755)
    for python, message in (
        ("/no/such/python", "does not run there: /no/such/python"),
        ("~/old", "execution.python is 3.9.2 there, and 3.11 is needed"),
    ):
        ran = cli("remote", "check", "--host", far.host, "--python", python)
        assert ran.code == 1 and message in ran.out, ran
    assert cli("remote", "check", "--host", far.host, "--python", "~/python3").code == 0


def test_a_server_that_does_not_answer(far: Far, cli: Cli) -> None:
    far.link.cut()
    ran = cli("remote", "check", "--host", far.host)
    assert ran.code == 3 and ran.out == "" and f"{far.host} cannot be reached" in ran.err and "mend:" in ran.err
    assert "Traceback" not in ran.err and len(ran.err.splitlines()) == 3
    told = cli("remote", "check", "--host", far.host, "--json").json
    assert (told["ok"], told["exit_code"]) == (False, 3)


def test_which_server(ready: Ready, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = ready()
    local = cli("remote", "check", folder.root)
    assert local.code == 2 and "--host user@server" in local.err
    password = cli("remote", "check", "--host", "me:secret@server")
    assert password.code == 2 and "secret" not in password.err
    yaml.change(folder.task_path, {("execution",): {"type": "cloud", "provider": "aws"}})
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    without = cli("remote", "check", folder.root)
    assert without.code == 3 and "uv tool install" in without.err


def test_a_cloud_has_a_price_and_nothing_to_look_at(ready: Ready, cli: Cli, sky: FakeSky) -> None:
    sky.prices({"aws": {"A100:1": (3.25, 1.5)}})
    folder = on_cloud(ready())
    ran = cli("remote", "check", folder.root)
    price = cli("remote", "check", folder.root, "--json").json["usd_per_hour"]
    assert ran.code == 0 and f"{price:.2f} dollars an hour" in ran.out and price in (3.25, 1.5), ran
    assert sky.clusters == []
    assert cli("remote", "clean", folder.root, "--yes").code == 2
