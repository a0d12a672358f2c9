"""How sure answers were, and whether rightly so: calibration, Brier's score, areas under curves, and whom to leave out.

Every figure can be had of many resamples of the rows at once, as those of a sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlp_skills.evaluation import metrics
from nlp_skills.schema.version import Bin, Curve

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats

BINS = 15
# Points of a curve that is drawn.
_POINTS = 200

CALIBRATION = ("ece", "brier")
AREAS = ("roc_auc", "average_precision")


@dataclass(frozen=True)
class Sureness:
    """Answers with their probabilities: of the answer given, of every label (rows, labels), and which are right.

    `positive`: whether a row is of the second of two labels; None where there are more or fewer.
    """

    names: tuple[str, ...]
    confidence: Floats
    right: Floats
    error: Floats
    positive: Floats | None
    score: Floats

    @classmethod
    def of(
        cls,
        gold: Sequence[str],
        predicted: Sequence[str | None],
        probabilities: Sequence[Mapping[str, float]],
        labels: Sequence[str],
    ) -> Sureness:
        """`probabilities` of each row are by label; a label that is missing has none."""
        import numpy as np

        table = np.asarray([[each.get(label, 0.0) for label in labels] for each in probabilities], dtype=np.float64)
        place = {label: column for column, label in enumerate(labels)}
        true = np.eye(len(labels))[[place[label] for label in gold]]
        given = [each.get(label, 0.0) if label else 0.0 for each, label in zip(probabilities, predicted, strict=True)]
        positive = true[:, 1] if len(labels) == 2 and len(set(gold)) == 2 else None
        return cls(
            names=CALIBRATION + (AREAS if positive is not None else ()),
            confidence=np.asarray(given, dtype=np.float64),
            right=np.asarray([a == b for a, b in zip(gold, predicted, strict=True)], dtype=np.float64),
            error=((table - true) ** 2).sum(axis=1),
            positive=positive,
            score=table[:, min(1, table.shape[1] - 1)],
        )

    def figures(self, times: Floats) -> dict[str, Floats]:
        """Every metric of `names`; `times` is (resamples, rows).

        `ece` is the mean distance between how sure and how often right over 15 bins of equal width, `brier` the summed
        squared error over all labels; the areas are of the second label against the first.
        """
        rows = times.sum(axis=-1)
        sure, right = (times @ part for part in self._binned()[:2])
        found = {
            "ece": metrics.divided(abs(sure - right).sum(axis=-1), rows),
            "brier": metrics.divided(times @ self.error, rows),
        }
        if self.positive is not None:
            found |= dict(zip(AREAS, _areas(self.score, self.positive, times), strict=True))
        return found

    def bins(self) -> list[Bin]:
        """The reliability plot: the bins that have rows."""
        sure, right, rows = (part.sum(axis=0) for part in self._binned())
        return [
            Bin(confidence=float(sure[place] / rows[place]), accuracy=float(right[place] / rows[place]), rows=int(n))
            for place, n in enumerate(rows)
            if n
        ]

    def curves(self) -> dict[str, Curve]:
        """`abstention`, and of two labels `roc` and `pr`."""
        found = {"abstention": self._abstention()}
        if self.positive is not None:
            hits, others = _ranked(self.score, self.positive)
            found["roc"] = _thinned([0.0, *(others / others[-1])], [0.0, *(hits / hits[-1])])
            found["pr"] = _thinned([0.0, *(hits / hits[-1])], [1.0, *(hits / (hits + others))])
            areas = self.figures(_all(self.score))
            for name, area in zip(("roc", "pr"), AREAS, strict=True):
                found[name] = found[name].model_copy(update={"area": float(areas[area][0])})
        return found

    def _abstention(self) -> Curve:
        """Accuracy of the answers that are left when the least sure are held back, over the share that is left."""
        hits, others = _ranked(self.confidence, self.right)
        kept = hits + others
        return _thinned([*(kept / kept[-1])], [*(hits / kept)])

    def _binned(self) -> tuple[Floats, Floats, Floats]:
        """Confidence, rightness and one for each row, in the column of its bin: (rows, bins) each."""
        import numpy as np

        # Each bin holds its upper edge, as is usual: 1 is in the last.
        place = np.clip(np.ceil(self.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        inside = np.eye(BINS)[place]
        return inside * self.confidence[:, None], inside * self.right[:, None], inside


def _all(score: Floats) -> Floats:
    import numpy as np

    return np.ones((1, len(score)))


def _ranked(score: Floats, positive: Floats, times: Floats | None = None) -> tuple[Floats, Floats]:
    """How many are positive, and how many not, at or above each distinct score, the highest first."""
    import numpy as np

    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    each = (_all(score) if times is None else times)[:, order]
    hits = np.cumsum(each * positive[order], axis=1)[:, last]
    others = np.cumsum(each, axis=1)[:, last] - hits
    return (hits, others) if times is not None else (hits[0], others[0])


def _areas(score: Floats, positive: Floats, times: Floats) -> tuple[Floats, Floats]:
    """The area under the ROC curve and the average precision of each resample; 0 where it has only one of the two."""
    import numpy as np

    hits, others = _ranked(score, positive, times)
    new_hits, new_others = (np.diff(part, axis=1, prepend=0.0) for part in (hits, others))
    area = (new_others * (hits - new_hits / 2)).sum(axis=1)
    precision = (new_hits * metrics.divided(hits, hits + others)).sum(axis=1)
    return metrics.divided(area, hits[:, -1] * others[:, -1]), metrics.divided(precision, hits[:, -1])


def _thinned(x: Sequence[float], y: Sequence[float]) -> Curve:
    import numpy as np

    places: Counts = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(np.int64))
    return Curve(x=[float(x[place]) for place in places], y=[float(y[place]) for place in places])
