"""Write a version's report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.errors import Problem
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "report",
    help=N_(
        "Write a version's report: the verdict, every figure with its interval, where it fails and how it was made. "
        "One HTML page that needs no network, or Markdown for a model card."
    ),
    examples=[
        "nlp-skills report",
        "nlp-skills report reviews v2 --against v1",
        "nlp-skills report reviews --format markdown --out MODEL_CARD.md",
    ],
)
@click.argument("names", metavar="[TASK] [V]", nargs=-1)
@frame.version_option
@frame.option("--against", metavar="V", help=N_("The version it is judged beside; its parent when left out."))
@frame.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown"]),
    default="html",
    show_default=True,
    help=N_("What kind of file to write."),
)
@frame.option(
    "--out", type=click.Path(path_type=Path), help=N_("Write it there, not beside the version's other records.")
)
@frame.json_option
def report(
    names: tuple[str, ...], version_name: str | None, against: str | None, form: str, out: Path | None, as_json: bool
) -> None:
    from nlp_skills.evaluation import report as pages

    folder, versions = frame.task_and_versions(names, most=1)
    if version_name and versions:
        raise click.UsageError(_("name the version once: {names}", names=f"{versions[0]}, {version_name}"))
    chosen = folder.existing_version(version_name or next(iter(versions), None))
    write = pages.write_markdown if form == "markdown" else pages.write
    path = write(folder, chosen.name, against=against, out=out, findings=_findings(folder, chosen.name))
    content: dict[str, Any] = {"ok": True, "version": chosen.name, "format": form, "report": path}
    frame.emit(content) if as_json else frame.say(_("report: {path}", path=frame.shown(path)))


def _findings(folder: TaskFolder, version: str) -> list[dict[str, Any]]:
    """What a diagnosis says of the version; a file it cannot read is no reason to have no report."""
    from nlp_skills.diagnosis import diagnose

    try:
        return [finding.as_dict() for finding in diagnose.of(folder, version).findings]
    except Problem as problem:
        frame.warn([str(problem)])
        return []
