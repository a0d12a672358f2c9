"""What both programs stand on: the event, the tasks of the project, their notes, the CLI, and speaking."""

from __future__ import annotations

import json
import os
import sys
import time

from nlp_skills.hooks import log, words

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

PLUGIN_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STARTED = time.monotonic()
# Claude Code ends a hook after 10 s (hooks.json); what is not done well before that is left unsaid.
BUDGET_SECONDS = 7.0
_LINES = 12
_DEPTH = 3
_FOLDERS = 3000
_SKIP = {"node_modules", "__pycache__", "site-packages", "venv", "data", "models", "versions"}


def event() -> dict[str, Any]:
    """Claude Code's event from standard input; empty when it is not what we know."""
    said = mapping(json.loads(sys.stdin.buffer.read() or b"{}"))
    log.note(event=str(said.get("hook_event_name")))
    return said


def is_too_early(said: dict[str, Any]) -> bool:
    """Whether there can be nothing to say yet: Stop speaks once a turn, and what was only launched has not ended."""
    for why, silent in (
        ("spoke this turn", said.get("stop_hook_active")),
        ("only launched", mapping(said.get("tool_response")).get("backgroundTaskId")),
    ):
        if silent:
            log.note(silent=why)
            return True
    return False


def mapping(value: Any) -> dict[str, Any]:
    """`value` when it is a dict with text keys, else an empty one: files are made by people too."""
    return value if isinstance(value, dict) else {}


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from a file; empty when missing, unreadable or something else."""
    try:
        with open(path, "rb") as stream:
            return mapping(json.loads(stream.read()))
    except (OSError, ValueError, RecursionError):
        return {}


def read_text(path: str) -> str:
    """The beginning of a text file; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(200_000)
    except OSError:
        return ""


def write_json(path: str, content: dict[str, Any]) -> bool:
    """Replace a file whole; False when the place cannot be written."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(content, stream, ensure_ascii=False, indent=2)
        os.replace(temporary, path)
    except OSError:
        return False
    return True


def hold(path: str) -> Any:
    """An exclusive lock, held until the returned file is closed; None where it cannot be had.

    Claude Code starts one of us for each `if` that a command matches, at the same moment.
    """
    import fcntl

    return _locked(path, fcntl.LOCK_EX)


def claim(path: str) -> Any:
    """As `hold`, but None where somebody has the lock already."""
    import fcntl

    return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked(path: str, how: int) -> Any:
    import fcntl

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        stream = open(path, "ab")  # noqa: SIM115 -- the caller closes it
        fcntl.flock(stream, how)
    except OSError:
        return None
    return stream


def task_above(path: str) -> str | None:
    """The nearest task's folder at or above `path`."""
    folder = os.path.abspath(path)
    while True:
        if _is_task(folder):
            return folder
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def tasks(said: dict[str, Any]) -> list[str]:
    """The tasks of the project, and the one the shell stands in (it may be anywhere)."""
    here = str(said.get("cwd") or os.getcwd())
    root = os.environ.get("CLAUDE_PROJECT_DIR") or here
    above = [folder for folder in (task_above(root), task_above(here)) if folder]
    found = list(dict.fromkeys([*above, *_below(root)]))
    log.note(tasks=[os.path.basename(folder) for folder in found])
    return found


def _is_task(folder: str) -> bool:
    """Whether a folder's task.yaml is one of ours: other tools have files of that name."""
    try:
        with open(os.path.join(folder, "task.yaml"), "rb") as stream:
            return os.path.isdir(state(folder)) or b"task_name" in stream.read(1 << 16)
    except OSError:
        return False


def _below(root: str) -> list[str]:
    found, level = [], [os.path.abspath(root)]
    budget = _FOLDERS
    for _depth in range(_DEPTH + 1):
        below = []
        for folder in level[:budget]:
            if _is_task(folder):
                found.append(folder)
            else:
                below.extend(_children(folder))
        budget = max(0, budget - len(level))
        level = below
    return found


