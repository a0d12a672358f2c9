"""remote: the server that a task's steps run on: what is there, and removing what we put there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlp_skills.execution.ssh.checking import Report
    from nlp_skills.execution.ssh.cleaning import Cleaning
    from nlp_skills.execution.ssh.server import Server
    from nlp_skills.schema.task import Execution
    from nlp_skills.training.estimate.verdict import Estimate
    from nlp_skills.workspace.folder import TaskFolder


@click.group(
    "remote",
    cls=frame.LazyGroup,
    lazy={"check": f"{__name__}:check", "clean": f"{__name__}:clean"},
    help=N_("Look at the server that a task's steps run on; remove from it what we put there."),
)
def remote() -> None:
    """The group; its text is in `help`, where it can be translated."""


def _place_options(function: Any) -> Any:
    """Which server: the task's, or one by its name before there is a task."""
    for decorate in (
        frame.option("--python", metavar="PATH", help=N_("A Python there, instead of execution.python.")),
        frame.option("--workdir", metavar="DIR", help=N_("Our folder there, instead of execution.workdir.")),
        frame.option("--host", metavar="USER@SERVER",
                     help=N_("A server instead of the task's; no task is needed then.")),
        click.argument("name", metavar="[TASK]", required=False),
    ):  # fmt: skip
        function = decorate(function)
    return function


@frame.command(
    "check",
    help=N_(
        "Look at the server: the link, disk, GPUs and who is on them, Python, what will be installed, the clock, and "
        "whether the training fits. Nothing is changed there. Exit 1: something would stop a run; 3: not reachable."
    ),
    examples=[
        "nlp-skills remote check",
        "nlp-skills remote check sentiment --json",
        "nlp-skills remote check --host user@gpu-server --workdir /data/me/nlp-skills",
    ],
)
@_place_options
@frame.json_option
def check(name: str | None, host: str | None, workdir: str | None, python: str | None, as_json: bool) -> int:
    from nlp_skills.execution.ssh import checking

    folder, wanted = _place(name, host, workdir, python)
    if wanted.type == "cloud":
        return _cloud(folder, wanted, as_json)
    server = _server(wanted)
    with server.link:
        report = checking.check(folder, server, wanted)
    estimate, why_not = _estimate(folder, report) if folder else (None, None)
    report = report.and_also(*_of_the_estimate(estimate))
    if as_json:
        told = {"estimate": estimate.as_dict() if estimate else None, "not_estimated": why_not}
        frame.emit({**report.as_dict(), **told})
    else:
        _show(folder, report, estimate, why_not)
    return 0 if report.ok else 1


def _place(
    name: str | None, host: str | None, workdir: str | None, python: str | None
) -> tuple[TaskFolder | None, Execution]:
    from nlp_skills.errors import Usage
    from nlp_skills.schema.task import Execution
    from nlp_skills.workspace import locate

    folder = locate.task(name) if name or not host else None
    wanted = folder.task().execution if folder else Execution()
    if host is None and wanted.type == "local":
        assert folder is not None
        raise Usage(
            _("{task} runs on this computer", task=folder.root.name),
            file=folder.task_path,
            mend=_("name a server: --host user@server; or set execution.type to remote_ssh, and execution.host"),
        )
    given = {"type": "remote_ssh" if host else None, "host": host, "workdir": workdir, "python": python}
    changed = {key: value for key, value in given.items() if value is not None}
    return folder, _changed(wanted, changed)


def _changed(wanted: Execution, changed: dict[str, Any]) -> Execution:
    """The same with other settings, checked as task.yaml's are."""
    from pydantic import ValidationError

    from nlp_skills.errors import Usage
    from nlp_skills.schema.task import Execution

    try:
        return Execution.model_validate({**wanted.model_dump(exclude_none=True), **changed})
    except ValidationError as error:
        first = error.errors()[0]
        raise Usage(str(first["msg"]).removeprefix("Value error, ")) from error


def _server(wanted: Execution) -> Server:
    from nlp_skills.execution.ssh.connection import Connection
    from nlp_skills.execution.ssh.server import Server

    assert wanted.host is not None
    return Server(Connection(wanted.host), wanted.workdir, python=wanted.python)


def _cloud(folder: TaskFolder | None, wanted: Execution, as_json: bool) -> int:
    """A machine that is rented for a run is not there to be looked at; the program that rents it is."""
    from nlp_skills.execution.cloud import skypilot, task_file

    if folder is not None:
        task_file.refuse(folder, wanted)
    skypilot.check(wanted.provider)
    usd = skypilot.usd_per_hour(wanted)
    if as_json:
        frame.emit({"ok": True, "provider": wanted.provider, "gpu": wanted.gpu, "usd_per_hour": usd})
        return 0
    frame.say(_("{provider}: a machine is rented for each run; there is none to look at before",
                provider=wanted.provider or "-"))  # fmt: skip
    if usd is not None:
        frame.say(_("{gpu}: {usd:.2f} dollars an hour", gpu=wanted.gpu or "-", usd=usd))
    frame.say(_("SkyPilot is here; whether it has an account there: {command}", command="sky check"))
    return 0


