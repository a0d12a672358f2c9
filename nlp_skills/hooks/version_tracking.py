"""version-tracking: how a training or an evaluation ended, seen as it ends or when somebody looks again.

The run folder and results.json are the truth; what was told is noted in the task, so that each end is
told once, whether a command, a background run or another terminal brought it about.
"""

from __future__ import annotations

import os
import time

from nlp_skills.hooks import ground, other_machines, words

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

_STEPS = {"train": "training", "evaluate": "evaluation"}
_PROGRAMS = ("nlp-skills", "nlp_skills.cli.main")
_SCRIPTS = {"04_train": "train", "05_evaluate": "evaluate"}


def main(arguments: list[str]) -> None:
    """Read the event, look for ends nobody was told of, tell them."""
    said = ground.event()
    if said.get("stop_hook_active") or ground.mapping(said.get("tool_response")).get("backgroundTaskId"):
        return  # Stop speaks once a turn; a command that was only launched has not ended
    lang = "en"
    blocks: list[list[str]] = []
    tasks = ground.tasks(said)
    for task in tasks:
        told = Task(task)
        lang = told.lang
        blocks += told.news(newest_only=said.get("hook_event_name") == "SessionStart")
    blocks += _elsewhere(said, tasks, lang)
    step = step_of(str(ground.mapping(said.get("tool_input")).get("command") or ""))
    # hooks.json starts us for either word in a command; the one whose word it is speaks of its failure.
    if tasks and not blocks and said.get("hook_event_name") == "PostToolUseFailure" and step in arguments:
        blocks = [_failed_before_it_ran(lang, tasks, str(step))]
    ground.speak(said, lang, blocks)


def _elsewhere(said: dict[str, Any], tasks: list[str], lang: str) -> list[list[str]]:
    """What goes on on other machines, told at SessionStart. At Stop too it is looked at, for the next event to tell."""
    event = said.get("hook_event_name")
    if event not in ("SessionStart", "Stop"):
        return []
    jobs = [(task, job) for task in tasks for job in other_machines.open_jobs(task)]
    other_machines.look(list(dict.fromkeys(task for task, _job in jobs)), lang)
    return [other_machines.lines(task, lang, job) for task, job in jobs] if event == "SessionStart" else []


def step_of(line: str) -> str | None:
    """`train` or `evaluate` when a shell line runs that step through our program or a task's script."""
    parts = line.translate(str.maketrans(";&|\"'()", "       ")).split()
    for place, word in enumerate(parts):
        name = os.path.basename(word)
        if name.rpartition(".")[0] in _SCRIPTS:
            return _SCRIPTS[name.rpartition(".")[0]]
        if name in _PROGRAMS and _verb(parts[place + 1 :]) in _STEPS:
            return _verb(parts[place + 1 :])
    return None


def _verb(arguments: list[str]) -> str | None:
    """The command among a program's arguments; the only option before it that takes a value is --lang."""
    while arguments and arguments[0].startswith("-"):
        arguments = arguments[2 if arguments[0] == "--lang" else 1 :]
    return arguments[0] if arguments else None


def _failed_before_it_ran(lang: str, tasks: list[str], step: str) -> list[str]:
    lines = [words.phrase(lang, "no_run", kind=words.phrase(lang, _STEPS[step]))]
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

    def say(self, key: str, **values: object) -> str:
        return words.phrase(self.lang, key, **values)

    def news(self, *, newest_only: bool) -> list[list[str]]:
        """A block about every version that ended something since the last time; noted as told."""
        if not self._versions():
            return []
        lock = ground.hold(os.path.join(ground.state(self.root), "announced.lock"))
        if lock is None:
            return []  # a note that cannot be kept would be told again and again
        with lock:
            ends, first_time = self._untold()
        # A task seen for the first time may hold years of versions: history is asked for, not told.
        return [version.lines() for version in (ends[-1:] if newest_only or first_time else ends)]

    def _untold(self) -> tuple[list[Version], bool]:
        """The versions nobody was told of, now noted as told, and whether there was no note before."""
        path = os.path.join(ground.state(self.root), "announced.json")
        notes = ground.read_json(path)
        told = ground.mapping(notes.get("versions"))
        ends = [version for version in self._versions() if version.mark != told.get(version.name)]
        marks = {**told, **{version.name: version.mark for version in ends}}
        if not ends or not ground.write_json(path, {**notes, "versions": marks}):
            return [], False
        return ends, not told

    def _versions(self) -> list[Version]:
        folder = os.path.join(self.root, "versions")
        try:
            names = os.listdir(folder)
        except OSError:
            return []
        found = [Version(self, name) for name in names]
        return sorted((version for version in found if version.mark), key=lambda version: version.ended)


