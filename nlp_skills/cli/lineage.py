"""What made a version: show it, mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    pass


@frame.command(
    "lineage",
    help=N_("Show what made a version; --complete records what its files know and the lineage does not."),
    examples=["nlp-skills lineage reviews v1", "nlp-skills lineage reviews v1 --complete"],
)
@click.argument("names", metavar="[TASK] [VERSION]", nargs=-1)
@frame.option("--complete", is_flag=True, help=N_("Record sections that are missing or behind."))
@frame.json_option
def lineage(names: tuple[str, ...], complete: bool, as_json: bool) -> None:
    from nlp_skills.schema import yaml
    from nlp_skills.workspace import lineage as lineages
    from nlp_skills.workspace import lock

    folder, versions = frame.task_and_versions(names, most=1)
    version = folder.existing_version(*versions)
    mended: list[str] = []
    if complete:
        with lock.writing(folder):
            mended = lineages.complete(version)
    found = lineages.existing(version)
    if as_json:
        frame.emit({"task": folder.root.name, "version": version.name, "mended": mended, "lineage": found.dump()})
        return
    if mended:
        frame.note(_("recorded: {sections}", sections=", ".join(mended)))
    frame.say(yaml.dumps(found.dump()).rstrip())
