"""The place where a curve's points are made: `.nlp-skills/learning-curve/VERSION/`, whole small tasks one at a time.

Answers of points that are done stay there until the curve is; the models that gave them do not. A curve of other data
or settings starts anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.learning_curve.outlook import Trained
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.training import Config
from nlp_skills.training import base_model
from nlp_skills.training.identity import Identity
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_KEY = "curve.json"
_OF_THE_TASK = {"task_name", "task_type", "domain", "language", "input_template", "output_format", "success_criteria"}
_OF_THE_RUN = {"cuda_devices", "gpus", "sharding"}


@dataclasses.dataclass(frozen=True)
class Scratch:
    """The scratch folder of one version's curve."""

    folder: TaskFolder
    version: VersionFolder

    @property
    def root(self) -> Path:
        return self.folder.state / "learning-curve" / self.version.name

    @contextlib.contextmanager
    def alone(self, identity: Identity) -> Iterator[None]:
        """One command at a time; within the block the folder holds points of this very data and configuration.

        Raises:
            Invalid: another process is at it, or somebody put a link there.
            Unavailable: the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        for path in (self.root.parent, self.root):
            if path.is_symlink():
                text = _("this is a link, and what is behind it is not ours to change")
                raise Invalid(text, file=path, mend=_("remove the link"))
        path = self.root.with_name(f"{self.version.name}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0)
            lock.acquire()
        except Timeout as error:
            text = _("the learning curve of {name} is being made by another command", name=self.version.name)
            mend = _("wait until it ends, or stop it, then run this command again")
            raise Invalid(text, file=path, mend=mend) from error
        except OSError as error:
            raise files.storage_problem(error, path) from error
        try:
            self._begin(identity)
            yield
        finally:
            lock.release()

    def _begin(self, identity: Identity) -> None:
        key = self.root / _KEY
        with contextlib.suppress(Invalid):
            if files.read_json(key) == identity:
                return
        self.remove()
        files.write_json(key, identity)

    def remove(self) -> None:
        """Delete it; what a link in it leads to stays.

        Raises:
            Unavailable: it cannot be deleted.
        """
        _remove(self.root)

    def done(self, percent: int, seed: int, rows: int, asked: int) -> Trained | None:
        """A point that is done, of so many rows, with its answers to so many valid rows."""
        try:
            given = files.read_json(self._answers(percent, seed))["answers"]
        except (Invalid, KeyError, TypeError, ValueError):
            return None
        return Trained(percent, seed, rows, given) if isinstance(given, list) and len(given) == asked else None

    def keep(self, made: Trained, seconds: float) -> None:
        """A point is done: its answers stay, the model that gave them goes."""
        content = {"rows": made.rows, "seconds": round(seconds, 1), "answers": list(made.given)}
        files.write_json(self._answers(made.percent, made.seed), content)
        _remove(self._task(made.percent, made.seed))

    def _answers(self, percent: int, seed: int) -> Path:
        return self.root / f"{percent}-{seed}.json"

    def _task(self, percent: int, seed: int) -> Path:
        return self.root / f"{percent}-{seed}"

    def task(self, percent: int, seed: int, lines: Sequence[bytes], config: Config) -> TaskFolder:
        """The task of a point: its rows as train, the other splits as they are; one that was begun goes on.

        Raises:
            Invalid: an earlier training of it is still going on.
            Unavailable: the folder cannot be written.
        """
        root = self._task(percent, seed)
        made = VersionFolder(root, self.version.name)
        if (status := made.status()) is not None and runs.alive(status):
            raise Invalid(
                _("an earlier learning curve of version {name} is still training: process {pid}",
                  name=self.version.name, pid=status.pid),
                file=root,
                mend=_("wait until it ends, or stop it with: kill {pid}", pid=status.pid),
            )  # fmt: skip
        # Written last: with it the folder is whole.
        if not made.config_path.is_file():
            _remove(root)
            try:
                self._fill(TaskFolder(root), lines, config)
            except OSError as error:
                raise files.storage_problem(error, root) from error
            files.write_text(made.config_path, yaml.dumps(self._settings(config, seed)))
        return TaskFolder(root)

    def _settings(self, config: Config, seed: int) -> dict[str, object]:
        base = base_model.locate(config.base_model, root=self.folder.root)
        return {**config.dump(), "base_model": base, "seed": (config.seed + seed) % 2**32}

    def _fill(self, task: TaskFolder, lines: Sequence[bytes], config: Config) -> None:
        files.write_bytes(task.split("train"), b"".join(line + b"\n" for line in lines))
        for split in ("valid", "test"):
            files.write_bytes(task.split(split), self.folder.split(split).read_bytes())
        if config.chat_template and (self.folder.root / config.chat_template).is_file():
            text = files.inside(self.folder.root, config.chat_template).read_bytes()
            files.write_bytes(files.inside(task.root, config.chat_template), text)
        # Training reads nothing of the sources, and passwords may stand there.
        bare = self.folder.sources().model_copy(update={"sources": [], "augmentation": []})
        DataSource.model_validate(bare.model_dump(by_alias=True)).save(task.sources_path)
        of_task = self.folder.task().model_dump(mode="json", by_alias=True, exclude_none=True)
        content = {key: value for key, value in of_task.items() if key in _OF_THE_TASK}
        run = {key: value for key, value in of_task["execution"].items() if key in _OF_THE_RUN}
        content |= {"version": self.version.name, "status": "configuring", "execution": {"type": "local", **run}}
        files.write_text(task.task_path, yaml.dumps(content))


def lines_of(path: Path) -> list[tuple[bytes, dict[str, object]]]:
    """The rows of a checked file, each with its line as it stands there."""
    return [(line, json.loads(line)) for line in path.read_bytes().split(b"\n") if line.strip()]


def _remove(root: Path) -> None:
    try:
        shutil.rmtree(root)
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.storage_problem(error, root) from error
