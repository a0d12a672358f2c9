"""Versions: make the next one, see their history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "new-version",
    help=N_("Start the next version from the current one, with what changes and why."),
    examples=[
        'nlp-skills new-version --change "LoRA rank 16 → 32" --set lora.r=32 --set lora.alpha=64',
        'nlp-skills new-version reviews --from v1 --change "200 more neutral rows"',
    ],
)
@frame.task_argument
@frame.option("--change", "changes", multiple=True, help=N_("What changes, in a sentence; repeatable."))
@frame.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=N_("A setting of config.yaml; repeatable."))
@frame.option("--from", "parent", metavar="V", help=N_("The version to start from."))
@frame.json_option
def new_version(
    folder: TaskFolder, changes: tuple[str, ...], settings: tuple[str, ...], parent: str | None, as_json: bool
) -> None:
    from nlp_skills.workspace import versions

    version = versions.new_version(folder, changes=changes, settings=frame.settings(settings), parent=parent)
    lineage = version.lineage()
    assert lineage is not None
    if as_json:
        frame.emit({"ok": True, "version": version.name, "parent": lineage.parent, "changes": lineage.changes})
        return
    frame.say(_("{version}, from {parent}", version=version.name, parent=lineage.parent))
    for change in lineage.changes:
        frame.say(f"  - {change}")
    frame.say(_("configuration: {path}", path=frame.shown(version.config_path)))
    frame.say(_("next: {command}", command="nlp-skills regenerate && nlp-skills train"))


@frame.command("promote", help=N_("Promote."))
def promote() -> None:
    raise NotImplementedError
