"""What a run on another machine has cost: in status.json while it goes on, in the lineage once it is settled."""

from __future__ import annotations

import datetime as dt

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.schema.remote_job import RemoteJob
from nlp_skills.schema.version import LineageRun
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


def so_far(job: RemoteJob, now: dt.datetime | None = None) -> float | None:
    """US dollars for one job up to now, or to its end; None where nobody charges by the hour.

    What the machine was paid for counts, not what was computed: from the start of the job until its machine is given
    back. What is known of a job that is over (`cost_usd`) is taken as it is.
    """
    if job.state in ("fetched", "lost") and job.cost_usd is not None:
        return job.cost_usd
    if job.usd_per_hour is None:
        return job.cost_usd
    until = job.ended if job.state in ("fetched", "lost") else None
    hours = ((until or now or files.now()) - job.created).total_seconds() / 3600
    return round(max(job.cost_usd or 0.0, hours * job.usd_per_hour), 4)


def before(version: VersionFolder) -> float | None:
    """What this version's training has cost up to now, for a job that goes on with it (`RemoteJob.cost_before_usd`)."""
    try:
        recorded = version.lineage()
    except Problem:
        return None
    return recorded.run.cost_usd if recorded and recorded.run else None


def record(folder: TaskFolder, version: VersionFolder, job: RemoteJob) -> None:
    """Write into the lineage's `run:` where it ran and what it cost; doing it again changes nothing.

    To be called at home, when the section that the other machine made of the training is recorded here. Without a
    bill, only a price of the user's own table of GPUs makes hours a cost; nothing is guessed.

    Raises:
        Invalid: the lineage cannot be written.
    """
    recorded = version.lineage()
    if job.step != "train" or recorded is None or recorded.run is None:
        return
    run = recorded.run
    cost = _cost(run, job, resumed="resumed_at" in recorded.environment)
    if (run.place, run.cost_usd) != (job.place, cost):
        lineage.record(version, run=run.model_copy(update={"place": job.place, "cost_usd": cost}))


def _cost(run: LineageRun, job: RemoteJob, *, resumed: bool) -> float | None:
    bill = so_far(job)
    if bill is not None:
        return round(bill + (job.cost_before_usd or 0.0 if resumed else 0.0), 4)
    from nlp_skills.training.estimate import gpus

    price = gpus.own_price(run.device) if run.device and run.gpu_hours is not None else None
    return run.cost_usd if price is None or run.gpu_hours is None else round(run.gpu_hours * price, 4)
