"""How quickly a task reaches a server and comes back, beside plain `rsync -a` over the same SSH; what a run elsewhere
takes beside the same run here.

    python benchmarks/remote.py [--files 10000] [--mb 256] [--rounds 3] [--only files|run]

An OpenSSH server of its own is started on loopback, so what is compared is the work at both ends and not a network.
In a round each way takes its turn, from making the connection to its end; ours also reads every byte back by hash
there, which rsync does not. `unchanged` is a second send of the same; rsync compares times and sizes for it, we
compare hashes that both ends remember. CPU seconds are of the sending side, programs it starts included. Ratios are
the median over the rounds of one round's. The run is `nlp-skills train` of a tiny model, in whole seconds of the
command, with an interpreter that has everything: `first` sends the task, the model and our own code, `again` finds
them there. Prints a table, and one JSON object as the last line. Without an SSH server here, or without rsync, it ends
with exit code 3.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RSYNC = "rsync -a"
WAYS = ("ours, rsync", "ours, sftp", RSYNC)
TASK = """\
task_name: sent
version: v1
task_type: classification
language: en
input_template: "{text}"
output_format: {type: text, schema: {label: {type: string, enum: [a, b]}}}
"""


class Spent(NamedTuple):
    """What one transfer took, in seconds."""

    wall: float
    cpu: float


class Place(NamedTuple):
    """Where a comparison is: the task here, the link, and the folder there."""

    task: Path
    host: str
    ssh: list[str]
    there: Path


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that knows one key: the host as Fabric is told, and the program as rsync is."""
    from fixtures_ssh import Sshd

    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (folder / "sshd").mkdir()
    made = Sshd(folder / "sshd")
    made.start()
    try:
        os.environ["HOME"] = str(home)
        shutil.copy(made.key, home / ".ssh" / "id_ed25519")
        known = home / ".ssh" / "known_hosts"
        known.write_text(made.known())
        options = {"UserKnownHostsFile": known, "IdentityFile": home / ".ssh" / "id_ed25519", "Port": made.port}
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        yield f"127.0.0.1:{made.port}", ["ssh", *words]
    finally:
        made.stop()


def many(task: Path, files: int) -> None:
    """Small files of text, as scripts and notes are."""
    source = random.Random(3)
    for number in range(files):
        place = task / "scripts" / f"part-{number % 50:02d}" / f"note {number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(source.randbytes(source.randrange(200, 3000)))


def big(task: Path, mb: int) -> None:
    """One file that nothing makes smaller."""
    place = task / "data" / "train.jsonl"
    place.parent.mkdir()
    with open(place, "wb") as stream:
        for seed in range(mb):
            stream.write(random.Random(seed).randbytes(1 << 20))


def spent(work: Callable[[], object]) -> Spent:
    def cpu() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    began, before = time.perf_counter(), cpu()
    work()
    return Spent(time.perf_counter() - began, cpu() - before)


def ours(place: Place, transport: str, *, down: bool = False) -> None:
    from nlp_skills.execution.ssh import fetch, sync
    from nlp_skills.execution.ssh.connection import Connection
    from nlp_skills.execution.ssh.server import Server
    from nlp_skills.workspace.folder import TaskFolder

    os.environ["NLP_SKILLS_TRANSPORT"] = transport
    folder = TaskFolder.at(place.task)
    with Connection(place.host) as link:
        far = Server(link, str(place.there.parent))
        if down:
            fetch.fetch(folder, far, str(place.there), ["data/train.jsonl"], tell=_silent)
        else:
            sync.send(folder, far, str(place.there), version="v1", step="train", tell=_silent)


def _silent(_text: str) -> None:
    pass


def rsync(place: Place, *, down: bool = False) -> None:
    import shlex

    there = f"{place.host.partition(':')[0]}:{place.there}"
    one = [f"{there}/data/train.jsonl", f"{place.task}/data/"] if down else [f"{place.task}/", f"{there}/"]
    place.there.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rsync", "-a", "-e", shlex.join(place.ssh), *one], check=True)


def transfer(way: str, place: Place, *, down: bool = False) -> Spent:
    if way == RSYNC:
        return spent(lambda: rsync(place, down=down))
    return spent(lambda: ours(place, way.rpartition(" ")[2], down=down))


def turn(
    way: str, fill: Callable[[Path], None], folder: Path, host: str, ssh: list[str], *, back: bool
) -> dict[str, Spent]:
    """One way's turn: up, up again, and (for one big file) down to where it is not."""
    task = folder / "task"
    (task / "versions" / "v1").mkdir(parents=True)
    (task / "task.yaml").write_text(TASK)
    (task / "versions" / "v1" / "config.yaml").write_text("base_model: none/none\nmethod: sft\n")
    fill(task)
    place = Place(task, host, ssh, folder / "far" / "task")
    time.sleep(2.1)  # what is younger is hashed again, by design
    took = {"up": transfer(way, place)}
    time.sleep(2.1)
    transfer(way, place)
    took["unchanged"] = transfer(way, place)
    if back:
        (task / "data" / "train.jsonl").unlink()
        took["down"] = transfer(way, place, down=True)
    shutil.rmtree(folder)
    return took


