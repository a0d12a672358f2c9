"""lineage.yaml, written section by section by the steps that know each section's truth."""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
import platform
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import (
    DataSnapshot,
    Event,
    Lineage,
    LineageConfig,
    LineageData,
    LineageEvent,
    LineageModel,
    LineageResults,
    ModelInfo,
    Results,
    without_empty,
)
from nlp_skills.workspace.folder import VersionFolder


def ensure(version: VersionFolder, *, parent: str | None = None, changes: list[str] | None = None) -> Lineage:
    """The version's lineage, made if it is not there yet."""
    return version.lineage() or start(version, name=version.name, parent=parent, changes=changes or [])


def existing(version: VersionFolder) -> Lineage:
    """The version's lineage, for looking at.

    Raises:
        Invalid: there is none yet; looking does not make one.
    """
    lineage = version.lineage()
    if lineage is None:
        raise Invalid(
            _("version {name} has no lineage yet", name=version.name),
            file=version.lineage_path,
            mend=_("make it from the version's own files: nlp-skills lineage {name} --complete", name=version.name),
        )
    return lineage


def start(version: VersionFolder, *, name: str, parent: str | None, changes: list[str]) -> Lineage:
    """Write the first lineage of a version, called `name` whatever its folder is called meanwhile."""
    lineage = Lineage(version=name, created=files.now(), parent=parent, changes=changes)
    lineage.save(version.lineage_path)
    return lineage


def record(version: VersionFolder, **sections: Any) -> Lineage:
    """Replace whole sections (data, config, run, results, model, environment); the others stay.

    A section may be a pydantic model or plain data. Comments a person added are kept.

    Raises:
        Invalid: the result would not be a lineage; nothing is written then.
    """
    current = ensure(version)
    merged = current.dump()
    plain = {name: _plain(section) for name, section in sections.items()}
    merged.update(plain)
    lineage = Lineage.check(merged, version.lineage_path, {})
    yaml.change(version.lineage_path, {(name,): section for name, section in plain.items()})
    return lineage


def note(
    version: VersionFolder,
    event: Event,
    *,
    other: str | None = None,
    reason: str | None = None,
    time: dt.datetime | None = None,
) -> None:
    """Add to the version's `events:` what happened to it (now, or at `time`); earlier ones stay."""
    entry = LineageEvent(time=time or files.now(), event=event, other=other, reason=reason, by=whoami())
    count = len(ensure(version).events)
    yaml.change(version.lineage_path, {("events", count): _plain(entry)})


def whoami() -> str:
    """user@host of whoever runs this."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container may run as a number without a name
    return f"{user}@{platform.node() or 'localhost'}"


def complete(version: VersionFolder) -> list[str]:
    """Record what the version's own files say and its lineage does not; returns the sections that were behind.

    The steps write their sections themselves; this mends a lineage that a kill or a hand edit left behind.
    """
    truth = {
        "data": data_section(snapshot) if (snapshot := version.snapshot()) else None,
        "config": config_section(version.config()) if version.config_path.exists() else None,
        "model": model_section(info) if (info := version.model_info()) else None,
        "results": results_section(results) if (results := version.results()) else None,
    }
    written = ensure(version).dump()
    behind = {name: part for name, part in truth.items() if part and _plain(part) != written.get(name)}
    if behind:
        record(version, **behind)
    return list(behind)


def config_hash(path: Path) -> str:
    """`sha256:…` of what a config.yaml says: comments, order and quoting are no part of it."""
    content = json.dumps(yaml.read(path).data, ensure_ascii=False, sort_keys=True)
    return files.sha256_bytes(content.encode())


def data_section(snapshot: DataSnapshot) -> LineageData:
    """The `data:` section; the class distribution is the training split's, as the counts are per split."""
    rows = {f"{name}_count": split.rows for name, split in snapshot.splits.items()}
    return LineageData(
        source_hash=snapshot.source_hash,
        **rows,
        class_distribution=snapshot.splits["train"].class_distribution,
        hashes={name: split.sha256 for name, split in snapshot.splits.items()},
    )


def config_section(config: Config) -> LineageConfig:
    """The `config:` section: the whole configuration."""
    return LineageConfig.model_validate(config.dump())


def model_section(info: ModelInfo, version: VersionFolder | None = None) -> LineageModel:
    """The `model:` section: paths relative to the task folder and, given the version, the hash of each model file."""
    hashes = {}
    if version is not None:
        place = version.adapter if info.adapter_path else version.merged
        hashes = file_hashes(place, version.task_root)
    return LineageModel(adapter_path=info.adapter_path, merged_path=info.merged_path, hashes=hashes)


def results_section(results: Results, version: VersionFolder | None = None) -> LineageResults:
    """The `results:` section: every metric by name, the classes and, given the version, the hashes of its files."""
    paths = [version.results_path, version.predictions_path] if version else []
    hashes = {path.name: files.sha256_file(path) for path in paths if path.is_file()}
    return LineageResults.model_validate({**results.metrics, "per_class": results.per_class, "hashes": hashes})


def file_hashes(place: Path, root: Path) -> dict[str, str]:
    """`sha256:…` of every regular file in a folder, by its path in `root`; links are neither hashed nor followed."""
    return {path.relative_to(root).as_posix(): files.sha256_file(path) for path in regular_files(place)}


def regular_files(place: Path) -> list[Path]:
    """The files in a folder and in the folders in it, in order; nothing that is reached through a link."""
    if place.is_symlink():
        return []
    found = [Path(parent, name) for parent, _folders, names in os.walk(place) for name in names]
    return sorted(path for path in found if not path.is_symlink() and path.is_file())


def _plain(section: Any) -> Any:
    if isinstance(section, BaseModel):
        return without_empty(section.model_dump(mode="json", by_alias=True, exclude_none=True))
    return section
