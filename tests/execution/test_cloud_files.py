"""What SkyPilot is told, judged by the SkyPilot that people install: files, command lines, what stays at home."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_cloud import on_cloud, wanted

from nlp_skills.execution.cloud import skypilot, task_file
from nlp_skills.scaffold.ledger import Ledger
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

# Run by SkyPilot's own Python: it parses, and launches nothing.
JUDGE = """
import json, sys
import sky
from sky.client.cli import command
from sky.data import storage_utils
given = json.load(sys.stdin)
found = {"tasks": {}, "commands": [], "left_out": storage_utils.get_excluded_files(given["root"])}
for name, path in given["files"].items():
    try:
        task = sky.Task.from_yaml(path)
        one = next(iter(task.resources))
        found["tasks"][name] = {"nodes": task.num_nodes, "spot": one.use_spot, "accelerators": one.accelerators,
            "cloud": str(one.cloud), "down": one.autostop_config.down, "mounts": sorted(task.storage_mounts),
            "volumes": sorted(task.volumes or {}), "run": task.run}
    except Exception as error:
        found["tasks"][name] = {"refused": str(error)}
for words in given["commands"]:
    group, name = command.cli, words[0]
    while hasattr(group, "commands"):
        name, *words = words
        group = group.commands[name]
    group.make_context(name, list(words))
    found["commands"].append(name)
print("@" + json.dumps(found))
"""
CASES: dict[str, dict[str, Any]] = {
    "aws": {"provider": "aws/us-east-1", "gpu": "A100:8", "nodes": 2},
    "gcp": {"provider": "gcp", "gpu": "L4:1", "bucket": "gs://mine/runs"},
    "runpod": {"provider": "runpod", "gpu": "A100:1", "bucket": "volume:kept"},
    "kubernetes": {"provider": "kubernetes", "gpu": "H100:8", "spot": False, "nodes": 2},
    "slurm": {"provider": "slurm", "gpu": "H100:4", "spot": False, "nodes": 4},
    "pool": {"provider": "ssh/pool", "gpu": "RTX4090:2", "spot": False, "bucket": "s3://mine"},
    "cpu": {"provider": "aws", "gpu": None},
}


@pytest.fixture(scope="session")
def sky_python(uv: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with SkyPilot in it, and nothing of ours."""
    place = tmp_path_factory.mktemp("skypilot") / "venv"
    python = place / "bin" / "python"
    environment = {**os.environ, **uv}
    subprocess.run([uv["UV"], "venv", "-q", str(place)], env=environment, check=True)
    install = [uv["UV"], "pip", "install", "-q", "--python", str(python), "skypilot>=0.14,<0.15"]
    subprocess.run(install, env=environment, check=True)
    return python


def test_the_installed_skypilot_takes_every_file_and_command(
    ready: Callable[..., TaskFolder], sky_python: Path, tmp_path: Path
) -> None:
    folder = ready()
    version = folder.version("v1")
    # A name that would do harm in a shell, or in YAML that is glued together.
    evil = folder.root.rename(folder.root.with_name("it's $(touch x); {a: b} #"))
    folder, version = TaskFolder.at(evil), TaskFolder.at(evil).version("v1")
    files = {}
    for name, execution in CASES.items():
        files[name] = str(tmp_path / f"{name}.yaml")
        Path(files[name]).write_text(task_file.text(folder, version, wanted(**execution)))
    files["typo"] = str(tmp_path / "typo.yaml")
    Path(files["typo"]).write_text(Path(files["aws"]).read_text().replace("accelerators:", "acelerators:"))
    (folder.root / ".skyignore").write_text(task_file.IGNORED)
    secret = [".env", ".env.local", ".nlp-skills/x", "models/checkpoints/v1/x", "versions/v1/run/status.json"]
    for name in [*secret, "data/train.jsonl", "models/adapter/v1/x", ".venv/x"]:
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text("x")
    commands = [
        skypilot.launch_command(
            task_file.path(version), "nlp-x", "train-v1-0", {"NLP_SKILLS_ARGUMENTS": '["--again"]'}
        ),
        skypilot.state_command("nlp-x"),
        skypilot.queue_command("nlp-x"),
        skypilot.log_command("nlp-x", 1),
        skypilot.down_command("nlp-x"),
        skypilot.price_command(wanted()),
    ]
    given = json.dumps({"root": str(folder.root), "files": files, "commands": commands})
    (tmp_path / "nlp").mkdir()
    done = subprocess.run(
        [str(sky_python), "-c", JUDGE], input=given, capture_output=True, text=True, check=False, cwd=folder.root,
        env={**os.environ, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    judged = json.loads(done.stdout.rpartition("@")[2])
    tasks = judged["tasks"]
    assert "did you mean 'accelerators'" in tasks.pop("typo")["refused"]
    assert not [found for found in tasks.values() if "refused" in found], tasks
    assert all(found["down"] for found in tasks.values()), "every machine goes away by itself"
    aws, slurm = tasks["aws"], tasks["slurm"]
    assert (aws["nodes"], aws["spot"], aws["accelerators"], aws["cloud"]) == (2, True, {"A100": 8}, "AWS")
    assert aws["mounts"] == [task_file.BUCKET] and (slurm["cloud"], slurm["nodes"]) == ("Slurm", 4)
    assert tasks["runpod"]["volumes"] == [task_file.BUCKET] and tasks["pool"]["mounts"] == [task_file.BUCKET]
    assert judged["commands"] == ["launch", "status", "queue", "logs", "down", "list"]
    left_out = set(judged["left_out"])
    assert {".env", ".env.local", ".nlp-skills", ".venv", "models/checkpoints", "versions/v1/run"} <= left_out
    assert not {name for name in left_out if name.startswith(("data", "models/adapter"))}


def test_the_file_follows_the_task_until_a_person_changes_it(ready: Callable[..., TaskFolder]) -> None:
    folder = on_cloud(ready())
    version = folder.version("v1")
    place = task_file.path(version)
    assert task_file.put(folder, version, wanted()) == "written"
    assert task_file.put(folder, version, wanted(nodes=2)) == "refreshed"
    assert yaml.read(place).data["num_nodes"] == 2
    place.write_text(place.read_text().replace("idle_minutes: 30", "idle_minutes: 5"))
    assert task_file.put(folder, version, wanted(nodes=3)) == "kept"
    assert "idle_minutes: 5" in place.read_text() and "num_nodes: 3" in Path(f"{place}.new").read_text()
    assert Ledger(folder.root).is_ours(".skyignore")
