"""Copies that may leave this machine: without its paths, its users, its servers, and without secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import variables
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.version import Lineage, LineageData, LineageRun, ModelInfo, Results, without_empty
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# A path from the root, of two names or more; the path of a URL follows a name or another slash.
_PATH = re.compile(r"(?<![\w:/.~])(?:~/[\w.@+-]+|/[\w.@+-]+/[\w.@+-]+)(?:/[\w.@+-]+)*")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\\s\"'<>|]+\\)*([^\\\s\"'<>|]+)")
_TOKEN = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,})")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+\Z", re.ASCII)
# Sections of a lineage as they are known to be harmless; what happened to it since is this place's own affair.
_LINEAGE = ("schema_version", "version", "created", "parent", "promoted_from", "environment", "changes", "notes")
_NOT_OF_A_RUN = {"by", "place", "pinned", "cost_usd"}


@dataclass(frozen=True)
class Cleaner:
    """What is taken out: `words` and what stands in their place, the longest first."""

    words: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, folder: TaskFolder, info: ModelInfo) -> Cleaner:
        """For what a version's files may say of where it was made."""
        known = {str(folder.root): folder.root.name, lineage.whoami(): "-", str(Path.home()): "~"}
        if is_local(folder, info.base_model):
            known[info.base_model] = public_name(folder, info.base_model)
        told = ((word, shown) for word, shown in known.items() if len(word) > 1)
        return cls(tuple(sorted(told, key=lambda pair: -len(pair[0]))))

    def text(self, text: str) -> str:
        """A text without paths of this machine, names of users, or secrets."""
        for word, shown in self.words:
            text = re.sub(re.escape(word) + r"(?![\w-])", lambda _match, shown=shown: shown, text)  # type: ignore[misc]
        text = _WINDOWS.sub(lambda match: match[1], text)
        text = _PATH.sub(lambda match: match[0].rpartition("/")[2], text)
        return variables.masked_text(_TOKEN.sub("***", text))

    def tree(self, value: Any) -> Any:
        """The same for every text in plain data."""
        if isinstance(value, dict):
            return {self.text(str(key)): self.tree(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def settings(self, value: Any) -> Any:
        """The settings of somebody else's program: a text that is a path becomes its last part, all others stay."""
        if isinstance(value, dict):
            return {key: self.settings(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.settings(item) for item in value]
        if not isinstance(value, str) or "\n" in value:
            return value
        known = dict(self.words).get(value)
        return known or (self.text(value) if _PATH.fullmatch(value) or _WINDOWS.fullmatch(value) else value)


def is_local(folder: TaskFolder, base_model: str) -> bool:
    """Whether a base model is a folder of this machine, which nobody else can load."""
    if base_model.startswith("pypi:"):
        return False
    here = any((start / Path(base_model).expanduser()).is_dir() for start in (folder.root, Path.cwd()))
    return here or not (_HUB_ID.match(base_model) or "/" not in base_model)


def public_name(folder: TaskFolder, base_model: str) -> str:
    """What others know a base model by: its name on the Hub or in its package; a folder's own name."""
    return Path(base_model).name if is_local(folder, base_model) else base_model


def info_of(folder: TaskFolder, info: ModelInfo) -> dict[str, Any]:
    """model_info.json: how the model is asked stays to the letter."""
    told = info.dump()
    return {**told, "base_model": public_name(folder, info.base_model)}


def config_of(clean: Cleaner, version: VersionFolder) -> dict[str, Any]:
    """config.yaml without comments, which are notes to oneself."""
    told: dict[str, Any] = clean.tree(variables.masked(version.config().dump()))
    return told


def results_of(clean: Cleaner, results: Results) -> dict[str, Any]:
    """results.json."""
    told: dict[str, Any] = clean.tree(results.dump())
    return told


def lineage_of(clean: Cleaner, made: Lineage, config: dict[str, Any]) -> dict[str, Any]:
    """lineage.yaml: what made the version, and nothing of who did it where."""
    told = made.dump()
    kept = {name: told[name] for name in _LINEAGE if name in told}
    sections = {
        "data": _known(told.get("data"), set(LineageData.model_fields)),
        "config": config,
        "run": _known(told.get("run"), set(LineageRun.model_fields) - _NOT_OF_A_RUN),
        "results": told.get("results"),
        "model": _known(told.get("model"), {"hashes"}),
    }
    result: dict[str, Any] = clean.tree({**kept, **{name: part for name, part in sections.items() if part}})
    return without_empty(result)


def _known(section: dict[str, Any] | None, names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in (section or {}).items() if name in names}


def refuse_leak(clean: Cleaner, name: str, text: str, token: str | None) -> None:
    """Stop before a file that says too much goes out: a prompt or a template is sent to the letter, or not at all.

    Raises:
        Invalid: it has a secret, or a path or a user of this machine in it.
    """
    private = [word for word, _shown in clean.words if "@" in word or word.count("/") > 1]
    found = _TOKEN.search(text) or next((word for word in private if word in text), None)
    if not found and not (token and token in text):
        return
    raise Invalid(
        _("{name} would publish something of this machine, or a secret", name=name),
        cause=_("a token or key stands in it") if not isinstance(found, str) else _("it says {word}", word=found),
        mend=_("take it out of the prompt, the system prompt, the chat template or the notes, and run this again"),
    )
