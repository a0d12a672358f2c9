"""Versions: make the next one, or make one of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.errors import Problem
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.provenance.next_version import Made
    from nlp_skills.schema.training import Method
    from nlp_skills.workspace.folder import TaskFolder
    from nlp_skills.workspace.naming import Kind
    from nlp_skills.workspace.promotion import Promoted


@frame.command(
    "new-version",
    help=N_("Start the next version from the current one, with what changes and why. Left unsaid, it is computed."),
    examples=[
        'nlp-skills new-version --change "LoRA rank 16 → 32" --set lora.r=32 --set lora.alpha=64',
        'nlp-skills new-version reviews --from v1 --change "200 more neutral rows"',
        "nlp-skills new-version --minor --set epochs=6",
        "nlp-skills new-version --method dpo --init-from v2",
        "nlp-skills new-version --exp --edit",
    ],
)
@frame.task_argument
@frame.option("--change", "changes", multiple=True, help=N_("What changes, in a sentence; repeatable."))
@frame.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=N_("A setting of config.yaml; repeatable."))
@frame.option("--from", "parent", metavar="V", help=N_("The version to start from."))
@frame.option(
    "--method",
    type=click.Choice(["sft", "dpo", "orpo", "kto"]),
    help=N_("Another way to learn, with the settings that suit it."),
)
@frame.option("--init-from", metavar="V", help=N_("Go on from the weights of a trained version."))
@frame.option("--major", is_flag=True, help=N_("A major version, such as v3: data, prompt or architecture change."))
@frame.option("--minor", is_flag=True, help=N_("A minor version, such as v2.1: only parameters change."))
@frame.option("--exp", is_flag=True, help=N_("An experiment on the version it starts from, such as v2-exp."))
@frame.option("--edit", is_flag=True, help=N_("Open the new config.yaml in $EDITOR first."))
@frame.json_option
def new_version(
    folder: TaskFolder,
    changes: tuple[str, ...],
    settings: tuple[str, ...],
    parent: str | None,
    method: Method | None,
    init_from: str | None,
    edit: bool,
    as_json: bool,
    **kinds: bool,
) -> None:
    from nlp_skills.cli.source_questions import can_ask
    from nlp_skills.provenance import next_version

    asks, kind = can_ask(as_json), _kind(kinds)
    made = next_version.new_version(
        folder,
        changes=changes,
        settings=frame.settings(settings),
        parent=parent,
        kind=kind,
        edit=_editor(again=asks) if edit else None,
        choose=_choose if asks else None,
        method=method,
        init_from=init_from,
    )
    hint = not asks and kind is None
    if as_json:
        frame.emit({
            "ok": True, "version": made.version.name, "parent": made.parent, "changes": made.changes,
            "computed": made.computed, "proposal": made.proposal, "diff": made.diff, "reasons": made.reasons,
            "next": made.following,
        })  # fmt: skip
    else:
        _show(made, hint)


def _kind(flags: Mapping[str, bool]) -> Kind | None:
    given: list[Any] = [kind for kind, said in flags.items() if said]
    if len(given) > 1:
        raise click.UsageError(_("a version is of one kind: --major, --minor or --exp"))
    return given[0] if given else None


def _editor(*, again: bool) -> Any:
    def edit(text: str, problem: Problem | None) -> str | None:
        from nlp_skills.cli import source_questions

        if problem and not (again and source_questions.again(problem)):
            return None
        return click.edit(text, extension=".yaml")

    return edit


def _choose(proposed: Kind, names: Mapping[Kind, str]) -> Kind:
    for kind, name in names.items():
        frame.say(f"  {kind}: {name}")
    chosen: Kind = click.prompt(_("Which kind of version is it?"), type=click.Choice(list(names)), default=proposed)
    return chosen


def _show(made: Made, hint: bool) -> None:
    frame.say(_("{version}, from {parent}", version=made.version.name, parent=made.parent))
    for change in made.changes:
        frame.say(f"  - {change}")
    for difference in made.computed:
        if difference not in made.changes:
            frame.say(_("also differs: {change}", change=difference))
    for reason in made.reasons:
        frame.say(_("why: {reason}", reason=reason))
    if made.diff:
        frame.say(made.diff)
    frame.say(_("configuration: {path}", path=frame.shown(made.version.config_path)))
    if hint and made.proposal == "minor":
        frame.note(_("only parameters change: with --minor it would have been {name}", name=made.names["minor"]))
    frame.say(_("next: {command}", command=made.following))


@frame.command(
    "promote",
    help=N_("Make an experiment the next version: its records under the new name, its model linked, and active."),
    examples=["nlp-skills promote v3-exp", 'nlp-skills promote reviews v3-exp --change "kept after a week in use"'],
)
@click.argument("names", metavar="[TASK] V-EXP", nargs=-1)
@frame.option("--change", "changes", multiple=True, help=N_("What changes besides, in a sentence; repeatable."))
@frame.json_option
def promote(names: tuple[str, ...], changes: tuple[str, ...], as_json: bool) -> None:
    from nlp_skills.provenance import next_version

    folder, versions = frame.task_and_versions(names, most=1)
    if not versions:
        raise click.UsageError(_("name the experiment, such as: nlp-skills promote v3-exp"))
    made = next_version.promote(folder, versions[0], changes=changes)
    if as_json:
        left = made.switched.left if made.switched else []
        frame.emit({
            "ok": True, "version": made.version.name, "promoted_from": made.experiment, "changes": made.changes,
            "already": made.switched is None, "active": folder.task().version, "left": left,
        })  # fmt: skip
    else:
        _show_promotion(made, folder)


def _show_promotion(made: Promoted, folder: TaskFolder) -> None:
    names = {"experiment": made.experiment, "version": made.version.name}
    if made.switched is None:
        frame.say(_("{experiment} is {version} already; nothing was done", **names))
        return
    frame.say(_("{experiment} is now {version}, and {version} is active", **names))
    for change in made.changes:
        frame.say(f"  - {change}")
    for entry in made.switched.left:
        old = entry.version
        frame.note(_("{name} ({target}) still answers with {old}", name=entry.name, target=entry.target, old=old))
    if made.parent and made.version.results_path.exists():
        command = f"nlp-skills compare {folder.root.name} {made.parent} {made.version.name}"
    else:
        command = f"nlp-skills evaluate {folder.root.name}"
    frame.say(_("next: {command}", command=command))
