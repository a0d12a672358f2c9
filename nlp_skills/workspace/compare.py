"""How two versions differ: their configuration, their data and their figures, row by row.

Whether a difference in figures means anything is the evaluation room's to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nlp_skills.schema.training import Training
from nlp_skills.workspace.folder import VersionFolder
from nlp_skills.workspace.listing import lineage_metrics


@dataclass(frozen=True)
class Difference:
    """One setting or figure in both versions. `relative` is a fraction of `before`, where that makes sense."""

    name: str
    before: Any
    after: Any

    @property
    def relative(self) -> float | None:
        if isinstance(self.before, bool) or not isinstance(self.before, int | float) or not self.before:
            return None
        if isinstance(self.after, bool) or not isinstance(self.after, int | float):
            return None
        return (self.after - self.before) / abs(self.before)

    @property
    def absolute(self) -> float | None:
        if isinstance(self.before, int | float) and isinstance(self.after, int | float):
            return self.after - self.before
        return None


def settings(before: VersionFolder, after: VersionFolder) -> list[Difference]:
    """The configuration keys and data counts in which two versions differ."""
    pairs = (_settings(before), _settings(after))
    names = list(dict.fromkeys([*pairs[0], *pairs[1]]))
    rows = [Difference(name, pairs[0].get(name), pairs[1].get(name)) for name in names]
    return [row for row in rows if row.before != row.after]


def _settings(version: VersionFolder) -> dict[str, Any]:
    found = dict(flat(version.config().dump())) if version.config_path.exists() else {}
    lineage = version.lineage()
    if lineage and lineage.data:
        found |= lineage.data.counts()
    return found


def flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys joined by dots, in order."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def figures(before: VersionFolder, after: VersionFolder, primary: str) -> list[Difference]:
    """The primary metric, accuracy and every class's F1, as fractions."""
    pairs = (_figures(before), _figures(after))
    shared = [name for name in pairs[0] if name in pairs[1]]
    first = [name for name in (primary, "accuracy") if name in shared]
    per_class = [name for name in shared if name.endswith(" F1")]
    return [Difference(name, pairs[0][name], pairs[1][name]) for name in dict.fromkeys([*first, *per_class])]


def _figures(version: VersionFolder) -> dict[str, float]:
    if results := version.results():
        return results.metrics | {f"{name} F1": figures.f1 for name, figures in results.per_class.items()}
    lineage = version.lineage()
    if lineage is None or lineage.results is None:
        return {}
    classes = {f"{name} F1": figures.f1 for name, figures in lineage.results.per_class.items()}
    return lineage_metrics(lineage) | classes


def sentences(before: Training, after: Training) -> list[str]:
    """What changed between two configurations, as lines of a lineage: `lora.r 16 → 32`."""
    old, new = dict(flat(before.model_dump(exclude_none=True))), dict(flat(after.model_dump(exclude_none=True)))
    names = dict.fromkeys([*old, *new])
    return [f"{name} {old.get(name)} → {new.get(name)}" for name in names if old.get(name) != new.get(name)]
