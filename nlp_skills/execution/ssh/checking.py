"""What a server has, what will be installed there, and what would stop a run: asked without changing anything."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nlp_skills.data.findings import Finding, passed
from nlp_skills.errors import Invalid, Problem
from nlp_skills.execution.ssh import environment
from nlp_skills.execution.ssh.refusals import Unreachable, last_line
from nlp_skills.execution.ssh.server import Server, beginning
from nlp_skills.i18n import _
from nlp_skills.schema.task import Execution
from nlp_skills.workspace.folder import TaskFolder

# A clock that is off by more than this spoils what is said of when a run was last heard of.
SKEW_SECONDS = 30.0
# Below the first nothing can be made there; below the second the packages with torch for a GPU may not fit.
NO_SPACE_GB, LITTLE_SPACE_GB = 1.0, 12.0
_SYSTEMS = ("Linux", "Darwin")
# Of Python, for nlp-skills itself; what answers here is content with an older one.
OLDEST = (3, 11)


@dataclass(frozen=True)
class Report:
    """What was found. `machine` is the agent's probe, `jobs` ours there, `plan` what will be installed.

    `chosen` are the GPUs a run would use, as nvidia-smi numbers them. `skew_seconds`: how far the clock there is
    ahead; 0 where the time that its answer took explains the difference.
    """

    host: str
    user: str
    address: str
    open_seconds: float
    answer_seconds: float
    skew_seconds: float
    machine: dict[str, Any]
    jobs: list[dict[str, Any]]
    chosen: list[int]
    plan: environment.Plan | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing that was found would stop a run."""
        return passed(self.findings)

    def and_also(self, *findings: Finding) -> Report:
        """The same, with what others found out from it."""
        return dataclasses.replace(self, findings=[*self.findings, *findings])

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": self.ok,
            **vars(self),
            "plan": self.plan.as_dict() if self.plan else None,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def check(folder: TaskFolder | None, server: Server, execution: Execution) -> Report:
    """Look at a server; for a task also at what its environment there would be.

    Raises:
        Unreachable: it does not answer.
        Unavailable: it does, and does not let us in, or has no Python that could answer.
    """
    begun = time.monotonic()
    server.link.run(["true"])
    opened = time.monotonic()
    server.link.run(["true"])
    answered = time.monotonic()
    workdir = server.workdir
    before = time.time()
    machine = server.glance("probe", "probe", workdir=workdir)
    after = time.time()
    options = server.link.options
    chosen, wrong = _chosen(machine["gpus"], execution)
    plan, unplanned = _plan(folder, server, execution)
    unplanned = unplanned or list(_of_the_python(server, execution.python))
    report = Report(
        host=server.link.host,
        user=str(options["user"]),
        address=f"{options['hostname']}:{options['port']}",
        open_seconds=round(opened - begun, 3),
        answer_seconds=round(answered - opened, 4),
        skew_seconds=round(_skew(machine["time"], before, after), 1),
        machine=machine,
        jobs=server.glance("jobs", "jobs", workdir=workdir)["jobs"],
        chosen=chosen,
        plan=plan,
    )
    found = [
        *_of_the_disk(report),
        *_of_the_system(report),
        *wrong,
        *_of_the_gpus(report),
        *unplanned,
        *_of_jobs(report),
    ]
    return report.and_also(*found)


def before_a_run(server: Server, execution: Execution) -> list[str]:
    """Who else is on the GPUs that a run is about to use, a line each.

    Raises:
        Invalid: the GPUs that task.yaml chooses are not there; a run would compute on the processor instead.
    """
    machine = server.glance("probe", "probe", workdir=server.workdir)
    chosen, wrong = _chosen(machine["gpus"], execution)
    for finding in wrong:
        raise Invalid(finding.message, cause=finding.cause, mend=finding.mend)
    return [f"{finding.message}; {finding.mend}" for finding in _occupied(machine["gpus"], chosen)]


def _plan(
    folder: TaskFolder | None, server: Server, execution: Execution
) -> tuple[environment.Plan | None, list[Finding]]:
    if folder is None:
        return None, []
    try:
        plan = environment.plan(folder, server, execution.python)
    except Unreachable:
        raise
    except Problem as problem:
        return None, [_finding("error", "environment", problem.message, cause=problem.cause, mend=problem.mend)]
    if plan.failed and not plan.ready:
        text = _("the last time, the environment could not be made there: {why}", why=plan.failed)
        return plan, [_finding("warning", "environment", text, mend=_("the next run tries it again"))]
    return plan, []


