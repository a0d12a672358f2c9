"""What made a version: show it, mend it, hold it against what is there, draw it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.provenance.verify import Verified
    from nlp_skills.workspace.folder import VersionFolder


class _Lineage(frame.LazyGroup):
    """A group whose first word may also be a task or a version: the lineage is shown then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = _first_word(args)
        if first in self.lazy or (first is None and "--help" in args):
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, ["", *args])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return show if cmd_name == "" else super().get_command(ctx, cmd_name)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return show.collect_usage_pieces(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        show.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        show.format_epilog(ctx, formatter)


class _Show(frame.Command):
    """What the group does by itself: its name and usage are the group's."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if parent is not None:
            info_name, parent = parent.info_name, parent.parent
        return super().make_context(info_name, args, parent=parent, **extra)


def _first_word(args: list[str]) -> str | None:
    """The first argument that is neither an option nor the language that --lang names."""
    previous = ""
    for word in args:
        if not word.startswith("-") and previous != "--lang":
            return word
        previous = word
    return None


_HELP = N_("Show what made a version; --complete records what its files know and the lineage does not.")


@click.group(
    "lineage",
    cls=_Lineage,
    lazy={"verify": f"{__name__}:verify", "graph": f"{__name__}:graph"},
    help=_HELP,
)
def lineage() -> None:
    """The group; its text is in `help`, where it can be translated."""


@click.command(
    "lineage",
    cls=_Show,
    help=_HELP,
    examples=[
        "nlp-skills lineage reviews v1",
        "nlp-skills lineage reviews v1 --complete",
        "nlp-skills lineage verify reviews",
        "nlp-skills lineage graph reviews --svg lineage.svg",
    ],
)
@click.argument("names", metavar="[TASK] [VERSION]", nargs=-1)
@frame.option("--complete", is_flag=True, help=N_("Record sections that are missing or behind."))
@frame.json_option
def show(names: tuple[str, ...], complete: bool, as_json: bool) -> int:
    from nlp_skills.schema import yaml
    from nlp_skills.workspace import lineage as lineages

    folder, versions = frame.task_and_versions(names, most=1)
    version = folder.existing_version(*versions)
    done = _complete(version) if complete else {"mended": []}
    found, problems = lineages.read(version)
    if found is None and not problems:
        found = lineages.existing(version)
    if as_json:
        about = {"task": folder.root.name, "version": version.name, **done, "lineage": found and found.dump()}
        frame.emit({**about, "problems": [problem.as_dict() for problem in problems]} if problems else about)
        return 1 if problems else 0
    _tell(done)
    for problem in problems:
        frame.show_problem(problem)
    if found:
        frame.say(yaml.dumps(found.dump()).rstrip())
    return 1 if problems else 0


def _complete(version: VersionFolder) -> dict[str, Any]:
    from nlp_skills.workspace import lineage as lineages
    from nlp_skills.workspace import lock
    from nlp_skills.workspace.folder import TaskFolder

    with lock.writing(TaskFolder(version.task_root), tell=frame.note):
        repaired = lineages.put_right(version)
        mended = [*(repaired.rebuilt if repaired else ()), *lineages.complete(version)]
        done: dict[str, Any] = {"mended": list(dict.fromkeys(mended))}
        if repaired:
            done |= {"backup": repaired.backup, "dropped": repaired.dropped}
        if left := lineages.contradicted(version):
            done["contradicted"] = left
    return done


def _tell(done: dict[str, Any]) -> None:
    if "backup" in done:
        frame.note(_("the earlier lineage.yaml is kept as {backup}", backup=done["backup"]))
    if done.get("dropped"):
        frame.note(_("only in there: {parts}", parts=" | ".join(done["dropped"])))
    if done["mended"]:
        frame.note(_("recorded: {sections}", sections=", ".join(done["mended"])))
    for section, name in done.get("contradicted", {}).items():
        frame.warn([_("{section} stays as recorded: {file} is not the one it was", section=section, file=name)])


@frame.command(
    "verify",
    help=N_(
        "Hash again what a version was made with and made, and name what no longer matches its lineage. All "
        "versions when none is named. Nothing is written or fetched. Exit 1: something does not match."
    ),
    examples=["nlp-skills lineage verify", "nlp-skills lineage verify reviews v1 --json"],
)
@click.argument("names", metavar="[TASK] [VERSION]", nargs=-1)
@frame.json_option
def verify(names: tuple[str, ...], as_json: bool) -> int:
    from nlp_skills.provenance import verify as room

    folder, versions = frame.task_and_versions(names, most=1)
    found = room.verify(folder, *versions)
    sound = all(entry.verdict != "mismatch" for entry in found)
    if as_json:
        frame.emit({"ok": sound, "task": folder.root.name, "versions": [entry.as_dict() for entry in found]})
        return 0 if sound else 1
    for entry in found:
        _show_verified(entry)
    return 0 if sound else 1


def _show_verified(entry: Verified) -> None:
    from nlp_skills.provenance import verify as room

    frame.say(f"{entry.version}: {room.sentence(entry)}")
    columns = (_("What"), _("State"), _("Expected"), _("Found"), _("Mend"))
    if entry.findings:
        frame.table(columns, [room.cells(finding) for finding in entry.findings])


@frame.command(
    "graph",
    help=N_("Draw a task's versions, the data they were made with and where they run, as text or as an SVG file."),
    examples=["nlp-skills lineage graph", "nlp-skills lineage graph reviews --svg lineage.svg"],
)
@frame.task_argument
@frame.option("--svg", "path", type=click.Path(path_type=Path), metavar="PATH", help=N_("Write the drawing there."))
@frame.json_option
def graph(folder: Any, path: Path | None, as_json: bool) -> None:
    from nlp_skills import files
    from nlp_skills.provenance import graph as room

    if path is not None:
        files.write_text(path, room.svg(folder))
    if as_json:
        frame.emit({**room.as_dict(folder), **({"svg": str(path)} if path else {})})
    elif path is not None:
        frame.say(_("drawn: {path}", path=frame.shown(path.resolve())))
    else:
        frame.say(room.text(folder).rstrip())
