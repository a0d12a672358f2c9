"""Do annotators agree? Krippendorff's alpha and its interval, Cohen's kappa by pairs, the rows most argued over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from nlp_skills.data import merge, near
from nlp_skills.data import rows as lines
from nlp_skills.data.audit.pii import excerpt, masked, one_line
from nlp_skills.errors import Problem, Usage
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

COLUMNS = ("annotator", "annotator_id", "annotator_name", "annotated_by", "labeler", "labeller", "rater", "coder",
           "標註者", "標記者", "標註人員", "標註員")  # fmt: skip
SAMPLES = 1000
MOST_DISPUTED = 50
_AT_ONCE = 50


@dataclass
class _Unit:
    """One input and who answered what; an annotator's later answer replaces the earlier."""

    file: str
    line: int
    text: str
    answers: dict[str, str] = field(default_factory=dict)


def measure(folder: TaskFolder, task: Task, config: DataSource, column: str | None, seed: int) -> dict[str, Any]:
    """Agreement over the raw rows, before duplicates were dropped, since those are the second opinions.

    `column` names who annotated; without it the usual names are looked for. Inputs that one annotator alone
    answered count for nothing in alpha.

    Raises:
        Usage: no raw row has the column that was asked for.
        Unavailable: the extra `quality` is missing.
    """
    need("quality", "krippendorff", "sklearn")
    if task.label_field is None:
        return _skipped("not_classification")
    units, used, unread = _units(folder, task, config, column)
    if not used:
        if column is not None:
            raise Usage(
                _("no source has a column {column}", column=lines.shown_name(column)),
                mend=_("--annotator takes a column of the rows in data/raw"),
            )
        return _skipped("no_column")
    names = _names(units)
    shared = [unit for unit in units if len(unit.answers) > 1]
    found: dict[str, Any] = {
        "column": used,
        "unread": unread,
        "annotators": _annotators(units, names),
        "units": len(units),
        "shared": len(shared),
    }
    if len(names) < 2 or not shared:
        return {**found, **_skipped("one_annotator" if len(names) < 2 else "nothing_shared")}
    return {
        **found,
        **_alpha(shared, task, seed),
        "pairs": _pairs(shared, names),
        "disputed": _disputed(shared, names),
    }


def _skipped(code: str) -> dict[str, Any]:
    return {"skipped": {"code": code}}


def _units(
    folder: TaskFolder, task: Task, config: DataSource, column: str | None
) -> tuple[list[_Unit], str | None, int]:
    units: dict[str, _Unit] = {}
    used, unread = None, 0
    for file, number, row in _rows(folder, task, config):
        if row is None:
            unread += 1
            continue
        name = column if column is not None else next((name for name in COLUMNS if row.get(name)), None)
        if name is None or row.get(name) in (None, ""):
            continue
        used = used or name
        key = near.row_key(row, task.input_fields)
        unit = units.setdefault(key, _Unit(file, number, "\n".join(str(row[part]) for part in task.input_fields)))
        unit.answers[str(row[name])] = _answer(row[str(task.label_field)])
    return list(units.values()), used, unread


def _rows(folder: TaskFolder, task: Task, config: DataSource) -> Iterator[tuple[str, int, dict[str, Any] | None]]:
    """Each raw row under the task's names; None for one that does not fit the task."""
    shape = lines.Shape(task.input_fields, merge.output_shape(task))
    for source in config.sources:
        path = folder.raw / f"{source.name}.jsonl"
        if not path.is_file():
            continue
        try:
            for number, raw in enumerate(lines.read(path), 1):
                try:
                    (row,) = merge.preview(source, task, [raw])
                except Problem:
                    row = {}
                yield f"data/raw/{source.name}.jsonl", number, None if shape.faults(row) else row
        except ValueError:
            yield f"data/raw/{source.name}.jsonl", 0, None


def _answer(value: Any) -> str:
    return "\x1f".join(sorted(map(str, value))) if isinstance(value, list) else str(value)


def _words(answer: str) -> str:
    return answer.replace("\x1f", " + ")


def _names(units: Sequence[_Unit]) -> dict[str, str]:
    """What each annotator is called in results; personal data among the names becomes a number."""
    known = sorted({name for unit in units for name in unit.answers})
    return {
        name: lines.cut(one_line(name), 40) if masked(name) == name else f"#{number}"
        for number, name in enumerate(known, 1)
    }


