"""The rows of a split, once they are known to be good."""

from __future__ import annotations

from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.merge import output_shape
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder


def load(folder: TaskFolder, split: str) -> list[dict[str, Any]]:
    """All rows of train, valid or test.

    Raises:
        Invalid: the file is not there, or a row in it is bad.
    """
    path, task = folder.split(split), folder.task()
    if not path.is_file():
        raise Invalid(_("file not found"), file=path, mend="nlp-skills regenerate")
    report = lines.check(path, task.input_fields, output_shape(task))
    fault = next((fault for fault in report["faults"] if fault["code"] not in lines.REMARKS), None)
    if fault is not None:
        raise Invalid(
            fault_words(fault["code"]),
            file=path,
            line=fault["line"],
            cause=fault["detail"],
            mend=_("nlp-skills validate lists all of them; bad rows: {count}", count=report["bad"]),
        )
    return list(lines.read(path))
