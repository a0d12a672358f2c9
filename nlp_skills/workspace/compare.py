"""How versions differ: their configuration, their data and their figures, one row a setting or figure.

Whether a difference in figures means anything is the evaluation room's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nlp_skills.errors import Problem
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import SPLITS, Lineage, Results
from nlp_skills.workspace.folder import TaskFolder, VersionFolder
from nlp_skills.workspace.listing import lineage_metrics

T = TypeVar("T")

# Numbers that name something: a percentage of them says nothing.
_NAMES = {"seed"}


@dataclass(frozen=True)
class Records:
    """What a version's files say. Of a file that cannot be read, `problems` has the reason."""

    version: VersionFolder
    config: Config | None = None
    lineage: Lineage | None = None
    results: Results | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.version.name


@dataclass(frozen=True)
class Difference:
    """One setting or figure, with its value in each version; None where a version has none."""

    name: str
    values: tuple[Any, ...]

    @property
    def absolute(self) -> float | None:
        """From the first version to the last; None where they are not numbers, or only names of something."""
        first, last = self.values[0], self.values[-1]
        if self.name in _NAMES or not (_is_number(first) and _is_number(last)):
            return None
        return float(last) - float(first) if isinstance(first, float) or isinstance(last, float) else last - first

    @property
    def relative(self) -> float | None:
        """`absolute` as a fraction of the first version's value."""
        change, first = self.absolute, self.values[0]
        return change / abs(first) if change is not None and first else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def records(folder: TaskFolder, name: str) -> Records:
    """What there is of a version, be it only its records.

    Raises:
        Invalid: there is nothing of it.
    """
    version = folder.version(name)
    if not (version.lineage_path.is_file() or version.results_path.is_file()):
        folder.existing_version(name)
    problems: list[Problem] = []

    def read(load: Callable[[], T]) -> T | None:
        try:
            return load()
        except Problem as problem:
            problems.append(problem)
            return None

    config = read(version.config) if version.config_path.is_file() else None
    return Records(version, config, read(version.lineage), read(version.results), problems)


def settings(versions: Sequence[Records]) -> list[Difference]:
    """The configuration keys and row counts that are not the same in all versions whose settings are known.

    Data or weights that differ although their row count or name does not are told by their hashes.
    """
    columns = [_settings(one) for one in versions]
    known = [place for place, column in enumerate(columns) if column]
    rows = [row for row in _rows(columns) if any(row.values[place] != row.values[known[0]] for place in known)]
    differing = {row.name: row for row in rows}
    return [row for name, row in differing.items() if not name.endswith("_hash") or _tells(row, known, differing)]


def _tells(row: Difference, known: Sequence[int], differing: Collection[str]) -> bool:
    """Whether a hash says what nothing else does: all versions have one, and the count or name is the same."""
    of = row.name.removesuffix("_hash")
    said = f"{of}_count" if of in SPLITS else of
    return said not in differing and all(row.values[place] is not None for place in known)


def _settings(one: Records) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if one.config is not None:
        found |= flat(one.config.dump())
    elif one.lineage and one.lineage.config:
        found |= flat(one.lineage.config.model_dump(mode="json", exclude_none=True))
    if one.lineage and (data := one.lineage.data):
        found |= data.counts() | {f"{split}_hash": digest for split, digest in data.hashes.items()}
    if one.lineage and one.lineage.run and (weights := one.lineage.run.base_model_hash):
        found["base_model_hash"] = weights
    return found


def flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys joined by dots, in order."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def figures(versions: Sequence[Records], primary: str) -> list[Difference]:
    """The primary metric, macro-F1, accuracy and every class's F1, as fractions; what no version has is left out."""
    found = {row.name: row for row in _rows([_figures(one) for one in versions])}
    first = [name for name in (primary, "macro_f1", "accuracy") if name in found]
    per_class = [name for name in found if name.endswith(" F1")]
    return [found[name] for name in dict.fromkeys([*first, *per_class])]


def _figures(one: Records) -> dict[str, float]:
    if one.results:
        return one.results.metrics | {f"{name} F1": entry.f1 for name, entry in one.results.per_class.items()}
    if one.lineage is None or one.lineage.results is None:
        return {}
    classes = {f"{name} F1": entry.f1 for name, entry in one.lineage.results.per_class.items()}
    return lineage_metrics(one.lineage) | classes


def _rows(columns: Sequence[dict[str, Any]]) -> list[Difference]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [Difference(name, tuple(column.get(name) for column in columns)) for name in names]
