"""The managed environment: where it is, whether it still fits the plugin, and the way into it.

`bin/nlp-skills` runs this file by its path, before anything is installed, so it imports the standard
library only. When the environment is current it costs a few milliseconds and gives way to the installed
command line; when the plugin was updated it brings the environment up to date first.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

_SKIPPED = "__pycache__"


def home() -> Path:
    """The folder that outlives plugin updates: `NLP_SKILLS_HOME`, else the user's data folder."""
    chosen = os.environ.get("NLP_SKILLS_HOME")
    if chosen:
        return Path(chosen).absolute()
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).absolute() / "nlp-skills"


def folder() -> Path:
    """The virtual environment itself."""
    return home() / "env"


def python() -> Path:
    """Its interpreter."""
    return folder() / "bin" / "python"


def stamp_path() -> Path:
    return home() / "env.json"


def stamp() -> dict[str, Any]:
    """What was set up: `state` (running, ready), `fingerprint`, `extras`, `root`; empty when nothing was."""
    try:
        content = json.loads(stamp_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fingerprint(root: Path) -> str:
    """A hash over all that decides what is installed: lock, project file and the package's own sources."""
    total = hashlib.sha256()
    for name, path in [("uv.lock", root / "uv.lock"), ("pyproject.toml", root / "pyproject.toml"), *_sources(root)]:
        total.update(f"{name}\0".encode())
        total.update(path.read_bytes())
        total.update(b"\0")
    return f"sha256:{total.hexdigest()}"


def _sources(root: Path) -> list[tuple[str, Path]]:
    found = []
    for folder_name, folders, names in os.walk(root / "nlp_skills"):
        folders[:] = [name for name in folders if name != _SKIPPED]
        found += [Path(folder_name, name) for name in names]
    return sorted((path.relative_to(root).as_posix(), path) for path in found)


def is_current(root: Path) -> bool:
    """Whether the environment was set up completely, from exactly this plugin."""
    content = stamp()
    return content.get("state") == "ready" and python().exists() and content.get("fingerprint") == fingerprint(root)


def command(arguments: list[str]) -> str | None:
    """The first word that is not a global option."""
    words = iter(arguments)
    for word in words:
        if word == "--lang":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _enter(arguments: list[str]) -> NoReturn:
    """Become this same program, run by the environment's interpreter."""
    os.execv(python(), [str(python()), "-I", str(Path(__file__).resolve()), *arguments])  # noqa: S606


def _from_plugin(root: Path, arguments: list[str]) -> int:
    """Whatever cannot run inside the environment: making it, renewing it, or saying that there is none."""
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True  # the plugin's folder stays as it was installed
    from nlp_skills.machine import setup

    if command(arguments) == "setup":
        return setup.main(root, arguments)
    if not stamp():
        return setup.say_missing(arguments)
    code = setup.renew(root, arguments)
    if code == 0:
        _enter(arguments)
    return code


def launch(arguments: list[str]) -> int:
    """Run the command line inside the environment when it is current; otherwise see to that first."""
    root = Path(__file__).resolve().parent.parent.parent
    if command(arguments) == "setup" or not is_current(root):
        return _from_plugin(root, arguments)
    if Path(sys.prefix).resolve() != folder().resolve():
        _enter(arguments)
    from nlp_skills.cli.main import main

    main()
    return 0


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
