"""Whether a stopped run has something to go on from."""

from __future__ import annotations

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import VersionFolder
from nlp_skills.workspace.runs import Run


def refuse(version: VersionFolder, run: Run | None, *, hopeless: bool = False) -> None:
    """Refuse to go on with a run that goes on, is complete, or has left no checkpoint that is worth it.

    `hopeless`: its last checkpoints lead to the same end.

    Raises:
        Invalid: with what to do instead.
    """
    names = {"task": version.task_root.name, "version": version.name}
    if run is not None and run.alive:
        raise runs.busy(version, run.status)
    if run is not None and run.state == "completed":
        raise Invalid(
            _("the training of {version} is complete; there is nothing to go on with", version=version.name),
            mend=_("measure it: nlp-skills evaluate {task} --version {version}", **names),
        )
    if hopeless:
        raise Invalid(
            _("going on with {version} from its last checkpoint would end the same way", version=version.name),
            file=version.status_path,
            cause=run.status.message if run else None,
            mend=_("lower learning_rate, then begin anew: nlp-skills train {task} --version {version}", **names),
        )
    if run is None or run.checkpoint is None:
        raise Invalid(
            _("there is no checkpoint of {version} to go on from", version=version.name),
            file=version.checkpoints,
            mend=_("train it from the start: nlp-skills train {task} --version {version}", **names),
        )