def compare(folder: Path, fill: Callable[[Path], None], rounds: int, *, back: bool = False) -> dict[str, Any]:
    """Seconds of each way (medians), and ours over rsync's."""
    with server(folder) as (host, ssh):
        taken = [
            {way: turn(way, fill, folder / f"{number}-{index}", host, ssh, back=back)
             for index, way in enumerate(WAYS)}
            for number in range(rounds)
        ]  # fmt: skip
    figures: dict[str, Any] = {}
    for stage in taken[0][RSYNC]:
        for way in WAYS:
            figures[f"{stage}, {way}"] = {
                "s": round(statistics.median(one[way][stage].wall for one in taken), 3),
                "cpu_s": round(statistics.median(one[way][stage].cpu for one in taken), 3),
                "x": round(statistics.median(one[way][stage].wall / one[RSYNC][stage].wall for one in taken), 2),
            }
    return figures


RUN_TASK = (
    TASK
    + """\
execution: {execution}
"""
)
RUN_CONFIG = {"epochs": 4, "batch_size": 8, "lora": {"r": 8, "alpha": 16}, "max_length": 128, "seed": 3}
HERE, ELSEWHERE = "here", "elsewhere"


def run(task: Path, *options: str) -> float:
    """Seconds of `nlp-skills train`, from its start until it has said how it went."""
    command = [sys.executable, "-m", "nlp_skills.cli.main", "train", str(task), *options]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def run_task(root: Path, base: Path, execution: str) -> Path:
    """A task that is ready to train on the tiny model."""
    from conftest import LABELS, reviews, write_rows

    root.mkdir(parents=True)
    (root / "task.yaml").write_text(
        RUN_TASK.replace("[a, b]", f"[{', '.join(LABELS)}]").replace("{execution}", execution)
    )
    (root / "data_source.yaml").write_text("sources: [{type: file_import, name: rows, path: rows.jsonl}]\n")
    for name, rows in (("train", reviews(200)), ("valid", reviews(20, 200)), ("test", reviews(20, 220))):
        write_rows(root / "data" / f"{name}.jsonl", rows)
    (root / "versions" / "v1").mkdir(parents=True)
    (root / "versions" / "v1" / "config.yaml").write_text(json.dumps({"base_model": str(base), **RUN_CONFIG}))
    return root


def overhead(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of a run here and elsewhere, the first time and again (medians), and how much longer it takes there."""
    import tiny

    os.environ.update(NLP_SKILLS_DETERMINISTIC="1", HF_HUB_OFFLINE="1", NLP_SKILLS_LANG="en")
    base, taken = tiny.build(folder / "base"), []
    with server(folder) as (host, _ssh):
        for number in range(rounds):
            far = {
                "type": "remote_ssh",
                "host": host,
                "python": sys.executable,
                "workdir": str(folder / f"far{number}"),
            }
            one = {}
            for place, execution in ((HERE, {"type": "local"}), (ELSEWHERE, far)):
                task = run_task(folder / f"{place}{number}", base, json.dumps(execution))
                one[place] = {"first": run(task), "again": run(task, "--again")}
            taken.append(one)
    return {
        f"{when}, {place}": {
            "s": round(statistics.median(one[place][when] for one in taken), 2),
            "more_s": round(statistics.median(one[place][when] - one[HERE][when] for one in taken), 2),
        }
        for when in ("first", "again")
        for place in (HERE, ELSEWHERE)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--mb", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["files", "run"])
    chosen = parser.parse_args()
    for name in ("rsync", "ssh"):
        if not shutil.which(name):
            print(f"no {name} here", file=sys.stderr)
            return 3
    if not (shutil.which("sshd") or Path("/usr/sbin/sshd").exists()):
        print("no SSH server here", file=sys.stderr)
        return 3
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.only != "run":
            found[f"{chosen.files} small files"] = compare(
                folder / "many", lambda task: many(task, chosen.files), chosen.rounds
            )
            found[f"one file of {chosen.mb} MB"] = compare(
                folder / "big", lambda task: big(task, chosen.mb), chosen.rounds, back=True
            )
        if chosen.only != "files":
            (folder / "run").mkdir()
            found["a run"] = overhead(folder / "run", chosen.rounds)
    print(f"medians of {chosen.rounds}, load {load:.2f}; x: over rsync -a, more: than the same here, in the same round")
    for title, figures in found.items():
        print(title)
        for name, one in figures.items():
            if "x" in one:
                print(f"  {name:<26}{one['s']:9.3f} s {one['cpu_s']:8.3f} CPU s {one['x']:7.2f} x")
            else:
                print(f"  {name:<26}{one['s']:9.2f} s {one['more_s']:8.2f} s more")
    print(json.dumps({**found, "rounds": chosen.rounds, "load": [round(load, 2), round(os.getloadavg()[0], 2)]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
