"""Macro, micro and weighted F1 of any number of labels a row, and how many rows are all right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One import a line: the loader of evaluate reads these lines itself.
import datasets
import evaluate

from nlp_skills import metrics
from nlp_skills.evaluation.scores import sheet


class MultiLabel(evaluate.Metric):  # type: ignore[misc]
    """Several labels a row."""

    def _info(self) -> Any:
        features = datasets.Features(
            {
                "predictions": datasets.Sequence(datasets.Value("string")),
                "references": datasets.Sequence(datasets.Value("string")),
            }
        )
        return evaluate.MetricInfo(
            description="Macro, micro and weighted F1 of any number of labels a row, and how many rows are all right.",
            citation="",
            inputs_description="predictions, references: the labels of each row; labels: every label there is.",
            features=features,
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[str] = (), intervals: bool = False
    ) -> dict[str, Any]:
        return metrics.figures(sheet.of("labels", references, predictions, labels=labels), intervals=intervals)
