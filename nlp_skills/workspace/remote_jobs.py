"""The steps of a task that other machines carry out: .nlp-skills/jobs/STEP-VERSION.json, the last one of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nlp_skills.errors import Problem
from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.workspace.folder import TaskFolder


def path(folder: TaskFolder, step: Step, version: str) -> Path:
    """Where the last job of this step of this version is kept."""
    return folder.state / "jobs" / f"{step}-{version}.json"


def keep(folder: TaskFolder, job: RemoteJob) -> RemoteJob:
    """Write a job down, whole, in place of the one before; returns it."""
    job.save(path(folder, job.step, job.version))
    return job


def of(folder: TaskFolder, step: Step, version: str) -> RemoteJob | None:
    """The last job of this step of this version.

    Raises:
        Invalid: the file cannot be read.
    """
    place = path(folder, step, version)
    return RemoteJob.load(place) if place.is_file() else None


def every(folder: TaskFolder) -> Iterator[RemoteJob]:
    """The last job of every step and version; what cannot be read is left out."""
    for place in sorted((folder.state / "jobs").glob("*.json")):
        try:
            yield RemoteJob.load(place)
        except Problem:
            continue


def open_ones(folder: TaskFolder) -> list[RemoteJob]:
    """Those that may go on over there, or have something to fetch."""
    return [job for job in every(folder) if job.state in ("starting", "running", "ended")]
