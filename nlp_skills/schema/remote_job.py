"""A step of ours that another machine carries out, as this machine remembers it: .nlp-skills/jobs/train-v1.json."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from pydantic import Field

from nlp_skills.schema.document import Document

Step = Literal["train", "evaluate", "regenerate"]
# `starting`: on its way, perhaps not there yet. `ended`: over there, not all of it fetched. `lost`: nothing there
# knows of it any more, or its machine is gone.
JobState = Literal["starting", "running", "ended", "fetched", "lost"]


class RemoteJob(Document):
    """One job. `id` was chosen here before anything was sent, so that sending it again starts nothing twice.

    `place` is what people call the machine (user@server, or the cluster's name), `host` what SSH is given, `folder`
    the task's folder there, `workdir` the folder that everything of ours is in. `seen` is the last time that it
    answered, `trouble` what went wrong the last time that it did not. `cluster` and `usd_per_hour` are a cloud's;
    `cost_usd` is what this job cost, `cost_before_usd` what the training had cost before it. `checkpoint` is the step
    of the newest whole checkpoint, which stays there.
    """

    id: str
    type: Literal["remote_ssh", "cloud"]
    step: Step
    version: str
    place: str
    host: str
    workdir: str
    folder: str
    state: JobState
    arguments: list[str] = Field(default_factory=list)
    created: dt.datetime
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    seen: dt.datetime | None = None
    trouble: str | None = None
    exit_code: int | None = None
    how: str | None = None
    checkpoint: int | None = None
    cluster: str | None = None
    usd_per_hour: float | None = None
    cost_usd: float | None = None
    cost_before_usd: float | None = None
