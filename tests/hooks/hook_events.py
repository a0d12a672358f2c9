"""Fires a hook as Claude Code does: the launcher from hooks.json, an event captured from 2.1.197 on stdin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from conftest import ROOT

EVENTS = Path(__file__).parent / "events"
# How hooks.json starts the watcher: exit code 2, which wakes a session, only with words.
WAKING = (
    '[ "$CLAUDE_CODE_ENTRYPOINT" = cli ] || exit 0; said=$(sh "$0" "$@" "$PPID"); [ -n "$said" ] || exit 0; '
    'printf "%s\\n" "$said" >&2; exit 2'
)


class Said(NamedTuple):
    """What came back: the exit code, the lines for the model, the line for the person, and raw streams."""

    code: int
    lines: list[str]
    person: str
    out: str
    err: str


def fire(program: str, event: str, project: Path, *words: str, plugin: Path = ROOT, **given: Any) -> Said:
    """Run `hooks/run PROGRAM` on a captured event. `given`: parts of the event, or NLP_SKILLS_… / PATH variables."""
    env = {name: given.pop(name) for name in list(given) if name.isupper()}
    return run(program, json.dumps(captured(event, project, **given)).encode(), project, *words, plugin=plugin, **env)


def captured(event: str, project: Path, **given: Any) -> dict[str, Any]:
    """The event itself. `given`: parts of the tool's input, and of the event where it has them at the top."""
    said: dict[str, Any] = json.loads(
        (EVENTS / f"{event}.json").read_text(encoding="utf-8").replace("PROJECT", str(project))
    )
    own = {name: given.pop(name) for name in list(given) if name in said}
    said.get("tool_input", {}).update(given)
    return {**said, **own}


def run(program: str, stdin: bytes, project: Path, *words: str, plugin: Path = ROOT, **env: str) -> Said:
    """Run the very command of hooks.json with these bytes on standard input."""
    guard = 'sh "$0" "$@"; exit 0'
    known = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"], "CLAUDE_PROJECT_DIR": str(project),
             "NLP_SKILLS_LANG": "en", "NLP_SKILLS_PYTHON": sys.executable}  # fmt: skip
    done = subprocess.run(
        ["/bin/sh", "-c", guard, str(plugin / "hooks" / "run"), program, *words],
        input=stdin, env={**known, **env}, cwd=project, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    answer = json.loads(done.stdout) if done.stdout else {}
    context = answer.get("hookSpecificOutput", {}).get("additionalContext", "")
    return Said(
        done.returncode,
        context.splitlines(),
        answer.get("systemMessage", ""),
        done.stdout.decode(),
        done.stderr.decode(),
    )


def write_digest(task: Path, **changes: object) -> None:
    """The hook's notes of task.yaml, as the command line leaves them."""
    stat = (task / "task.yaml").stat()
    output = {"label": {"type": "string", "enum": ["positive", "neutral", "negative"]}}
    digest = {"schema_version": 1, "task": task.name, "version": "v1", "status": "configuring", "lang": "en",
              "documents": {"task.yaml": [stat.st_size, stat.st_mtime_ns]}, "fields": ["text"], "output": output,
              "label_field": "label", "primary_metric": "macro_f1", "threshold": 0.6}  # fmt: skip
    folder = task / ".nlp-skills"
    folder.mkdir(exist_ok=True)
    (folder / "digest.json").write_text(json.dumps({**digest, **changes}), encoding="utf-8")
