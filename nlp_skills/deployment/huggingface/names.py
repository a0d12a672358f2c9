"""What a task's repository on the Hub is called, and by which tag a version is found in it."""

from __future__ import annotations

import re
from typing import NamedTuple

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.workspace import naming

# What the Hub takes, a little stricter than it: letters of ASCII, and no sign at either end or twice.
_REPO = re.compile(r"[A-Za-z0-9][\w-]*(?:\.[\w-]+)*/[A-Za-z0-9](?:[\w-]|\.(?!\.))*\Z", re.ASCII)
_LONGEST = 96
# Until the Hub says whose account it is.
UNKNOWN_OWNER = "OWNER"


class Place(NamedTuple):
    """A repository, and the tag of the version in it; None where the repository is of one version alone."""

    repo: str
    tag: str | None

    @property
    def revision(self) -> str:
        """What to ask the Hub for."""
        return self.tag or "main"

    @property
    def name(self) -> str:
        """What a version's own place is called among the deployments."""
        return f"{self.repo}@{self.tag}" if self.tag else self.repo


def given(task: Task, repo: str | None) -> str | None:
    """The repository that was named, on the command line or else in task.yaml."""
    return repo or task.deploy.repo


def of(task: Task, version: str, repo: str | None, owner: str = UNKNOWN_OWNER) -> Place:
    """Where a version goes: the repository that was named, with a tag a version; else by the task's own naming.

    Raises:
        Invalid: the Hub knows no such names.
    """
    named = given(task, repo)
    if named:
        return Place(_checked(named), version)
    made = naming.artefacts(task, version, owner=owner)
    return Place(_checked(made.hf_repo), made.tag)


def parse(name: str) -> Place:
    """A deployment's name taken apart again."""
    repo, _at, tag = name.partition("@")
    return Place(repo, tag or None)


def _checked(repo: str) -> str:
    name = repo.rpartition("/")[2]
    odd = "--" in repo or name.endswith((".git", ".ipynb", "-", ".")) or len(repo) > _LONGEST
    if _REPO.match(repo) and not odd:
        return repo
    raise Invalid(
        _("no repository on the Hub can be called {name}", name=repo),
        cause=_("names there are OWNER/NAME, of letters, digits, '-', '_' and '.', at most 96 of them"),
        mend=_("give one: --repo OWNER/NAME, or deploy.repo in task.yaml"),
    )
