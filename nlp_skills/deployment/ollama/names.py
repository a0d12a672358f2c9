"""What a task's model is called at an Ollama server: NAME:VERSION, or OWNER/NAME:VERSION where it is pushed."""

from __future__ import annotations

import re

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task

_NAME = re.compile(r"(?:[a-z0-9][a-z0-9_-]{0,79}/)?[a-z0-9][a-z0-9._-]{0,79}\Z", re.ASCII)
LATEST = "latest"


def of(task: Task, given: str | None) -> str:
    """The model's name without a tag: as given, else as task.yaml says, else the task's own in small letters.

    Raises:
        Invalid: Ollama knows no such names.
    """
    name = given or task.deploy.model or task.task_name.lower()
    if _NAME.match(name):
        return name
    raise Invalid(
        _("no model at an Ollama server can be called {name}", name=name),
        cause=_("names there are of small letters, digits, dots, dashes and underscores; an owner may stand before"),
        mend=_("give one: --model NAME, or deploy.model in task.yaml"),
    )


def tagged(name: str, tag: str) -> str:
    """A name with its tag."""
    return f"{name}:{tag}"


def base(name: str) -> str:
    """The name without its tag."""
    return name.rpartition(":")[0]


def refuse_push(name: str) -> None:
    """Stop before a push of a name that nobody owns.

    Raises:
        Invalid: it has no owner.
    """
    if "/" not in name:
        raise Invalid(
            _("{name} cannot be pushed: it says no owner", name=name),
            mend=_("give one: --model OWNER/NAME, or deploy.model in task.yaml"),
        )
