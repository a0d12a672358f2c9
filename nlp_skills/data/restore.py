"""The data of a version, byte for byte, back from the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import install, lock_file, staleness
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.version import SPLITS, DataSnapshot
from nlp_skills.workspace import digest, digests, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder
from nlp_skills.workspace.lock import writing


@dataclass(frozen=True)
class Restored:
    """What a restore did, or would do. Paths are relative to the task folder.

    `config_changed`: keys in which today's data_source.yaml differs from the version's, which is kept as `config`.
    """

    version: str
    restored: list[str]
    same: list[str]
    rows: dict[str, int]
    config_changed: list[str]
    config: str | None
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": True, **asdict(self)}


def restore(
    folder: TaskFolder, name: str, *, dry_run: bool = False, tell: Callable[[str], None] | None = None
) -> Restored:
    """Bring train, valid and test of a version back, its raw files and its data.lock.yaml with them.

    Everything is read and compared with its hash before the first file is replaced. data_source.yaml stays.

    Raises:
        Usage: not a version name.
        Invalid: the version has no snapshot, or one from before the store; a kept file is missing or damaged.
        Unavailable: the disk is full.
    """
    version = folder.existing_version(name)
    snapshot = _snapshot(version)
    with writing(folder, tell=tell):
        install.sweep(folder)
        _check(folder, version, snapshot)
        wanted = {folder.root / path: sha256 for path, sha256 in snapshot.files.items()}
        here = digests.of(folder, wanted)
        differing = [path for path, sha256 in wanted.items() if here.get(path) != sha256]
        if differing and not dry_run:
            _replace(folder, differing, wanted)
    shown = {path: str(path.relative_to(folder.root)) for path in wanted}
    return Restored(
        version=version.name,
        restored=[shown[path] for path in differing],
        same=[text for path, text in shown.items() if path not in differing],
        rows={split: snapshot.splits[split].rows for split in SPLITS},  # type: ignore[index]
        config_changed=_config_changes(folder, snapshot),
        config=_config_path(folder, snapshot),
        dry_run=dry_run,
    )


def _snapshot(version: VersionFolder) -> DataSnapshot:
    snapshot = version.snapshot()
    if snapshot is None:
        raise Invalid(
            _("version {name} has no data snapshot yet", name=version.name),
            file=version.snapshot_path,
            cause=_("it is taken when a version is trained"),
            mend=_("nlp-skills train takes one; nlp-skills regenerate makes the data of today"),
        )
    if not snapshot.files:
        raise Invalid(
            _("the data of version {name} was never kept", name=version.name),
            file=version.snapshot_path,
            cause=_("its snapshot was made before there was a store"),
            mend=_("make it anew from the sources and compare the hashes: nlp-skills regenerate --all"),
        )
    return snapshot


def _check(folder: TaskFolder, version: VersionFolder, snapshot: DataSnapshot) -> None:
    """Refuse before anything is touched. The paths come from a file: none may leave the task."""
    problems: list[Problem] = []
    for path, sha256 in snapshot.files.items():
        files.inside(folder.root, path)
        try:
            store.check(folder, sha256)
        except Invalid as problem:
            problem.message = _("{path} of version {name}: {why}", path=path, name=version.name, why=problem.message)
            problems.append(problem)
    if problems:
        problems[0].also = problems[1:]
        raise problems[0]


def _replace(folder: TaskFolder, paths: list[Path], wanted: dict[Path, str]) -> None:
    """The lock last, as in a regeneration; the marker stands until all are in place."""
    lock = lock_file.path(folder)
    install.begin(folder, paths)
    for path in sorted(paths, key=lambda path: path == lock):
        store.restore(folder, wanted[path], path)
    install.end(folder)
    digest.write(folder)


def _config_path(folder: TaskFolder, snapshot: DataSnapshot) -> str | None:
    path = store.blob(folder, snapshot.config) if snapshot.config else None
    return str(path.relative_to(folder.root)) if path and path.is_file() else None


def _config_changes(folder: TaskFolder, snapshot: DataSnapshot) -> list[str]:
    """The keys of data_source.yaml that are not as they were; when it was last run is not one of them."""
    kept = _config_path(folder, snapshot)
    if kept is None:
        return []
    then, now = DataSource.load(folder.root / kept), folder.sources()
    return staleness.changed(_by_name(then), _by_name(now))


def _by_name(config: DataSource) -> dict[str, Any]:
    settings = config.model_dump(mode="json", include={"sources", "dedup", "split", "augmentation"})
    for name in ("sources", "augmentation"):
        settings[name] = {entry.get("name") or str(at): entry for at, entry in enumerate(settings[name])}
    return settings
