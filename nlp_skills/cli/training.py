"""preflight and train: check what would be trained, and train it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
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
    from nlp_skills.training import preflight as gate

    checked = gate.check(folder, version_name)
    if as_json:
        frame.emit(checked.as_dict())
    else:
        _show(checked, frame.say)
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
                "{split}: rows {rows}, tokens {tokens}, learnt {loss_tokens}; a row has {min} to {max}",
                split=split,
                **counts,
            )
        )
    for finding in checked.findings:
        if finding.severity == "warning":
            write(f"{_('warning:')} {finding.where}: {finding.message}" if finding.where else finding.message)


@frame.command(
    "train",
    help=N_(
        "Fine-tune a version. Checks first, shows progress, and after Ctrl-C goes on where it stopped "
        "when run again; a version that is complete is left as it is."
    ),
    examples=["nlp-skills train", "nlp-skills train sentiment --version v2", "nlp-skills train --again"],
)
@frame.task_argument
@frame.version_option
@frame.option("--again", is_flag=True, help=N_("Train from the start, also over a complete or stopped training."))
@frame.json_option
def train(folder: TaskFolder, version_name: str | None, again: bool, as_json: bool) -> int:
    from nlp_skills.training import train as training

    checked: list[Preflight] = []

    def on_checked(result: Preflight) -> None:
        checked.append(result)
        _show(result, frame.note)

    def on_stop() -> None:
        frame.note(_("stopping after this step, saving a checkpoint; Ctrl-C again stops at once"))

    status = training.train(folder, version_name, resume=not again, on_checked=on_checked, on_stop=on_stop)
    version = folder.version(version_name)
    if as_json:
        info = version.model_info()
        place = info and (info.adapter_path or info.merged_path)
        frame.emit({"ok": status.state == "completed", "trained": bool(checked), "model": place, **status.dump()})
    else:
        _tell(folder, status, trained=bool(checked))
    return 0 if status.state == "completed" else 130


def _tell(folder: TaskFolder, status: RunStatus, *, trained: bool) -> None:
    name = folder.root.name
    at = {"version": status.version, "step": status.step, "total": status.total_steps}
    if status.state == "interrupted":
        frame.say(_("{version} stopped at step {step} of {total}, checkpoint saved", **at))
        frame.say(_("go on with: nlp-skills train {name} --version {version}", name=name, version=status.version))
        return
    if not trained:
        frame.say(_("{version} is trained already with this data and these settings (--again trains it anew)", **at))
    else:
        loss = "–" if status.loss is None else f"{status.loss:.3f}"
        frame.say(_("{version} is trained: steps {step}, last loss {loss}", loss=loss, **at))
    frame.say(_("next: nlp-skills evaluate {name} --version {version}", name=name, version=status.version))