class Version:
    """What a version's files say: the last run, the results, and which of the two came last."""

    def __init__(self, task: Task, name: str) -> None:
        self.task = task
        self.name = name
        self.root = os.path.join(task.root, "versions", name)
        self.run = ground.read_json(os.path.join(self.root, "run", "status.json"))
        self.results = ground.read_json(os.path.join(self.root, "results.json"))
        self.state = self._state()
        times = [ground.fingerprint(os.path.join(self.root, *file))[1:] for file in (("run", "status.json"), _RESULTS)]
        self.run_time, self.results_time = (time[0] if time else 0 for time in times)
        self.ended = max(self.run_time, self.results_time)

    def _state(self) -> str | None:
        """completed, failed, interrupted, died; None while it runs or may run elsewhere, and where nothing ran."""
        state = self.run.get("state")
        if state == "dead" or (state == "running" and not _may_live(self.run)):
            return "died"
        return state if state in ("completed", "failed", "interrupted") else None

    @property
    def mark(self) -> str | None:
        """What tells one end from the next; None when there is nothing to tell (yet)."""
        if self.run.get("state") == "running" and self.state is None:
            return None
        run = f"{self.run.get('kind', 'train')} {self.run.get('started')} {self.state}" if self.state else ""
        if run and self.run.get("host"):
            run += f" {self.run.get('pid')}"  # one that went on has another process, and its own end
        measured = str(self.results.get("created") or "") if self.results.get("metrics") else ""
        return f"{run} | {measured}" if run or measured else None

    def lines(self) -> list[str]:
        """What to tell: a run that did not end well, results, or a training not measured yet."""
        if self.state in ("failed", "interrupted", "died"):
            return self._unfinished()
        trained_since = self.run.get("kind", "train") == "train" and self.run_time > self.results_time
        if self.results.get("metrics") and not trained_since:
            return self._measured()
        return self._trained()

    def _head(self) -> str:
        return words.clean(f"{os.path.basename(self.task.root)} {self.name}")

    def _command(self, verb: str, *options: str) -> str:
        version = [] if self.name == self.task.digest.get("version") else ["--version", words.clean(self.name)]
        command = ground.command(verb, self.task.root, *version, *options)
        return self.task.say("next", command=command)

    def _unfinished(self) -> list[str]:
        step = "evaluate" if self.run.get("kind") == "evaluate" else "train"
        lines = [self.task.say(str(self.state), version=self._head(), kind=self.task.say(_STEPS[step]))]
        if self.run.get("total_steps"):
            lines.append(self.task.say("reached", step=self.run.get("step"), total=self.run["total_steps"]))
        if self.run.get("message"):
            lines.append(self.task.say("cause", cause=words.clean(self.run["message"], 200)))
        if self.run.get("reason") in _MENDED:
            lines.append(self.task.say("mend", mend=self.task.say(f"mend_{self.run['reason']}")))
        if step == "evaluate":
            return [*lines, self._command("evaluate")]
        # A failure wants its cause mended first; an interrupted run goes on from its checkpoint.
        verb = "preflight" if self.state == "failed" else "resume" if self._has_checkpoint() else "train"
        detached = verb != "preflight" and self.run.get("group") is not None
        return [*lines, self._command(verb, *(["--detach"] if detached else []))]

    def _has_checkpoint(self) -> bool:
        """Whether a checkpoint was written to its end."""
        place = os.path.join(self.task.root, "models", "checkpoints", self.name)
        try:
            names = os.listdir(place)
        except OSError:
            return False
        return any(os.path.exists(os.path.join(place, name, "complete.json")) for name in names)

    def _trained(self) -> list[str]:
        lines = [self.task.say("trained", version=self._head())]
        loss = _number(self.run.get("loss"))
        if loss is not None:
            lines.append(self.task.say("loss", steps=self.run.get("step"), loss=f"{loss:.4g}"))
        return [*lines, *self._lineage("model", None), self._command("evaluate")]

    def _measured(self) -> list[str]:
        verdict = ground.mapping(self.results.get("success"))
        primary = str(verdict.get("primary_metric") or self.task.digest.get("primary_metric") or "macro_f1")
        lines = [self.task.say("evaluated", version=self._head(), rows=self.results.get("test_rows"))]
        lines.append(f"{self._metric(primary)}; {self._criterion(verdict)}")
        if primary != "accuracy" and _number(ground.mapping(self.results.get("metrics")).get("accuracy")) is not None:
            lines.append(self._metric("accuracy"))
        lines += self._baseline(primary)
        parent = self._parent()
        lines += self._against(parent, primary) + self._lineage("results", primary)
        return [*lines, self._after(verdict, parent)]

    def _metric(self, name: str) -> str:
        value = _number(ground.mapping(self.results.get("metrics")).get(name))
        shown = "-" if value is None else words.percent(value)
        interval = ground.mapping(self.results.get("intervals")).get(name)
        ends = [_number(end) for end in interval] if isinstance(interval, list) else []
        if len(ends) != 2 or None in ends:
            return self.task.say("metric", name=words.clean(name, 30), value=shown)
        low, high = (words.percent(end) for end in ends if end is not None)
        return self.task.say("interval", name=words.clean(name, 30), value=shown, low=low, high=high)

    def _criterion(self, verdict: dict[str, Any]) -> str:
        threshold = _number(verdict.get("threshold"))
        if threshold is None:
            return self.task.say("no_criterion")
        return self.task.say(_gate(verdict) or "not_met", threshold=words.percent(threshold))

    def _baseline(self, primary: str) -> list[str]:
        baselines = ground.mapping(self.results.get("baselines"))
        values = {name: _number(ground.mapping(metrics).get(primary)) for name, metrics in baselines.items()}
        known = [(value, name) for name, value in values.items() if value is not None]
        if not known:
            return []
        value, name = max(known)
        ours = _number(ground.mapping(self.results.get("metrics")).get(primary))
        key = "baseline" if ours is not None and ours > value else "baseline_wins"
        return [self.task.say(key, name=words.clean(name, 30), value=words.percent(value))]

    def _parent(self) -> Version | None:
        name = _yaml_line(self._lineage_text(), "parent")
        if not name or name == self.name or os.path.basename(name) != name:
            return None
        parent = Version(self.task, name)
        return parent if parent.results.get("metrics") else None

    def _against(self, parent: Version | None, primary: str) -> list[str]:
        if parent is None:
            return []
        ours, theirs = (
            _number(ground.mapping(version.results.get("metrics")).get(primary)) for version in (self, parent)
        )
        if ours is None or theirs is None:
            return []
        values = {"parent": words.clean(parent.name), "name": words.clean(primary, 30), "value": words.percent(theirs)}
        if self.results.get("test_sha256") != parent.results.get("test_sha256"):
            return [self.task.say("parent_other_rows", **values)]
        return [self.task.say("parent", change=f"{(ours - theirs) * 100:+.1f}", **values)]

    def _after(self, verdict: dict[str, Any], parent: Version | None) -> str:
        if parent is not None:
            command = ground.command("compare", self.task.root, words.clean(parent.name), words.clean(self.name))
            return self.task.say("next", command=command)
        if _gate(verdict) == "not_met":
            command = ground.command("new-version", self.task.root, '--change "…"')
            return self.task.say("next", command=command)
        return self._command("report")

    def _lineage_text(self) -> str:
        try:
            with open(os.path.join(self.root, "lineage.yaml"), encoding="utf-8", errors="replace") as stream:
                return stream.read(200_000)
        except OSError:
            return ""

    def _lineage(self, section: str, metric: str | None) -> list[str]:
        """The steps write the lineage; when one died in between, the CLI completes it here."""
        if self._recorded(section, metric):
            return []
        code, answer = ground.run_cli(self.task.lang, "lineage", self.task.root, self.name, "--complete")
        if code == 0:
            return [self.task.say("lineage_done")] if answer.get("mended") else []
        command = ground.command("lineage", self.task.root, words.clean(self.name), "--complete")
        return [self.task.say("lineage_behind", command=command)]

    def _recorded(self, section: str, metric: str | None) -> bool:
        """Whether lineage.yaml has the section, with this metric's present value."""
        inside = _yaml_section(self._lineage_text(), section)
        if metric is None:
            return bool(inside)
        ours = ground.mapping(self.results.get("metrics")).get(metric)
        return any(_number_in(line, metric) == ours for line in inside)


