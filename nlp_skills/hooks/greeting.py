"""The greeting of a session in a folder with tasks: the tasks, what ended or broke since, and the next step.

Three lines. What ended is shortened from version-tracking's own words; a session that only goes on hears them whole.
"""

from __future__ import annotations

import os

from nlp_skills.hooks import agents, ground, log, version_tracking, words, yaml_lines
from nlp_skills.hooks.version import STEPS, Version

TYPE_CHECKING = False  # importing typing costs a tenth of the start
if TYPE_CHECKING:
    from typing import Any

_SHOWN = 3
_GOING = 3
_NEWS = 3
_AGENTS = (agents.DIAGNOSER, agents.ANALYZER, agents.ADVISOR)
# A session that goes on after a pause or a compaction was greeted when it began.
_GREETED = ("resume", "compact")


def main(_arguments: list[str]) -> None:
    """Read the event, greet where there are tasks, tell what ended."""
    said = ground.event()
    tasks = ground.tasks(said)
    greets = said.get("source") not in _GREETED
    known = _in_use(tasks, said) if greets else []
    hello = _hello(known) if known else None  # before the news, which are noted as told once they are read
    lang, news = version_tracking.news(said, tasks)
    if hello is None:
        log.note(**({} if greets else {"silent": "this session was greeted"}))
        ground.speak(said, lang, news)
        return
    lang, overview, going, following = hello
    since = words.phrase(lang, "semicolon").join(part for part in (_since(lang, news), going) if part)
    lines = [overview, since or words.phrase(lang, "calm"), _next_of(lang, news) or following]
    person = words.phrase(lang, "semicolon").join([overview, *(block[0] for block in news if block)])
    ground.speak(said, lang, [lines], words.clean(person, 400))


def _since(lang: str, news: list[list[str]]) -> str:
    """What ended or broke, in one line: of each the head, its figures or reason, and the agent that reads on."""
    told = [_brief(lang, block) for block in news[:_NEWS] if block]
    if len(news) > _NEWS:
        told.append(words.phrase(lang, "further_news", count=len(news) - _NEWS))
    return words.phrase(lang, "since", news=words.phrase(lang, "semicolon").join(told)) if told else ""


def _brief(lang: str, block: list[str]) -> str:
    head, *rest = block
    named = [agent for line in rest for agent in _AGENTS if agent in line][:1]
    facts = [line for line in rest if not any(agent in line for agent in named) and not line.startswith(_label(lang))]
    facts = [*facts[:1], *(words.phrase(lang, "for_agent", agent=agent) for agent in named)]
    return words.phrase(lang, "within", what=head, details=words.phrase(lang, "comma").join(facts)) if facts else head


def _next_of(lang: str, news: list[list[str]]) -> str:
    """The next step that the first news names."""
    return next((line for block in news for line in block if line.startswith(_label(lang))), "")


def _label(lang: str) -> str:
    return words.phrase(lang, "next", command="")


def _hello(known: list[Greeted]) -> tuple[str, str, str, str]:
    """The language, the tasks, what goes on (empty when nothing does), and the next step."""
    lang = known[0].lang
    semicolon = words.phrase(lang, "semicolon")
    runs = [words.clean(line, 120) for task in known for line in task.going()][:_GOING]
    going = words.phrase(lang, "going", runs=semicolon.join(runs)) if runs else ""
    return lang, _overview(lang, known), going, words.phrase(lang, "next", command=known[0].next_command())


def _overview(lang: str, known: list[Greeted]) -> str:
    shown = [task.brief() for task in known[:_SHOWN]]
    if len(known) > _SHOWN:
        shown.append(words.phrase(lang, "more_tasks", count=len(known) - _SHOWN))
    return words.phrase(lang, "tasks", tasks=words.phrase(lang, "semicolon").join(shown))


def _in_use(tasks: list[str], said: dict[str, Any]) -> list[Greeted]:
    """The tasks that are not put away, the current one first, then those whose task.yaml changed last."""
    chosen = _chosen(os.environ.get("CLAUDE_PROJECT_DIR") or str(said.get("cwd") or os.getcwd()))
    known = [Greeted(task) for task in tasks]
    return sorted((task for task in known if task.state != "archived"), key=lambda task: task.order(chosen))


def _chosen(project: str) -> str | None:
    """The folder that `nlp-skills use` made the current task of the project."""
    try:
        with open(os.path.join(project, ".nlp-skills", "current"), encoding="utf-8") as stream:
            return os.path.normpath(os.path.join(project, stream.read(4096).strip()))
    except (OSError, ValueError):
        return None


class Greeted:
    """What the greeting says of one task, from the digest, else from the plain lines of its task.yaml."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.task = version_tracking.Task(root)
        self.lang = self.task.lang
        if ground.is_current(root, self.task.digest):
            told = self.task.digest
        else:
            text = ground.read_text(os.path.join(root, "task.yaml"))
            told = {key: yaml_lines.scalar(text, key) for key in ("version", "status")}
        self.version = os.path.basename(str(told.get("version") or "v1"))
        self.state = str(told.get("status") or "created")
        self.now = Version(self.task, self.version)

    def order(self, chosen: str | None) -> tuple[bool, int]:
        """For sorting."""
        changed = ground.fingerprint(os.path.join(self.root, "task.yaml"))
        return os.path.normpath(self.root) != chosen, -(changed[1] if changed else 0)

    def brief(self) -> str:
        """Name, version, state, and the primary metric where it was measured."""
        name, version, state = (
            words.clean(part, 40) for part in (os.path.basename(self.root), self.version, self.state)
        )
        value = self.now.value(self.now.primary) if self.now.is_measured else None
        if value is None:
            return words.phrase(self.lang, "task", name=name, version=version, state=state)
        metric = words.phrase(self.lang, "metric", name=words.clean(self.now.primary, 30), value=words.percent(value))
        return words.phrase(self.lang, "task_measured", name=name, version=version, state=state, metric=metric)

    def going(self) -> list[str]:
        """The run of the current version, while it goes on here."""
        if not self.now.goes_on:
            return []
        run = self.now.run
        step = STEPS["evaluate" if run.get("kind") == "evaluate" else "train"]
        about = {"step": run.get("step") or 0, "total": run.get("total_steps") or "?"}
        head = f"{os.path.basename(self.root)} {self.version}"
        return [words.phrase(self.lang, "going_run", version=head, kind=words.phrase(self.lang, step), **about)]

    def next_command(self) -> str:
        """What `nlp-skills status` calls the next command, but for what only reading the data would tell."""
        version = os.path.join(self.root, "versions", self.version)
        steps = (
            (not self._has_sources(), "data-source add"),
            (not self._has("data/train.jsonl") or not self._has("data/data.lock.yaml"), "regenerate"),
            (not os.path.isfile(os.path.join(version, "config.yaml")), "generate"),
            (self.now.goes_on, "status"),
            (self.now.can_resume, "resume"),
            (not os.path.isfile(os.path.join(version, "model_info.json")), "train"),
            (not os.path.isfile(os.path.join(version, "results.json")), "evaluate"),
        )
        verb = next((verb for due, verb in steps if due), "report")
        options = ["--watch"] if verb == "status" else []
        return ground.command(verb, self.root, *options)

    def _has(self, key: str) -> bool:
        return os.path.isfile(os.path.join(self.root, *key.split("/")))

    def _has_sources(self) -> bool:
        inside = yaml_lines.section(ground.read_text(os.path.join(self.root, "data_source.yaml")), "sources")
        return any(line.lstrip().startswith("- ") for line in inside)
