"""Where a version is worse: by the length of the text, its script, its class, and every column of the test rows.

What a slice's rows earned is set against what all the others did: by Fisher's exact test where a row is right or not,
by Mann and Whitney's where answers can be partly right. Among many slices some are worse by chance alone, so p values
are Holm's over all that were looked at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from nlp_skills.data import languages
from nlp_skills.data.rows import cut, shown_name
from nlp_skills.errors import Usage
from nlp_skills.evaluation.scores import intervals, spans
from nlp_skills.evaluation.significance import LEVEL
from nlp_skills.evaluation.why.findings import Slice, Small
from nlp_skills.evaluation.why.material import Material
from nlp_skills.i18n import _

LENGTH, SCRIPT, CLASS = "length", "script", "class"
FEWEST_ROWS = 10
# More values than these are names or numbers of rows, not sorts of them.
MOST_VALUES = 20
_PARTS = 4


@dataclass(frozen=True)
class Sliced:
    """What was found; `not_sliced` says of a column why it was left out."""

    slices: list[Slice]
    small: list[Small]
    not_sliced: dict[str, str]


def of(material: Material, column: str | None = None) -> Sliced:
    """Every slice of the test rows, the worse ones first; of one column alone where it is named.

    Raises:
        Usage: no row has that column.
    """
    groups, not_sliced = _columns(material, column)
    big, small = [], []
    for name, values in groups.items():
        for value, rows in values.items():
            wrong = sum(not material.sheet.right[row] for row in rows)
            if len(rows) < FEWEST_ROWS:
                small.append(Small(name, value, len(rows), wrong))
            elif len(rows) < len(material.answered):
                big.append((name, value, rows))
    return Sliced(_tested(material, big), sorted(small, key=lambda one: -one.rows), not_sliced)


def _columns(material: Material, column: str | None) -> tuple[dict[str, dict[str, list[int]]], dict[str, str]]:
    """The rows of every value, by column; one with a single value has nothing to be set against."""
    made = {LENGTH: _lengths(material), SCRIPT: _scripts(material), CLASS: _classes(material)}
    found = {name: values for name, values in made.items() if values}
    left_out: dict[str, str] = {}
    known = sorted({name for row in material.columns for name in row if name not in material.output.schema_})
    if column is not None and column not in {*found, *known}:
        raise _unknown(column, [*found, *known])
    for name in known:
        values, why = _values(material, name, wanted=column == name)
        if why and name not in material.fields:
            left_out[name] = why
        # A column of the data that is called as one of ours goes by its own name, marked as the data's.
        found[f"{name} (data)" if name in made else name] = values
    if column is not None:
        found = {name: values for name, values in found.items() if name in (column, f"{column} (data)")}
    return {name: values for name, values in found.items() if len(values) > 1}, left_out


def _unknown(column: str, known: Sequence[str]) -> Usage:
    near = get_close_matches(column, known, n=1)
    listed = _("there are: {names}", names=", ".join(map(shown_name, known)))
    return Usage(
        _("no test row has a column {column}", column=shown_name(column)),
        mend=_("did you mean {name}?", name=shown_name(near[0])) if near else listed,
    )


def _values(material: Material, name: str, *, wanted: bool) -> tuple[dict[str, list[int]], str | None]:
    """The rows of each value of a column, and where it cannot be sliced why."""
    given = {row: columns[name] for row, columns in enumerate(material.columns) if columns.get(name) is not None}
    if given and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given.values()):
        numbers = {row: float(value) for row, value in given.items() if value == value}
        if len(set(numbers.values())) > _PARTS:
            return _quarters(numbers), None
    found: dict[str, list[int]] = defaultdict(list)
    for row, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict | list):
                return {}, _("its values are no plain ones")
            name_of = cut(one if isinstance(one, str) else str(one).lower(), 80)
            if row not in found[name_of][-1:]:
                found[name_of].append(row)
    if len(found) > MOST_VALUES and not wanted:
        return {}, _("it has {count} different values", count=len(found))
    if found and not wanted and max(map(len, found.values())) < FEWEST_ROWS:
        return {}, _("no value of it has {count} rows", count=FEWEST_ROWS)
    if len(found) > MOST_VALUES:
        commonest = sorted(found, key=lambda value: (-len(found[value]), value))[: MOST_VALUES * 10]
        found = defaultdict(list, {value: found[value] for value in commonest})
    return {value: found[value] for value in sorted(found)}, None


def _lengths(material: Material) -> dict[str, list[int]]:
    return _quarters({row: float(len(text)) for row, text in enumerate(material.texts)})


def _quarters(numbers: Mapping[int, float]) -> dict[str, list[int]]:
    """Four parts of about as many rows; fewer where many rows have the same number."""
    import numpy as np

    values = np.asarray(list(numbers.values()))
    edges = np.unique(np.quantile(values, [part / _PARTS for part in range(1, _PARTS)], method="lower"))
    places = np.searchsorted(edges, values, side="left")
    rows: dict[int, list[int]] = defaultdict(list)
    for row, place in zip(numbers, places, strict=True):
        rows[int(place)].append(row)
    return {_range([numbers[row] for row in rows[place]]): rows[place] for place in sorted(rows)}


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} – {high:.6g}"


def _scripts(material: Material) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(material.texts):
        name = languages.script(text)
        if name is not None:
            found[name].append(row)
    chinese = [name for name in ("Hans", "Hant") if name in found]
    if len(chinese) == 1 and "Hani" in found:
        # What could be either is what the others are.
        found[chinese[0]] = sorted([*found[chinese[0]], *found.pop("Hani")])
    return dict(sorted(found.items()))


def _classes(material: Material) -> dict[str, list[int]]:
    """Rows by what the right answer is, or has in it: labels, or types of entities and relations."""
    found: dict[str, list[int]] = defaultdict(list)
    for row, gold in enumerate(material.gold):
        if material.kind == "spans":
            names = {one.type for one in spans.mentions(gold)} | {name for _head, name, _tail in spans.triples(gold)}
        elif material.kind in ("label", "labels"):
            names = {gold} if isinstance(gold, str) else {*gold}
        else:
            names = set()
        for name in sorted(names):
            found[name].append(row)
    order = Counter({name: len(rows) for name, rows in found.items()})
    return {name: found[name] for name, _count in order.most_common()}


def _tested(material: Material, groups: Sequence[tuple[str, str, list[int]]]) -> list[Slice]:
    import numpy as np

    others = {column: _others(material, column) for column in dict.fromkeys(column for column, _name, _rows in groups)}
    sides = []
    for column, _name, rows in groups:
        inside = np.zeros(len(material.answered), dtype=bool)
        inside[rows] = True
        sides.append((inside, others[column] & ~inside))
    # Half the rows against the other half is one question, whichever half is asked about.
    asked = [frozenset((inside.tobytes(), rest.tobytes())) for inside, rest in sides]
    ps = {key: _p(material, *side) for key, side in zip(asked, sides, strict=True)}
    corrected = _holm(ps)
    found = [
        _slice(material, *group, side[1], ps[key], corrected[key])
        for group, side, key in zip(groups, sides, asked, strict=True)
        if side[1].any()
    ]
    return sorted(found, key=lambda one: (not one.worse, one.p_holm if one.worse else 1, one.score - one.rest))


def _others(material: Material, column: str) -> Any:
    """The rows a slice of a column is set against: one without any entity says nothing of the types of others."""
    import numpy as np

    if column != CLASS:
        return np.ones(len(material.answered), dtype=bool)
    any_class = np.zeros(len(material.answered), dtype=bool)
    any_class[[row for rows in _classes(material).values() for row in rows]] = True
    return any_class


def _slice(material: Material, column: str, name: str, rows: list[int], others: Any, p: float, p_holm: float) -> Slice:
    import numpy as np

    part = material.part(np.asarray(rows))
    metric = material.metric if material.metric in part.names else part.names[0]
    # F1 averaged over classes is another figure where a slice has one class only: how many are right says the same.
    metric = "accuracy" if column == CLASS and "accuracy" in part.names else metric
    score, rest = float(material.earned[rows].mean()), float(material.earned[others].mean())
    return Slice(
        column=column,
        name=name,
        rows=len(rows),
        wrong=sum(not right for right in part.right),
        metric=metric,
        value=float(part.figures()[metric]),
        interval=intervals.of(part).get(metric),
        score=score,
        rest=rest,
        p=p,
        p_holm=p_holm,
        worse=score < rest and p_holm < LEVEL,
    )


def _p(material: Material, inside: Any, rest: Any) -> float:
    """Two-sided; 1 where there is nothing to be set against."""
    import numpy as np
    from scipy import stats  # type: ignore[import-untyped]

    ours, theirs = material.earned[inside], material.earned[rest]
    if not len(theirs):
        return 1.0
    if np.isin(material.earned, (0.0, 1.0)).all():
        table = [[int(side.sum()), int(len(side) - side.sum())] for side in (ours, theirs)]
        return float(stats.fisher_exact(table)[1])
    return float(stats.mannwhitneyu(ours, theirs, method="asymptotic").pvalue)


def _holm(ps: Mapping[Any, float]) -> dict[Any, float]:
    """Holm's correction: the smallest p counts for as many as there are, the next for one less."""
    found, least = {}, 0.0
    for place, key in enumerate(sorted(ps, key=lambda key: ps[key])):
        least = max(least, min(1.0, ps[key] * (len(ps) - place)))
        found[key] = least
    return found
