"""Machines as SkyPilot rents them, played on this one: what it would run there is run here, with its variables."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures_ssh import Far, Link

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
                if (place / "cwd").readlink().is_relative_to(self.disk):
                    yield int(place.name)


def pause(disk: Path) -> None:
    """Halt what learns on a machine, so that a test is not too late to take it back; the rest of it goes on."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cwd").readlink().is_relative_to(disk):
                words = (place / "cmdline").read_bytes().split(b"\0")
                if b"train" in words:
                    os.kill(int(place.name), signal.SIGSTOP)


def wanted(**execution: object) -> Execution:
    return Execution.model_validate({**AWS, **execution})


class FakeSky:
    """A fake of SkyPilot's `sky` on the PATH (see `fake_sky`); `far` is the server that its clusters are reached by.

    `prices` are by provider and accelerator: an hour on demand, and an hour of spot, in US dollars.
    """

    def __init__(self, folder: Path, far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.far = folder, far
        programs = folder / "bin"
        programs.mkdir(parents=True)
        script = programs / "sky"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).parent / "fake_sky.py"}" "$@"\n')
        script.chmod(0o755)
        (folder / "port").write_text(str(far.link.port))
        self.prices({"aws": {"A100:1": (3.67, 1.5)}})
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_SKY", str(folder))
        # A real machine takes minutes to begin, this one a second.
        monkeypatch.setattr("nlp_skills.execution.cloud.machine._LOOK_SECONDS", 0.5)

    def prices(self, found: dict[str, dict[str, tuple[float, float]]]) -> None:
        (self.folder / "prices.json").write_text(json.dumps(found))

    def commands(self) -> list[list[str]]:
        """What it was told, in order."""
        path = self.folder / "commands"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def clusters(self) -> list[Path]:
        """The machines that are rented at this moment."""
        return sorted((self.folder / "clusters").glob("*"))

    def take_back(self) -> None:
        """The provider takes every machine back, without a word."""
        import fake_sky

        self.far.link.close()
        fake_sky.ROOT = self.folder
        for place in self.clusters:
            fake_sky.take_back(place.name)
        shutil.rmtree(self.far.workdir, ignore_errors=True)
        # The next machine has another address.
        self.far.link = Link(self.far.server.port)
        (self.folder / "port").write_text(str(self.far.link.port))


@pytest.fixture
def sky(tmp_path: Path, far: Far, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSky]:
    """A fake of SkyPilot's program, first on the PATH."""
    found = FakeSky(tmp_path / "fake sky", far, monkeypatch)
    yield found
    found.take_back()
