"""Sheets of rows that have one label, or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlp_skills.evaluation import metrics
from nlp_skills.evaluation.scores.sheet import PARSED, Ranked, Sheet
from nlp_skills.schema.version import ConfusionMatrix

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

SEVERAL = tuple(name for name in metrics.NAMES if name != "mcc")


def one(
    gold: Sequence[str],
    predicted: Sequence[str | None],
    labels: Sequence[str] = (),
    probabilities: Sequence[Mapping[str, float] | None] | None = None,
) -> Sheet:
    """A label a row. What is no label, or could not be read, is a class of its own that no row has."""
    import numpy as np

    from nlp_skills.evaluation.scores import probabilities as sure

    known = tuple(labels) or tuple(sorted({*gold, *(label for label in predicted if label is not None)}))
    place = {label: column for column, label in enumerate(known)}
    size = len(known) + 1
    true = np.asarray([place[label] for label in gold], dtype=np.int64)
    given = np.asarray([place.get(label, size - 1) if label else size - 1 for label in predicted], dtype=np.int64)
    pairs, cell_of = np.unique(true * size + given, return_inverse=True)
    one_hot = np.eye(size)
    of_true, of_given = one_hot[pairs // size], one_hot[pairs % size]
    readable = [label is not None for label in predicted]
    ranked: tuple[Ranked, ...] = ()
    if probabilities is not None and all(probabilities):
        ranked = (sure.Sureness.of(gold, predicted, [each or {} for each in probabilities], known),)
    return _One(
        kind="label",
        names=(*metrics.NAMES, *((PARSED,) if not all(readable) else ()), *(n for part in ranked for n in part.names)),
        classes=known,
        right=[a == b for a, b in zip(gold, predicted, strict=True)],
        readable=readable,
        cells=_columns(of_true * of_given, of_given, of_true),
        cell_of=cell_of.reshape(-1),
        shares=frozenset({"accuracy", "micro_f1", PARSED}),
        ranked=ranked,
    )


def of_matrix(matrix: ConfusionMatrix) -> Sheet:
    """The sheet of rows of which only the confusions are known."""
    cells = [
        (true, given, count)
        for true, counts in zip(matrix.labels, matrix.counts, strict=True)
        for given, count in zip(matrix.labels, counts, strict=True)
    ]
    gold = [true for true, _given, count in cells for _row in range(count)]
    return one(gold, [given for _true, given, count in cells for _row in range(count)], matrix.labels)


def several(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str] | None], labels: Sequence[str] = ()
) -> Sheet:
    """Any number of labels a row."""
    import numpy as np

    known = tuple(labels) or tuple(sorted({label for each in (*gold, *predicted) for label in each or ()}))
    place = {label: column for column, label in enumerate(known)}
    pairs = [(frozenset(a), None if b is None else frozenset(b)) for a, b in zip(gold, predicted, strict=True)]
    # In their order, so that the same rows in another order draw the same samples.
    ordered = sorted({*pairs}, key=lambda pair: (sorted(pair[0]), pair[1] is None, sorted(pair[1] or ())))
    number = {pair: cell for cell, pair in enumerate(ordered)}
    cell_of = np.asarray([number[pair] for pair in pairs], dtype=np.int64)
    true, given = (np.zeros((len(number), len(known))) for _side in range(2))
    for cell, (a, b) in enumerate(number):
        true[cell, [place[label] for label in a]] = 1
        given[cell, [place[label] for label in b or () if label in place]] = 1
    readable = [each is not None for each in predicted]
    return _Several(
        kind="labels",
        names=(*SEVERAL, *((PARSED,) if not all(readable) else ())),
        classes=known,
        right=[a == b for a, b in pairs],
        readable=readable,
        cells=np.hstack(
            [true * given, given, true, [[a == b, b is not None, 1] for a, b in number]],
        ).astype(np.float64),
        cell_of=cell_of,
        shares=frozenset({"accuracy", PARSED}),
    )


def _columns(hits: Floats, answered: Floats, support: Floats) -> Floats:
    """The counts of a cell: of each class as `Sheet` says, then of the answers that are no class."""
    import numpy as np

    found: Floats = np.hstack([hits[:, :-1], answered[:, :-1], support[:, :-1], answered[:, -1:]])
    return found


@dataclass(frozen=True, kw_only=True)
class _One(Sheet):
    def of_sums(self, sums: Floats) -> dict[str, Floats]:
        import numpy as np

        hits, answered, support = self.margins(sums)
        unread = sums[..., -1:]
        # The class that no row has counts where answers are set against truths as wholes.
        nothing = np.zeros_like(unread)
        pairs = ((hits, nothing), (answered, unread), (support, nothing))
        hits, answered, support = (np.concatenate(pair, axis=-1) for pair in pairs)
        figures = metrics.figures_from_margins(hits, answered, support, np.append(self.present, False))
        if PARSED in self.names:
            figures[PARSED] = 1 - metrics.divided(sums[..., -1], support.sum(axis=-1))
        return figures


@dataclass(frozen=True, kw_only=True)
class _Several(Sheet):
    def of_sums(self, sums: Floats) -> dict[str, Floats]:
        hits, answered, support = self.margins(sums)
        figures = metrics.figures_from_margins(hits, answered, support, self.present)
        both = answered.sum(axis=-1) + support.sum(axis=-1)
        figures["micro_f1"] = metrics.divided(2 * hits.sum(axis=-1), both)
        figures["accuracy"] = metrics.divided(sums[..., -3], sums[..., -1])
        figures[PARSED] = metrics.divided(sums[..., -2], sums[..., -1])
        return {name: figures[name] for name in self.names}