def _estimate(folder: TaskFolder, report: Report) -> tuple[Estimate | None, str | None]:
    """Whether the training fits there, or why this computer cannot say."""
    from nlp_skills import extras
    from nlp_skills.errors import Problem
    from nlp_skills.training import preflight
    from nlp_skills.training.estimate import gate, probed

    if not (extras.installed("torch") and extras.installed("transformers")):
        return None, _("torch is not installed here; the run estimates it there before it begins")
    try:
        version = preflight.configured(folder)
        where = probed.machine(report.machine, report.chosen)
        return gate.of_version(folder, version, gate.Asked(machine=where)), None
    except Problem as problem:
        return None, problem.message


def _of_the_estimate(found: Estimate | None) -> list[Any]:
    from nlp_skills.data.findings import Finding
    from nlp_skills.training.estimate import gate

    if found is None or found.verdict not in ("too big", "tight"):
        return []
    low, high = found.between
    values = {"low": low, "high": high, "free": found.free_gb or 0.0}
    if found.verdict == "tight":
        return [Finding("warning", "memory", gate.tight(found))]
    text = _("the training does not fit there: {low:.1f} to {high:.1f} GB, and {free:.1f} GB are free", **values)
    mend = _("see what would make it smaller: nlp-skills estimate --list")
    return [Finding("error", "memory", text, cause=gate.by_part(found), mend=mend)]


def _show(folder: TaskFolder | None, report: Report, estimate: Estimate | None, why_not: str | None) -> None:
    rows = [*_of_the_link(report), *_of_the_machine(report), *_of_the_gpus(report), *_of_the_environment(report)]
    if folder is not None:
        rows.append((_("training"), _fits(estimate) if estimate else _("not estimated: {why}", why=why_not or "")))
    frame.table([_("what"), _("found")], [(what, _seen(value)) for what, value in rows])
    for finding in report.findings:
        mark = _("error:") if finding.severity == "error" else _("warning:")
        frame.say(f"{mark} {_seen(finding.message)}")
        if finding.cause:
            frame.say(f"  {_('cause:')} {_seen(finding.cause)}")
        if finding.mend:
            frame.say(f"  {_('mend:')} {_seen(finding.mend)}")
    frame.say(_("a run can begin there") if report.ok else _("something would stop a run there"))


def _seen(text: str) -> str:
    """What a server says of itself, with nothing in it that a terminal would obey."""
    from nlp_skills.cli.tasks import one_line

    return one_line(text)


def _of_the_link(report: Report) -> Iterator[tuple[str, str]]:
    answer = _("an answer takes {ms:.0f} ms", ms=report.answer_seconds * 1000)
    opened = _("the link was made in {seconds:.1f} s", seconds=report.open_seconds)
    machine = report.machine
    yield _("server"), frame.listed([f"{report.user}@{report.address} ({machine['hostname']})", opened, answer])
    skew = report.skew_seconds
    ahead = _("{seconds:.1f} s ahead", seconds=skew) if skew > 0 else _("{seconds:.1f} s behind", seconds=-skew)
    yield _("clock"), ahead if abs(skew) >= 1 else _("as here")


def _of_the_machine(report: Report) -> Iterator[tuple[str, str]]:
    machine, disk = report.machine, report.machine["workdir"]
    yield _("disk"), _("{free} GB free at {path}", free=_gb(disk["free"]), path=disk["path"])
    yield _("processor"), _("{name}; cores: {cores}", name=machine["processor"] or "?", cores=machine["cores"])
    memory = machine["memory"]
    yield _("memory"), _("{free} of {total} GB free", free=_gb(memory["free"]), total=_gb(memory["total"]))


def _of_the_gpus(report: Report) -> Iterator[tuple[str, str]]:
    gpus = report.machine["gpus"]
    if not gpus:
        none = _("none; a run computes on the processor")
        yield _("GPU"), _("nvidia-smi fails") if report.machine["gpu_trouble"] else none
        return
    for gpu in gpus:
        parts = [
            _("{name}: {free} of {total} GB free", name=gpu["name"], free=_gb(gpu["free"]), total=_gb(gpu["total"]))
        ]
        parts += [_("busy {percent}%", percent=gpu["busy"])] if gpu["busy"] is not None else []
        parts += [_("chosen")] if gpu["index"] in report.chosen else []
        yield _("GPU {index}", index=gpu["index"]), frame.listed(parts)
        for one in gpu["processes"]:
            values = {"user": one["user"] or "?", "gb": _gb(one["used"]), "name": one["name"], "pid": one["pid"]}
            yield "", _("{user}: {gb} GB, {name}, process {pid}", **values)
    yield _("driver"), _("{driver}; CUDA up to {cuda}", driver=gpus[0]["driver"], cuda=report.machine["cuda"] or "?")


