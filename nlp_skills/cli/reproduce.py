"""Train a version again from its record, and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.provenance.reproduce import Reproduction


@frame.command(
    "reproduce",
    help=N_(
        "Train a version again from its record, in a scratch folder, and compare: identical, within noise, or what "
        "differs. Data and configuration are those of the version, the environment the recorded one: the packages, "
        "the code of nlp-skills, the threads. Bit for bit the same weights need the same packages, the same kind of "
        "processor and, to be sure, one thread on a CPU: train with OMP_NUM_THREADS=1. A GPU, more threads or another "
        "processor may round otherwise; then the answers to the test rows decide. The verdict is noted in the "
        "version's lineage, and a version whose model was cleaned up gets it back when the bytes are the same. After "
        "Ctrl-C the same command goes on. Exit 0: identical or within noise; 1: differs."
    ),
    examples=[
        "nlp-skills reproduce",
        "nlp-skills reproduce reviews v1",
        "nlp-skills reproduce reviews v1 --environment pinned --keep",
        "nlp-skills reproduce v2 --json",
    ],
)
@click.argument("names", metavar="[TASK] [V]", nargs=-1)
@frame.option(
    "--environment",
    type=click.Choice(["auto", "pinned", "here"]),
    default="auto",
    help=N_(
        "pinned: made by uv from the project file, lock and wheel that were kept; here: what runs now, whatever "
        "differs; auto: here where it is what was recorded, else pinned."
    ),
)
@frame.option("--keep", is_flag=True, help=N_("Keep the scratch folder."))
@frame.json_option
def reproduce(names: tuple[str, ...], environment: Any, keep: bool, as_json: bool) -> int:
    from nlp_skills.provenance import reproduce as again

    folder, versions = frame.task_and_versions(names, most=1)
    try:
        made = again.reproduce(folder, *versions, environment=environment, keep=keep, tell=frame.note)
    except KeyboardInterrupt:
        frame.note(_("stopped; the same command goes on from there"))
        raise
    frame.emit(made.as_dict()) if as_json else _show(made)
    return 0 if made.ok else 1


def _show(made: Reproduction) -> None:
    found = made.verdict
    words = {"identical": _("identical"), "within_noise": _("within noise"), "differs": _("differs")}
    frame.say(_("{task} {version}, trained again: {verdict}", task=made.task, version=made.version,
                verdict=words[found.word]))  # fmt: skip
    _show_files(made)
    _show_figures(made)
    if found.rows:
        frame.say(_("test rows: {compared}; answered otherwise: {others}", compared=found.rows.compared,
                    others=found.rows.others))  # fmt: skip
    if found.word == "identical":
        parts = [str(one) for one in found.differences]
        if parts:
            frame.say(_("not as recorded, and it made no difference: {names}", names=", ".join(parts)))
    for line in found.why:
        frame.say(f"  {line}")
    _show_seconds(made)
    if made.restored:
        frame.say(_("the version had lost its model and has it again: {path}", path=frame.shown(made.restored)))
    if made.kept:
        frame.say(_("kept: {path}", path=frame.shown(made.kept)))


def _show_files(made: Reproduction) -> None:
    states = [_("the same") if one.same else _("other bytes") for one in made.verdict.files]
    rows = [[one.name, state] for one, state in zip(made.verdict.files, states, strict=True)]
    frame.table([_("File of the model"), _("Bytes")], rows)


def _show_figures(made: Reproduction) -> None:
    from nlp_skills.evaluation import words

    if made.verdict.figures:
        rows = [
            [words.metric(one.name), words.figure(one.name, one.recorded), words.figure(one.name, one.again)]
            for one in made.verdict.figures
        ]
        frame.table([_("Metric"), _("recorded"), _("again")], rows, right=[1, 2])


def _show_seconds(made: Reproduction) -> None:
    before, after = made.seconds["recorded"], made.seconds["again"]
    if before is not None and after is not None:
        frame.say(_("seconds: {before:.1f} recorded, {after:.1f} again", before=before, after=after))
