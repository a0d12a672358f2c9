"""What every document shares: strict keys, one problem that lists every wrong line, atomic saving."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema import yaml


class Model(BaseModel):
    """A part of a document: unknown keys are refused, aliases and names are both read."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, validate_assignment=True)


class Document(Model):
    """A file of a task. JSON documents are read and written as JSON, the others as YAML."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read and validate a file.

        Raises:
            Invalid: with one entry in `also` for each further wrong line.
        """
        if path.suffix == ".json":
            return cls.check(files.read_json(path), path, {})
        data, lines = yaml.read(path)
        return cls.check(data, path, lines)

    @classmethod
    def check(cls, data: Any, path: Path, lines: yaml.Lines) -> Self:
        """Validate parsed data; `path` and `lines` are for the messages."""
        if data is None:
            raise Invalid(_("the file is empty"), file=path, mend=_("fill it in, or restore it from version control"))
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _refusal(cls, error, data, path, lines) from error

    def dump(self) -> dict[str, Any]:
        """Plain data in writing order, unset optional keys left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def save(self, path: Path, *, header: str = "") -> None:
        """Write the whole file atomically. A file a person edits is changed through `yaml.change` instead."""
        if path.suffix == ".json":
            files.write_json(path, self.dump())
        else:
            files.write_text(path, yaml.dumps(self.dump(), header=header))


def _refusal(cls: type[BaseModel], error: ValidationError, data: Any, path: Path, lines: yaml.Lines) -> Problem:
    problems = [_problem(cls, entry, data, path, lines) for entry in error.errors(include_url=False)]
    unique = list({(p.line, p.message): p for p in problems}.values())
    first, *rest = sorted(unique, key=lambda problem: problem.line or 0)
    first.also.extend(rest)
    return first


def _problem(cls: type[BaseModel], entry: Any, data: Any, path: Path, lines: yaml.Lines) -> Invalid:
    at = _path_in_data(entry["loc"], data)
    name = ".".join(str(key) for key in at) or path.name
    line = next((lines[at[:end]] for end in range(len(at), -1, -1) if at[:end] in lines), None)
    if entry["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(at[-1]), sorted(known_keys(cls, at[:-1])), n=1)
        mend = _("did you mean {name}?", name=near[0]) if near else _("remove the key, or check its spelling")
        return Invalid(_("unknown key {name}", name=name), file=path, line=line, mend=mend)
    if entry["type"] == "missing":
        mend = _("add {name}: …", name=str(at[-1]) if at else name)
        return Invalid(_("the key {name} is missing", name=name), file=path, line=line, mend=mend)
    cause = cause_of(entry)
    return Invalid(_("wrong value for {name}", name=name), file=path, line=line, cause=cause)


def cause_of(entry: Any) -> str:
    """One of pydantic's errors in words: what is wanted, and what is given."""
    context = entry.get("ctx") or {}
    given = short(entry.get("input"))
    if "expected" in context:
        allowed = str(context["expected"]).replace(" or ", ", ")
        return _("{given} is not one of {allowed}", given=given, allowed=allowed)
    if entry["type"] == "value_error":
        return str(context.get("error", entry["msg"]))
    wanted = _wanted(entry["type"], context) or entry["msg"]
    return _("{wanted}; the file has {given}", wanted=wanted, given=given)


def _wanted(kind: str, context: dict[str, Any]) -> str | None:
    """What pydantic's error types ask for, in words that can be translated."""
    bounds = {
        "greater_than": "> {gt}",
        "greater_than_equal": ">= {ge}",
        "less_than": "< {lt}",
        "less_than_equal": "<= {le}",
    }
    if kind in bounds:
        return _("it must be {bound}", bound=bounds[kind].format(**context))
    wanted = {
        "int": _("a whole number is wanted"),
        "float": _("a number is wanted"),
        "string": _("text is wanted"),
        "bool": _("true or false is wanted"),
        "list": _("a list is wanted"),
        "dict": _("a mapping is wanted"),
        "model": _("a mapping is wanted"),
        "datetime": _("a date and time is wanted, such as 2026-01-06T10:30:00+08:00"),
        "date": _("a date is wanted, such as 2026-01-06"),
    }
    return wanted.get(kind.split("_")[0])


def short(value: Any, limit: int = 60) -> str:
    """A value on one short line, escaped."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _path_in_data(location: tuple[Any, ...], data: Any) -> tuple[yaml.Key, ...]:
    """Pydantic's location without the tags and type names that unions add to it."""
    at: list[yaml.Key] = []
    for index, step in enumerate(location):
        if isinstance(data, dict) and (step in data or index == len(location) - 1):
            data = data.get(step)
            at.append(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step] if step < len(data) else None
            at.append(step)
    return tuple(at)


def known_keys(cls: type[BaseModel], at: tuple[Any, ...]) -> set[str]:
    """The names a mapping at this place may have, over every model that could stand there."""
    models = {cls}
    for step in at:
        fields = [
            field for model in models for name, field in model.model_fields.items() if step in (name, field.alias)
        ]
        if fields:
            models = {model for field in fields for model in _models_in(field.annotation)}
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None or isinstance(annotation, types.UnionType) or annotation is Union:
        for argument in get_args(annotation):
            yield from _models_in(argument)
