"""Version names: what is one, and which comes first."""

from __future__ import annotations

import re

_SEMANTIC = re.compile(r"v(\d+)(?:\.(\d+))?(-exp)?\Z")
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})\Z")
_HYBRID = re.compile(r"v(\d+)[-_](\d{8,})\Z")


def is_version(name: str) -> bool:
    """Whether `name` follows one of the three strategies: v2.1, 2025-01-07, v2-20250107."""
    return any(pattern.match(name) for pattern in (_SEMANTIC, _DATE, _HYBRID))


def sort_key(name: str) -> tuple[int, ...]:
    """Orders names of one strategy; an experiment follows the version it tries out."""
    if match := _SEMANTIC.match(name):
        major, minor, experiment = match.groups()
        return (int(major), int(minor or 0), int(experiment is not None))
    match = _DATE.match(name) or _HYBRID.match(name)
    return tuple(int(part) for part in match.groups()) if match else (0,)


def next_version(names: list[str]) -> str:
    """The next major version of the semantic strategy: v1, v2, …"""
    majors = [int(match[1]) for name in names if (match := _SEMANTIC.match(name))]
    return f"v{max(majors, default=0) + 1}"
