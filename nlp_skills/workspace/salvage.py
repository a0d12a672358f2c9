"""What can still be read of a YAML mapping that no parser takes: cut off, half merged, or edited by hand in a hurry.

Key by key, then line by line: a part that parses is taken as it is, of one that does not the parts in it.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml

_KEY = re.compile(r"""(?P<name>"[^"]*"|'[^']*'|[^\s#\-\[\]{},&*!|>'"%@`?:][^#]*?)\s*:(?:\s+(?P<rest>.*))?$""")
_TABS = re.compile(r"^[ ]*\t[ \t]*", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
# What may have been open where a value was cut off.
_CLOSERS = ("", '"', "'", "]", "}", '"]', "']", '"}', "'}", "]}", "}]", "}}")
_MAX_DEPTH = 20


def text_of(raw: bytes) -> str:
    """The bytes of a file as text, whatever it takes: UTF-8 cut in a character, UTF-16, Big5, else what is left."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(raw) - error.start < 4:
            return raw[: error.start].decode("utf-8-sig")
    replaced = raw.decode("utf-8-sig", errors="replace")
    sound = sum(not letter.isascii() for letter in replaced) - replaced.count("\ufffd")
    if sound < replaced.count("\ufffd"):
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode("cp950")
    return replaced


def mapping(text: str, known: Collection[str]) -> dict[str, Any]:
    """The keys of a mapping and what can be read of their values; `known` are the keys it usually has.

    Of a key that stands twice lists are joined, mappings are merged, and else the later one counts.
    """
    clean = _CONTROL.sub("", _TABS.sub(lambda found: found[0].replace("\t", "  "), text))
    whole = _parsed(clean)
    if isinstance(whole, dict):
        return {str(key): value for key, value in whole.items()}
    return _mapping(_unfolded(clean, known).splitlines(), _MAX_DEPTH)


def _parsed(text: str) -> Any:
    """What a strict reader makes of it; None where it refuses."""
    try:
        return yaml.loads(text, Path("salvage")).data
    except Invalid:
        return None


def _unfolded(text: str, known: Collection[str]) -> str:
    """A whole file that lost its line ends, as a text copied out of a page does, with a line for each key again."""
    lines = [line for line in text.splitlines() if line.strip()]
    starts = [len(re.findall(rf"(?:^|\s)(?:{'|'.join(known)}):\s", line)) for line in lines]
    if not lines or len(lines) > 3 or max(starts) < 3:
        return text
    flat = " ".join(lines)
    first = re.search(rf"(?:^|\s)(?:{'|'.join(known)}):\s", flat)
    flat = flat[first.start() :] if first else flat
    flat = re.sub(r"\s-\s(?=\S)", "\n  - ", flat)
    return re.sub(
        r"\s([^\s:\-\"'][^\s:\"']*):(?=\s)", lambda key: f"\n{'' if key[1] in known else '  '}{key[1]}:", flat
    )


def _mapping(lines: Sequence[str], depth: int) -> dict[str, Any]:
    level = next((_indent(line) for line in lines if _content(line)), 0)
    found: dict[str, Any] = {}
    for block in _blocks(lines, level):
        entry = _entry(block, level, depth)
        if entry is not None:
            key, value = entry
            found[key] = _joined(found[key], value) if key in found else value
    return found


def _blocks(lines: Sequence[str], level: int) -> list[list[str]]:
    """The lines of each key at this level; what stands there and is no key belongs to nobody."""
    blocks: list[list[str]] = []
    for line in lines:
        if _indent(line) <= level and _content(line) and not line.lstrip().startswith("-"):
            if _indent(line) == level and _KEY.match(line.strip()):
                blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    return blocks


def _entry(block: list[str], level: int, depth: int) -> tuple[str, Any] | None:
    whole = _parsed("\n".join(block))
    if isinstance(whole, dict) and len(whole) == 1:
        key, value = next(iter(whole.items()))
        return str(key), value
    head = _KEY.match(block[0].strip())
    if head is None or depth == 0:
        return None
    value = _value((head["rest"] or "").strip(), block[1:], level, depth)
    return None if value is None else (head["name"].strip("\"'"), value)


def _value(rest: str, body: list[str], level: int, depth: int) -> Any:
    if rest[:1] in ("|", ">"):
        return textwrap.dedent("\n".join(body)).strip("\n") + "\n"
    if rest and not rest.startswith("#"):
        return _scalar(" ".join([rest, *(line.strip() for line in body)]))
    first = next((line.strip() for line in body if _content(line)), "")
    if first.startswith("-"):
        return _items(body)
    return _mapping(body, depth - 1) if _KEY.match(first) else first or None


def _items(body: list[str]) -> list[Any]:
    start = next(_indent(line) for line in body if _content(line))
    groups: list[list[str]] = []
    for line in body:
        if _indent(line) == start and line.lstrip().startswith("-"):
            groups.append([line])
        elif groups:
            groups[-1].append(line)
    found = []
    for group in groups:
        parsed = _parsed("\n".join(group))
        words = " ".join(line.strip() for line in group).removeprefix("-").strip()
        found.append(parsed[0] if isinstance(parsed, list) and len(parsed) == 1 else _scalar(words))
    return [item for item in found if item not in (None, "")]


def _scalar(text: str) -> Any:
    """A value whose end may be missing; as words where no end fits."""
    for closer in _CLOSERS:
        found = _parsed(text + closer)
        half = isinstance(found, dict) and (text[0] != "{" or None in found.values())
        if found is not None and not half:
            return found
    return text.strip("\"'")


def _joined(earlier: Any, later: Any) -> Any:
    if isinstance(earlier, list) and isinstance(later, list):
        return earlier + [item for item in later if item not in earlier]
    if isinstance(earlier, dict) and isinstance(later, dict):
        return {**earlier, **later}
    return earlier if later is None else later


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _content(line: str) -> bool:
    """Whether a line says something: neither blank nor a comment, nor a mark between documents."""
    return bool(line.strip()) and not line.lstrip().startswith("#") and line.rstrip() not in ("---", "...")
