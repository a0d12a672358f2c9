"""Whatever happens to the link, the server, its disk or this computer: one run, whole, and every end has a name."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, reviews
from fixtures_ssh import Far, Sshd
from test_elsewhere import SHORT, bits, client, kept, send_to, until

from nlp_skills.schema import yaml
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
Cli = Callable[..., Ran]
LONG = {**SHORT, "epochs": 12}
ENDLESS = {**SHORT, "epochs": 1000}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[None]:
    yield
    for path in tmp_path.glob("*/jobs/*/keeper.json"):
        if not (path.parent / "exit.json").exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(json.loads(path.read_text())["group"], signal.SIGKILL)


def status_of(folder: TaskFolder) -> RunStatus:
    status = folder.version("v1").status()
    assert status is not None
    return status


def keeper(far: Far, folder: TaskFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((far.workdir / "jobs" / kept(folder).id / "keeper.json").read_text())
    return found


def half_written(folder: TaskFolder) -> list[Path]:
    """Temporary files outside our own folder for what comes in."""
    return [path for path in folder.root.rglob(".*.tmp") if ".nlp-skills" not in path.parts]


def test_cut_twenty_times_and_killed_four_times_it_ends_in_the_same_bits(ready: Ready, far: Far, cli: Cli) -> None:
    folder = ready(**LONG)
    assert cli("train", folder.root).code == 0
    here = bits(folder)
    folder.root.rename(folder.root.with_name("local"))
    folder = ready(**LONG)
    send_to(folder, far)
    chance, cuts, clients = random.Random(7), 0, [client("train", folder.root)]
    far.link.limit = 60_000  # in the middle of what is sent
    until(lambda: not far.link.up)
    far.link.mend()
    while clients[-1].poll() is None:
        time.sleep(chance.uniform(0.1, 1.2))
        far.link.cut()
        cuts += 1
        if cuts in (3, 7, 12, 17):
            os.killpg(clients[-1].pid, signal.SIGKILL)
        time.sleep(chance.uniform(0.0, 0.3))
        far.link.mend()
        if cuts in (3, 7, 12, 17):
            clients[-1].communicate()
            clients.append(client("train", folder.root))
        if cuts == 9:  # two look at one run
            clients.insert(0, client("train", folder.root))
        if cuts >= 20:
            break
    out, err = clients[-1].communicate(timeout=200)
    assert clients[-1].returncode == 0, err
    assert "v1 is trained" in out
    if clients[0].poll() is None:
        clients[0].communicate(timeout=60)
    assert [path.name for path in (far.workdir / "jobs").iterdir()] == [kept(folder).id]
    assert kept(folder).state == "fetched"
    assert bits(folder) == here
    assert not half_written(folder)
    lineage = folder.version("v1").lineage()
    assert lineage is not None and lineage.run is not None and lineage.run.state == "completed"
    assert [(move.from_, move.to) for move in folder.task().history] == [
        ("configuring", "training"),
        ("training", "evaluating"),
    ]
    log = folder.version("v1").output_path.read_text()
    assert log.count("one row as the model sees it") == 1 and log.count("v1 is trained") == 1
    assert cuts >= 20, "it was over before it was cut as often as was wanted"


def test_it_goes_on_alone_and_stops_resumes_and_dies_by_name(
    ready: Ready, furnished: Far, cli: Cli, tmp_path: Path
) -> None:
    far = furnished
    folder = ready(**ENDLESS)
    send_to(folder, far)
    version = folder.version("v1")
    begun = cli("train", folder.root, "--detach", "--json")
    assert begun.code == 0, begun
    assert begun.json["state"] == "running" and begun.json["job"]["place"] == far.host
    assert folder.task().status == "training"
    until(lambda: cli("status", folder.root, "--json").json["run"]["step"] >= 1)
    assert cli("new-version", folder.root, "--to", "v1").code != 0
    # The link is gone, and comes back: what is known stays, with the cause.
    far.link.cut()
    until(lambda: "last heard of" in (told := cli("status", folder.root).out) and "cannot be reached" in told)
    far.link.mend()
    # Another key is shown all of a sudden.
    known = far.known.read_text()
    other = Sshd(tmp_path)
    far.known.write_text(other.known(far.link.port))
    refused = cli("train", folder.root)
    assert refused.code == 3 and "the key" in refused.err and "ssh-keygen -f" in refused.err
    far.known.write_text(known)
    # Another place is named while it runs.
    where = folder.task_path.read_text()
    yaml.change(folder.task_path, {("execution", "type"): "local"})
    elsewhere = cli("train", folder.root)
    assert elsewhere.code == 1 and f"goes on on {far.host}" in elsewhere.err
    folder.task_path.write_text(where)
    read = subprocess.Popen([sys.executable, "-m", "nlp_skills.cli.main", "logs", str(folder.root), "-f"],
                            text=True, stdout=subprocess.PIPE)  # fmt: skip
    stopped = cli("stop", folder.root, "--json")
    assert stopped.code == 0 and stopped.json["state"] == "interrupted", stopped
    assert "stopped at step" in read.communicate(timeout=60)[0]
    assert folder.task().status == "configuring" and status_of(folder).place == far.host
    step = stopped.json["checkpoint"]
    assert step == stopped.json["step"] and not version.checkpoints.exists()
    assert cli("resume", folder.root, "--detach").code == 0
    assert status_of(folder).step >= step
    os.kill(keeper(far, folder)["program"][0], signal.SIGKILL)
    until(lambda: cli("status", folder.root, "--json").json["run"]["state"] == "dead")
    assert "memory runs out" in str(status_of(folder).message) and folder.task().status == "configuring"
    assert f"nlp-skills resume {folder.root.name}" in cli("status", folder.root).out
    # As a machine that loses its power.
    assert cli("resume", folder.root, "--detach").code == 0
    os.killpg(keeper(far, folder)["group"], signal.SIGKILL)
    until(lambda: cli("status", folder.root, "--json").json["run"]["state"] == "dead")
    assert "started anew" in str(status_of(folder).message)
    shutil.rmtree(far.workdir / "tasks")
    gone = cli("resume", folder.root)
    assert gone.code == 1 and "train it from the start" in gone.err
    assert not half_written(folder)


def test_a_full_disk_there_is_named_there_and_here(ready: Ready, far: Far, environments: Path, cli: Cli) -> None:
    if os.geteuid():
        pytest.skip("only root can mount a disk")
    far.workdir.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", far.workdir], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        shutil.copytree(environments, far.workdir, symlinks=True, dirs_exist_ok=True)
        folder = ready(**ENDLESS)
        send_to(folder, far)
        assert cli("train", folder.root, "--detach").code == 0
        fill(far.workdir / "big")
        until(lambda: cli("status", folder.root, "--json").json["run"]["state"] == "failed")
        status = status_of(folder)
        assert status.reason == "disk_full" and folder.task().status == "configuring"
        write_some(folder)
        refused = cli("train", folder.root)
        assert refused.code == 3 and "free: 0.0 MB" in refused.err and "free some space" in refused.err
    finally:
        subprocess.run(["umount", "-l", far.workdir], check=False)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while True:
            stream.write(bytes(1 << 12))


def write_some(folder: TaskFolder) -> None:
    """Something new that has to be sent."""
    with open(folder.split("train"), "a", encoding="utf-8") as stream:
        for number in range(2000):
            row = {"text": f"Order {number}: a parcel of {number * 7} parts is here.", "label": "neutral"}
            stream.write(json.dumps(row) + "\n")


SHOP = """\
sources:
  - type: database
    name: shop
    connection: ${SHOP_DB}
    query: SELECT text, label FROM reviews ORDER BY rowid
