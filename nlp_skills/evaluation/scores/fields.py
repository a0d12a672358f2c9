"""A sheet of answers that are objects: which properties, down to single values, are as they should be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores.sheet import EXACT, PARSED, Sheet, shared_cells

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

NAMES = ("field_f1", EXACT, PARSED)

Answer = Mapping[str, Any]


def sheet(gold: Sequence[Answer], predicted: Sequence[Answer | None]) -> Sheet:
    """`classes` are the properties. A value counts by where it stands; in a list, wherever it stands there."""
    names = tuple(dict.fromkeys(name for answer in gold for name in answer))
    columns, right = [], []
    for true, given in zip(gold, predicted, strict=True):
        ours = {name: (values(true.get(name)), values((given or {}).get(name))) for name in names}
        hits = [(a & b).total() for a, b in ours.values()]
        others = sum(values(value).total() for name, value in (given or {}).items() if name not in ours)
        right.append(same(true, given))
        answered, support = [b.total() for _a, b in ours.values()], [a.total() for a, _b in ours.values()]
        columns.append([*hits, *answered, *support, others, right[-1], given is not None, 1])
    cells, cell_of = shared_cells(columns, 3 * len(names) + 4)
    return _Fields(
        kind="fields",
        names=NAMES,
        classes=names,
        right=right,
        readable=[given is not None for given in predicted],
        cells=cells,
        cell_of=cell_of,
    )


def same(true: Any, given: Any) -> bool:
    """Whether two answers say the same, whatever the order of keys: 1 and 1.0 are one number, true is none."""
    return json.dumps(_plain(true), sort_keys=True) == json.dumps(_plain(given), sort_keys=True)


def values(value: Any) -> Counter[str]:
    """The single values of a property, by where they stand; null and what is empty are no values."""
    return Counter(json.dumps([at, _plain(leaf)], sort_keys=True) for at, leaf in _leaves(value, ()))


def _leaves(value: Any, at: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (*at, str(key)))
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, (*at, "[]"))
    elif value is not None and value != "":
        yield at, value.strip() if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True, kw_only=True)
class _Fields(Sheet):
    def of_sums(self, sums: Floats) -> dict[str, Floats]:
        hits, answered, support = (part.sum(axis=-1) for part in self.margins(sums))
        others, right, readable, rows = (sums[..., place] for place in (-4, -3, -2, -1))
        return {
            "field_f1": metrics.divided(2 * hits, answered + others + support),
            EXACT: metrics.divided(right, rows),
            PARSED: metrics.divided(readable, rows),
        }
