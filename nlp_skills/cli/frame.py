"""What every command shares: translated help, --json and --lang, and errors without tracebacks."""

from __future__ import annotations

import contextlib
import gettext
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills import i18n
from nlp_skills.errors import Problem, Unavailable
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder


class Option(click.Option):
    """An option whose help text is translated when it is shown; those of one `group` are listed together."""

    def __init__(self, *args: Any, group: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or not self.help:
            return record
        names, text = record
        return names, text.replace(self.help, _(self.help), 1)


class Command(click.Command):
    """A command whose help is translated, with examples under it and --lang beside --help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(_language_option())

    def get_short_help_str(self, limit: int = 45) -> str:
        return _first_sentence(_(self.help)) if self.help else ""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.help:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(_(self.help))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str | None, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "group", None), []).append(record)
        with formatter.section(_("Options")):
            formatter.write_dl(sections.pop(None, []))
        for group, records in sections.items():
            with formatter.section(_("For {type}", type=str(group))):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section(_("Examples")):
                for example in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{example}\n")


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def __init__(self, *args: Any, lazy: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy
        self.params.append(_language_option())

    def get_short_help_str(self, limit: int = 45) -> str:
        return _first_sentence(_(self.help)) if self.help else ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, attribute = self.lazy[cmd_name].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.help:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(_(self.help))


def _first_sentence(text: str) -> str:
    for stop in (". ", "。"):
        text = text.split(stop, 1)[0]
    return text.rstrip(".。")


def _language_option() -> Option:
    return Option(["--lang"], type=click.Choice(i18n.LANGUAGES), expose_value=False, help=N_("Language of messages."))


def command(name: str, *, help: str, examples: Sequence[str] = ()) -> Callable[[Callable[..., Any]], click.Command]:  # noqa: A002
    """A click command of ours; `help` is English, marked with N_."""
    return click.command(name, cls=Command, help=help, examples=examples)


def option(*names: str, help: str, **kwargs: Any) -> Callable[[Any], Any]:  # noqa: A002
    """A click option of ours; `help` is English, marked with N_."""
    return click.option(*names, cls=Option, help=help, **kwargs)


def json_option(function: Any) -> Any:
    """`--json`: one JSON object on standard output and nothing else there."""
    return option("--json", "as_json", is_flag=True, help=N_("Print one JSON object instead of text."))(function)


def resolve_task(ctx: click.Context, param: click.Parameter, value: str | None) -> TaskFolder:
    """A click callback: a task's name or path, or nothing for the current one, as its folder."""
    from nlp_skills.workspace import locate

    return locate.task(value)


def task_argument(function: Any) -> Any:
    """TASK: a name or a path; the current task when left out. Arrives as a TaskFolder named `folder`."""
    return click.argument("folder", metavar="[TASK]", required=False, callback=resolve_task)(function)


def task_and_versions(names: Sequence[str], *, most: int) -> tuple[TaskFolder, list[str]]:
    """`[TASK] V…` told apart: up to `most` names at the end are versions, one before them the task.

    Where one version is wanted, the second of two names is it whatever it looks like, and is refused as such.
    """
    from nlp_skills.workspace import locate, naming

    versions = [name for name in names if naming.is_version(name)]
    others = [name for name in names if not naming.is_version(name)]
    if most == 1 and len(others) == 2:
        versions.append(others.pop())
    if len(versions) > most or len(others) > 1:
        raise click.UsageError(_("too many names: {names}", names=" ".join(names)))
    return locate.task(others[0] if others else None), versions


def version_option(function: Any) -> Any:
    """`--version`: a version other than the task's current one."""
    return option("--version", "version_name", metavar="V", help=N_("A version other than the current one."))(function)


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`--set key=value` options as data; the value is read as YAML, so 1e-4 is a number."""
    from nlp_skills.schema import yaml

    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(_("{pair} is not KEY=VALUE", pair=pair))
        found[key.strip()] = yaml.loads(value, Path("--set")).data
    return found


def shown(path: Path) -> str:
    """A path from the working directory where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)


def say(text: str = "") -> None:
    """One line for a person, on standard output."""
    click.echo(_encodable(text))


def note(text: str) -> None:
    """One line beside the result (progress, hints), on standard error."""
    click.echo(_encodable(text), err=True)


def emit(content: Any) -> None:
    """The one JSON object of `--json`."""
    click.echo(_encodable(json.dumps(content, ensure_ascii=False, indent=2, default=_plain)))


def _encodable(text: str) -> str:
    """File names need not be UTF-8; such bytes are shown as \\udcXX, which JSON reads back as the name."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: Any) -> Any:
    if hasattr(value, "dump"):
        return value.dump()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A boxed table, aligned by display width so that Chinese lines up; folded in a narrow terminal only."""
    top, heading, *lines = _boxed(columns, rows, right)
    # In a pipe there is no width to keep to: a cell that is cut cannot be read by anyone.
    if sys.stdout.isatty() and len(top) > shutil.get_terminal_size().columns:
        _fitted_table(columns, rows, right)
    else:
        say("\n".join([top, click.style(heading, bold=True), *lines]))


def _fitted_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SQUARE, show_edge=True)
    for index, title in enumerate(columns):
        drawn.add_column(Text(title), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False).print(drawn)


