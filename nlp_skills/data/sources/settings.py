"""A source's settings: filled in for fetching, masked for everything that is written or shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

from nlp_skills import variables
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.source import LlmSettings, Source
from nlp_skills.variables import Missing, Variables
from nlp_skills.workspace import locate, mirror
from nlp_skills.workspace.folder import TaskFolder

S = TypeVar("S", bound=Source | LlmSettings)

# Texts of other languages, in which `${…}` may mean something else.
_VERBATIM = {"query", "prompt_template", "system_prompt", "mapping", "selectors", "row", "follow", "records"}
# Where `key` is a name and not a secret.
_PLAIN = {"keywords", "max_tokens"}


def filled(source: S, folder: TaskFolder, at: tuple[str, ...] = ()) -> tuple[S, Variables]:
    """The source with its variables' values, and what hides them again; `at` as `place`.

    Raises:
        Invalid: a variable is not set; with the line of the setting that needs it.
    """
    found = Variables(tuple(dict.fromkeys((folder.root, locate.project_root(folder.root), *_of_server(folder)))))
    settings = source.model_dump(mode="python", by_alias=True, exclude_none=True)
    for key, value in settings.items():
        if key in _VERBATIM:
            continue
        try:
            settings[key] = found.fill_all(value)
        except Missing as missing:
            raise _unset(source, folder, at, missing.name, key) from missing
    _conceal_literals(source, found)
    return cast("S", type(source).model_validate(settings)), found


def _of_server(folder: TaskFolder) -> list[Path]:
    """On a server that a task was sent to, the folder of everything of ours, whose .env is of all tasks there."""
    return [folder.root.parents[1]] if mirror.at(folder.root) else []


def unexpanded(source: Source | LlmSettings) -> dict[str, Any]:
    """The settings as they are written: variables not filled in, literal secrets hidden, defaults left out."""
    settings = source.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    kind = {"type": source.type} if hasattr(source, "type") else {}
    return {
        **kind,
        **{key: value if key in _PLAIN else variables.masked(value, key) for key, value in settings.items()},
    }


def literal_secret(source: Source) -> bool:
    """Whether a password or key stands in data_source.yaml itself."""
    settings = source.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return any(variables.literal_secrets(value, key) for key, value in settings.items() if key not in _PLAIN)


def line_of(source: Source | LlmSettings, folder: TaskFolder, key: str) -> int | None:
    """Where `key` of this source stands in data_source.yaml; None for a source that is not in it yet."""
    names = [entry.name for entry in folder.sources().sources]
    if getattr(source, "name", None) not in names:
        return None
    at = ("sources", names.index(source.name))  # type: ignore[union-attr]
    found = yaml.read(Path(folder.sources_path)).lines
    return found.get((*at, key)) or found.get((*at, "config", key)) or found.get(at)


def place(
    source: Source | LlmSettings, folder: TaskFolder, key: str, at: tuple[str, ...] = ()
) -> tuple[Path, int | None]:
    """The file and line of `key`: in task.yaml where the settings stand there, under `at`, else in data_source.yaml."""
    if not at:
        return folder.sources_path, line_of(source, folder, key)
    found = yaml.read(folder.task_path).lines
    return folder.task_path, found.get((*at, key)) or found.get(at)


def _conceal_literals(source: Source | LlmSettings, found: Variables) -> None:
    """A secret that somebody wrote into the file is kept out of messages all the same."""

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, str(key))
        elif isinstance(value, str) and variables.is_confidential(name) and not variables.VARIABLE.search(value):
            found.conceal(value)

    settings = source.model_dump(mode="json", by_alias=True, exclude_none=True)
    walk({key: value for key, value in settings.items() if key not in _PLAIN}, "")


def _unset(source: Source | LlmSettings, folder: TaskFolder, at: tuple[str, ...], variable: str, key: str) -> Invalid:
    file, line = place(source, folder, key, at)
    mend = _("set it in the shell (export {name}=…) or in the file .env of the task", name=variable)
    if sent := _of_server(folder):
        # No secret is ever sent to a server; those that it is to use are written down there.
        mend = _("on that machine: add {name}=… to {path}, or set it for its shells",
                 name=variable, path=str(sent[0] / ".env"))  # fmt: skip
    name = str(getattr(source, "name", ""))
    return Invalid(
        _("the environment variable {name} is not set", name=variable),
        file=file,
        line=line,
        cause=(
            _("{key} needs it", key=".".join((*at, key)))
            if at
            else _("{key} of source {name} needs it", key=key, name=name)
        ),
        mend=mend,
    )
