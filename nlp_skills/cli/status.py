"""Where a task stands: what is stale and why, what runs, what to do next."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import elsewhere, frame, run_words
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlp_skills.data.staleness import Reason, Status
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.runs import Run


@frame.command(
    "status",
    help=N_(
        "Say what of the data is stale and why, how the current run stands, and what comes next. Exit 1: stale. "
        "With --watch: follow the run to its end; exit 0: completed, 1: failed or dead, 130: stopped."
    ),
    examples=["nlp-skills status", "nlp-skills status sentiment --json", "nlp-skills status --watch"],
)
@frame.task_argument
@frame.version_option
@frame.option("--watch", is_flag=True, help=N_("Follow the run until it has ended; Ctrl-C leaves it alone."))
@frame.option("--interval", type=click.FloatRange(min=0.1), metavar="SECONDS",
              help=N_("Between two looks; 1 in a terminal, 10 in a pipe."))  # fmt: skip
@frame.json_option
def status(folder: TaskFolder, version_name: str | None, watch: bool, interval: float | None, as_json: bool) -> int:
    from nlp_skills.data import staleness
    from nlp_skills.workspace import runs

    if interval is not None and not watch:
        raise click.UsageError(_("--interval goes with --watch"))
    jobs = elsewhere.glance(folder)
    if watch:
        return _watch(folder, version_name, interval, as_json)
    task = folder.task()
    found = staleness.stale(folder)
    run = runs.of(folder, folder.existing_version(version_name).name if version_name else task.version)
    going = [other for other in runs.of_task(folder).all if other.alive and other != run]
    about = {
        "ok": not found.stale,
        "task": task.task_name,
        "version": task.version,
        "state": task.status,
        "stale": found.stale,
        **_data(found),
        "run": run_words.as_dict(run) if run else None,
        "also_running": [run_words.as_dict(other) for other in going],
        "elsewhere": [job.dump() for job in jobs],
        "snapshot": staleness.against_snapshot(folder),
        "next": staleness.next_command(folder, found),
    }
    if as_json:
        frame.emit(about)
    else:
        _show(about, found, run, going)
        for line in elsewhere.lines(folder, jobs):
            frame.say(line)
    return 1 if found.stale else 0


def _watch(folder: TaskFolder, version_name: str | None, interval: float | None, as_json: bool) -> int:
    from nlp_skills.cli import watch
    from nlp_skills.workspace import runs

    run = runs.needed(folder, version_name)
    try:
        ended = watch.watch(run, interval, before=elsewhere.looks_of(run), quiet=as_json)
    except KeyboardInterrupt:
        frame.note(_("the run goes on; end it with: nlp-skills stop {task} --version {version}",
                     task=folder.root.name, version=run.version.name))  # fmt: skip
        return 130
    if as_json:
        frame.emit({"ok": ended.state == "completed", **run_words.as_dict(ended)})
    else:
        run_words.say(ended)
    return run_words.exit_code(ended)


def _data(found: Status) -> dict[str, Any]:
    hidden = ("sha256", "usable")
    return {
        "sources": [{k: v for k, v in asdict(state).items() if k not in hidden} for state in found.sources],
        "outputs": [asdict(output) for output in found.outputs],
        "waiting": {state.name: state.waiting for state in found.sources if state.waiting},
        "leftovers": found.leftovers,
    }


def _show(about: dict[str, Any], found: Status, run: Run | None, going: Sequence[Run]) -> None:
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
    if run:
        run_words.say(run)
    for other in going:
        frame.say(f"{other.version.name}: {run_words.summary(other)}")
    _show_snapshot(about["snapshot"])
    frame.say(_("next: {command}", command=about["next"]))


def _show_snapshot(snapshot: dict[str, Any] | None) -> None:
    if snapshot and snapshot["same"]:
        frame.say(_("data/ is what {version} was made with", version=snapshot["version"]))
    elif snapshot:
        names = ", ".join(snapshot["differing"])
        frame.say(_("not what {version} was made with: {names}", version=snapshot["version"], names=names))


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _state(reasons: Sequence[Reason]) -> str:
    if not reasons:
        return _("current")
    return _("stale: {why}", why=frame.listed([reason.words for reason in reasons]))
