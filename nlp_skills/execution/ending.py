"""The end of a run that could not record it itself."""

from __future__ import annotations

from nlp_skills import files
from nlp_skills.schema.version import RunState, RunStatus
from nlp_skills.workspace import digest, lifecycle, lock, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def record(
    folder: TaskFolder,
    version: VersionFolder,
    state: RunState,
    message: str,
    *,
    exit_code: int,
    wait_seconds: float = 10,
) -> RunStatus | None:
    """Write how a run ended, and let the task stand where it can go on.

    Returns:
        The status, or None where the run has said so itself, or goes on.
    """
    with lock.writing(folder, wait_seconds=wait_seconds):
        status = version.status()
        if status is None or status.state != "running" or runs.alive(status):
            return None
        end = {"state": state, "message": message, "exit_code": exit_code, "ended": files.now(), "eta_seconds": None}
        status = status.model_copy(update={**end, "step": runs.reached(version, status)})
        status.save(version.status_path)
        task = folder.task()
        if task.version == version.name and task.status == "training":
            lifecycle.move(folder, "configuring", f"training {version.name}: {message}")
        digest.write(folder)
    return status
