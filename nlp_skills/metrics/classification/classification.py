"""Macro, micro and weighted F1, accuracy, balanced accuracy and MCC of one label a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One import a line: the loader of evaluate reads these lines itself.
import datasets
import evaluate

from nlp_skills import metrics
from nlp_skills.evaluation.scores import sheet


class Classification(evaluate.Metric):  # type: ignore[misc]
    """One label a row."""

    def _info(self) -> Any:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description="Macro, micro and weighted F1, accuracy, balanced accuracy and MCC of one label a row.",
            citation="",
            inputs_description="predictions, references: a label each; labels: every label there is.",
            features=features,
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[str] = (), intervals: bool = False
    ) -> dict[str, Any]:
        return metrics.figures(sheet.of("label", references, predictions, labels=labels), intervals=intervals)
