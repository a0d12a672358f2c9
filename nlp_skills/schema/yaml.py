"""YAML 1.2 as people mean it: `1e-5` is a number, `no` is a string, a date stays text.

Reading goes through PyYAML's C parser with the 1.2 core rules and keeps the line of every key;
changing a file goes through ruamel.yaml, which keeps comments, order and quoting.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

Key = str | int
Lines = dict[tuple[Key, ...], int]


class Read(NamedTuple):
    """A parsed file: plain data and the line (from 1) of every key path."""

    data: Any
    lines: Lines


# YAML 1.2 core schema, section 10.3.2 of the specification.
_CORE: list[tuple[re.Pattern[str], Callable[[str], Any]]] = [
    (re.compile(r"(?:null|Null|NULL|~|)\Z"), lambda text: None),
    (re.compile(r"(?:true|True|TRUE)\Z"), lambda text: True),
    (re.compile(r"(?:false|False|FALSE)\Z"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+\Z"), int),
    (re.compile(r"0o[0-7]+\Z"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+\Z"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"), float),
    (re.compile(r"[-+]?(?:\.inf|\.Inf|\.INF)\Z"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"(?:\.nan|\.NaN|\.NAN)\Z"), lambda text: float("nan")),
]


# Every scalar that is not text begins with one of these, or is empty.
_NOT_TEXT = frozenset("-+.0123456789nNtTfF~")

# What the C parser resolves by itself; every other tag was written by somebody.
_TAGS = {"!"} | {
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")
}


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.style in ("'", '"', "|", ">") or node.tag == "!" or (text and text[0] not in _NOT_TEXT):
        return text
    return next((convert(text) for pattern, convert in _CORE if pattern.match(text)), text)


class _Builder:
    """Turns a node graph into data, refusing duplicate keys, custom tags and cycles."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: Lines = {}
        self.open: set[int] = set()

    def refuse(self, node: yaml.Node, message: str, mend: str | None = None) -> Invalid:
        return Invalid(message, file=self.path, line=node.start_mark.line + 1, mend=mend)

    def build(self, node: yaml.Node, at: tuple[Key, ...]) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            raise self.refuse(node, _("YAML tags such as {tag} are not read", tag=node.tag), _("remove the tag"))
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self.open:
            raise self.refuse(node, _("a YAML alias refers to itself"))
        self.open.add(id(node))
        value = self.mapping(node, at) if isinstance(node, yaml.MappingNode) else self.sequence(node, at)
        self.open.discard(id(node))
        return value

    def sequence(self, node: yaml.Node, at: tuple[Key, ...]) -> list[Any]:
        return [self.build(item, (*at, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, at: tuple[Key, ...]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refuse(key_node, _("a key must be plain text"))
            key = _scalar(key_node)
            if key in result:
                raise self.refuse(key_node, _("the key {key} stands twice", key=repr(key)), _("keep one of the two"))
            self.lines[(*at, key)] = key_node.start_mark.line + 1
            result[key] = self.build(value_node, (*at, key))
        return result


def loads(text: str, path: Path) -> Read:
    """Parse YAML text; `path` is used in messages only.

    Raises:
        Invalid: a syntax error, a duplicate key, a custom tag, a self-referring alias, or a deep nesting.
    """
    # The base loader guesses no types; ours are made in `_scalar`.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    builder = _Builder(path)
    try:
        node = yaml.compose(text, Loader=loader)
        return Read(None if node is None else builder.build(node, ()), builder.lines)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise Invalid(
            _("not valid YAML"),
            file=path,
            line=line,
            cause=error.problem,
            mend=_("check the indentation and the quotes around this line"),
        ) from error
    except yaml.YAMLError as error:
        raise Invalid(_("not valid YAML"), file=path, cause=str(error).splitlines()[0]) from error
    except RecursionError as error:
        raise Invalid(_("not valid YAML"), file=path, cause=_("it is nested too deeply")) from error


def read(path: Path) -> Read:
    """Read a YAML file.

    Raises:
        Invalid: missing file, bad UTF-8, or whatever `loads` refuses.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise Invalid(_("file not found"), file=path) from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise Invalid(
            _("not UTF-8 text"), file=path, line=line, cause=str(error), mend=_("save the file as UTF-8")
        ) from error
    return loads(text, path)


def _round_trip() -> Any:
    from ruamel.yaml import YAML

    engine = YAML()
    engine.preserve_quotes = True
    engine.width = 4096
    engine.indent(mapping=2, sequence=4, offset=2)
    return engine


def dumps(content: Any, *, header: str = "") -> str:
    """Plain data as YAML text; multi-line strings become literal blocks."""
    stream = io.StringIO()
    _round_trip().dump(_literal(content), stream)
    return header + stream.getvalue()


def change(path: Path, changes: Mapping[tuple[Key, ...], Any]) -> None:
    """Set values in a YAML file by key path, keeping comments, order and quoting; None removes a key.

    Only what differs is touched, and the file is replaced atomically.
    """
    files.write_text(path, changed(path, changes))


def changed(path: Path, changes: Mapping[tuple[Key, ...], Any]) -> str:
    """The text of a YAML file with some values set, as `change` would write it."""
    engine = _round_trip()
    document = engine.load(path.read_bytes().decode("utf-8-sig")) or {}
    for at, value in changes.items():
        _set(document, at, value)
    stream = io.StringIO()
    engine.dump(document, stream)
    return stream.getvalue()


def _set(document: Any, at: tuple[Key, ...], value: Any) -> None:
    *parents, last = at
    for index, key in enumerate(parents):
        following = (*parents, last)[index + 1]
        if isinstance(document, dict) and document.get(key) is None:
            document[key] = [] if isinstance(following, int) else {}
        document = document[key]
    if value is None and isinstance(document, dict):
        document.pop(last, None)
    elif isinstance(document, list) and isinstance(last, int) and last >= len(document):
        document.append(_literal(value))
    elif not (isinstance(document, dict) and last in document and document[last] == value):
        document[last] = _literal(value)


def _literal(value: Any) -> Any:
    """A plain copy, in which multi-line strings become literal blocks, as a person would write them."""
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(item) for item in value]
    # A block has no way to write a control character; in quotes it is escaped.
    if isinstance(value, str) and "\n" in value and all(char.isprintable() or char in "\n\t" for char in value):
        return LiteralScalarString(value)
    return value
