"""Machines as SkyPilot rents them, played on this one: what it would run there is run here, with its variables."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nlp_skills.execution.cloud import task_file
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Execution
from nlp_skills.workspace.folder import TaskFolder

AWS = {"type": "cloud", "provider": "aws", "gpu": "A100:1", "spot": True}


def on_cloud(folder: TaskFolder, **execution: object) -> TaskFolder:
    """The task, to be trained on rented machines."""
    yaml.change(folder.task_path, {("execution",): {**AWS, **execution}})
    return folder


class Rented:
    """One machine: a disk of its own with a copy of the task, and the bucket where it is mounted.

    `start` runs the `run:` of the task's file with the variables that SkyPilot sets, in a session of its own.
    """

    def __init__(self, disk: Path, folder: TaskFolder, bucket: Path) -> None:
        self.disk, self.bucket = disk, bucket
        self.workdir = disk / "nlp-skills"
        self.sky_workdir = disk / "sky_workdir"
        wanted = folder.task().execution
        text = task_file.text(folder, folder.version("v1"), wanted)
        self.file = yaml.loads(text, task_file.path(folder.version("v1"))).data
        ignored = shutil.ignore_patterns(".nlp-skills", ".venv", "checkpoints", "run")
        shutil.copytree(folder.root, self.sky_workdir, ignore=ignored)
        (self.sky_workdir / ".venv").symlink_to(sys.prefix)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> TaskFolder:
        return TaskFolder.at(self.sky_workdir)

    def start(self, *, number: int = 0, nodes: int = 1, **more: str) -> subprocess.Popen[bytes]:
        given = {
            **os.environ,
            **self.file["envs"],
            "NLP_SKILLS_BUCKET": str(self.bucket),
            "NLP_SKILLS_WORKDIR": str(self.workdir),
            "NLP_SKILLS_MODELS": "{}",
            "SKYPILOT_NODE_RANK": str(number),
            "SKYPILOT_NUM_NODES": str(nodes),
            "SKYPILOT_NODE_IPS": "\n".join(["127.0.0.1"] * nodes),
            "SKYPILOT_NUM_GPUS_PER_NODE": "0",
            **more,
        }
        with open(self.disk / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", self.file["run"]],
                cwd=self.sky_workdir,
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def log(self) -> str:
        return (self.disk / "log").read_text()

    def lose(self) -> None:
        """The provider takes the machine back: every process of it ends, and its disk is gone."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        shutil.rmtree(self.disk)

    def processes(self) -> Iterator[int]:
        """Those that work in its task folder."""
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if Path(os.readlink(place / "cwd")).is_relative_to(self.disk):
                    yield int(place.name)


def wanted(**execution: object) -> Execution:
    return Execution.model_validate({**AWS, **execution})
