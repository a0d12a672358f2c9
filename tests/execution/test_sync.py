"""What goes up to a server and comes down again, by a real sshd: by hash, never half, whatever is cut off."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures_ssh import Far

from nlp_skills.errors import Unavailable, Usage
from nlp_skills.execution.ssh import fetch, sync, transport
from nlp_skills.execution.ssh.connection import Connection, Unreachable
from nlp_skills.execution.ssh.server import Server, archive
from nlp_skills.schema.remote_job import Step
from nlp_skills.workspace import mirror
from nlp_skills.workspace.folder import TaskFolder

NAMES = [
    "plain.py",
    "two words.py",
    'it\'s "quoted".py',
    "new\nline.py",
    "繁體 中文.py",
    "-rf.py",
    "$(touch x);`y`.py",
    os.fsdecode(b"not \xff utf-8.py"),
]

PLACE = "it's there: 那裡 $x"


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
        return sync.send(folder, server, str(far.workdir / "tasks" / PLACE), version="v1", step=step, tell=tell)


def bring(folder: TaskFolder, far: Far, *patterns: str) -> fetch.Fetched:
    with connected(far) as server:
        return fetch.fetch(folder, server, str(far.workdir / "tasks" / PLACE), patterns, tell=[].append)


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
    there = far.workdir / "tasks" / PLACE
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
    there = tree(far.workdir / "tasks" / PLACE)
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
    found = mirror.at(far.workdir / "tasks" / PLACE)
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
    there = far.workdir / "tasks" / PLACE
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


def kill_sessions(far: Far) -> None:
    """End what the server has started for us, as its memory killer or an administrator would."""
    process = far.server._process
    assert process is not None
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if entry.read_text().rpartition(")")[2].split()[1] == str(process.pid):
                os.kill(int(entry.parent.name), signal.SIGKILL)


def change(root: Path, dice: random.Random) -> None:
    """Some files come, some change, some go; small ones, large ones, and some with another one's bytes."""
    paths = [f"scripts/{name}" for name in NAMES] + [f"scripts/{one}/{two}.txt" for one in "abc" for two in "de"]
    for path in dice.sample([*paths, "data/train.jsonl", "data/test.jsonl", "scripts/weights"], 7):
        size = dice.choice([0, 1, 50, 3_000, sync.SMALL_BYTES, 900_000])
        if dice.random() < 0.15:
            (root / path).unlink(missing_ok=True)
        elif dice.random() < 0.15:
            write(root / path, (root / "data" / "valid.jsonl").read_bytes())
        else:
            write(root / path, dice.randbytes(size))


def until_done(far: Far, dice: random.Random, work: Callable[[], object], look: Callable[[], None]) -> int:
    """Try until it is done, the link cut after ever more bytes, or the server's processes killed; how many cuts."""
    for attempt in range(60):
        killer = None
        if dice.random() < 0.25:
            killer = threading.Timer(dice.random(), kill_sessions, [far])
            killer.start()
        else:
            far.link.limit = dice.randrange(4_000, 150_000 + 200_000 * attempt)
        try:
            work()
            return attempt
        except Unreachable:
            look()
        finally:
            if killer is not None:
                killer.cancel()
                killer.join()
            far.link.mend()
    raise AssertionError("it never ends")


def test_cut_at_any_byte_no_file_is_half(task: TaskFolder, far: Far, by: str) -> None:
    dice, there = random.Random(f"{by} 1"), far.workdir / "tasks" / PLACE
    adapter = {"models/adapter/v1/adapter_model.safetensors", "models/adapter/v1/adapter_config.json"}
    with connected(far) as server:
        sync.send(task, server, str(there), version="v1", step="train", tell=[].append)
        before = tree(there)
        change(task.root, dice)
        wanted = sent_of(task)

        def look_there() -> None:
            for path, content in tree(there).items():
                assert content in (before.get(path), wanted.get(path)), path

        def up() -> None:
            sync.send(task, server, str(there), version="v1", step="train", tell=[].append)

        cuts = until_done(far, dice, up, look_there)
        assert tree(there) == wanted

        for path in adapter:
            write(task.root / path, b"of an earlier training")
        old = tree(task.root)
        made = {path: dice.randbytes(dice.choice([10, 70_000, 700_000])) for path in sorted(adapter)}
        made["versions/v1/results.json"] = dice.randbytes(500)
        for path, content in made.items():
            write(there / path, content)

        def look_here() -> None:
            here = tree(task.root)
            assert all(content in (old.get(path), made.get(path)) for path, content in here.items())
            whole = [{path: state.get(path) for path in adapter} for state in (here, old, made)]
            assert whole[0] in whole[1:]

        def down() -> None:
            patterns = ["models/adapter/v1/**", "versions/*/results.json"]
            fetch.fetch(task, server, str(there), patterns, tell=[].append)

        cuts += until_done(far, dice, down, look_here)
        assert tree(task.root) == {**old, **made}
    assert cuts