split: {train: 0.6, valid: 0.1, test: 0.3, seed: 7}
"""


@pytest.fixture
def shop(make_task: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """A task whose rows are in a database that this computer knows nothing of."""
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as base, base:
        base.execute("CREATE TABLE reviews (text TEXT, label TEXT)")
        base.executemany("INSERT INTO reviews VALUES (:text, :label)", reviews(120))

    def make(name: str) -> Path:
        root = make_task(name)
        (root / "data_source.yaml").write_text(SHOP)
        return root

    return make


def test_what_cannot_be_reached_begins_nothing(shop: Callable[[str], Path], far: Far, cli: Cli) -> None:
    folder = TaskFolder(shop("one"))
    send_to(folder, far, host=f"nobody-here@127.0.0.1:{far.link.port}")
    refused = cli("regenerate", folder.root, "--json")
    assert refused.code == 3 and "ssh-copy-id" in refused.json["error"]["mend"]
    send_to(folder, far)
    known = far.known.read_text()
    far.known.write_text("")
    strange = cli("regenerate", folder.root)
    assert strange.code == 3 and "SHA256:" in strange.err and "known_hosts" in strange.err
    far.known.write_text(known)
    far.link.cut()
    assert cli("regenerate", folder.root).code == 3
    assert not list((folder.state / "jobs").glob("*"))
    assert not far.workdir.exists()


def test_data_is_made_where_its_source_is_for_two_tasks_at_once(
    shop: Callable[[str], Path], far: Far, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, *roots = [shop(name) for name in ("here", "one", "two")]
    for root in roots:
        send_to(TaskFolder(root), far)
    unset = cli("regenerate", roots[0])
    assert unset.code == 1 and f"{far.workdir}/.env" in unset.err
    (far.workdir / ".env").write_text(f"SHOP_DB=sqlite:///{tmp_path}/shop.db\n")
    both = [client("regenerate", root) for root in roots]
    cut = threading.Timer(2.0, lambda: (far.link.cut(), far.link.mend()))
    cut.start()
    for one in both:
        _out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err
    cut.join()
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{tmp_path}/shop.db")
    assert cli("regenerate", here).code == 0
    monkeypatch.delenv("SHOP_DB")
    for root in roots:
        for name in ("train", "valid", "test"):
            made = (root / "data" / f"{name}.jsonl").read_bytes()
            assert made and made == (here / "data" / f"{name}.jsonl").read_bytes()
        assert cli("validate", root).code == 0
        about = cli("status", root, "--json").json
        assert not about["stale"] and about["state"] == "configuring"
    assert "regenerate" not in cli("runs").out
