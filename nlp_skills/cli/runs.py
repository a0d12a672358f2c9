"""runs, logs, stop and resume: what goes on in a workspace, what it says, ending it, going on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import elsewhere, frame, offers, run_words
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nlp_skills.schema.remote_job import RemoteJob
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.runs import Run

_RECENT_DAYS = 7


@frame.command(
    "runs",
    help=N_(
        "List the last run of every version of every task: those that go on first, then the newest. A run whose "
        "process is gone is dead; of one on another computer it is said when it was last heard of."
    ),
    examples=["nlp-skills runs", "nlp-skills runs --all", "nlp-skills runs --fetch --json"],
)
@frame.option("--all", "everything", is_flag=True, help=N_("Also those that ended more than a week ago."))
@frame.option("--fetch", is_flag=True, help=N_("Take the time to fetch what has ended on other machines."))
@frame.json_option
def runs(everything: bool, fetch: bool, as_json: bool) -> None:
    from nlp_skills.cli.tasks import say_broken
    from nlp_skills.workspace import locate
    from nlp_skills.workspace import runs as found_by

    root = locate.project_root()
    jobs = _jobs(root, elsewhere.FETCH_SECONDS if fetch else elsewhere.GLANCE_SECONDS)
    found = found_by.every(root)
    shown = found.all if everything else found_by.recent(found.all, _RECENT_DAYS)
    if as_json:
        problems = [problem.as_dict() for problem in found.problems]
        listed = [run_words.as_dict(run) for run in shown]
        frame.emit({"ok": True, "root": str(root), "runs": listed, "older": len(found.all) - len(shown),
                    "elsewhere": [{"task": folder.root.name, **job.dump()} for folder, job in jobs],
                    "unreadable": problems})  # fmt: skip
        return
    if shown:
        _table(shown)
    else:
        frame.say(_("no run goes on, and none ended within a week"))
    for run in shown:
        if run.alive:
            for hint in run_words.hints(run):
                frame.say(f"{run.folder.root.name} {run.version.name}: {hint}")
    for folder, job in jobs:
        for line in elsewhere.lines(folder, [job]):
            frame.say(f"{folder.root.name}: {line}")
    if len(found.all) > len(shown):
        frame.say(_("older runs: {count} (--all shows them)", count=len(found.all) - len(shown)))
    say_broken(found.problems, _("runs that cannot be read: {count}"))


def _jobs(root: Path, seconds: float) -> list[tuple[TaskFolder, RemoteJob]]:
    """The open jobs of all tasks; the servers are looked at all at once."""
    from concurrent.futures import ThreadPoolExecutor

    from nlp_skills.workspace import locate, remote_jobs
    from nlp_skills.workspace.folder import TaskFolder

    folders = [TaskFolder(path.resolve()) for path in locate.find(root)]
    busy = [folder for folder in folders if remote_jobs.open_ones(folder)]
    if not busy:
        return []
    with ThreadPoolExecutor(len(busy)) as pool:
        looked = list(pool.map(lambda folder: elsewhere.glance(folder, seconds), busy))
    return [(folder, job) for folder, jobs in zip(busy, looked, strict=True) for job in jobs]


def _table(shown: list[Run]) -> None:
    charged = any(run_words.cost(run) is not None for run in shown)
    columns = [_("Task"), _("Version"), _("Kind"), _("State"), _("Step"), _("Loss"), _("Valid"), _("Left"),
               _("Memory"), _("Since"), *([_("Cost ($)")] if charged else []), _("Where")]  # fmt: skip
    frame.table(columns, [_cells(run, charged=charged) for run in shown], right=[4, 5, 7, 8])


def _cells(run: Run, *, charged: bool) -> list[str]:
    from nlp_skills.cli.tasks import one_line

    status = run.status
    return [
        one_line(run.folder.root.name),
        run.version.name,
        _("training") if status.kind == "train" else _("evaluation"),
        run_words.state(run) + (f" ({status.reason})" if status.reason else ""),
        f"{status.step}/{status.total_steps}",
        run_words.figure(status.loss),
        run_words.valid(status),
        run_words.span(status.eta_seconds) if run.state == "running" else "-",
        run_words.memory(status),
        run_words.local(status.started),
        *([run_words.money(run_words.cost(run)) or "-"] if charged else []),
        run_words.where(run),
    ]


@frame.command(
    "logs",
    help=N_(
        "Show what a run said. A detached run writes to run/output.log what others show in the terminal; of a run "
        "that was started in a terminal there is what the libraries said (run/train.log)."
    ),
    examples=["nlp-skills logs", "nlp-skills logs sentiment --version v2 -f", "nlp-skills logs --libraries -n 200"],
)
@frame.task_argument
@frame.version_option
@frame.option("-f", "--follow", is_flag=True, help=N_("Go on showing what it says until it has ended."))
@frame.option("-n", "--lines", type=click.IntRange(min=0), default=40, show_default=True,
              help=N_("How many lines from the end."))  # fmt: skip
@frame.option("--libraries", is_flag=True, help=N_("What the libraries said (run/train.log)."))
@frame.json_option
def logs(
    folder: TaskFolder, version_name: str | None, follow: bool, lines: int, libraries: bool, as_json: bool
) -> None:
    from nlp_skills.errors import Invalid
    from nlp_skills.execution import output
    from nlp_skills.workspace import runs as found_by

    if follow and as_json:
        raise click.UsageError(_("--follow and --json do not go together"))
    elsewhere.glance(folder)
    run = found_by.chosen(folder, version_name)
    version = run.version if run else folder.existing_version(version_name)
    path = output.of(version, libraries=libraries)
    if path is None:
        raise Invalid(
            _("no run of {version} has said anything yet", version=version.name),
            file=version.run,
            mend=_("train it: nlp-skills train {task} --version {version}",
                   task=folder.root.name, version=version.name),
        )  # fmt: skip
    found, end = output.tail(path, lines)
    if as_json:
        state = run.state if run else None
        frame.emit({"ok": True, "task": folder.root.name, "version": version.name, "state": state,
                    "file": str(path), "lines": found})  # fmt: skip
        return
    if path != version.output_path and not libraries:
        frame.note(_("this run was started in a terminal, where its words went; here is what the libraries said"))
    for line in found:
        frame.say(line)
    if follow:
        look = elsewhere.looks_of(run) if run else lambda: None
        for line in output.follow(path, end, lambda: _goes_on(folder, version.name, look)):
            frame.say(line)


def _goes_on(folder: TaskFolder, name: str, look: Callable[[], None]) -> bool:
    from nlp_skills.workspace import runs as found_by

    look()
    run = found_by.of(folder, name)
    return run is not None and not found_by.over(run.status)


@frame.command(
    "stop",
    help=N_(
        "End a run: it finishes its step, saves a checkpoint and ends, and this waits for it. "
        "Exit 1: nothing runs, or it has not ended in time. What was stopped goes on with: nlp-skills resume"
    ),
    examples=["nlp-skills stop", "nlp-skills stop sentiment --version v2", "nlp-skills stop --now"],
)
@frame.task_argument
@frame.version_option
@frame.option("--now", is_flag=True, help=N_("End it at once, without a checkpoint; earlier ones stay."))
@frame.option("--timeout", type=click.FloatRange(min=0), default=600.0, show_default=True, metavar="SECONDS",
              help=N_("How long to wait for its end."))  # fmt: skip
@frame.json_option
def stop(folder: TaskFolder, version_name: str | None, now: bool, timeout: float, as_json: bool) -> None:
    from nlp_skills.execution import stopping
    from nlp_skills.workspace import runs as found_by

    job = elsewhere.meant(folder, version_name)
    if job is not None:
        elsewhere.stop(folder, job, now, timeout, as_json)
        return
    run = found_by.chosen(folder, version_name)
    if run is None:
        raise stopping.nothing_runs(folder.root.name, version_name or folder.version().name)
    ended = stopping.stop(run, now=now, timeout=timeout, tell=frame.note)
    if as_json:
        frame.emit({"ok": True, **run_words.as_dict(ended)})
    else:
        run_words.say(ended)


@frame.command(
    "resume",
    help=N_(
        "Go on with a stopped or dead run from its last checkpoint. Data, settings and base model must be as they "
        "were. Exit 1: there is no checkpoint, the run goes on, or it is complete."
    ),
    examples=["nlp-skills resume", "nlp-skills resume sentiment --version v2 --detach"],
)
@frame.task_argument
@frame.version_option
@frame.option("--detach", is_flag=True, help=N_("Let it run on its own, also when this terminal closes."))
@offers.yes_option
@frame.json_option
def resume(folder: TaskFolder, version_name: str | None, detach: bool, as_json: bool) -> int:
    from nlp_skills.cli import training
    from nlp_skills.execution import resuming
    from nlp_skills.training import health
    from nlp_skills.workspace import runs as found_by

    version = folder.existing_version(version_name)
    options: dict[str, Any] = {"again": False, "detach": detach, "track": False, "as_json": as_json}
    if elsewhere.is_meant(folder, "train", version.name):
        elsewhere.refuse_to_resume(version)
        return training.carry_out(folder, version.name, **options)
    run = found_by.of(folder, version.name)
    resuming.refuse(version, run, hopeless=run is not None and health.hopeless(run.status))
    return training.carry_out(folder, version.name, **options)
