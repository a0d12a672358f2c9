"""Asking for a source in a terminal, one question at a time, with what was said before as the default."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.cli.source_options import KINDS, Found, KeyPath, Setting, of_kind, placed
from nlp_skills.errors import Problem
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.data.source_list import Look
    from nlp_skills.workspace.folder import TaskFolder


def can_ask(as_json: bool) -> bool:
    """Whether a person is there to answer."""
    return not as_json and sys.stdin.isatty() and sys.stdout.isatty()


def kind() -> str:
    """Which type of source it is."""
    names = list(KINDS)
    for number, name in enumerate(names, 1):
        frame.say(f"  {number}  {name}: {_(KINDS[name])}")
    return names[click.prompt(_("Where do the rows come from?"), type=click.IntRange(1, len(names))) - 1]


def settings(chosen: str, known: Mapping[KeyPath, Any]) -> Found:
    """The settings of a source of this type; what is `known` is offered as the default."""
    found = dict(known)
    for setting in of_kind(chosen):
        path: KeyPath = tuple(setting.key.split("."))
        if setting.asked or path in known:
            answer = _answer(setting, known.get(path))
            found.pop(path, None)
            if answer not in (None, "", [], {}):
                found.update(placed(setting, answer))
    return found


def mapping(folder: TaskFolder, seen: Look, known: Mapping[str, str]) -> dict[str, str]:
    """A column for each field of the task that the rows do not have under its own name."""
    task = folder.task()
    wanted = [name for name in (*task.input_fields, *task.output_fields) if name not in seen.columns]
    found = {name: column for name, column in known.items() if name not in wanted}
    if wanted and seen.columns:
        frame.say(_("columns: {columns}", columns=", ".join(_shown(seen.columns))))
    for name in wanted:
        if not seen.columns:
            break
        nearest = known.get(name) or _nearest(name, seen.columns)
        answer = click.prompt(_("Column (or JMESPath) of the field {name}", name=name), default=nearest)
        found[name] = answer.strip()
    return found


def again(problem: Problem) -> bool:
    """Show what went wrong and offer to answer anew."""
    frame.show_problem(problem)
    return click.confirm(_("Change the answers?"), default=True)


def _answer(setting: Setting, known: Any) -> Any:
    question = _(setting.question)
    if setting.form == "yes":
        return click.confirm(question, default=bool(known))
    if setting.form in ("list", "pairs"):
        return _several(setting, question, known)
    kinds: Any = click.Choice(setting.choices) if setting.choices else int if setting.form == "number" else str
    if setting.required:
        return click.prompt(question, default=known, type=kinds)
    return _optional(question, known, kinds)


def _optional(question: str, known: Any, kinds: Any) -> Any:
    """An empty answer leaves the setting out, a dash takes a known one away."""
    shown = _("empty: leave out") if known is None else _("-: leave out")
    convert: Callable[[str], Any] = click.types.convert_type(kinds)
    while True:
        said = click.prompt(
            f"{question} ({shown})", default="" if known is None else str(known), show_default=bool(known)
        )
        if said in ("", "-"):
            return None
        try:
            return convert(said)
        except click.UsageError as error:
            frame.note(error.format_message())


def _several(setting: Setting, question: str, known: Any) -> list[str]:
    """Answers until an empty one; none keeps what was known."""
    before = [f"{name}={value}" for name, value in known.items()] if isinstance(known, dict) else list(known or [])
    if before:
        frame.say(f"{question}: {', '.join(before)}")
        if click.confirm(_("Keep these?"), default=True):
            return before
    form = "KEY=VALUE; " if setting.form == "pairs" else ""
    done = _("empty: done")
    answers: list[str] = []
    while True:
        said = click.prompt(f"{question} ({form}{done})", default="", show_default=False).strip()
        if said and setting.form == "pairs" and "=" not in said:
            frame.note(_("{pair} is not {form}", pair=said, form="KEY=VALUE"))
        elif said:
            answers.append(said)
        elif answers or not setting.required:
            return answers


def _nearest(name: str, columns: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.4)
    return near[0] if near else columns[0]


def _shown(columns: list[str]) -> list[str]:
    from nlp_skills.data.rows import shown_name

    return [shown_name(name) for name in columns[:30]]
