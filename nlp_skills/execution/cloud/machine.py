"""Machines rented for one run: proposed with their price, launched, reached by SSH, replaced when lost, given back."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from nlp_skills import files, i18n
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.execution.cloud import offer, skypilot, task_file
from nlp_skills.execution.cloud.offer import Offer
from nlp_skills.execution.ssh.connection import Connection, Unreachable
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.progress import Tell
from nlp_skills.schema import yaml
from nlp_skills.schema.remote_job import RemoteJob, Step
from nlp_skills.schema.task import Execution
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

WORKDIR = "~/nlp-skills"
_THERE = "~/sky_workdir"
_LOOK_SECONDS = 5.0
# What the step is told of this computer's environment where it is set; never a secret.
_PASSED_ON = ("NLP_SKILLS_DETERMINISTIC", "HF_HUB_OFFLINE")


class CloudMachine:
    """See `execution.machine.Machine`."""

    def __init__(self, wanted: Execution) -> None:
        self.wanted = wanted

    def propose(self, folder: TaskFolder, version: VersionFolder, step: Step, arguments: Sequence[str]) -> RemoteJob:
        """The job as it will be, its price shown and agreed to; configs/sky/vN.yaml as it will be launched.

        Raises:
            Usage: nobody agreed.
            Invalid: what is asked for cannot be had, or a budget that nobody could keep.
            Unavailable: SkyPilot, or what the machine's environment is made from, is missing.
        """
        wanted = self.wanted
        skypilot.check(wanted.provider)
        _refuse_uneven(version, wanted, step)
        _refuse_without_project(folder)
        task_file.put(folder, version, wanted)
        cluster = task_file.cluster(folder, version)
        free = not task_file.rented(wanted)
        price = None if free else skypilot.usd_per_hour(wanted)
        if wanted.budget_usd is not None and price is None:
            raise _no_price(folder, wanted, free)
        offer.agree(
            Offer(
                cluster=cluster,
                provider=str(wanted.provider),
                gpu=wanted.gpu,
                spot=wanted.spot,
                nodes=wanted.nodes,
                usd_per_hour=price,
                free=free,
                budget_usd=wanted.budget_usd,
                max_hours=wanted.max_hours,
                idle_minutes=task_file.IDLE_MINUTES,
            )
        )
        return RemoteJob(
            id=f"{step}-{version.name}-{secrets.token_hex(4)}",
            type="cloud",
            step=step,
            version=version.name,
            place=f"{wanted.provider}:{cluster}",
            host=cluster,
            workdir=wanted.workdir or WORKDIR,
            folder=_THERE,
            state="starting",
            arguments=list(arguments),
            created=files.now(),
            cluster=cluster,
            usd_per_hour=price,
        )

    def begin(
        self,
        folder: TaskFolder,
        version: VersionFolder,
        step: Step,
        arguments: Sequence[str],
        job: RemoteJob,
        tell: Tell,
    ) -> RemoteJob:
        """Rent the machines and hand the job in, unless that is done; wait until it has begun there.

        A job that had begun on a machine that is gone begins again on another one, from the bucket.
        """
        cluster = _cluster(job)
        queued = skypilot.job(cluster, job.id) if skypilot.state(cluster) == "UP" else None
        if queued is None or queued.get("status") not in (*skypilot.GOING, "SUCCEEDED"):
            tell(_("renting {cluster} from {provider}; this takes minutes",
                   cluster=cluster, provider=str(self.wanted.provider)))  # fmt: skip
            self._forget(job)
            _keys(cluster).unlink(missing_ok=True)
            given = _given(step, arguments, job)
            skypilot.launch(folder.root, task_file.path(version), cluster, job.id, given)
            skypilot.state(cluster)
        self._wait(job, tell)
        with (server := self.server(job)).link:
            known = server.ask("jobs", workdir=job.workdir)["jobs"]
        there = next((str(one["cwd"]) for one in known if one["id"] == job.id), job.folder)
        tell(_("started on {place}", place=job.place))
        return job.model_copy(
            update={"state": "running", "started": job.started or files.now(), "folder": there, "trouble": None}
        )

    def _forget(self, job: RemoteJob) -> None:
        """A first machine that outlived the others still tells of how the job broke."""
        with contextlib.suppress(Problem), (server := self.server(job)).link:
            server.ask("forget", workdir=job.workdir, id=job.id)

    def _wait(self, job: RemoteJob, tell: Tell) -> None:
        """Until the first machine has begun with it: making its environment takes minutes."""
        cluster, told = _cluster(job), False
        while True:
            try:
                with (server := self.server(job)).link:
                    if server.ask("poll", workdir=job.workdir, id=job.id)["state"] != "none":
                        return
            except Unreachable:
                if skypilot.state(cluster) is None:
                    raise
            queued = skypilot.job(cluster, job.id)
            if queued is not None and queued.get("status") not in (*skypilot.GOING, "SUCCEEDED"):
                raise Unavailable(
                    _("the machine was rented, and could not begin: {status}", status=str(queued["status"])),
                    cause=skypilot.log(cluster, int(queued["job_id"])) or None,
                    mend=_("it goes away by itself after {minutes} min of idleness; at once: sky down {cluster}",
                           minutes=task_file.IDLE_MINUTES, cluster=cluster),
                )  # fmt: skip
            if not told:
                tell(_("the machine is there and makes its environment"))
                told = True
            time.sleep(_LOOK_SECONDS)

    def server(self, job: RemoteJob) -> Server:
        return Server(Connection(_cluster(job), first_seen=_keys(_cluster(job))), job.workdir)

    def gone(self, job: RemoteJob) -> str | None:
        """A cluster of which no machine is up any more was taken back, or went away because it was idle."""
        try:
            state = skypilot.state(_cluster(job))
        except Problem:
            return None  # nobody says that it is gone
        if state in ("UP", "AUTOSTOPPING", "PENDING"):
            return None
        return "the machine was taken back or given back" if state is None else f"the machine is gone ({state})"

    def _outlives(self, folder: TaskFolder, job: RemoteJob) -> bool:
        return bool(task_file.storage(folder, folder.version(job.version), self.wanted))

    def close(self, folder: TaskFolder, job: RemoteJob, tell: Tell) -> RemoteJob:
        """Give the machines back; what they cost is by the clock and the price that was agreed to.

        Where a checkpoint is nowhere but on them, they are left to go away by themselves.
        """
        cluster = _cluster(job)
        if job.checkpoint is not None and job.exit_code and not self._outlives(folder, job):
            tell(
                _("{cluster} is left for {minutes} min: the checkpoint is nowhere else; to go on: nlp-skills resume",
                  cluster=cluster, minutes=task_file.IDLE_MINUTES)
            )  # fmt: skip
            return job
        skypilot.down(cluster)
        _keys(_cluster(job)).unlink(missing_ok=True)
        tell(_("{cluster} is given back", cluster=cluster))
        if job.usd_per_hour is None:
            return job
        hours = (dt.datetime.now().astimezone() - job.created).total_seconds() / 3600
        return job.model_copy(update={"cost_usd": round(hours * job.usd_per_hour, 4)})


def _cluster(job: RemoteJob) -> str:
    assert job.cluster is not None
    return job.cluster


def _keys(cluster: str) -> Path:
    """The key that a cluster showed first, for as long as it is there."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "nlp-skills" / "clusters" / cluster


