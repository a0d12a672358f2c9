"""Finding tasks: by name, by path, all of them under a folder, and the current one."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nlp_skills import files
from nlp_skills.errors import Usage
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.workspace.folder import TaskFolder

_DEPTH = 3
_SKIP = {"node_modules", "__pycache__", "site-packages", "venv", "data", "models", "versions"}
_TASK_NAME = re.compile(rb"""^task_name:[ \t]*["']?([^"'#\s]+)""", re.MULTILINE)
_HEAD = 1 << 16


def project_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that keeps a `.nlp-skills/current`, else the folder itself."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / ".nlp-skills" / "current").is_file():
            return folder
    return start


def find(root: Path, *, refused: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Every folder with a task.yaml under `root`, itself included, a few levels deep; tasks do not nest.

    Links are not followed. `refused` hears of each folder that may not be looked into. Something called task.yaml
    that is no file, such as a link to nowhere, counts too: why it cannot be read is for whoever reads it.
    """
    stack = [(str(root), 0)]
    while stack:
        folder, depth = stack.pop()
        if os.path.lexists(f"{folder}/task.yaml"):
            yield Path(folder)
        elif depth < _DEPTH:
            try:
                below = _children(folder)
            except OSError:
                if refused is not None:
                    refused(Path(folder))
                continue
            stack.extend((child, depth + 1) for child in below)


def _children(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        found = [
            e.path for e in entries if e.name[0] != "." and e.name not in _SKIP and e.is_dir(follow_symlinks=False)
        ]
    return sorted(found, reverse=True)


def task(name: str | None = None) -> TaskFolder:
    """The task called `name`, or at that path; without one, the task we stand in or the current one.

    A name is that of the folder, else the one in its task.yaml. No task.yaml is parsed for it.

    Raises:
        Usage: no such task, or several, or none is current; the nearest name is offered.
    """
    if name is None:
        return _current()
    if (Path(name) / "task.yaml").is_file():
        return _at(Path(name))
    root = project_root()
    paths = list(find(root))
    named = [path for path in paths if path.name == name]
    titles = {} if named else {path: _title(path) for path in paths}
    named = named or [path for path, title in titles.items() if title == name]
    if len(named) == 1:
        return _at(named[0])
    if named:
        raise Usage(
            _("more than one task is called {name}", name=name),
            cause=", ".join(sorted(str(path.relative_to(root)) for path in named)),
            mend=_("name it by its path"),
        )
    near = difflib.get_close_matches(name, sorted({path.name for path in paths} | set(titles.values())), n=1)
    mend = _("did you mean {name}?", name=near[0]) if near else _("see what there is: nlp-skills tasks")
    raise Usage(_("no task called {name} under {root}", name=name, root=str(root)), mend=mend)


def _title(path: Path) -> str:
    """The name a task.yaml gives itself, without parsing it; the folder's where there is none to be seen."""
    try:
        with open(path / "task.yaml", "rb") as stream:
            found = _TASK_NAME.search(stream.read(_HEAD))
    except OSError:
        found = None
    return found[1].decode(errors="replace") if found else path.name


def _at(path: Path) -> TaskFolder:
    from nlp_skills.workspace.folder import TaskFolder

    return TaskFolder.at(path)


def _current() -> TaskFolder:
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "task.yaml").is_file():
            return _at(folder)
    root = project_root()
    chosen = _chosen(root)
    if chosen is not None:
        return _at(chosen)
    found = list(find(root))
    if len(found) == 1:
        return _at(found[0])
    raise Usage(
        _("no task is named and none is current"),
        mend=_("name one, or choose it with: nlp-skills use NAME"),
    )


def _chosen(root: Path) -> Path | None:
    """The task that `use` made the current one; None where it never did.

    Raises:
        Usage: it is no longer there; another one is never taken in its place.
    """
    marker = root / ".nlp-skills" / "current"
    if not marker.is_file():
        return None
    text = marker.read_text(encoding="utf-8", errors="replace").strip()
    path = files.inside(root, text)
    if text and (path / "task.yaml").is_file():
        return path
    moved = next((other for other in find(root) if text and other.name == path.name), None)
    if moved is not None:
        mend = _("a task of that name is here: nlp-skills use {path}", path=str(moved.relative_to(root)))
    else:
        mend = _("choose another one: nlp-skills use NAME; see what there is: nlp-skills tasks")
    raise Usage(_("the current task is no longer there: {path}", path=str(path)), file=marker, mend=mend)


def use(folder: TaskFolder) -> Path:
    """Make a task the current one of its project; later commands and shells see it. Returns the project."""
    root = project_root()
    if not folder.root.is_relative_to(root):
        root = folder.root.parent
    files.write_text(root / ".nlp-skills" / "current", f"{folder.root.relative_to(root)}\n")
    return root