def _of_the_python(server: Server, python: str | None) -> Iterator[Finding]:
    """Whether the interpreter that task.yaml names is one that a run can begin in."""
    if python is None:
        return
    said = server.link.run([*beginning(python), "-I", "-c", "import sys; print(*sys.version_info[:3])"])
    mend = _("correct execution.python, or leave it out: an environment is made there then")
    if said.code:
        text = _("execution.python does not run there: {python}", python=python)
        yield _finding("error", "python", text, cause=last_line(said.err) or None, mend=mend)
    elif tuple(map(int, said.out.split())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        text = _("execution.python is {found} there, and {oldest} is needed",
                 found=".".join(said.out.split()), oldest=oldest)  # fmt: skip
        yield _finding("error", "python", text, mend=mend)


def _skew(there: float, before: float, after: float) -> float:
    """How far ahead the clock there is, beyond what the way of the answer explains."""
    return there - after if there > after else there - before if there < before else 0.0


def _chosen(gpus: list[dict[str, Any]], execution: Execution) -> tuple[list[int], list[Finding]]:
    """The GPUs that `cuda_devices` and `gpus` choose, and what is wrong with that."""
    said, several = execution.cuda_devices, execution.gpus or 1
    there = [int(gpu["index"]) for gpu in gpus if gpu["index"] is not None]
    found, wrong = there, []
    if said is not None:
        words = [word.strip() for word in said.split(",") if word.strip()]
        places = [_place(word, gpus) for word in words]
        # Parts of a GPU have names that nvidia-smi does not list here.
        strange = [
            word
            for word, place in zip(words, places, strict=True)
            if place is None and word != "-1" and not word.startswith("MIG-")
        ]
        found = [place for place in places if place is not None]
        if strange:
            names = ", ".join(map(str, there)) or _("none")
            text = _("cuda_devices names a GPU that is not there: {names}", names=", ".join(strange))
            cause, mend = _("GPUs there: {names}", names=names), _("correct execution.cuda_devices in task.yaml")
            wrong.append(_finding("error", "gpu", text, cause=cause, mend=mend))
    if several > max(1, len(found)) and not wrong:
        wrong.append(
            _finding("error", "gpu", _("execution.gpus asks for {count} GPUs, and {there} can be used there",
                                       count=several, there=len(found)),
                     mend=_("set execution.gpus to what is there, or choose more by execution.cuda_devices"))
        )  # fmt: skip
    return found[:several], wrong


def _place(word: str, gpus: list[dict[str, Any]]) -> int | None:
    """A GPU's index by what CUDA_VISIBLE_DEVICES would call it: its index, or the beginning of its UUID."""
    for gpu in gpus:
        if word == str(gpu["index"]) or (word.startswith("GPU-") and str(gpu["uuid"]).startswith(word)):
            return int(gpu["index"])
    return None


def _of_the_disk(report: Report) -> Iterator[Finding]:
    disk = report.machine["workdir"]
    elsewhere = _("set execution.workdir to a folder that can be written there")
    if not disk["folder"]:
        text = _("there is a file where our folder should be: {path}", path=disk["nearest"])
        yield _finding("error", "disk", text, mend=elsewhere)
    elif not disk["writable"]:
        yield _finding("error", "disk", _("{path} cannot be written", path=disk["nearest"]), mend=elsewhere)
    if disk["free"] is None:
        return
    free = disk["free"] / 1e9
    text = _("little space is left there: {free:.1f} GB", free=free)
    if free < NO_SPACE_GB:
        yield _finding("error", "disk", text, mend=_("free some space there, or set execution.workdir to another disk"))
    elif free < LITTLE_SPACE_GB and not (report.plan and report.plan.ready):
        mend = _("torch for GPUs takes several GB; free some space, or see what we left there: nlp-skills remote clean")
        yield _finding("warning", "disk", text, mend=mend)


def _of_the_system(report: Report) -> Iterator[Finding]:
    if report.machine["system"] not in _SYSTEMS:
        text = _("{system} is no system that we run on", system=str(report.machine["system"]))
        yield _finding("error", "system", text, mend=_("use a server with Linux or macOS"))
    if abs(report.skew_seconds) > SKEW_SECONDS:
        text = _("the clock there is off by {seconds:.0f} s", seconds=report.skew_seconds)
        yield _finding("warning", "clock", text, mend=_("set it there: sudo timedatectl set-ntp true"))


def _of_the_gpus(report: Report) -> Iterator[Finding]:
    trouble = report.machine["gpu_trouble"]
    if trouble is not None:
        mend = _("ask whoever runs it to see to the driver; without it a run computes on the processor")
        yield _finding("error", "gpu", _("nvidia-smi is there and fails"), cause=trouble, mend=mend)
    yield from _occupied(report.machine["gpus"], report.chosen)


def _occupied(gpus: list[dict[str, Any]], chosen: list[int]) -> Iterator[Finding]:
    free = [gpu["index"] for gpu in gpus if gpu["index"] not in (None, *chosen) and not gpu["processes"]]
    mend = _("wait, or agree with them who uses it when")
    if free:
        mend = _("wait, or choose another GPU: execution.cuda_devices: {index}", index=f'"{free[0]}"')
    for gpu in gpus:
        if gpu["index"] in chosen and gpu["processes"]:
            who = ", ".join(_who(process) for process in gpu["processes"])
            text = _("GPU {index} is in use: {who}", index=gpu["index"], who=who)
            yield _finding("warning", "occupied", text, mend=mend)


def _who(process: dict[str, Any]) -> str:
    user, used = process["user"] or "?", process["used"]
    if used is None:
        return _("{user} (process {pid})", user=user, pid=process["pid"])
    return _("{user} (process {pid}) with {gb:.1f} GB", user=user, pid=process["pid"], gb=used / 1e9)


def _of_jobs(report: Report) -> Iterator[Finding]:
    going = [job["id"] for job in report.jobs if job["state"] in ("running", "starting")]
    if going:
        text = _("other jobs of ours run there: {names}", names=", ".join(going))
        yield _finding(
            "warning", "jobs", text, mend=_("they share its memory with the next one; nlp-skills runs lists them")
        )


def _finding(severity: Any, code: str, message: str, *, cause: str | None = None, mend: str | None = None) -> Finding:
    return Finding(severity, code, message, cause=cause, mend=mend)
