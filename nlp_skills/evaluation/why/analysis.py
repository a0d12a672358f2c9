"""Why a version fails, from its predictions and the splits; no model is asked."""

from __future__ import annotations

from nlp_skills.evaluation.why.findings import Analysis
from nlp_skills.workspace.folder import TaskFolder


def of(folder: TaskFolder, version: str | None = None, *, column: str | None = None) -> Analysis:
    """Analyse a version's errors.

    Args:
        folder: the task.
        version: its name; the current one when left out.
        column: slice by this column alone, whatever number of values it has.

    Raises:
        Invalid: the version has no predictions or results yet, or they are broken.
        Usage: no test row has the column.
        Unavailable: the extra `quality` is missing.
    """
    raise NotImplementedError