def _children(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name not in _SKIP and e.name[0] != "." and e.is_dir()]
    except OSError:
        return []
    return [os.path.join(folder, name) for name in sorted(names)]


def state(task: str) -> str:
    """The machine-owned notes of a task."""
    return os.path.join(task, ".nlp-skills")


def digest(task: str) -> dict[str, Any]:
    """What the hook knows of task.yaml."""
    return read_json(os.path.join(state(task), "digest.json"))


def fingerprint(path: str) -> list[int]:
    """Size and modification time: whether a file may have changed; empty where there is no file."""
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns] if stat.st_mode & 0o170000 == 0o100000 else []


def expectation(fields: list[Any], output: dict[str, Any], least: int, most: int | None) -> int:
    """As `rows.expectation`, without the price of importing it: whether a file passed what is expected now."""
    import zlib

    asked = json.dumps([fields, output, least, most], ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return zlib.crc32(asked.encode("utf-8", "surrogatepass"))


def is_current(task: str, known: dict[str, Any]) -> bool:
    """Whether the digest was made from task.yaml as it is now."""
    return mapping(known.get("documents")).get("task.yaml") == fingerprint(os.path.join(task, "task.yaml"))


def begin_again() -> None:
    """For a program that waited: its time for telling begins now."""
    global STARTED
    STARTED = time.monotonic()


def seconds_left() -> float:
    """What remains of this hook's time."""
    return BUDGET_SECONDS - (time.monotonic() - STARTED)


def run_cli(lang: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run our command line and read its one JSON object; (3, {}) when it cannot run or takes too long.

    Not through bin/nlp-skills, which would first renew an environment that an update left behind: a hook
    installs nothing. This plugin's own sources run on the dependencies that are there.
    """
    python = os.environ.get("NLP_SKILLS_PYTHON")
    if not python or seconds_left() < 1:
        return 3, {}
    import subprocess

    start = f"import sys; sys.path.insert(0, {PLUGIN_ROOT!r}); from nlp_skills.cli.main import main; main()"
    try:
        done = subprocess.run(
            [python, "-I", "-c", start, *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds_left(),
            env={**os.environ, "NLP_SKILLS_LANG": lang},
            check=False,
        )
        return done.returncode, mapping(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 3, {}


def command(verb: str, task: str, *options: str) -> str:
    """A command of ours as a person would type it in the project."""
    name = os.path.basename(task)
    plain = all(c.isalnum() or c in "-_." for c in name)
    return " ".join(["nlp-skills", verb, name if plain else "'" + name.replace("'", "'\\''") + "'", *options])


def speak(said: dict[str, Any], lang: str, blocks: list[list[str]], person: str | None = None) -> None:
    """Facts for the model, one block a file or version, and the first line (or `person`) for the person; or nothing."""
    lines = fit(lang, [block for block in blocks if block])
    if not lines:
        return
    log.note(said=person or lines[0], lines=len(lines))
    lines[0] = f"[nlp-skills] {lines[0]}"
    context = {"hookEventName": said.get("hook_event_name"), "additionalContext": "\n".join(lines)}
    message = f"[nlp-skills] {person}" if person else lines[0]
    # ASCII, whatever the locale: the reader decodes JSON.
    sys.stdout.write(json.dumps({"systemMessage": message, "hookSpecificOutput": context}))


def fit(lang: str, blocks: list[list[str]]) -> list[str]:
    """At most twelve lines: every block's first line before any block's second, and so on."""
    places = [(rank, number) for number, block in enumerate(blocks) for rank in range(len(block))]
    if len(places) <= _LINES:
        return [line for block in blocks for line in block]
    kept = sorted((number, rank) for rank, number in sorted(places)[: _LINES - 1])
    left_out = words.phrase(lang, "cut", count=len(places) - len(kept))
    return [*(blocks[number][rank] for number, rank in kept), left_out]