_RESULTS = ("results.json",)
_HEARD_SECONDS = 120.0
_MENDED = ("disk_full", "out_of_memory", "nan_loss", "diverged", "stalled")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _gate(verdict: dict[str, Any]) -> str | None:
    """The verdict's word; results of the releases up to 0.4 say `met` instead."""
    word = verdict.get("verdict")
    if word in ("met", "not_met", "cannot_tell"):
        return str(word)
    met = verdict.get("met")
    return {True: "met", False: "not_met"}.get(met) if isinstance(met, bool) else None


def _may_live(run: dict[str, Any]) -> bool:
    """Whether a run that says it runs may do so: as `workspace.runs` has it, by computer, process and its start.

    What another computer runs cannot be seen from here, nor what was sent to a place: that may be this computer.
    """
    if run.get("place"):
        return True
    host, pid = run.get("host"), run.get("pid")
    if host is not None and host != os.uname().nodename:
        return True
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    letter, born = _process(pid)
    heard = words.seconds(run.get("updated"))
    if letter in ("Z", "X") or heard is None:
        return letter is not None and letter not in ("Z", "X")
    if born is None:
        return time.time() - heard < _HEARD_SECONDS
    # A process born after the run last wrote has only inherited its number.
    return born <= heard + 1


def _process(pid: int) -> tuple[str | None, float | None]:
    """A process's state letter and when it started, in seconds since the epoch; None where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            parts = stream.read().rpartition(b")")[2].split()
        with open("/proc/stat", "rb") as stream:
            boot = next(line for line in stream if line.startswith(b"btime "))
        return parts[0].decode(), int(boot.split()[1]) + int(parts[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError, StopIteration):
        return None, None


def _yaml_line(text: str, key: str) -> str | None:
    """A plain scalar at the top level of YAML we wrote ourselves."""
    for line in text.splitlines():
        if line.startswith(f"{key}:"):
            value = line.partition(":")[2].split(" #")[0].strip().strip("'\"")
            return None if value in ("", "null", "~") else value
    return None


def _yaml_section(text: str, key: str) -> list[str]:
    """The lines under a top-level key."""
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith(f"{key}:")]
    if not starts:
        return []
    inside = []
    for line in lines[starts[0] + 1 :]:
        if line[:1] not in (" ", "#", ""):
            break
        inside.append(line)
    return inside


def _number_in(line: str, key: str) -> float | None:
    name, _colon, value = line.strip().partition(":")
    try:
        return float(value.split(" #")[0]) if name == key else None
    except ValueError:
        return None
