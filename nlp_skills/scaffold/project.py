"""The task's own pyproject.toml: nlp-skills from vendor/, everything else pinned to what is installed now."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nlp_skills.schema.source import Source

EXTRAS = ("data", "quality", "train")
_HEADER = """\
# What the scripts of this task run with: `uv run python scripts/04_train.py` installs it into .venv here.
# The versions are those that the task folder was made with; change them as you like.
"""


def text(task_name: str, extras: Collection[str], wheel: str) -> str:
    """The file's content. `wheel` is a file name in vendor/."""
    pins = ",\n".join(f"    {json.dumps(pin)}" for pin in closure("nlp-skills", tuple(extras)))
    return f"""{_HEADER}
[project]
name = "{project_name(task_name)}"
version = "0"
requires-python = ">=3.{sys.version_info.minor}"
dependencies = ["nlp-skills[{",".join(sorted(extras))}]"]

[tool.uv]
package = false
constraint-dependencies = [
{pins},
]

[tool.uv.sources]
nlp-skills = {{ path = "vendor/{wheel}" }}
"""


def extras_of(base_model: str, sources: Iterable[Source]) -> set[str]:
    """What the steps of a task need: for training and measuring, for its base model and for each of its sources."""
    wanted = {*EXTRAS, *(extra for source in sources for extra in source.extras)}
    return wanted | {"demo"} if base_model.startswith("pypi:") else wanted


def project_name(task_name: str) -> str:
    """A name packaging tools accept; the prefix keeps a task called `datasets` from hiding that package."""
    slug = re.sub(r"[^a-z0-9]+", "-", task_name.lower()).strip("-")
    return f"task-{slug}" if slug else "task"


def closure(distribution: str, extras: tuple[str, ...]) -> list[str]:
    """`name==version` of everything that `distribution[extras]` pulls in and that is installed, sorted."""
    waiting, seen, pins = [(distribution, frozenset(extras))], set(), {}
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        # A local version (`+cpu`) exists in nobody else's index.
        pins[name] = found.version.partition("+")[0]
        waiting += _required(found, wanted)
    pins.pop(distribution)
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def _required(found: metadata.Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for line in found.requires or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield canonicalize_name(one.name), frozenset(one.extras)
