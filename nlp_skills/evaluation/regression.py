"""Whether a version lost what the one before could do: both on the test rows they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_skills.evaluation import predictions, significance
from nlp_skills.evaluation.judgement import Before
from nlp_skills.evaluation.subject import Subject
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def version_before(folder: TaskFolder, version: VersionFolder) -> VersionFolder | None:
    """The version that one was made from, as its lineage says."""
    made = version.lineage()
    return folder.version(made.parent) if made is not None and made.parent else None


def against_before(chosen: Subject, predicted: Sequence[Any]) -> Before | None:
    """The version before beside these answers; None where no regression is forbidden, or there is no version before.

    Raises:
        Invalid: predictions of the version before that are none.
    """
    earlier = version_before(chosen.folder, chosen.version)
    if chosen.criteria.max_regression is None or earlier is None:
        return None
    rows = [
        {"key": key, "gold": gold, "predicted": answer, "input": {name: row[name] for name in chosen.fields}}
        for key, gold, answer, row in zip(chosen.keys, chosen.gold, predicted, chosen.test, strict=True)
    ]
    known = earlier.results()
    theirs: list[dict[str, Any]] = []
    if earlier.predictions_path.is_file() and known is not None and known.kind == chosen.kind:
        theirs = predictions.load(earlier.predictions_path, chosen.kind)
    metric, language = chosen.criteria.primary_metric, chosen.task.language
    return Before(earlier.name, significance.compare_rows(theirs, rows, metric, kind=chosen.kind, language=language))
