"""F1 over the values of answers that are objects, and how many answers are right as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One import a line: the loader of evaluate reads these lines itself.
import datasets
import evaluate

from nlp_skills import metrics
from nlp_skills.evaluation.scores import sheet
from nlp_skills.metrics.reading import answers


class Fields(evaluate.Metric):  # type: ignore[misc]
    """Answers that are objects."""

    def _info(self) -> Any:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description="F1 over the values of answers that are objects, and how many answers are right as a whole.",
            citation="",
            inputs_description="predictions, references: an answer each, as JSON; what is no JSON counts as wrong.",
            features=features,
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], intervals: bool = False
    ) -> dict[str, Any]:
        return metrics.figures(sheet.of("fields", *answers(references, predictions)), intervals=intervals)
