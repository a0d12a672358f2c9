"""The little of YAML that our commands write, read without a parser."""

from __future__ import annotations


def scalar(text: str, key: str) -> str | None:
    """A plain scalar at the top level of YAML we wrote ourselves."""
    for line in text.splitlines():
        if line.startswith(f"{key}:"):
            value = line.partition(":")[2].split(" #")[0].strip().strip("'\"")
            return None if value in ("", "null", "~") else value
    return None


def section(text: str, key: str) -> list[str]:
    """The lines under a top-level key."""
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith(f"{key}:")]
    if not starts:
        return []
    inside = []
    for line in lines[starts[0] + 1 :]:
        if line[:1] not in (" ", "#", ""):
            break
        inside.append(line)
    return inside


def number(line: str, key: str) -> float | None:
    name, _colon, value = line.strip().partition(":")
    try:
        return float(value.split(" #")[0]) if name == key else None
    except ValueError:
        return None
