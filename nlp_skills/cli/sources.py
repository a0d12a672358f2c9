"""Sources: add them, look at them, list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder


@click.group(
    "data-source",
    cls=frame.LazyGroup,
    lazy={name: f"{__name__}:{name}_source" for name in ("add", "list", "show")},
    help=N_("Say where the rows come from, and look at them."),
)
def data_source() -> None:
    """The group; its text is in `help`, where it can be translated."""


@frame.command(
    "add",
    help=N_(
        "Add a source to data_source.yaml. Its first rows are fetched at once, so that a wrong path or query "
        "shows now; the file's comments stay."
    ),
    examples=[
        "nlp-skills data-source add --type file_import --path reviews.csv --mapping text=body",
        "nlp-skills data-source add sentiment --type database --name labelled \\",
        "    --connection 'postgresql://${DB_USER}:${DB_PASSWORD}@host/db' \\",
        "    --query 'SELECT text, label FROM annotations ORDER BY id'",
    ],
)
@frame.task_argument
@frame.option(
    "--type", type=click.Choice(["file_import", "database"]), required=True, help=N_("What kind of source it is.")
)
@frame.option("--name", help=N_("What to call it; the type, when left out."))
@frame.option("--path", help=N_("file_import: the file, from the task folder or from here."))
@frame.option("--format", type=click.Choice(["csv", "tsv", "json", "jsonl"]), help=N_("file_import: its format."))
@frame.option("--encoding", help=N_("file_import: its encoding; UTF-8 when left out."))
@frame.option("--delimiter", help=N_("file_import: what separates columns."))
@frame.option("--connection", help=N_("database: a SQLAlchemy URL; ${VAR} is read from the environment."))
@frame.option("--query", help=N_("database: the SELECT."))
@frame.option(
    "--mapping", "pairs", multiple=True, metavar="FIELD=COLUMN", help=N_("A field's column in the source; repeatable.")
)
@frame.option("--no-check", is_flag=True, help=N_("Do not fetch the first rows."))
@frame.json_option
def add_source(
    folder: TaskFolder, pairs: tuple[str, ...], no_check: bool, as_json: bool, **settings: str | None
) -> None:
    from nlp_skills.data import source_list

    needed = ("path",) if settings["type"] == "file_import" else ("connection", "query")
    missing = [name for name in needed if not settings[name]]
    if missing:
        raise click.UsageError(_("a source of type {type} needs --{name}", type=settings["type"], name=missing[0]))
    added = source_list.add(folder, {**settings, "mapping": _mapping(pairs)}, check=not no_check)
    if as_json:
        frame.emit(added.as_dict())
        return
    frame.say(_("added {name} to {path}", name=added.source.name, path=frame.shown(folder.sources_path)))
    _show_rows(added.rows)
    frame.warn(added.warnings)
    frame.say(_("next: {command}", command="nlp-skills regenerate"))


def _mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    wrong = next((pair for pair, parts in zip(pairs, split, strict=True) if not (parts[0] and parts[2])), None)
    if wrong is not None:
        raise click.UsageError(_("{pair} is not FIELD=COLUMN", pair=wrong))
    return {name: column for name, _equals, column in split}


@frame.command(
    "list",
    help=N_("List the sources, where they come from, and what was last fetched."),
    examples=["nlp-skills data-source list", "nlp-skills data-source list sentiment --json"],
)
@frame.task_argument
@frame.json_option
def list_source(folder: TaskFolder, as_json: bool) -> None:
    from nlp_skills.data import source_list

    entries = source_list.entries(folder)
    if as_json:
        frame.emit({"ok": True, "sources": entries})
        return
    if not entries:
        frame.say(_("no sources yet; add one: nlp-skills data-source add --help"))
        return
    columns = (_("source"), _("type"), _("from"), _("rows"), _("fetched"))
    keys = ("name", "type", "from", "rows", "fetched")
    frame.table(columns, [["-" if entry[key] is None else str(entry[key]) for key in keys] for entry in entries])


@frame.command(
    "show",
    help=N_("Fetch the first rows of a source and show them under the task's field names."),
    examples=["nlp-skills data-source show", "nlp-skills data-source show sentiment reviews --rows 5 --json"],
)
@click.argument("names", nargs=-1, metavar="[TASK] [SOURCE]")
@frame.option("--rows", type=click.IntRange(1, 100), default=3, show_default=True, help=N_("How many."))
@frame.json_option
def show_source(names: tuple[str, ...], rows: int, as_json: bool) -> None:
    from nlp_skills.data import source_list

    folder, name = _task_and_source(names)
    source = source_list.named(folder, name)
    found = source_list.first_rows(folder, source, rows)
    if as_json:
        frame.emit({"ok": True, "name": source.name, "rows": found})
        return
    frame.say(f"{source.name} ({source.type})")
    _show_rows(found)


def _task_and_source(names: tuple[str, ...]) -> tuple[TaskFolder, str | None]:
    """A single name is a source of the current task where it has one of that name, else a task."""
    from nlp_skills.errors import Usage
    from nlp_skills.workspace import locate

    if len(names) > 2:
        raise click.UsageError(_("too many names: {names}", names=" ".join(names)))
    if len(names) == 2:
        return locate.task(names[0]), names[1]
    try:
        current = locate.task()
    except Usage:
        return locate.task(*names), None
    if not names or names[0] in [source.name for source in current.sources().sources]:
        return current, names[0] if names else None
    return locate.task(names[0]), None


def _show_rows(rows: list[dict[str, Any]]) -> None:
    from nlp_skills.data.source_list import shown_row

    for number, row in enumerate(rows, 1):
        for index, (name, value) in enumerate(shown_row(row).items()):
            frame.say(f"  {number if not index else ' ':>2} {name}: {value}")
