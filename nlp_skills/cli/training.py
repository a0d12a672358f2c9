"""preflight and train: check what would be trained, and train it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame, offers
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.schema.version import RunStatus
    from nlp_skills.training.preflight import Preflight
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "preflight",
    help=N_(
        "Check what would be trained. Shows one row as the model will see it, with the part it learns marked, "
        "and refuses what would train well and work badly: cut answers, a missing end of turn, test rows in train."
    ),
    examples=["nlp-skills preflight", "nlp-skills preflight sentiment --version v2 --json"],
)
@frame.task_argument
@frame.version_option
@frame.json_option
def preflight(folder: TaskFolder, version_name: str | None, as_json: bool) -> int:
    from nlp_skills.training import lengths
    from nlp_skills.training import preflight as gate
    from nlp_skills.training.estimate import gate as memory

    checked = memory.with_memory(folder, gate.check(folder, version_name))
    if as_json:
        frame.emit(checked.as_dict())
    else:
        _show(checked, frame.say)
        if checked.lengths and checked.max_length:
            frame.say(lengths.advice(checked.lengths, checked.max_length))
        if checked.ok:
            frame.say(_("ready to train {version}", version=checked.version))
        else:
            frame.show_problem(checked.problem())
    return 0 if checked.ok else 1


def _show(checked: Preflight, write: Any) -> None:
    """The example, the token counts and the warnings."""
    if checked.example:
        write(_("one row as the model sees it, what it learns between ⟦ and ⟧:"))
        write(f"  {checked.example}")
    for split, counts in checked.lengths.items():
        write(
            _(
                "{split}: rows {rows}, tokens {tokens}, learnt {loss_tokens}; a row has {min} to {max}, "
                "half of them up to {median}, 95 of 100 up to {p95}",
                split=split,
                **counts,
            )
        )
    for finding in checked.findings:
        if finding.severity == "warning":
            write(f"{_('warning:')} {finding.where}: {finding.message}" if finding.where else finding.message)
            if finding.cause:
                write(f"  {_('cause:')} {finding.cause}")
            if finding.mend:
                write(f"  {_('mend:')} {finding.mend}")


@frame.command(
    "train",
    help=N_(
        "Fine-tune a version. Checks first, shows progress, and after Ctrl-C goes on where it stopped "
        "when run again; a version that is complete is left as it is. With --detach it outlives this terminal."
    ),
    examples=[
        "nlp-skills train",
        "nlp-skills train sentiment --version v2",
        "nlp-skills train --again",
        "nlp-skills train --detach",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option("--again", is_flag=True, help=N_("Train from the start, also over a complete or stopped training."))
@frame.option(
    "--detach",
    is_flag=True,
    help=N_("Check here, then let it run on its own, also when this terminal closes; see status --watch, logs, stop."),
)
@frame.option("--track", is_flag=True, help=N_("Show live curves in Trackio."))
@offers.yes_option
@frame.json_option
def train(folder: TaskFolder, version_name: str | None, again: bool, detach: bool, track: bool, as_json: bool) -> int:
    return carry_out(folder, version_name, again=again, detach=detach, track=track, as_json=as_json)


def carry_out(
    folder: TaskFolder, version_name: str | None, *, again: bool, detach: bool, track: bool, as_json: bool
) -> int:
    """Train here, start a run of its own, or train where `execution` says; returns the exit code."""
    from nlp_skills.cli import elsewhere

    if elsewhere.is_meant(folder, "train", version_name):
        if track:
            frame.note(_("the curves are kept there and here; Trackio shows those of runs on this machine only"))
        words = ["--again"] * again
        return elsewhere.carry_out(folder, version_name, "train", words, as_json=as_json, detach=detach)
    from nlp_skills.training import curves
    from nlp_skills.training import train as training

    checked: list[Preflight] = []

    def on_checked(result: Preflight) -> None:
        checked.append(result)
        _show(result, frame.note)

    def on_stop() -> None:
        frame.note(_("stopping after this step, saving a checkpoint; Ctrl-C again stops at once"))

    _say_what_runs_beside(folder, version_name)
    if detach:
        status = training.check(folder, version_name, resume=not again, track=track, on_checked=on_checked)
        if status is None:
            return _detached(folder, version_name, again=again, track=track, as_json=as_json)
    else:
        again_or_on = {"resume": not again, "track": track}
        status = training.train(folder, version_name, **again_or_on, on_checked=on_checked, on_stop=on_stop)
    version = folder.version(version_name)
    if as_json:
        info = version.model_info()
        place = info and (info.adapter_path or info.merged_path)
        told = {"trained": bool(checked), "model": place, "summary": curves.summary(version).figures}
        frame.emit({"ok": status.state == "completed", **told, **status.dump()})
    else:
        _tell(folder, status, curves.summary(version).words, trained=bool(checked))
    return 0 if status.state == "completed" else 130


def _say_what_runs_beside(folder: TaskFolder, version_name: str | None) -> None:
    """Two runs on one machine are allowed and slow each other down."""
    from nlp_skills.workspace import runs

    beside = runs.beside(folder, folder.version(version_name))
    if beside:
        names = frame.listed([f"{run.folder.root.name} {run.version.name}" for run in beside])
        frame.note(_("also running on this machine, sharing its processor and memory: {names}", names=names))


def _detached(folder: TaskFolder, version_name: str | None, *, again: bool, track: bool, as_json: bool) -> int:
    from nlp_skills.cli import run_words
    from nlp_skills.execution import detached
    from nlp_skills.workspace import runs

    version = folder.version(version_name)
    words = ["train", str(folder.root), "--version", version.name]
    words += ["--again"] * again + ["--track"] * track
    frame.note(_("starting {version} as a run of its own", version=version.name))
    try:
        started = detached.start(folder, version, words)
    except KeyboardInterrupt:
        frame.note(_("the run goes on by itself; look with: nlp-skills status {name} --watch", name=folder.root.name))
        return 130
    run = runs.Run(folder, version, started.status, runs.state(started.status))
    going = run.state in ("running", "completed")
    if as_json:
        frame.emit({"ok": going, "detached": True, "output": str(started.output), **run_words.as_dict(run)})
    elif run.state == "running":
        _tell_how_to_follow(folder, run.status)
    else:
        run_words.say(run)
    return 0 if going else (started.status.exit_code or 1)


def _tell_how_to_follow(folder: TaskFolder, status: RunStatus) -> None:
    names = {"name": folder.root.name, "version": status.version}
    frame.say(_("{version} is being trained by process {pid}, which outlives this terminal",
                version=status.version, pid=status.pid))  # fmt: skip
    frame.say(_("look:   nlp-skills status {name} --version {version} --watch", **names))
    frame.say(_("read:   nlp-skills logs {name} --version {version} -f", **names))
    frame.say(_("end it: nlp-skills stop {name} --version {version}", **names))


def _tell(folder: TaskFolder, status: RunStatus, summary: list[str], *, trained: bool) -> None:
    name = folder.root.name
    at = {"version": status.version, "step": status.step, "total": status.total_steps}
    if status.state == "interrupted":
        frame.say(_("{version} stopped at step {step} of {total}, checkpoint saved", **at))
        frame.say(_("go on with: nlp-skills train {name} --version {version}", name=name, version=status.version))
        return
    if not trained:
        frame.say(_("{version} is trained already with this data and these settings (--again trains it anew)", **at))
    else:
        frame.say(_("{version} is trained: {summary}", version=status.version, summary=frame.listed(summary)))
        if (curve := folder.version(status.version).curve_path).is_file():
            frame.say(_("its curves: {path}", path=frame.shown(curve)))
    frame.say(_("next: nlp-skills evaluate {name} --version {version}", name=name, version=status.version))
