"""lineage.yaml, written section by section by the steps that know each section's truth.

Whatever writes puts a file right first that cannot be read, and keeps it beside: see `lineage_file`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.version import LINEAGE_SCHEMA, Event, Lineage, LineageEvent
from nlp_skills.workspace import lineage_file, sections
from nlp_skills.workspace.folder import VersionFolder
from nlp_skills.workspace.lineage_file import Repaired, put_right, read, repair, whoami
from nlp_skills.workspace.sections import config as config_section
from nlp_skills.workspace.sections import config_hash, file_hashes
from nlp_skills.workspace.sections import data as data_section
from nlp_skills.workspace.sections import model as model_section
from nlp_skills.workspace.sections import results as results_section

__all__ = [
    "Repaired",
    "complete",
    "config_hash",
    "config_section",
    "contradicted",
    "data_section",
    "ensure",
    "existing",
    "file_hashes",
    "model_section",
    "note",
    "put_right",
    "read",
    "record",
    "repair",
    "results_section",
    "start",
    "whoami",
]


def ensure(version: VersionFolder, *, parent: str | None = None, changes: list[str] | None = None) -> Lineage:
    """The version's lineage, made if it is not there yet, and put right if it cannot be read.

    Raises:
        Invalid: a newer nlp-skills wrote it.
        Unavailable: the folder cannot be written.
    """
    put_right(version)
    return version.lineage() or start(version, name=version.name, parent=parent, changes=changes or [])


def existing(version: VersionFolder) -> Lineage:
    """The version's lineage, for looking at.

    Raises:
        Invalid: there is none yet; looking does not make one.
    """
    lineage = version.lineage()
    if lineage is None:
        command = f"nlp-skills lineage {version.task_root.name} {version.name} --complete"
        raise Invalid(
            _("version {name} has no lineage yet", name=version.name),
            file=version.lineage_path,
            mend=_("make it from the version's own files: {command}", command=command),
        )
    return lineage


def start(version: VersionFolder, *, name: str, parent: str | None, changes: list[str]) -> Lineage:
    """Write the first lineage of a version, called `name` whatever its folder is called meanwhile."""
    lineage = Lineage(schema_version=LINEAGE_SCHEMA, version=name, created=files.now(), parent=parent, changes=changes)
    lineage.save(version.lineage_path)
    return lineage


def record(version: VersionFolder, **parts: Any) -> Lineage:
    """Replace whole sections (data, config, run, results, model, environment); the others stay.

    A section may be a pydantic model or plain data. Comments a person added are kept, and so are their own keys in
    `data:`, `run:` and `model:`.

    Raises:
        Invalid: the result would not be a lineage, or a newer nlp-skills wrote it; nothing is written then.
    """
    current = ensure(version)
    plain = {name: _with_own_keys(current, name, sections.plain(part)) for name, part in parts.items()}
    lineage = Lineage.check({**current.dump(), **plain}, version.lineage_path, {})
    _change(version, {(name,): section for name, section in plain.items()})
    return lineage


def note(
    version: VersionFolder,
    event: Event,
    *,
    other: str | None = None,
    reason: str | None = None,
    time: dt.datetime | None = None,
) -> None:
    """Add to the version's `events:` what happened to it (now, or at `time`); earlier ones stay.

    Raises:
        Invalid: a newer nlp-skills wrote the lineage.
    """
    entry = LineageEvent(time=time or files.now(), event=event, other=other, reason=reason, by=whoami())
    count = len(ensure(version).events)
    _change(version, {("events", count): sections.plain(entry)})


def complete(version: VersionFolder) -> list[str]:
    """Record what the version's own files say and its lineage does not; returns the sections that were behind.

    The steps write their sections themselves; this mends a lineage that a kill or a hand edit left behind. Hashes
    that were never recorded are taken now, which an event says. A section stays as it is where its file is no longer
    the one that was recorded; see `contradicted`.

    Raises:
        Invalid: one of the files is not what we wrote, or a newer nlp-skills wrote the lineage.
    """
    repaired = put_right(version)
    written = ensure(version).dump()
    told = sections.on_disk(version, model_hashes=not _all_hashed(version, _hashes(written, "model")))
    behind = lineage_file.behind(version, written, told)
    if behind:
        record(version, **behind)
    late = [name for name in ("model", "results") if _hashes(behind, name).keys() - _hashes(written, name).keys()]
    late += ["config"] if "config_hash" in behind.get("run", {}).keys() - (written.get("run") or {}).keys() else []
    if late:
        names = ", ".join(late)
        note(version, "repaired", reason=_("hashes taken afterwards, of the files as they are: {names}", names=names))
    mended = {*behind, *(repaired.rebuilt if repaired else ())}
    return [name for name in sections.NAMES if name in mended]


def contradicted(version: VersionFolder) -> dict[str, str]:
    """The sections that `complete` leaves alone, and the file of each that is not the one it was.

    Raises:
        Invalid: the lineage or one of the files cannot be read.
    """
    told = sections.on_disk(version, ("data", "config", "results"))
    return lineage_file.contradictions(version, existing(version).dump(), told)


def _hashes(written: Mapping[str, Any], name: str) -> dict[str, str]:
    return (written.get(name) or {}).get("hashes") or {}


def _all_hashed(version: VersionFolder, recorded: Mapping[str, str]) -> bool:
    """Whether every file of the model has its hash in the lineage; gigabytes are not hashed for nothing."""
    here = sections.regular_files(version.model) if version.model else []
    return bool(recorded) and all(path.relative_to(version.task_root).as_posix() in recorded for path in here)


def _with_own_keys(current: Lineage, name: str, section: Any) -> Any:
    """A section with the keys that a person added to the one it replaces; `config` and `results` have none of ours."""
    own = getattr(current, name, None)
    if name not in ("data", "run", "model") or section is None or own is None:
        return section
    return {**section, **{key: value for key, value in (own.model_extra or {}).items() if key not in section}}


def _change(version: VersionFolder, changes: Mapping[tuple[yaml.Key, ...], Any]) -> None:
    from ruamel.yaml.error import YAMLError

    try:
        yaml.change(version.lineage_path, changes)
    except YAMLError:
        # Two parsers read these files, and the one that keeps comments takes a little less.
        repair(version)
        yaml.change(version.lineage_path, changes)
