"""F1, precision and recall of entities and relations: exact, by boundary, by type and partial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# One import a line: the loader of evaluate reads these lines itself.
import datasets
import evaluate

from nlp_skills import metrics
from nlp_skills.evaluation.scores import sheet
from nlp_skills.metrics.reading import answers


class Entities(evaluate.Metric):  # type: ignore[misc]
    """Entities and relations in texts."""

    def _info(self) -> Any:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description="F1, precision and recall of entities and relations: exact, by boundary, by type and partial.",
            citation="",
            inputs_description="predictions, references: an answer each, as JSON; texts: what the entities stand in.",
            features=features,
        )

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Any],
        texts: Sequence[str] | None = None,
        intervals: bool = False,
    ) -> dict[str, Any]:
        return metrics.figures(sheet.of("spans", *answers(references, predictions), texts=texts), intervals=intervals)
