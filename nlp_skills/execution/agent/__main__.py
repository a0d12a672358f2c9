"""`python3 agent.pyz COMMAND`: a JSON object in, a JSON object out.

The answer has `ok`; where that is false, `error` is a word for what went wrong (an errno's name such as ENOSPC, or
one of the module's own), `path` and `detail` say where and what. Exit code 0 either way: another one means that the
agent itself could not run.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from importlib import import_module
from typing import Any, Dict, List, Optional

COMMANDS = {
    "probe": "probe",
    "listing": "contents",
    "install": "contents",
    "remove": "contents",
    "put": "contents",
    "get": "contents",
    "offer": "contents",
    "environment": "environments",
    "prepare": "environments",
    "unpack": "environments",
    "survey": "cleaning",
    "discard": "cleaning",
    "start": "jobs",
    "poll": "jobs",
    "stop": "jobs",
    "jobs": "jobs",
    "forget": "jobs",
}


def main(arguments: List[str]) -> int:
    """Carry out one command and write its answer."""
    name = arguments[0] if arguments else ""
    if name == "keep":  # the parent of a job, see jobs
        return int(import_module("jobs").keep(arguments[1]))
    if name == "make":  # the program of a job, see environments
        return int(import_module("environments").make(arguments[1]))
    if name not in COMMANDS:
        answer: Dict[str, Any] = {"ok": False, "error": "unknown_command", "detail": name}
    else:
        given = json.loads(sys.stdin.read() or "{}")
        try:
            answer = {"ok": True, **getattr(import_module(COMMANDS[name]), name)(**given)}
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "EIO")
            answer = {"ok": False, "error": code, "path": _text(error.filename), "detail": error.strerror}
    json.dump(answer, sys.stdout)
    return 0


def _text(path: Any) -> Optional[str]:
    return None if path is None else os.fsdecode(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
