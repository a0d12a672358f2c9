"""What goes on for a task on other machines, from the notes in .nlp-skills/jobs; and a look at it in the background."""

from __future__ import annotations

import os
import time

from nlp_skills.hooks import ground, words

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

_OPEN = {"starting": "on_its_way", "running": "goes_on_there", "ended": "not_fetched"}
_STEPS = {"train": "training", "evaluate": "evaluation", "regenerate": "regeneration"}
# No look within so many seconds of the one before, and none that takes longer than this.
_PAUSE_SECONDS = 60.0
_LOOK_SECONDS = 900


def open_jobs(task: str) -> list[dict[str, Any]]:
    """The jobs of a task that may go on elsewhere, or have something to fetch."""
    folder = os.path.join(ground.state(task), "jobs")
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    found = [ground.read_json(os.path.join(folder, name)) for name in names if name.endswith(".json")]
    return [job for job in found if job.get("state") in _OPEN]


def lines(task: str, lang: str, job: dict[str, Any]) -> list[str]:
    """A block about one job: what goes on where, how far it was when last heard of, and the command to look at it."""
    version = str(job.get("version") or "?")
    head = words.clean(f"{os.path.basename(task)} {version}")
    kind = words.phrase(lang, _STEPS.get(str(job.get("step")), "training"))
    at = words.clean(job.get("place") or "?")
    said = [words.phrase(lang, _OPEN[str(job["state"])], version=head, kind=kind, place=at)]
    run = ground.read_json(os.path.join(task, "versions", os.path.basename(version), "run", "status.json"))
    if run.get("place") and run.get("state") == "running" and run.get("total_steps"):
        said.append(words.phrase(lang, "at_step", step=run.get("step"), total=run["total_steps"]))
    heard = words.seconds(job.get("seen"))
    if heard is not None:
        said.append(words.phrase(lang, "heard", span=words.span(lang, max(0.0, time.time() - heard))))
    if job.get("trouble"):
        said.append(words.phrase(lang, "silent", cause=words.clean(job["trouble"], 160)))
    options = [] if version == ground.digest(task).get("version") else ["--version", words.clean(version)]
    return [*said, words.phrase(lang, "next", command=ground.command("status", task, *options))]


def look(tasks: list[str], lang: str) -> bool:
    """Start one look at the open jobs of these tasks and return at once: what has ended is fetched, and told by the
    next event. False where one goes on already, was a moment ago, or cannot be started.

    The look holds the lock by a file it inherits, so that a killed one leaves nothing behind.
    """
    python = os.environ.get("NLP_SKILLS_PYTHON")
    if not python or not tasks:
        return False
    import fcntl
    import subprocess

    path = os.path.join(ground.state(tasks[0]), "look.lock")
    code = (
        f"import signal, sys; signal.alarm({_LOOK_SECONDS}); sys.path.insert(0, {ground.PLUGIN_ROOT!r}); "
        "from nlp_skills.cli.main import main; main()"
    )
    try:
        before = ground.fingerprint(path)
        with open(path, "ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if before and time.time() - before[1] / 1e9 < _PAUSE_SECONDS:
                return False
            os.utime(path)
            subprocess.Popen(
                [python, "-I", "-c", code, "runs", "--fetch", "--json"],
                cwd=os.path.commonpath(tasks),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[stream.fileno()],
                env={**os.environ, "NLP_SKILLS_LANG": lang},
            )
    except (OSError, ValueError):
        return False
    return True
