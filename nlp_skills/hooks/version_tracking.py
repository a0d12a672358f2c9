"""version-tracking: how a training or an evaluation ended, seen as it ends or when somebody looks again.

The run folder and results.json are the truth; what was told is noted in the task, so that each end is
told once, whether a command, a background run or another terminal brought it about.
"""

from __future__ import annotations

import os

from nlp_skills.hooks import ground, other_machines, shell_line, words
from nlp_skills.hooks.version import STEPS, Version, fingerprints

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any


def main(arguments: list[str]) -> None:
    """Read the event, look for ends nobody was told of, tell them."""
    said = ground.event()
    if ground.is_too_early(said):
        return
    tasks = ground.tasks(said)
    lang, blocks = news(said, tasks)
    step = shell_line.first(ground.mapping(said.get("tool_input")).get("command"), *STEPS)
    # hooks.json starts us for either word in a command; the one whose word it is speaks of its failure.
    if tasks and not blocks and said.get("hook_event_name") == "PostToolUseFailure" and step in arguments:
        blocks = [_failed_before_it_ran(lang, tasks, str(step))]
    ground.speak(said, lang, blocks)


def news(said: dict[str, Any], tasks: list[str]) -> tuple[str, list[list[str]]]:
    """A block about whatever ended and nobody was told of, and at SessionStart about what goes on elsewhere."""
    lang = "en"
    blocks: list[list[str]] = []
    for task in tasks:
        told = Task(task)
        lang = told.lang
        blocks += told.news(newest_only=said.get("hook_event_name") == "SessionStart")
    return lang, blocks + _elsewhere(said, tasks, lang)


def _elsewhere(said: dict[str, Any], tasks: list[str], lang: str) -> list[list[str]]:
    """What goes on on other machines, told at SessionStart. At Stop too it is looked at, for the next event to tell."""
    event = said.get("hook_event_name")
    if event not in ("SessionStart", "Stop"):
        return []
    jobs = [(task, job) for task in tasks for job in other_machines.open_jobs(task)]
    other_machines.look(list(dict.fromkeys(task for task, _job in jobs)), lang)
    return [other_machines.lines(task, lang, job) for task, job in jobs] if event == "SessionStart" else []


def _failed_before_it_ran(lang: str, tasks: list[str], step: str) -> list[str]:
    lines = [words.phrase(lang, "no_run", kind=words.phrase(lang, STEPS[step]))]
    if len(tasks) == 1:
        verb = "preflight" if step == "train" else "history"
        lines.append(words.phrase(lang, "next", command=ground.command(verb, tasks[0])))
    return lines


class Task:
    """One task's versions and what has been told of them."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.digest = ground.digest(root)
        self.lang = words.language(self.digest.get("lang"))
        self._notes = os.path.join(ground.state(root), "announced.json")

    def say(self, key: str, **values: object) -> str:
        return words.phrase(self.lang, key, **values)

    def news(self, *, newest_only: bool) -> list[list[str]]:
        """A block about every version that ended something since the last time; noted as told."""
        if not self._moved(ground.read_json(self._notes)):
            return []
        lock = ground.hold(os.path.join(ground.state(self.root), "announced.lock"))
        if lock is None:
            return []  # a note that cannot be kept would be told again and again
        with lock:
            ends, first_time = self._untold()
        # A task seen for the first time may hold years of versions: history is asked for, not told.
        return [version.lines() for version in (ends[-1:] if newest_only or first_time else ends)]

    def end_of(self, name: str) -> list[str]:
        """A block about the end of one version's run, noted as told; nothing where somebody was told of it."""
        lock = ground.hold(os.path.join(ground.state(self.root), "announced.lock"))
        if lock is None:
            return []
        with lock:
            ends, _first_time = self._untold(name)
        return next((version.lines() for version in ends if version.name == name), [])

    def stall_of(self, name: str) -> list[str]:
        """A block about a run that stands still, noted as told; nothing where somebody was told of it."""
        version = Version(self, name)
        lock = ground.hold(os.path.join(ground.state(self.root), "announced.lock"))
        if lock is None:
            return []
        with lock:
            notes = ground.read_json(self._notes)
            told, run = ground.mapping(notes.get("stalled")), f"{version.run.get('started')} {version.run.get('pid')}"
            if told.get(name) == run or not ground.write_json(self._notes, {**notes, "stalled": {**told, name: run}}):
                return []
        return version.stalled()

    def _untold(self, only: str | None = None) -> tuple[list[Version], bool]:
        """The versions nobody was told of, now noted as told, and whether there was no note before.

        `only`: the others keep for later, unless this is the first note of all: what is older than it is history.
        """
        notes = ground.read_json(self._notes)
        told, files = ground.mapping(notes.get("versions")), ground.mapping(notes.get("files"))
        moved = [version for version in self._moved(notes) if not (only and told) or version.name == only]
        marks = {version.name: version.mark for version in moved}
        seen = {version.name: version.files for version in moved}
        new = {**notes, "versions": {**told, **marks}, "files": {**files, **seen}}
        if not moved or not ground.write_json(self._notes, new):
            return [], False
        return [version for version in moved if version.mark != told.get(version.name)], not told

    def _moved(self, notes: dict[str, Any]) -> list[Version]:
        """The versions with an end whose files are not as they were when it was told, the last one last."""
        folder = os.path.join(self.root, "versions")
        told, files = ground.mapping(notes.get("versions")), ground.mapping(notes.get("files"))
        try:
            names = os.listdir(folder)
        except OSError:
            return []
        moved = [name for name in names if name not in told or files.get(name) != fingerprints(folder, name)]
        found = [Version(self, name) for name in moved]
        return sorted((version for version in found if version.mark), key=lambda version: version.ended)
