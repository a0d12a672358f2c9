"""A unit for systemd, and how it is installed. Keys are in a file beside it, never in the unit."""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from nlp_skills.deployment.serving import starting
from nlp_skills.deployment.serving.emit import text
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import subject
from nlp_skills.i18n import _
from nlp_skills.scaffold import project
from nlp_skills.workspace.folder import TaskFolder

# What is under way is finished first; systemd kills what takes longer than this.
_MORE_SECONDS = 15


def wanted(folder: TaskFolder, settings: Settings, within: str) -> tuple[list[str], dict[str, bytes]]:
    """The versions that can be asked, and the unit and its README.

    Raises:
        Invalid: the version cannot be asked, or a path holds what a unit cannot.
    """
    version = subject.asked(folder, settings.version).version.name
    name = f"nlp-skills-{project.project_name(folder.task().task_name)}"
    unit, environment = f"{name}.service", f"/etc/nlp-skills/{name}.env"
    made = {
        unit: text.of(
            "unit.j2",
            task=_specified(_printable(folder.task().task_name)),
            user=_specified(_owner(folder.root)),
            environment=environment,
            # With a colon, a dollar sign is nothing but that.
            command=" ".join(quoted(part) for part in _command(folder, settings)),
            writable=[quoted(path) for path in _writable(folder.root, settings)],
            stop_seconds=int(settings.grace_s) + _MORE_SECONDS,
            devices="yes" if settings.engine == "llama.cpp" else "no",
        ),
        "README.md": text.of(
            "systemd.md.j2",
            task=folder.task().task_name,
            unit=unit,
            path=str(folder.root / within / unit),
            environment=environment,
            address=settings.address,
        ),
    }
    return [version] if settings.version else folder.version_names(), made


def _command(folder: TaskFolder, settings: Settings) -> list[str]:
    program = [sys.executable, "-P", "-m", "nlp_skills.cli.main"]
    command = [_printable(part) for part in [*program, *starting.arguments(str(folder.root), settings)]]
    return [f":{command[0]}", *command[1:]]


def _writable(root: Path, settings: Settings) -> list[str]:
    """The task folder; and where base models are kept, for engines that need one."""
    found = [_printable(str(root))]
    if settings.engine != "llama.cpp":
        found.append(f"-{_printable(os.environ.get('XDG_CACHE_HOME') or str(Path.home() / '.cache'))}")
    return found


def _owner(root: Path) -> str:
    number = root.stat().st_uid
    try:
        return _printable(pwd.getpwuid(number).pw_name)
    except KeyError:
        return str(number)


def _printable(told: str) -> str:
    # A line break would begin a setting of its own.
    if not told.isprintable():
        raise Invalid(_("a unit cannot name {name}", name=ascii(told)), mend=_("rename the folder"))
    return told


def _specified(part: str) -> str:
    return part.replace("%", "%%")


def quoted(part: str) -> str:
    """One word of a command line, or of a list of paths."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_specified(escaped)}"'