def _boxed(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> Iterator[str]:
    """The lines of the table as wide as it is: a thousand rows in the time rich takes for twenty."""
    from rich.cells import cell_len

    body: list[Sequence[str]] = []
    for row in rows:
        body.extend(zip_longest(*(cell.expandtabs().splitlines() or [""] for cell in row), fillvalue=""))
    widths = [max(map(cell_len, column)) for column in zip(columns, *body, strict=True)]

    def filled(line: Sequence[str]) -> str:
        cells = []
        for index, (cell, width) in enumerate(zip(line, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(f" {space}{cell} " if index in right else f" {cell}{space} ")
        return f"│{'│'.join(cells)}│"

    def rule(left: str, middle: str, end: str) -> str:
        return left + middle.join("─" * (width + 2) for width in widths) + end

    yield rule("┌", "┬", "┐")
    yield filled(columns)
    yield rule("├", "┼", "┤")
    yield from map(filled, body)
    yield rule("└", "┴", "┘")


def splits(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Rows of each split, and of each class in it."""
    labels = list(dict.fromkeys(label for split in found.values() for label in split["distribution"]))
    body = [
        [name, str(split["rows"]), *(str(split["distribution"].get(label, 0)) for label in labels)]
        for name, split in found.items()
    ]
    table((_("split"), _("rows"), *labels), body, right=range(1, len(labels) + 2))


def listed(parts: Sequence[str]) -> str:
    """Parts side by side in one line, set apart as the language does it."""
    return ("；" if i18n.language() == "zh-TW" else "; ").join(parts)


def warn(texts: Sequence[str]) -> None:
    """Warnings, each on its line, on standard error."""
    for text in texts:
        note(f"{_('warning:')} {text}")


def show_problem(problem: Problem) -> None:
    """A problem for a person, on standard error."""
    for entry in [problem, *problem.also]:
        head = f"{entry.where}: {entry.message}" if entry.where else entry.message
        note(f"{click.style(_('error:'), fg='red', bold=True)} {_relative(head)}")
        if entry.cause:
            note(f"  {_('cause:')} {entry.cause}")
        if entry.mend:
            note(f"  {_('mend:')} {entry.mend}")


def _relative(text: str) -> str:
    """Paths under the working directory are shown from there, as editors link them."""
    return text.replace(f"{Path.cwd()}/", "")


# Click's own words; it looks them up in the default gettext domain, which is ours while Chinese is spoken.
CLICK_WORDS = (
    N_("Usage:"),
    N_("Options"),
    N_("Commands"),
    N_("Show this message and exit."),
    N_("default: {default}"),
    N_("Missing command."),
    N_("Missing argument"),
    N_("Missing option"),
    N_("Missing parameter"),
    N_("No such command {name!r}."),
    N_("No such option {name!r}."),
    N_("Invalid value for {param_hint}: {message}"),
    N_("Invalid value: {message}"),
    N_("{value!r} is not a valid {number_type}."),
    N_("Option {name!r} does not take a value."),
)


def _translate_click() -> None:
    if i18n.language() == "en":
        gettext.textdomain("messages")
        return
    gettext.bindtextdomain("nlp_skills", i18n.LOCALE_DIR)
    gettext.textdomain("nlp_skills")
    os.environ["LANGUAGE"] = i18n.language().replace("-", "_")


def run(group: click.Group, arguments: list[str]) -> int:
    """Run the command line and return the exit code; only our own bugs show a traceback."""
    i18n.set_language(_requested_language(arguments))
    _translate_click()
    wants_json = "--json" in arguments
    try:
        code = group.main(arguments, prog_name="nlp-skills", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        note(_("stopped"))
        return 130
    except click.ClickException as error:
        return _usage(error, wants_json)
    except Problem as problem:
        return _refused(problem, wants_json)
    except KeyboardInterrupt:
        note(_("stopped"))
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 0
    except OSError as error:
        return _refused(_system_problem(error), wants_json)


def _refused(problem: Problem, wants_json: bool) -> int:
    if wants_json:
        emit({"ok": False, "error": problem.as_dict(), "exit_code": problem.exit_code})
    else:
        show_problem(problem)
    return problem.exit_code


def _system_problem(error: OSError) -> Problem:
    """What no room foresaw, such as a file without read permission: still no traceback."""
    mend = _("look at the path and its permissions, then run the command again")
    return Unavailable(_("the system refused"), file=error.filename, cause=error.strerror or str(error), mend=mend)


def _usage(error: click.ClickException, wants_json: bool) -> int:
    message = error.format_message()
    if wants_json:
        emit({"ok": False, "error": {"message": message}, "exit_code": 2})
        return 2
    context = getattr(error, "ctx", None)
    note(f"{click.style(_('error:'), fg='red', bold=True)} {message}")
    if context is not None:
        note(f"  {_('mend:')} {context.command_path} --help")
    return 2


def _requested_language(arguments: Sequence[str]) -> str | None:
    """`--lang X` anywhere on the line, known before the first message is made."""
    for index, argument in enumerate(arguments):
        if argument.startswith("--lang="):
            return argument.partition("=")[2]
        if argument == "--lang" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None