def _annotators(units: Sequence[_Unit], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of each, and on how many of those that others answered too they are with the majority."""
    rows: Counter[str] = Counter(name for unit in units for name in unit.answers)
    shared: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for unit in units:
        for name, answer in unit.answers.items():
            others = Counter(given for other, given in unit.answers.items() if other != name)
            if others:
                shared[name] += 1
                agreed[name] += others[answer] == max(others.values())
    return [
        {"name": names[name], "rows": rows[name], "shared": shared[name],
         "with_majority": round(agreed[name] / shared[name], 4) if shared[name] else None}
        for name in names
    ]  # fmt: skip


def _alpha(shared: Sequence[_Unit], task: Task, seed: int) -> dict[str, Any]:
    """One alpha; with several labels a row, one for each label (is it there or not) and their mean."""
    if not task.multi_label:
        values = sorted({answer for unit in shared for answer in unit.answers.values()})
        return _with_interval([Counter(unit.answers.values()) for unit in shared], values, seed)
    each = {}
    for label in task.labels:
        counts = [Counter(str(label in answer.split("\x1f")) for answer in u.answers.values()) for u in shared]
        each[label] = _with_interval(counts, ["False", "True"], seed)
    known = [part["alpha"] for part in each.values() if part["alpha"] is not None]
    return {"alpha": round(sum(known) / len(known), 4) if known else None, "interval": None, "labels": each}


def _with_interval(counts: Sequence[Counter[str]], values: Sequence[str], seed: int) -> dict[str, Any]:
    """Nominal alpha; the interval is the middle 95 % of the alphas of resampled inputs. None where all say the same."""
    import krippendorff
    import numpy as np

    table = np.array([[count[value] for value in values] for count in counts], dtype=float)
    if (table.sum(axis=0) > 0).sum() < 2:
        return {"alpha": None, "interval": None}
    alpha = float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))
    return {"alpha": round(alpha, 4), "interval": [round(edge, 4) for edge in interval(table, seed)]}


def interval(table: Any, seed: int) -> tuple[float, float]:
    """Bootstrap over inputs. `table`: how often each value (columns) was given to each input (rows), two or more a row.

    Alpha is a function of sums over inputs, so a resample is a weighted sum and nothing is paired anew.
    """
    import numpy as np

    size = table.sum(axis=1)
    agreeing = (table * (table - 1)).sum(axis=1) / (size - 1)
    random = np.random.default_rng(seed)
    alphas: list[float] = []
    for _start in range(0, SAMPLES, _AT_ONCE):
        weights = random.multinomial(len(table), np.full(len(table), 1 / len(table)), size=_AT_ONCE)
        total, same, margins = weights @ size, weights @ agreeing, weights @ table
        expected = total**2 - (margins**2).sum(axis=1)
        known = expected > 0
        alphas += list(1 - (total[known] - 1) * (total[known] - same[known]) / expected[known])
    low, high = np.percentile(alphas, [2.5, 97.5])
    return float(low), float(high)


def _pairs(shared: Sequence[_Unit], names: Mapping[str, str]) -> list[dict[str, Any]]:
    from sklearn.metrics import cohen_kappa_score

    found = []
    for one, other in combinations(names, 2):
        both = [(u.answers[one], u.answers[other]) for u in shared if one in u.answers and other in u.answers]
        same = sum(first == second for first, second in both)
        # With one value throughout there is nothing that chance could have done otherwise.
        kappa = cohen_kappa_score(*zip(*both, strict=True)) if len({v for pair in both for v in pair}) > 1 else None
        found.append(
            {
                "annotators": [names[one], names[other]],
                "rows": len(both),
                "same": round(same / len(both), 4) if both else None,
                "kappa": None if kappa is None else round(float(kappa), 4),
            }
        )
    return found


def _disputed(shared: Sequence[_Unit], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Inputs with more than one answer, those where the commonest answer has the smallest share first."""

    def unity(unit: _Unit) -> float:
        return max(Counter(unit.answers.values()).values()) / len(unit.answers)

    torn = sorted((u for u in shared if unity(u) < 1), key=lambda u: (unity(u), -len(u.answers), u.file, u.line))
    return [
        {
            "file": unit.file,
            "line": unit.line,
            "answers": {names[name]: excerpt(_words(answer), 60) for name, answer in sorted(unit.answers.items())},
            "excerpt": excerpt(unit.text),
        }
        for unit in torn[:MOST_DISPUTED]
    ]