def test_killed_while_putting_in_place_no_file_is_half(tmp_path: Path) -> None:
    """The agent alone, killed again and again: each path has the old bytes or the new, and the last run ends it."""
    program, root, dice = tmp_path / "agent.pyz", tmp_path / "mirror", random.Random(5)
    program.write_bytes(archive())
    new = {f"scripts/{number}": dice.randbytes(3_000) for number in range(250)}
    old = dict.fromkeys(list(new)[::2], b"old")
    for path, content in old.items():
        write(root / path, content)
    blobs = {path: hashlib.sha256(content).hexdigest() for path, content in new.items()}

    def ask(command: str, seconds: float | None = None, **given: object) -> dict[str, Any]:
        running = subprocess.Popen(
            [sys.executable, "-I", program, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if seconds is not None:
            threading.Timer(seconds, running.kill).start()
        said = running.communicate(json.dumps({"root": str(root), **given}))[0]
        return json.loads(said) if said else {}

    def install(seconds: float | None = None) -> dict[str, Any]:
        found = ask("listing", paths=list(new))["files"]
        left = {path: blob for path, blob in blobs.items() if found.get(path, [0, ""])[1] != blob}
        ask("put", blobs={blob: base64.b64encode(new[path]).decode() for path, blob in left.items()})
        files = [[path, blob, False] for path, blob in left.items()]
        return ask("install", seconds, files=files, copies={}, remove=[], sent=list(new))

    mixed = 0
    for attempt in range(8):
        said = install(0.04 + 0.02 * attempt)
        here = tree(root)
        assert all(content in (old.get(path), new[path]) for path, content in here.items())
        mixed += here != new and not said
        if said:
            break
    assert install()["missing"] == []
    assert tree(root) == new
    assert mixed


def test_a_disk_that_is_full_there_says_how_much_is_needed(task: TaskFolder, far: Far) -> None:
    far.workdir.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=60", "tmpfs", str(far.workdir)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        write(task.split("train"), random.Random(1).randbytes(5_000_000))
        with pytest.raises(Unavailable, match="no room on") as caught:
            send(task, far)
        assert caught.value.file == f"{far.host}:{far.workdir}/tasks/{PLACE}"
        assert caught.value.cause is not None and caught.value.cause.startswith("needed: 5.")
        assert not (far.workdir / "tasks").exists()
        # Room for the bytes, and none for so many files.
        write(task.split("train"), b"{}\n")
        for number in range(100):
            write(task.root / "scripts" / f"{number}.py", b"%d" % number)
        with pytest.raises(Unavailable) as caught:
            send(task, far)
        assert caught.value.cause == "no space left on the device"
        assert tree(far.workdir / "tasks").keys() <= sent_of(task).keys()
    finally:
        subprocess.run(["umount", str(far.workdir)], check=True)


def test_a_server_that_offers_what_nobody_asked_for_is_refused(task: TaskFolder, far: Far) -> None:
    (task.version("v1").run / "link").symlink_to(far.home)
    before, run = tree(task.root), "versions/v1/run"
    paths = ["../evil", "/tmp/evil", "versions/v1/../../../evil", f"{run}/../../../task.yaml", ".env", "task.yaml",
             f"{run}/.hidden", f"{run}/link/evil", f"{run}/a//b", f"{run}/nul\0", f"{run}/a/../b"]  # fmt: skip
    with connected(far) as server:
        for path in paths:
            answer = {"ok": True, "files": {path: [4, hashlib.sha256(b"evil").hexdigest()]}}
            Path(server.agent).write_text(f"print({json.dumps(answer)!r})")
            with pytest.raises(Unavailable, match="nobody asked for"):
                fetch.fetch(task, server, str(far.workdir / "it"), ["versions/*/run/**"], tell=[].append)
    assert tree(task.root) == before
    assert not list(far.home.glob("evil"))


def test_a_server_that_sends_other_bytes_than_it_listed_changes_nothing(task: TaskFolder, far: Far) -> None:
    before = tree(task.root)
    with connected(far) as server:
        listed = {"versions/v1/results.json": [4, hashlib.sha256(b"good").hexdigest()]}
        answer = {"ok": True, "files": listed}
        evil = {"ok": True, "files": {"versions/v1/results.json": base64.b64encode(b"evil").decode()}}
        Path(server.agent).write_text(
            f"import sys; print({json.dumps(evil)!r} if sys.argv[1] == 'get' else {json.dumps(answer)!r})"
        )
        with pytest.raises(Unavailable, match="did not arrive as it was listed"):
            fetch.fetch(task, server, str(far.workdir / "it"), ["versions/*/results.json"], tell=[].append)
    assert tree(task.root) == before


def test_a_file_that_changes_while_it_is_sent_is_named(task: TaskFolder, far: Far) -> None:
    growing, over = task.split("train"), threading.Event()

    def write_on() -> None:
        while not over.wait(0.001):
            with open(growing, "ab") as stream:
                stream.write(b"{}\n")

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        with pytest.raises(Unavailable, match="did not arrive as it was read") as caught:
            send(task, far)
    finally:
        over.set()
        thread.join()
    assert caught.value.file == str(growing)
    send(task, far)
    assert (far.workdir / "tasks" / PLACE / "data/train.jsonl").read_bytes() == growing.read_bytes()


def test_many_small_files(task: TaskFolder, far: Far) -> None:
    for number in range(1_200):
        write(task.root / "scripts" / str(number % 30) / f"{number}.txt", b"%d" % number)
    assert send(task, far).files == len(sent_of(task)) + 1
    assert tree(far.workdir / "tasks" / PLACE) == sent_of(task)