def _of_the_environment(report: Report) -> Iterator[tuple[str, str]]:
    machine, plan = report.machine, report.plan
    yield _("Python"), f"{machine['python']['version']} ({machine['python']['path']})"
    uv = machine["uv"]
    yield (
        "uv",
        f"{uv['version'] or '?'} ({uv['path']})" if uv else _("not there; it is brought along where it is needed"),
    )
    if plan is not None:
        packages = ", ".join(f"{name} {version}" for name, version in plan.packages.items())
        said = (
            _("is there: {packages}", packages=packages)
            if plan.ready
            else _("will be made: {packages}", packages=packages)
        )
        yield _("environment"), frame.listed([said, plan.path])
    running = [job["id"] for job in report.jobs if job["state"] in ("running", "starting")]
    yield _("our jobs"), _("running: {names}; kept: {count}", names=", ".join(running) or "-", count=len(report.jobs))


def _fits(found: Estimate) -> str:
    low, high = (_figure(value) for value in found.between)
    if found.free_gb is None:
        return _("needs {low} to {high} GB on {machine}", low=low, high=high, machine=found.machine.name)
    values = {"low": low, "high": high, "free": _figure(found.free_gb), "machine": found.machine.name}
    return {
        "fits": _("fits on {machine}: {low} to {high} GB of {free} GB", **values),
        "tight": _("may not fit on {machine}: {low} to {high} GB of {free} GB", **values),
        "too big": _("does not fit on {machine}: {low} to {high} GB, and there are {free} GB", **values),
    }[found.verdict]


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _gb(value: int | None) -> str:
    return "?" if value is None else f"{value / 1e9:.1f}"


@frame.command(
    "clean",
    help=N_(
        "Remove from the server what we put there: copies of tasks, environments, base models, records of jobs. It "
        "shows first what would go, and asks. Nothing goes while something of ours runs there."
    ),
    examples=[
        "nlp-skills remote clean --dry-run",
        "nlp-skills remote clean sentiment --yes",
        "nlp-skills remote clean --host user@gpu-server --everything",
    ],
)
@_place_options
@frame.option("--everything", is_flag=True, help=N_("Our folder itself too, with our programs."))
@frame.option("--dry-run", is_flag=True, help=N_("Only say what would go."))
@frame.option("--yes", is_flag=True, help=N_("Do not ask."))
@frame.json_option
def clean(
    name: str | None,
    host: str | None,
    workdir: str | None,
    python: str | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from nlp_skills.execution.ssh import cleaning

    if not (dry_run or yes):
        _refuse_in_a_script(as_json)
    folder, wanted = _place(name, host, workdir, python)
    if wanted.type == "cloud":
        _refuse_rented()
    server = _server(wanted)
    with server.link:
        plan = cleaning.plan(server, everything=everything, folder=folder)
        if not as_json:
            _show_cleaning(plan)
        if dry_run:
            done = None
        else:
            if plan.items and not yes:
                click.confirm(_("Remove this?"), abort=True)
            done = cleaning.clean(server, plan)
    if as_json:
        frame.emit({"ok": True, "plan": plan.as_dict(), "removed": done.as_dict() if done else None})
    elif done is not None:
        frame.say(_("{gb} GB came back", gb=_gb(done.bytes)))
        frame.warn([_("still there: {path}", path=_seen(path)) for path in done.left])


def _refuse_in_a_script(as_json: bool) -> None:
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        from nlp_skills.errors import Usage

        mend = _("look first with --dry-run, then repeat the command with --yes")
        raise Usage(_("nobody can be asked here"), mend=mend)


def _refuse_rented() -> None:
    from nlp_skills.errors import Usage

    raise Usage(
        _("a rented machine is given back with all that is on it"),
        mend=_("see what is rented: sky status; give it back: sky down CLUSTER"),
    )


def _show_cleaning(plan: Cleaning) -> None:
    if not plan.items:
        frame.say(_("nothing of ours is in {path}", path=_seen(plan.workdir)))
        return
    rows = [[_seen(item.path), _seen(item.why), _gb(item.bytes)] for item in plan.items]
    frame.table([_("path"), _("what"), "GB"], rows, right=[2])
    if plan.running:
        frame.warn([_("running there: {names}", names=", ".join(map(_seen, plan.running)))])
