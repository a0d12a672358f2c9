"""chrF, BLEU, ROUGE and exact match of texts, cut into words as their language is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One import a line: the loader of evaluate reads these lines itself.
import datasets
import evaluate

from nlp_skills import metrics
from nlp_skills.evaluation.scores import sheet


class Texts(evaluate.Metric):  # type: ignore[misc]
    """Generated texts."""

    def _info(self) -> Any:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description="chrF, BLEU, ROUGE and exact match of texts, cut into words as their language is.",
            citation="",
            inputs_description="predictions, references: a text each; language: such as en or zh, else letters decide.",
            features=features,
        )

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        language: str | None = None,
        intervals: bool = False,
    ) -> dict[str, Any]:
        return metrics.figures(sheet.of("text", references, predictions, language=language), intervals=intervals)
