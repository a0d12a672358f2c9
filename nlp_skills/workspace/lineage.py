"""lineage.yaml, written section by section by the steps that know each section's truth."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from nlp_skills import files
from nlp_skills.schema import yaml
from nlp_skills.schema.version import Lineage
from nlp_skills.workspace.folder import VersionFolder


def ensure(version: VersionFolder, *, parent: str | None = None, changes: list[str] | None = None) -> Lineage:
    """The version's lineage, made if it is not there yet."""
    lineage = version.lineage()
    if lineage is None:
        lineage = Lineage(version=version.name, created=files.now(), parent=parent, changes=changes or [])
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


def _plain(section: Any) -> Any:
    if isinstance(section, BaseModel):
        return section.model_dump(mode="json", by_alias=True, exclude_none=True)
    return section
