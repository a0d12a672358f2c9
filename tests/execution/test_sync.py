"""What goes up to a server and comes down again, by a real sshd: by hash, never half, whatever is cut off."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures_ssh import Far

from nlp_skills.errors import Problem, Unavailable, Usage
from nlp_skills.execution.ssh import fetch, sync, transport
from nlp_skills.execution.ssh.connection import Connection, Unreachable
from nlp_skills.execution.ssh.server import Server
from nlp_skills.schema.remote_job import Step
from nlp_skills.workspace import mirror
from nlp_skills.workspace.folder import TaskFolder

NAMES = ["plain.py", "two words.py", 'it\'s "quoted".py', "new\nline.py", "繁體 中文.py", "-rf.py", "$(touch x);`y`.py"]


@pytest.fixture(params=["rsync", "sftp"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(transport.WANTED, request.param)
    return str(request.param)


@pytest.fixture
def task(make_task: Callable[..., Path]) -> TaskFolder:
    """A task with every kind of file that goes up, and some that never may."""
    root = make_task()
    for path, content in {
        "versions/v1/config.yaml": "base_model: base/none\nmethod: sft\n",
        "data/train.jsonl": '{"text": "a"}\n' * 9000,
        "data/valid.jsonl": "",
        "data/test.jsonl": '{"text": "b"}\n',
        "data/raw/secret-to-train.jsonl": "{}\n",
        "scripts/deep/er/tool.py": "print('1')\n",
        ".env": "TOKEN=hidden\n",
        "scripts/.git/config": "hidden\n",
        "scripts/__pycache__/tool.pyc": "hidden\n",
        "models/checkpoints/v1/checkpoint-1/weights": "hidden\n",
        "versions/v1/run/status.json": "hidden\n",
        ".nlp-skills/jobs/note": "hidden\n",
        **{f"scripts/{name}": f"# {name!r}\n" for name in NAMES},
    }.items():
        write(root / path, content.encode())
    (root / "scripts" / "plain.py").chmod(0o755)
    return TaskFolder.at(root)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@contextlib.contextmanager
def connected(far: Far) -> Iterator[Server]:
    with Connection(far.host) as link:
        yield Server(link, str(far.workdir))


def send(folder: TaskFolder, far: Far, step: Step = "train", told: list[str] | None = None) -> sync.Sent:
    with connected(far) as server:
        tell = [].append if told is None else told.append
        return sync.send(folder, server, str(far.workdir / "tasks" / "it"), version="v1", step=step, tell=tell)


def bring(folder: TaskFolder, far: Far, *patterns: str) -> fetch.Fetched:
    with connected(far) as server:
        return fetch.fetch(folder, server, str(far.workdir / "tasks" / "it"), patterns, tell=[].append)


def tree(root: Path) -> dict[str, bytes]:
    """Every file, without what is ours to keep account of."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".nlp-skills" not in path.parts
    }


def sent_of(folder: TaskFolder) -> dict[str, bytes]:
    return {
        path: content
        for path, content in tree(folder.root).items()
        if content != b"hidden\n" and path not in ("reviews.jsonl", ".env", "data/raw/secret-to-train.jsonl")
    }


def test_a_send_makes_the_mirror_and_the_next_one_sends_what_changed(task: TaskFolder, far: Far, by: str) -> None:
    told: list[str] = []
    there = far.workdir / "tasks" / "it"
    assert send(task, far, told=told).files == len(sent_of(task)) + 1  # and the mark of a mirror
    assert tree(there) == sent_of(task)
    assert os.access(there / "scripts/plain.py", os.X_OK)
    assert not os.access(there / "scripts/-rf.py", os.X_OK)
    assert len(told) == 1 and far.host in told[0]
    found = mirror.at(there)
    assert found is not None and found.of == mirror.origin(task)
    unchanged = send(task, far)
    assert (unchanged.files, unchanged.bytes) == (0, 0)

    # One changes, one goes, one is there under another name: only the first one's bytes travel.
    write(task.split("test"), b"changed\n")
    (task.root / "scripts/new\nline.py").unlink()
    shutil.copy(task.split("train"), task.root / "scripts/copy.py")
    write(there / "versions/v1/results.json", b"made there\n")
    again = send(task, far)
    assert (again.files, again.bytes) == (2, 8)
    assert tree(there) == {**sent_of(task), "versions/v1/results.json": b"made there\n"}


def test_regenerate_takes_the_sources_along(task: TaskFolder, far: Far) -> None:
    send(task, far, "regenerate")
    there = tree(far.workdir / "tasks" / "it")
    assert {"reviews.jsonl", "data/raw/secret-to-train.jsonl"} <= there.keys()
    assert ".env" not in there


def test_a_base_model_named_by_a_folder_goes_once_for_all_tasks(task: TaskFolder, far: Far, project: Path) -> None:
    model = project / "models of mine" / "tiny"
    write(model / "config.json", b"{}")
    write(model / "model.safetensors", b"w" * 300_000)
    write(model / "pytorch_model.bin", b"runs code")
    write(task.version("v1").config_path, b"base_model: models of mine/tiny\nmethod: sft\n")
    first = send(task, far)
    place = Path(first.models["models of mine/tiny"])
    assert place.parent == far.workdir / "models"
    assert tree(place) == {"config.json": b"{}", "model.safetensors": b"w" * 300_000}
    found = mirror.at(far.workdir / "tasks" / "it")
    assert found is not None and found.models == first.models
    other = TaskFolder.at(shutil.copytree(task.root, project / "other"))
    with connected(far) as server:
        again = sync.send(other, server, f"{far.workdir}/tasks/2", version="v1", step="train", tell=[].append)
    assert again.models == first.models
    assert again.bytes < 300_000


def test_links_out_of_the_task_are_refused_by_name(task: TaskFolder, far: Far, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", b"not the task's\n")
    (task.root / "scripts" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Usage, match="leads out of the task folder") as caught:
        send(task, far)
    assert caught.value.file == str(task.root / "scripts" / "link")
    assert not (far.workdir / "tasks").exists()


def test_what_was_made_there_comes_back(task: TaskFolder, far: Far, by: str) -> None:
    send(task, far)
    there = far.workdir / "tasks" / "it"
    made = {
        "models/adapter/v1/adapter_model.safetensors": random.Random(1).randbytes(3_000_000),
        "models/adapter/v1/adapter_config.json": b"{}\n",
        "versions/v1/results.json": b"{}\n",
        "versions/v1/predictions.jsonl": b"\xe6\xad\xa3\n" * 30_000,
    }
    for path, content in made.items():
        write(there / path, content)
    write(there / "versions/v1/other.json", b"nobody asked")
    write(task.root / "models/adapter/v1/left.json", b"of an earlier training")
    patterns = ("models/adapter/v1/**", "versions/v1/results.json", "versions/*/predictions.jsonl")
    before = tree(task.root)
    came = bring(task, far, *patterns)
    assert (came.files, came.bytes) == (4, sum(map(len, made.values())) - 3)  # two are the same three bytes
    del before["models/adapter/v1/left.json"]
    assert tree(task.root) == before | made
    assert bring(task, far, *patterns).files == 0
    assert not (task.state / "incoming").exists()
    assert not (there / ".nlp-skills" / "outgoing").exists()