def _given(step: Step, arguments: Sequence[str], job: RemoteJob) -> dict[str, str]:
    """What the machines are told of this job beside their file."""
    return {
        "NLP_SKILLS_STEP": step,
        "NLP_SKILLS_ARGUMENTS": json.dumps(list(arguments)),
        "NLP_SKILLS_JOB": job.id,
        "NLP_SKILLS_USD_PER_HOUR": "" if job.usd_per_hour is None else str(job.usd_per_hour),
        "NLP_SKILLS_LANG": i18n.language(),
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
    }


def _refuse_uneven(version: VersionFolder, wanted: Execution, step: Step) -> None:
    """Rows of a step that the GPUs could not share are told before any of them is rented."""
    together, rows = wanted.nodes * wanted.devices, version.config().effective_batch
    if step == "train" and rows % together:
        raise Invalid(
            _("a step of {rows} rows cannot be shared evenly by {processes} GPUs", rows=rows, processes=together),
            file=version.config_path,
            cause=_("a step has batch_size × gradient_accumulation rows, on however many devices"),
            mend=_("make batch_size × gradient_accumulation {number}", number=-(-rows // together) * together),
        )


def _refuse_without_project(folder: TaskFolder) -> None:
    """The machine makes its environment from the task's own project file and the wheel beside it."""
    project = folder.root / "pyproject.toml"
    if not project.is_file() or not list((folder.root / "vendor").glob("nlp_skills-*.whl")):
        raise Invalid(
            _("the task has no project file to make the machine's environment from"),
            file=project,
            mend=_("make it: nlp-skills generate {task}", task=folder.root.name),
        )


def _no_price(folder: TaskFolder, wanted: Execution, free: bool) -> Invalid:
    """A budget in money is a promise that nobody could keep."""
    cause = _("it takes no money by the hour") if free else _("SkyPilot's catalogue gives none, or cannot be had now")
    return Invalid(
        _("budget_usd cannot be kept: there is no price of {gpu} from {provider}",
          gpu=wanted.gpu or _("a machine without a GPU"), provider=str(wanted.provider)),
        file=folder.task_path,
        line=yaml.read(folder.task_path).lines.get(("execution", "budget_usd")),
        cause=cause,
        mend=_("set execution.max_hours in place of budget_usd"),
    )  # fmt: skip
