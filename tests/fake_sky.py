"""A fake of SkyPilot's program `sky`, for tests: it rents nothing and talks to no cloud.

It takes the commands that sky 0.14 takes, prints JSON of the same shape, writes the same description of a cluster for
ssh, and runs a task's `run:` on this machine, in a folder that stands for the rented machine's disk. It makes no
environment (`setup:`): a link to this one stands in its place. Its state is in the folder that FAKE_SKY names.
"""

from __future__ import annotations

import argparse
import fnmatch
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nlp_skills.schema import yaml

ROOT = Path(os.environ.get("FAKE_SKY", "."))


def main(words: list[str]) -> int:
    with open(ROOT / "commands", "a", encoding="utf-8") as stream:
        stream.write(json.dumps(words) + "\n")
    if words == ["--version"]:
        print("skypilot, version 0.14.1")
        return 0
    if words[:2] == ["gpus", "list"]:
        return gpus(words[2:])
    return {"launch": launch, "status": status, "queue": queue, "down": down, "logs": logs}[words[0]](words[1:])


def parsed(words: list[str], *options: tuple[Any, ...], **settings: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for names, action in options:
        parser.add_argument(*names, **action)
    return parser.parse_args(words)


def cluster(name: str) -> Path:
    return ROOT / "clusters" / name


def gpus(words: list[str]) -> int:
    given = parsed(words, (["gpu"], {}), (["--infra"], {}), (["--output"], {}))
    prices = json.loads((ROOT / "prices.json").read_text())
    name, _colon, count = given.gpu.partition(":")
    price, spot = prices.get(given.infra, {}).get(given.gpu, (None, None))
    offer = {"cloud": given.infra.upper(), "instance_type": "x", "accelerator_name": name, "accelerator_count": count}
    offers = [{**offer, "price": price, "spot_price": spot, "region": "there-1"}] if price is not None else []
    print(json.dumps({name: offers} if offers else {}, indent=2))
    return 0


def launch(words: list[str]) -> int:
    flag, many = {"action": "store_true"}, {"action": "append", "default": []}
    given = parsed(
        words,
        (["--yes"], flag),
        (["--detach-run"], flag),
        (["--cluster"], {}),
        (["--name"], {}),
        (["--env"], many),
        (["file"], {"type": Path}),
    )
    task = yaml.read(given.file).data
    place = cluster(given.cluster)
    if not place.is_dir():
        (place / "home").mkdir(parents=True)
        for there, mount in task.get("file_mounts", {}).items():
            target = place / "home" / there.removeprefix("~/")
            if isinstance(mount, str):
                shutil.copytree(mount, target)
                continue
            bucket = ROOT / "buckets" / mount["name"]
            bucket.mkdir(parents=True, exist_ok=True)
            target.symlink_to(bucket)
        describe(given.cluster)
    disk = place / "sky_workdir"
    patterns = [line for line in Path(".skyignore").read_text().splitlines() if line and line[0] != "#"]
    shutil.copytree(Path(task["workdir"]), disk, ignore=ignored(Path.cwd(), patterns), dirs_exist_ok=True)
    if not (disk / ".venv").exists():
        (disk / ".venv").symlink_to(sys.prefix)
    jobs = json.loads((place / "jobs.json").read_text()) if (place / "jobs.json").exists() else []
    job = {"job_id": len(jobs) + 1, "job_name": given.name, "submitted_at": time.time(), "resources": "1x [CPU:1]"}
    env = dict(word.split("=", 1) for word in given.env)
    fixed = {"SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_IPS": "127.0.0.1"}
    fixed |= {"SKYPILOT_NUM_GPUS_PER_NODE": "0", "HOME": str(place / "home"), "SKYPILOT_TASK_ID": f"sky-{time.time()}"}
    with open(place / f"run-{job['job_id']}.log", "wb") as log:
        program = subprocess.Popen(
            ["bash", "-c", f'{task["run"]}\necho $? > "$0"', str(place / f"code-{job['job_id']}")],
            cwd=disk,
            env={**os.environ, **task["envs"], **env, **fixed},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (place / "jobs.json").write_text(json.dumps([*jobs, {**job, "pid": program.pid}]))
    print(f"Job submitted, ID: {job['job_id']}")
    return 0


def ignored(root: Path, patterns: list[str]) -> Any:
    def left_out(folder: str, names: list[str]) -> set[str]:
        found = set()
        for name in names:
            path = "/" + (Path(folder).resolve() / name).relative_to(root).as_posix()
            if any(fnmatch.fnmatch(path if line[0] == "/" else name, line) for line in patterns):
                found.add(name)
        return found

    return left_out


def describe(name: str) -> None:
    """As sky does it: a file for the cluster, and a line in ~/.ssh/config that includes all of them."""
    folder = Path.home() / ".sky" / "generated" / "ssh"
    folder.mkdir(parents=True, exist_ok=True)
    port = (ROOT / "port").read_text()
    (folder / name).write_text(
        f"# Added by sky (use `sky stop/down {name}` to remove)\nHost {name}\n  HostName 127.0.0.1\n"
        f"  User {getpass.getuser()}\n  IdentityFile {Path.home() / '.ssh' / 'id_ed25519'}\n  IdentitiesOnly yes\n"
        f"  StrictHostKeyChecking no\n  UserKnownHostsFile=/dev/null\n  GlobalKnownHostsFile=/dev/null\n"
        f"  Port {port}\n  SetEnv SKYPILOT_CLUSTER_NAME={name}\n\n"
    )
    config = Path.home() / ".ssh" / "config"
    line = f"# Added by SkyPilot for ssh config of all clusters\nInclude {folder}/*\n"
    before = config.read_text() if config.exists() else ""
    if line not in before:
        config.write_text(f"{line}\n{before}")


def status(words: list[str]) -> int:
    given = parsed(words, (["--refresh"], {"action": "store_true"}), (["name"], {}), (["--output"], {}))
    there = cluster(given.name).is_dir()
    if not there:
        print(f"Cluster(s) not found: \x1b[1m{given.name}\x1b[0m.")
    print(
        json.dumps([{"name": given.name, "status": "UP", "autostop": 30, "to_down": True}] if there else [], indent=2)
    )
    return 0


def queue(words: list[str]) -> int:
    given = parsed(words, (["name"], {}), (["--output"], {}))
    print(f"Fetching job queue for: {given.name}")
    place = cluster(given.name)
    jobs = json.loads((place / "jobs.json").read_text()) if (place / "jobs.json").exists() else []
    for job in jobs:
        code = place / f"code-{job['job_id']}"
        ended = code.exists()
        job["status"] = "RUNNING" if not ended else "SUCCEEDED" if code.read_text().strip() == "0" else "FAILED"
    print(json.dumps({given.name: jobs} if place.is_dir() else {}, indent=2))
    return 0


def logs(words: list[str]) -> int:
    print((cluster(words[-2]) / f"run-{words[-1]}.log").read_text()[-2000:])
    return 0


def down(words: list[str]) -> int:
    given = parsed(words, (["--yes"], {"action": "store_true"}), (["name"], {}))
    if not cluster(given.name).is_dir():
        print(f"Cluster(s) not found: {given.name}.")
        return 0
    take_back(given.name)
    print(f"Terminating cluster {given.name}...done.")
    return 0


def take_back(name: str) -> None:
    """The machine's processes end, and its disk is gone; what is in buckets stays."""
    place = cluster(name)
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if (one / "cwd").readlink().is_relative_to(place):
                os.kill(int(one.name), signal.SIGKILL)
        except OSError:
            continue
    for _attempt in range(50):
        shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            break
        time.sleep(0.1)
    (Path.home() / ".sky" / "generated" / "ssh" / name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
