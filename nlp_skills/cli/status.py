"""Where a task stands: what is stale and why, what runs, what to do next."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlp_skills.data.staleness import Reason, Status
    from nlp_skills.schema.version import RunStatus
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@frame.command(
    "status",
    help=N_("Say what of the data is stale and why, how the current run stands, and what comes next. Exit 1: stale."),
    examples=["nlp-skills status", "nlp-skills status sentiment --json"],
)
@frame.task_argument
@frame.json_option
def status(folder: TaskFolder, as_json: bool) -> int:
    from nlp_skills.data import staleness

    task = folder.task()
    found = staleness.stale(folder)
    about = {
        "ok": not found.stale,
        "task": task.task_name,
        "version": task.version,
        "state": task.status,
        "stale": found.stale,
        **_data(found),
        "run": _run(folder.version()),
        "snapshot": staleness.against_snapshot(folder),
        "next": staleness.next_command(folder, found),
    }
    if as_json:
        frame.emit(about)
    else:
        _show(about, found)
    return 1 if found.stale else 0


def _data(found: Status) -> dict[str, Any]:
    hidden = ("sha256", "usable")
    return {
        "sources": [{k: v for k, v in asdict(state).items() if k not in hidden} for state in found.sources],
        "outputs": [asdict(output) for output in found.outputs],
        "waiting": {state.name: state.waiting for state in found.sources if state.waiting},
        "leftovers": found.leftovers,
    }


def _run(version: VersionFolder) -> dict[str, Any] | None:
    """The last run of the version; one that says it runs and does not is `killed`."""
    from nlp_skills.workspace import runs

    last: RunStatus | None = version.status()
    if last is None:
        return None
    state = "killed" if last.state == "running" and not runs.alive(last) else last.state
    keys = ("kind", "step", "total_steps", "eta_seconds", "ended", "message")
    return {"state": state, **{key: value for key, value in last.dump().items() if key in keys}}


def _show(about: dict[str, Any], found: Status) -> None:
    frame.say(_("{task} {version}: {state}", task=about["task"], version=about["version"], state=about["state"]))
    sources = [[s.name, s.type, _or_dash(s.rows), _or_dash(s.fetched), _state(s.reasons)] for s in found.sources]
    if sources:
        frame.table((_("source"), _("type"), _("rows"), _("fetched"), _("state")), sources, right=[2])
    outputs = [[output.name, _or_dash(output.rows), _state(output.reasons)] for output in found.outputs]
    frame.table((_("output"), _("rows"), _("state")), outputs, right=[1])
    for name, count in about["waiting"].items():
        frame.say(_("source {name}: rows that wait for review: {count}", name=name, count=count))
    if about["leftovers"]:
        frame.warn([_("raw files of sources that are no more: {names}", names=", ".join(about["leftovers"]))])
    _show_version(about)
    frame.say(_("next: {command}", command=about["next"]))


def _show_version(about: dict[str, Any]) -> None:
    if run := about["run"]:
        frame.say(_run_words(run))
    snapshot = about["snapshot"]
    if snapshot and snapshot["same"]:
        frame.say(_("data/ is what {version} was made with", version=snapshot["version"]))
    elif snapshot:
        names = ", ".join(snapshot["differing"])
        frame.say(_("not what {version} was made with: {names}", version=snapshot["version"], names=names))


def _run_words(run: dict[str, Any]) -> str:
    at = {"step": run.get("step", 0), "total": run.get("total_steps", 0)}
    if run["state"] == "running" and run.get("eta_seconds"):
        return _("running: step {step} of {total}, {seconds:.0f} s left", seconds=run["eta_seconds"], **at)
    words = {
        "running": _("running: step {step} of {total}", **at),
        "completed": _("the last run was completed: step {step} of {total}", **at),
        "interrupted": _("the last run was stopped at step {step} of {total}", **at),
        "failed": _("the last run failed at step {step} of {total}", **at),
        "killed": _("the last run was killed at step {step} of {total}", **at),
    }[run["state"]]
    return f"{words}: {run['message']}" if run.get("message") else words


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _state(reasons: Sequence[Reason]) -> str:
    if not reasons:
        return _("current")
    return _("stale: {why}", why=frame.listed([reason.words for reason in reasons]))
