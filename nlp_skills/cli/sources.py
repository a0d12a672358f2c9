"""Sources: add them, change them, try them, look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame, source_options
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.cli.source_options import Found
    from nlp_skills.data.source_list import Added, Checked
    from nlp_skills.workspace.folder import TaskFolder


@click.group(
    "data-source",
    cls=frame.LazyGroup,
    lazy={name: f"{__name__}:{name}_source" for name in ("add", "edit", "list", "check", "show")},
    help=N_("Say where the rows come from, and look at them."),
)
def data_source() -> None:
    """The group; its text is in `help`, where it can be translated."""


@frame.command(
    "add",
    help=N_(
        "Add a source to data_source.yaml. Its first rows are fetched at once, so that a wrong path or query "
        "shows now; the file's comments stay. In a terminal, what is missing is asked for."
    ),
    examples=[
        "nlp-skills data-source add",
        "nlp-skills data-source add --type file_import --path 'labelled/*.csv' --mapping text=body",
        "nlp-skills data-source add sentiment --type database --name labelled \\",
        "    --connection 'postgresql://${DB_USER}:${DB_PASSWORD}@host/db' \\",
        "    --query 'SELECT text, label FROM annotations ORDER BY id'",
        "nlp-skills data-source add --type api --endpoint https://api.example.com/reviews --bearer '${API_TOKEN}' \\",
        "    --records data.items --pages cursor --set pagination.cursor=meta.next --set pagination.param=after",
        "nlp-skills data-source add --type web_scrape --url https://example.com/reviews --row .review \\",
        "    --select text=.body --select label=.stars@data-label",
        "nlp-skills data-source add --type llm_generated --prompt @prompt.txt --model gpt-4o --count 500 --review",
        "nlp-skills data-source add --type huggingface --dataset owner/name --revision main",
    ],
)
@frame.task_argument
@frame.option("--type", "kind", type=click.Choice(list(source_options.KINDS)), help=N_("What kind of source it is."))
@frame.option("--name", help=N_("What to call it; the type, when left out."))
@source_options.options
@frame.option("--no-check", is_flag=True, help=N_("Do not fetch the first rows."))
@frame.json_option
def add_source(
    folder: TaskFolder,
    kind: str | None,
    name: str | None,
    pairs: tuple[str, ...],
    sets: tuple[str, ...],
    no_check: bool,
    as_json: bool,
    **values: Any,
) -> None:
    from nlp_skills.cli import source_questions as questions
    from nlp_skills.data import source_list

    person = questions.can_ask(as_json)
    if kind is None and not person:
        raise click.UsageError(_("--type is missing; one of: {types}", types=", ".join(source_options.KINDS)))
    kind = kind or questions.kind()
    found = source_options.given(kind, values, pairs, sets)
    missing = _missing(kind, found)
    if missing and not person:
        raise click.UsageError(_("a source of type {type} needs --{name}", type=kind, name=missing[0]))
    if missing:
        found, name = _asked(folder, kind, found, name, check=not no_check)
    _defaults(kind, found)
    added = source_list.add(folder, _entry(kind, name, found), check=not no_check)
    _report(folder, added, _("added {name} to {path}"), as_json)


def _missing(kind: str, found: Found) -> list[str]:
    needed = [setting for setting in source_options.of_kind(kind) if setting.required]
    long_form = kind == "database" and ("driver",) in found
    return [
        setting.flag
        for setting in needed
        if tuple(setting.key.split(".")) not in found and not (long_form and setting.key == "connection")
    ]


def _defaults(kind: str, found: Found) -> None:
    if kind == "huggingface":
        found.setdefault(("revision",), "main")


def _entry(kind: str, name: str | None, found: Found) -> dict[str, Any]:
    return {"type": kind, "name": name, **source_options.nested(found)}


def _asked(folder: TaskFolder, kind: str, found: Found, name: str | None, *, check: bool) -> tuple[Found, str | None]:
    """Ask, look, and ask again until the source gives rows or the person has had enough."""
    from nlp_skills.cli import source_questions as questions
    from nlp_skills.data import source_list
    from nlp_skills.errors import Problem

    while True:
        found = questions.settings(kind, found)
        _defaults(kind, found)
        name = click.prompt(_("What to call it"), default=name or kind)
        try:
            source = source_list.candidate(folder, _entry(kind, name, found))
            if not check:
                return found, name
            seen = source_list.look(folder, source, source_list.PREVIEW_ROWS)
            break
        except Problem as problem:
            if not questions.again(problem):
                raise click.Abort from problem
    known = {str(path[1]): column for path, column in found.items() if path[0] == "mapping"}
    chosen: Found = {("mapping", field): column for field, column in questions.mapping(folder, seen, known).items()}
    return {**{path: value for path, value in found.items() if path[0] != "mapping"}, **chosen}, name


def _report(folder: TaskFolder, added: Added, done: str, as_json: bool) -> None:
    if as_json:
        frame.emit(added.as_dict())
        return
    frame.say(done.format(name=added.source.name, path=frame.shown(folder.sources_path)))
    _show_rows(added.rows)
    frame.warn(added.warnings)
    frame.say(_("next: {command}", command="nlp-skills regenerate"))


@frame.command(
    "edit",
    help=N_(
        "Change a source in data_source.yaml; comments and order stay. The changed source is tried first, and nothing "
        "is written when it fails. Without options, a terminal asks for each setting."
    ),
    examples=[
        "nlp-skills data-source edit reviews",
        "nlp-skills data-source edit reviews --mapping text=content.body",
        "nlp-skills data-source edit sentiment annotations --query @labelled.sql --unset snapshot_date",
        "nlp-skills data-source edit reviews --set name=shop --no-check --json",
    ],
)
@click.argument("names", nargs=-1, metavar="[TASK] [SOURCE]")
@source_options.options
@frame.option("--unset", multiple=True, metavar="KEY", help=N_("Remove a setting; repeatable."))
@frame.option("--no-check", is_flag=True, help=N_("Do not fetch the first rows."))
@frame.json_option
def edit_source(
    names: tuple[str, ...],
    pairs: tuple[str, ...],
    sets: tuple[str, ...],
    unset: tuple[str, ...],
    no_check: bool,
    as_json: bool,
    **values: Any,
) -> None:
    from nlp_skills.cli import source_questions as questions
    from nlp_skills.data import source_list

    folder, name = _task_and_source(names)
    source = source_list.named(folder, name)
    changes = source_options.given(source.type, values, pairs, sets)
    changes.update({tuple(key.split(".")): None for key in unset})
    if not changes and not questions.can_ask(as_json):
        raise click.UsageError(_("nothing to change; give an option, --set KEY=VALUE or --unset KEY"))
    if not changes:
        known = _known(folder, str(source.name), source.type)
        answers = questions.settings(source.type, known)
        changes = {path: answers.get(path) for path in {*known, *answers} if answers.get(path) != known.get(path)}
    edited = source_list.edit(folder, str(source.name), changes, check=not no_check)
    _report(folder, edited, _("changed {name} in {path}"), as_json)


def _known(folder: TaskFolder, name: str, kind: str) -> Found:
    """What the file says of the settings that have a question: as written, `${VAR}` included."""
    from nlp_skills.schema import yaml

    position = [entry.name for entry in folder.sources().sources].index(name)
    entry = yaml.read(folder.sources_path).data["sources"][position]
    written = {**entry, **(entry.get("config") or {})}
    found: Found = {}
    for setting in source_options.of_kind(kind):
        value: Any = written
        for key in setting.key.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[tuple(setting.key.split("."))] = value
    return found


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
    "check",
    help=N_(
        "Connect to a source, or to all of them, and show the first rows under the task's field names. Nothing is "
        "written. Exit code 0: all of them would regenerate."
    ),
    examples=[
        "nlp-skills data-source check",
        "nlp-skills data-source check sentiment reviews --rows 5",
        "nlp-skills data-source check --json",
    ],
)
@click.argument("names", nargs=-1, metavar="[TASK] [SOURCE]")
@frame.option("--rows", type=click.IntRange(1, 20), default=3, show_default=True, help=N_("How many rows to show."))
@frame.json_option
def check_source(names: tuple[str, ...], rows: int, as_json: bool) -> int:
    from nlp_skills.data import source_list

    folder, name = _task_and_source(names)
    checked = source_list.check(folder, name, rows)
    failed = [one for one in checked if one.problem is not None]
    if as_json:
        frame.emit({"ok": not failed, "sources": [one.as_dict() for one in checked]})
    else:
        for one in checked:
            _show_checked(one)
    return max((one.problem.exit_code for one in failed if one.problem), default=0)


def _show_checked(one: Checked) -> None:
    from nlp_skills.data.rows import shown_name

    head = f"{one.source.name} ({one.source.type})"
    if one.problem is not None:
        frame.say(_("{source}: failed", source=head))
        frame.show_problem(one.problem)
    else:
        frame.say(_("{source}: answers, {seconds:.1f} s", source=head, seconds=one.seconds))
    if one.columns:
        frame.say("  " + _("columns: {columns}", columns=", ".join(shown_name(name) for name in one.columns)))
    _show_rows(one.rows)
    frame.warn(one.warnings)


@frame.command(
    "show",
    help=N_("Show a source's settings, what its last fetch did, and the first rows that it brought."),
    examples=["nlp-skills data-source show", "nlp-skills data-source show sentiment reviews --rows 5 --json"],
)
@click.argument("names", nargs=-1, metavar="[TASK] [SOURCE]")
@frame.option("--rows", type=click.IntRange(1, 100), default=3, show_default=True, help=N_("How many."))
@frame.json_option
def show_source(names: tuple[str, ...], rows: int, as_json: bool) -> None:
    from nlp_skills.data import source_list
    from nlp_skills.data.sources.settings import unexpanded
    from nlp_skills.schema import yaml

    folder, name = _task_and_source(names)
    source = source_list.named(folder, name)
    found, record = source_list.fetched_rows(folder, source, rows), source_list.record(folder, source)
    if as_json:
        frame.emit({"ok": True, "name": source.name, "settings": unexpanded(source), "record": record, "rows": found})
        return
    frame.say(yaml.dumps(unexpanded(source)).rstrip())
    if not record:
        frame.say(_("not fetched yet; try it: {command}", command=f"nlp-skills data-source check {source.name}"))
        return
    frame.say(_("fetched {time}, rows {rows}", time=str(record.get("fetched")), rows=str(record.get("rows"))))
    _show_rows(found)


def _task_and_source(names: Sequence[str]) -> tuple[TaskFolder, str | None]:
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
