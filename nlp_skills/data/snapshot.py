"""Which data a version was made with: hashes, counts, classes, the bytes, and the keys that pin its test rows."""

from __future__ import annotations

from typing import Any

from nlp_skills import files
from nlp_skills.data import lock_file, preferences, raw
from nlp_skills.data import rows as lines
from nlp_skills.data.load import load
from nlp_skills.data.near import row_key
from nlp_skills.data.sources.settings import literal_secret, unexpanded
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import PREFERENCE_METHODS
from nlp_skills.schema.version import SPLITS, DataSnapshot, SplitFile
from nlp_skills.workspace import digests, lineage, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

__all__ = ["pinned_keys", "row_key", "source_hash", "take", "write"]


def take(folder: TaskFolder) -> DataSnapshot:
    """The data as it is now.

    Raises:
        Invalid: a split is missing, or a row in it is not as the task wants it.
    """
    task = folder.task()
    rows = {name: load(folder, name) for name in SPLITS}
    splits = {name: _split(folder, name, found, task) for name, found in rows.items()}
    keys = {row_key(row, task.input_fields) for row in rows["test"]}
    return DataSnapshot.model_validate(
        {
            "created": files.now(),
            "source_hash": source_hash(folder.sources()),
            "splits": splits,
            "test_keys": sorted(keys),
        }
    )


def write(folder: TaskFolder, version: VersionFolder | str | None = None) -> DataSnapshot:
    """Record the data in a version's data_snapshot.json and in the `data:` section of its lineage, and keep its
    bytes in the store.

    Where nothing changed since the last time, the earlier record stays as it is.

    Raises:
        Invalid: as `take`.
        Unavailable: the disk is full.
    """
    target = version if isinstance(version, VersionFolder) else folder.version(version)
    taken, earlier = _kept(folder, target, take(folder)), target.snapshot()
    passing = {"created", "config"}
    if earlier is not None and earlier.model_dump(exclude=passing) == taken.model_dump(exclude=passing):
        taken = earlier
    else:
        taken.save(target.snapshot_path)
    lineage.record(target, data=lineage.data_section(taken))
    return taken


def pinned_keys(folder: TaskFolder) -> set[str]:
    """The keys of every row that a version other than the current one was tested on."""
    current = folder.task().version
    others = [folder.version(name).snapshot() for name in folder.version_names() if name != current]
    return {key for snapshot in others if snapshot for key in snapshot.test_keys}


def _kept(folder: TaskFolder, version: VersionFolder, taken: DataSnapshot) -> DataSnapshot:
    """The snapshot with everything of data/ in the store: splits, lock, and the raw files they were made of; the
    preferences where the version learns from them.
    """
    lock = lock_file.load(folder)
    paths = [*(folder.split(name) for name in SPLITS), folder.split("dropped"), lock_file.path(folder)]
    if version.config_path.is_file() and version.config().method in PREFERENCE_METHODS:
        paths += preferences.paths(folder)
    for name, source in (lock.sources if lock else {}).items():
        path = raw.raw_path(folder, name)
        if digests.of(folder, [path]).get(path) == source.sha256:
            paths += [path, raw.record_path(folder, name)]
    here = [path for path in paths if path.is_file()]
    return taken.model_copy(
        update={
            "sources": lock.sources if lock else {},
            "files": {str(path.relative_to(folder.root)): store.keep(folder, path) for path in here},
            "config": _kept_config(folder),
        }
    )


def _kept_config(folder: TaskFolder) -> str | None:
    """data_source.yaml in the store; not where a password stands in it, which is to be in one place at most."""
    if any(literal_secret(source) for source in folder.sources().sources):
        return None
    return store.keep(folder, folder.sources_path)


def source_hash(config: DataSource) -> str:
    """`sha256:…` of the settings that decide what the data contains; when it was fetched is not one of them."""
    settings: dict[str, Any] = {
        "sources": [unexpanded(source) for source in config.sources],
        "dedup": config.dedup.model_dump(mode="json"),
        "split": config.split.model_dump(mode="json"),
    }
    if config.augmentation:
        settings["augmentation"] = [unexpanded(step) for step in config.augmentation]  # type: ignore[arg-type]
    return files.sha256_bytes(lines.canonical(settings))


def _split(folder: TaskFolder, name: str, rows: list[dict[str, Any]], task: Task) -> SplitFile:
    counts = {lines.label_key(label): 0 for label in task.labels}
    label = task.label_field
    if label is not None:
        for row in rows:
            for one in lines.labels_of(row, label):
                counts[one] += 1
    return SplitFile(rows=len(rows), sha256=files.sha256_file(folder.split(name)), class_distribution=counts)
