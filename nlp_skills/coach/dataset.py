"""Labelled rows as they are: how many of each class, how long, in which language, and which contradict each other."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nlp_skills.data import languages
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

Row = Mapping[str, Any]

# Columns that people call the answer.
_LABEL_NAMES = (
    "label", "labels", "sentiment", "category", "class", "target", "stance", "verdict", "rating", "intent", "topic",
    "標籤", "類別", "分類", "情感", "立場", "標註", "意圖", "評價", "情緒",
)  # fmt: skip
_MOST_CLASSES = 100
_SAMPLE = 5_000


@dataclass(frozen=True)
class Dataset:
    """Rows and what can be counted of them. `label_field` is None where no column looks like a class."""

    files: tuple[Path, ...]
    rows: Sequence[Row] = field(repr=False)
    fields: tuple[str, ...]
    label_field: str | None

    @cached_property
    def texts(self) -> list[str]:
        """What a model would read of each row."""
        return ["\n".join(_text(row.get(name)) for name in self.fields) for row in self.rows]

    @cached_property
    def given(self) -> list[list[str]]:
        """The classes of each row, none where there are none; one but for rows with several labels."""
        values = [row.get(self.label_field or "") for row in self.rows]
        return [
            [text for each in (value if isinstance(value, list) else [value]) if (text := _text(each))]
            for value in values
        ]

    @property
    def several(self) -> bool:
        """Whether a row has a list of classes."""
        return any(isinstance(row.get(self.label_field or ""), list) for row in self.rows)

    @property
    def entity_field(self) -> str | None:
        """A column of lists of objects with a text, as an extraction has them."""
        sample = self.rows[:_SAMPLE]
        return next((name for name in _columns(sample) if any(_is_mention(row.get(name)) for row in sample)), None)

    @property
    def entity_types(self) -> list[str]:
        """The types of the entities in `entity_field`, in order of first use."""
        mentions = [each for row in self.rows for each in row.get(self.entity_field or "") or [] if _is_mention([each])]
        return list(dict.fromkeys(text for each in mentions if (text := _text(each.get("type")))))

    @cached_property
    def answers(self) -> list[str]:
        """The answer of each row as one text, empty where there is none."""
        return [" + ".join(sorted(given)) for given in self.given]

    @cached_property
    def classes(self) -> dict[str, int]:
        """Rows of each class, the most frequent first."""
        if not self.label_field:
            return {}
        return dict(Counter(label for given in self.given for label in given).most_common())

    @property
    def unlabelled(self) -> int:
        """Rows without an answer."""
        return sum(not answer for answer in self.answers) if self.label_field else len(self.rows)

    @cached_property
    def _by_text(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for text, answer in zip(self.texts, self.answers, strict=True):
            found.setdefault(" ".join(text.split()).casefold(), Counter())[answer] += 1
        return found

    @property
    def duplicates(self) -> int:
        """Rows whose text stood before."""
        return len(self.rows) - len(self._by_text)

    @property
    def contradictory(self) -> int:
        """Rows whose very text also has another answer."""
        return sum(sum(answers.values()) for answers in self._by_text.values() if len(answers) > 1)

    @cached_property
    def lengths(self) -> list[int]:
        """Characters of each text, the shortest first."""
        return sorted(map(len, self.texts))

    @cached_property
    def scripts(self) -> dict[str, int]:
        """Texts by the script they are written in (ISO 15924), the most frequent first; of a sample where many."""
        step = max(1, len(self.texts) // _SAMPLE)
        return dict(Counter(filter(None, map(languages.script, self.texts[::step]))).most_common())

    @property
    def language(self) -> str | None:
        """A language tag that the script tells for sure; None where the letters do not tell it."""
        return _TOLD.get(next(iter(self.scripts), ""))

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "files": [str(path) for path in self.files],
            "rows": len(self.rows),
            "fields": list(self.fields),
            "label_field": self.label_field,
            "classes": self.classes,
            "unlabelled": self.unlabelled,
            "duplicates": self.duplicates,
            "contradictory": self.contradictory,
            "scripts": self.scripts,
            "characters": {
                "median": round(statistics.median(self.lengths)) if self.lengths else 0,
                "p95": self.lengths[(len(self.lengths) - 1) * 95 // 100] if self.lengths else 0,
                "longest": self.lengths[-1] if self.lengths else 0,
            },
        }


_TOLD = {"Hant": "zh-TW", "Hans": "zh-CN", "Hani": "zh", "Jpan": "ja", "Hang": "ko", "Thai": "th", "Grek": "el",
         "Hebr": "he"}  # fmt: skip


def read(
    paths: Sequence[Path],
    *,
    fields: Sequence[str] = (),
    labels: Collection[str] = (),
    label_field: str | None = None,
) -> Dataset:
    """The rows of files (CSV, JSONL, …; several are read as one set).

    `fields` are the input columns, `labels` the classes and `label_field` their column, where these are known; else
    they are looked for.

    Raises:
        Invalid: a file is missing, empty or broken, with its line.
        Usage: its format is not known.
        Unavailable: the extra for its format is not installed.
    """
    rows: list[Row] = [row for path in paths for row in _rows(path)]
    label = label_field if label_field in _columns(rows) else _label_field(rows, fields, labels)
    return Dataset(tuple(paths), rows, _input_fields(rows, fields, label), label)


def _rows(path: Path) -> Iterable[Row]:
    from nlp_skills.data.sources import Fetching, file_import
    from nlp_skills.schema.source import FileImport
    from nlp_skills.workspace.folder import TaskFolder

    if not path.is_file():
        kind = _("this is a folder, not a file") if path.is_dir() else _("file not found")
        raise Invalid(kind, file=path, mend=_("name a file of labelled rows, such as labelled.csv"))
    source = FileImport(type="file_import", name="data", path=path.name)
    return file_import.fetch(source, Fetching(TaskFolder(path.resolve().parent)))


def _label_field(rows: Sequence[Row], fields: Sequence[str], labels: Collection[str]) -> str | None:
    """The column of the classes: the one that has the labels, else one called so, else the one of fewest values."""
    names = [name for name in _columns(rows) if name not in fields]
    values = {name: Counter(text for row in rows for text in _texts(row.get(name))) for name in names}
    if labels:
        shares = {name: _share(found, labels) for name, found in values.items()}
        best = max(shares, key=lambda name: shares[name], default=None)
        if best is not None and shares[best] >= 0.5:
            return best
    called = [name for name in names if name.lower() in _LABEL_NAMES and 0 < len(values[name]) <= _MOST_CLASSES]
    if called:
        return min(called, key=lambda name: _LABEL_NAMES.index(name.lower()))
    few = [name for name in names if 1 < len(values[name]) <= min(_MOST_CLASSES, len(rows) // 3)]
    return min(few, key=lambda name: len(values[name]), default=None)


def _is_mention(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "text" in value[0]


def _share(found: Counter[str], labels: Collection[str]) -> float:
    return sum(count for value, count in found.items() if value in labels) / max(1, found.total())


def _texts(value: Any) -> list[str]:
    """The texts of a value, or of each in a list; objects in it are no classes."""
    values = value if isinstance(value, list) else [value]
    return [text for each in values if not isinstance(each, dict) and (text := _text(each))]


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows[:_SAMPLE] for name in row))


def _input_fields(rows: Sequence[Row], wanted: Sequence[str], label: str | None) -> tuple[str, ...]:
    """The columns wanted that are there; else the one with the longest texts."""
    names = _columns(rows)
    if wanted and all(name in names for name in wanted):
        return tuple(wanted)
    others = [name for name in names if name != label]
    total = {name: sum(len(_text(row.get(name))) for row in rows[:_SAMPLE]) for name in others}
    return (max(others, key=lambda name: total[name]),) if others else ()


def _text(value: Any) -> str:
    return "" if value is None else value.strip() if isinstance(value, str) else str(value)
