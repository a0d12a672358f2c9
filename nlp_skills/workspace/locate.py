"""Finding tasks: by name, by path, all of them under a folder, and the current one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder

_DEPTH = 3
_SKIP = {"node_modules", "__pycache__", "site-packages", "venv", "data", "models", "versions"}


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that keeps a `.nlp-skills/current`, else the folder itself."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / ".nlp-skills" / "current").is_file():
            return folder
    return start


def find(root: Path) -> Iterator[Path]:
    """Every folder with a task.yaml under `root`, itself included, a few levels deep; tasks do not nest."""
    stack = [(root, 0)]
    while stack:
        folder, depth = stack.pop()
        if (folder / "task.yaml").is_file():
            yield folder
        elif depth < _DEPTH:
            stack.extend((child, depth + 1) for child in _children(folder))


def _children(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [Path(e.path) for e in sorted(entries, key=lambda e: e.name) if e.name not in _SKIP and e.name[0] != "."]


def task(name: str | None = None) -> TaskFolder:
    """The task called `name`, or at that path; without one, the task we stand in or the current one.

    Raises:
        Usage: no such task, or none is current; the nearest name is offered.
    """
    if name is None:
        return _current()
    if (Path(name) / "task.yaml").is_file():
        return TaskFolder.at(Path(name))
    root = project_root()
    found = {path.name: path for path in find(root)}
    if name in found:
        return TaskFolder.at(found[name])
    near = difflib.get_close_matches(name, sorted(found), n=1)
    mend = _("did you mean {name}?", name=near[0]) if near else _("see what there is: nlp-skills tasks")
    raise Usage(_("no task called {name} under {root}", name=name, root=str(root)), mend=mend)


def _current() -> TaskFolder:
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "task.yaml").is_file():
            return TaskFolder.at(folder)
    root = project_root()
    marker = root / ".nlp-skills" / "current"
    if marker.is_file():
        path = files.inside(root, marker.read_text(encoding="utf-8").strip())
        if (path / "task.yaml").is_file():
            return TaskFolder.at(path)
    found = list(find(root))
    if len(found) == 1:
        return TaskFolder.at(found[0])
    raise Usage(
        _("no task is named and none is current"),
        mend=_("name one, or choose it with: nlp-skills use NAME"),
    )


def use(folder: TaskFolder) -> Path:
    """Make a task the current one of its project; later commands and shells see it. Returns the project."""
    root = project_root()
    if not folder.root.is_relative_to(root):
        root = folder.root.parent
    files.write_text(root / ".nlp-skills" / "current", f"{folder.root.relative_to(root)}\n")
    return root
