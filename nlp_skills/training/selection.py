"""Which of a run's epochs is kept, and when there is no point in going on: by the primary metric of the valid split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nlp_skills.training.job import Job


@dataclass(frozen=True)
class Selection:
    """Measures the model on the valid split; `key` is the figure that decides, as the trainer's log names it."""

    key: str

    def measure(self, model: Any) -> dict[str, float]:
        """The valid split's figures by their names in the log (`eval_macro_f1`), the model left as it was."""
        raise NotImplementedError

    def exhausted(self, log: list[dict[str, Any]]) -> bool:
        """Whether the metric has not risen for so long that the run ends; `log` is the trainer's own history."""
        raise NotImplementedError


def of(job: Job, tokenizer: Any) -> Selection | None:
    """None where config.yaml asks for no early stopping: the epoch with the lowest loss is then kept."""
    return None
