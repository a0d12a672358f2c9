"""The commands that a text mentions, held against the command line there really is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache

import click

from nlp_skills.cli.main import cli

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_OWN = "nlp-skills"
# What stands for something else: NAME, [TASK], $ARGUMENTS, "…", OWNER/NAME.
_PLACE = re.compile(r"[\[$…\"]|[A-Z][A-Z0-9_/@,]*$")


def spans(text: str) -> list[str]:
    """What stands in backticks, as it is read: a cell of a table writes `|` as `\\|`."""
    return [span.replace(r"\|", "|").strip() for span in _SPAN.findall(_FENCE.sub("", text))]


def commands(text: str) -> list[str]:
    """Every command line of ours, from spans and from blocks."""
    lines = [line.strip() for block in _FENCE.finditer(text) for line in block[2].splitlines()]
    return [one for one in spans(text) + lines if one.split(" ")[0] == _OWN and one != _OWN]


def problems(line: str) -> Iterator[str]:
    """What `nlp-skills` would not understand of a command line that may have places in it."""
    words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)[1:]
    command, words = _found(cli, words)
    if isinstance(command, click.Group):
        if words and words[0] != "--help":
            yield f"no command {words[0]!r}"
        return
    options = {name: each for each in command.params for name in (*each.opts, *each.secondary_opts)}
    options["--help"] = click.Option(["--help"], is_flag=True)
    room = sum(99 if each.nargs < 0 else each.nargs for each in command.params if isinstance(each, click.Argument))
    given = iter(words)
    for word in given:
        if not word.startswith("-"):
            room -= word != "…"
            continue
        name, equals, value = word.partition("=")
        option = options.get(name)
        if not isinstance(option, click.Option):
            yield f"no option {name!r}"
            continue
        if not option.is_flag and option._flag_needs_value is False:
            value = value if equals else next(given, "")
            yield from _value(option, value)
    if room < 0:
        yield "too many arguments"


def _found(command: click.Command, words: list[str]) -> tuple[click.Command, list[str]]:
    if not isinstance(command, click.Group):
        return command, words
    context = click.Context(command)
    below = command.get_command(context, words[0]) if words and not words[0].startswith("-") else None
    if below is not None:
        return _found(below, words[1:])
    # A group that also does something by itself has a command without a name.
    alone = command.get_command(context, "") if words else None
    return (alone, words) if alone is not None else (command, words)


def _value(option: click.Option, value: str) -> Iterator[str]:
    if not value:
        yield f"{option.opts[0]} without a value"
    elif isinstance(option.type, click.Choice) and not _PLACE.match(value):
        known = [str(choice) for choice in option.type.choices]
        yield from (f"{option.opts[0]} does not know {one!r}" for one in value.split("|") if one not in known)


@cache
def option_names() -> dict[str, set[str]]:
    """Every command's options, by its full name: `plan new`."""
    found: dict[str, set[str]] = {}
    waiting: list[tuple[str, click.Command]] = [("", cli)]
    while waiting:
        name, command = waiting.pop()
        found[name] = {"--help"} | {opt for each in command.params for opt in (*each.opts, *each.secondary_opts)}
        if isinstance(command, click.Group):
            context = click.Context(command)
            below = [*command.list_commands(context), ""]
            waiting += [
                (f"{name} {each}".strip(), one) for each in below if (one := command.get_command(context, each))
            ]
    return found
