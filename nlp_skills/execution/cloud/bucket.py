"""What outlives a machine: its newest checkpoints and its results, as folders of a bucket, each whole or of no use.

A bundle is a folder with files by their paths in the task, and a list of them with their hashes that is written last
(whole-N.json, N the number of the node). A bucket that is mounted knows neither renaming nor appending; a file that
was cut off does not match its hash. Each node adds what only it has, such as its own processes' random state.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

KEPT = 2
_RESULTS = "results"
# What each process of a training writes for itself, on whichever machine it is.
_OF_A_PROCESS = re.compile(r"rng_state_\d+\.pth\Z|_rank_\d+")
_LATE = (runs.COMPLETE, "status.json", "model_info.json")


@dataclass(frozen=True)
class Bucket:
    """The folder of one version in the bucket, as node `number` of `nodes` uses it."""

    place: Path
    folder: TaskFolder
    version: VersionFolder
    number: int = 0
    nodes: int = 1

    def keep_checkpoint(self) -> Path | None:
        """Copy the newest whole checkpoint and the run's records, if they are not there yet; the two newest stay."""
        newest = runs.last_checkpoint(self.version.checkpoints)
        if newest is None or (self.place / newest.name / self._list).is_file():
            return None
        found: list[Path] = [path for path in newest.rglob("*") if path.is_file()]
        if self.number:
            found = [path for path in found if _OF_A_PROCESS.search(path.name)]
        else:
            found += [*_files(self.version.run), *_files(self.version.lineage_path)]
        if not self._keep(newest.name, found):
            return None
        if not self.number:
            self._forget_old()
        return newest

    def keep_results(self) -> None:
        """Copy the trained model and what was recorded of it. Checkpoints are of no use then."""
        version = self.version
        found = [*_files(version.adapter), *_files(version.merged)]
        found += [path for path in _files(version.root) if path != version.config_path]
        if self._keep(_RESULTS, found):
            for bundle in self._checkpoints():
                shutil.rmtree(bundle, ignore_errors=True)

    def restore(self) -> str | None:
        """Put in place what is whole there and further than what is here; returns the bundle's name."""
        here = runs.last_checkpoint(self.version.checkpoints)
        step = runs.checkpoint_step(here) if here else -1
        for bundle in [self.place / _RESULTS, *self._checkpoints()]:
            further = bundle.name == _RESULTS or runs.checkpoint_step(bundle) > step
            if further and (listed := _whole(bundle)) is not None:
                self._put_in_place(bundle, listed)
                self._settle()
                return bundle.name
        return None

    def forget(self) -> None:
        """Remove everything: the version is trained anew."""
        for bundle in [self.place / _RESULTS, *self._checkpoints()]:
            shutil.rmtree(bundle, ignore_errors=True)

    @property
    def _list(self) -> str:
        return f"whole-{self.number}.json"

    def _checkpoints(self) -> list[Path]:
        return sorted(self.place.glob("checkpoint-*"), key=runs.checkpoint_step, reverse=True)

    def _keep(self, name: str, paths: Iterable[Path]) -> bool:
        """Copy files into a bundle; false where one of them went away meanwhile, as old checkpoints do."""
        bundle, listed = self.place / name, {}
        bundle.mkdir(parents=True, exist_ok=True)
        for path in paths:
            relative = path.relative_to(self.folder.root).as_posix()
            try:
                listed[relative] = _copy(path, bundle / relative)
            except FileNotFoundError:
                return False
        _write_json(bundle / self._list, {"nodes": self.nodes, "files": listed})
        return True

    def _forget_old(self) -> None:
        whole = [bundle for bundle in self._checkpoints() if (bundle / "whole-0.json").is_file()]
        for bundle in whole[KEPT:]:
            shutil.rmtree(bundle, ignore_errors=True)

    def _put_in_place(self, bundle: Path, listed: dict[str, str]) -> None:
        if bundle.name != _RESULTS:
            shutil.rmtree(self.version.checkpoints, ignore_errors=True)
        for relative in sorted(listed, key=lambda name: (Path(name).name in _LATE, name)):
            with (
                files.atomic_writer(files.inside(self.folder.root, relative)) as stream,
                open(bundle / relative, "rb") as source,
            ):
                shutil.copyfileobj(source, stream)

    def _settle(self) -> None:
        """The machine that the run was on is gone; nobody is to wait for its heartbeat."""
        with contextlib.suppress(Problem):
            status = self.version.status()
            if status is not None and status.state == "running":
                end = {"state": "interrupted", "message": "the machine was lost", "ended": status.updated}
                status.model_copy(update=end).save(self.version.status_path)


def _files(path: Path) -> list[Path]:
    """The files of a folder, or the file itself."""
    if path.is_file():
        return [path]
    return [found for found in path.rglob("*") if found.is_file() and not found.is_symlink()]


def _copy(path: Path, there: Path) -> str:
    """Copy a file whole; the hash of what was copied."""
    import hashlib

    digest = hashlib.sha256()
    there.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "rb") as source, open(there, "wb") as stream:
        while chunk := source.read(1 << 22):
            digest.update(chunk)
            stream.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _write_json(path: Path, content: Any) -> None:
    import json

    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _whole(bundle: Path) -> dict[str, str] | None:
    """The files of a bundle with their hashes, all of them there and right; None otherwise."""
    listed: dict[str, str] = {}
    try:
        nodes = int(files.read_json(bundle / "whole-0.json")["nodes"])
        for number in range(nodes if bundle.name != _RESULTS else 1):
            listed |= files.read_json(bundle / f"whole-{number}.json")["files"]
        if all(files.sha256_file(bundle / name) == value for name, value in listed.items()):
            return listed
    except (Problem, OSError, KeyError, TypeError, ValueError, AttributeError):
        pass
    return None
