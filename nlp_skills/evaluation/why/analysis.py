"""Why a version fails, from its predictions and the splits; no model is asked."""

from __future__ import annotations

from nlp_skills.evaluation.why import confusions, doubts, errors, material, slices
from nlp_skills.evaluation.why.findings import Analysis
from nlp_skills.evaluation.why.material import Material
from nlp_skills.extras import need
from nlp_skills.i18n import _
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
    need("quality", "sklearn")
    read = material.read(folder, version)
    wrong = confusions.slips(read)
    sliced = slices.of(read, column)
    doubted, not_doubted = doubts.of(read)
    rows = errors.of(read, wrong, {doubt.line for doubt in doubted})
    return Analysis(
        task=read.task.task_name,
        version=read.version.name,
        kind=read.kind,
        metric=read.metric,
        value=read.results.metrics.get(read.metric),
        rows=len(read.answered),
        wrong=len(rows),
        unread=sum(answer is None for answer in read.predicted),
        confusions=confusions.ranked(read, wrong),
        slices=sliced.slices,
        small=sliced.small,
        not_sliced=sliced.not_sliced,
        errors=rows,
        near_misses=errors.near_misses(rows),
        doubts=doubted,
        notes=[*_notes(read), *([not_doubted] if not_doubted else [])],
    )


def _notes(read: Material) -> list[str]:
    found = []
    if read.missing:
        found.append(
            _("test rows that the version answered and that are gone from data/test.jsonl: {count}; their columns are "
              "not known", count=read.missing)
        )  # fmt: skip
    if not read.train:
        found.append(_("data/train.jsonl has no rows to set the errors beside"))
    if len(read.answered) < slices.FEWEST_ROWS * 2:
        found.append(_("{count} test rows are too few to say where the version is worse", count=len(read.answered)))
    return found
