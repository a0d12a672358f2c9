"""The base model as others know it: its name, whether they can load it, and its licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files
from nlp_skills.deployment.huggingface import cleaning
from nlp_skills.errors import Problem
from nlp_skills.schema.version import ModelInfo
from nlp_skills.training import base_model
from nlp_skills.workspace.folder import TaskFolder

# A card's first part, between two lines of dashes.
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*$", re.MULTILINE)
# Licences by the names that the Hub knows; any other is told beside as it is.
_LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause cc cc0-1.0 cc-by-2.0 cc-by-3.0
cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0
ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc gemma llama2
llama3 llama3.1 llama3.2 llama3.3 llama4 mpl-2.0 ms-pl postgresql unlicense wtfpl zlib other
"""
KNOWN_LICENCES = frozenset(_LICENCES.split())


@dataclass(frozen=True)
class Base:
    """`on_hub`: the Hub has it under this name. `licence` is None where nothing here says."""

    name: str
    on_hub: bool
    licence: str | None = None
    title: str | None = None

    @property
    def address(self) -> str:
        """What a library is told to load; a folder that has to be there first, where the Hub has no such model."""
        return self.name if self.on_hub else f"./{self.title or self.name}"


def of(folder: TaskFolder, info: ModelInfo) -> Base:
    """The base model of a version, by what is on this machine; nothing is fetched."""
    name = cleaning.public_name(folder, info.base_model)
    packaged = info.base_model.startswith("pypi:")
    local = cleaning.is_local(folder, info.base_model)
    try:
        place = Path(
            base_model.locate(
                info.base_model, root=folder.root, revision=info.base_model_revision, fetch=False
            )
        )  # fmt: skip
    except Problem:
        return Base(name, on_hub=not (packaged or local))
    told = _source(place)
    return Base(name, not (packaged or local), told.get("licence") or _licence(place), told.get("model"))


def _source(place: Path) -> dict[str, str]:
    """What is written beside the weights of a packaged model."""
    try:
        told = files.read_json(place / "source.json")
    except Problem:
        return {}
    return {key: value for key, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}


def _licence(place: Path) -> str | None:
    """What the model's own card says."""
    try:
        text = (place / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    front = _FRONT.search(text)
    found = _LICENCE.search(front[1]) if front else None
    return found[1] if found else None
