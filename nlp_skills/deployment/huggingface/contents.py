"""What goes up of a version: the model's files, its records as they may leave, and its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.deployment import export as exporting
from nlp_skills.deployment.gate import Standing
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.huggingface import cleaning
from nlp_skills.deployment.huggingface.cleaning import Cleaner
from nlp_skills.evaluation import model
from nlp_skills.schema import yaml
from nlp_skills.schema.deployment import Export
from nlp_skills.schema.task import Quantization
from nlp_skills.workspace import sections

# By this file a repository is known to be ours, and which of its files are.
MANIFEST = "nlp-skills.json"
CARD = "README.md"
_RECORDS = ("model_info.json", "config.yaml", "results.json", "lineage.yaml")
_WEIGHTS = (".safetensors", ".gguf")
_MODEL = (*_WEIGHTS, ".json", ".jinja", ".model")
_ALSO = ("merges.txt", "vocab.txt")
# Settings that programs write paths into; a tokenizer's words are nobody's paths.
_SETTINGS = ("adapter_config.json", "config.json", "generation_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Piece:
    """A file as it goes up: one that is here, or bytes that were made for it.

    `answers`: it has a part in what the model says; the others only tell about it.
    """

    name: str
    source: Path | bytes
    answers: bool = False

    @property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @property
    def content(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @property
    def text(self) -> str | None:
        """What was made for this; None for a file that is sent as it is."""
        return self.source.decode() if isinstance(self.source, bytes) else None

    @cached_property
    def sha256(self) -> str:
        """Of its bytes, hexadecimal."""
        found = files.sha256_bytes(self.source) if isinstance(self.source, bytes) else files.sha256_file(self.source)
        return found.removeprefix("sha256:")

    def git_hash(self) -> str:
        """What git calls it, where it is no large file there."""
        content = self.content
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Forms:
    """In which forms a version goes out: the whole model or the adapter, and GGUF files beside it.

    `missing` are those that were asked for and not made yet.
    """

    whole: bool
    merged: Export | None = None
    ggufs: list[Export] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def made(going: Going, *, merged: bool, gguf: Sequence[Quantization]) -> Forms:
    """The forms that were asked for, made where they are not there yet.

    Raises:
        Invalid, Unavailable: as `export`.
    """
    whole = merged or going.info.adapter_path is None
    ggufs = [exporting.gguf(going.folder, going.version, name) for name in dict.fromkeys(gguf)]
    export = exporting.merged(going.folder, going.version) if merged and going.info.adapter_path else None
    return Forms(whole, export, ggufs)


def there(going: Going, *, merged: bool, gguf: Sequence[Quantization]) -> Forms:
    """The same as far as they are there: nothing is made."""
    whole = merged or going.info.adapter_path is None
    wanted = ["merged"] if merged and going.info.adapter_path else []
    found = {name: exporting.current(going.folder, going.version, name) for name in [*wanted, *dict.fromkeys(gguf)]}
    ggufs = [export for name, export in found.items() if export and name != "merged"]
    return Forms(whole, found.get("merged"), ggufs, [name for name, export in found.items() if export is None])


def collect(going: Going, forms: Forms, standing: Standing) -> list[Piece]:
    """Everything but the card, in order of names.

    Raises:
        Invalid: a record is not ours, or an export leads out of the task.
    """
    clean = Cleaner.of(going.folder, going.info)
    records = _records(going, standing, clean, whole=forms.whole)
    pieces = [*_model(going, forms, clean), *_ggufs(going, forms), *records]
    return sorted(pieces, key=lambda piece: piece.name)


def manifest(going: Going, pieces: Iterable[Piece]) -> Piece:
    """What the repository's files of ours are, by their hashes; says nothing of when and by whom."""
    told = {piece.name: f"sha256:{piece.sha256}" for piece in sorted(pieces, key=lambda piece: piece.name)}
    return Piece(MANIFEST, _json({"task": going.task.task_name, "version": going.version.name, "files": told}))


def _model(going: Going, forms: Forms, clean: Cleaner) -> list[Piece]:
    if forms.whole and going.info.adapter_path and forms.merged is None:
        return []  # not made yet
    place = _folder(going, forms)
    found = [path for path in sections.regular_files(place) if _belongs(path.name)]
    pieces = [_piece(path.relative_to(place).as_posix(), path, clean) for path in found]
    template = going.info.chat_template
    if template is not None and not any(piece.name == "chat_template.jinja" for piece in pieces):
        pieces.append(Piece("chat_template.jinja", template.encode(), answers=True))
    return pieces


def _folder(going: Going, forms: Forms) -> Path:
    if forms.merged is not None:
        return files.inside(going.folder.root, forms.merged.path)
    return model.weights(going.folder.root, going.info)


def _belongs(name: str) -> bool:
    return name.endswith(_MODEL) or name in _ALSO


def _piece(name: str, path: Path, clean: Cleaner) -> Piece:
    if path.name not in _SETTINGS:
        return Piece(name, path, answers=True)
    written = files.read_json(path)
    cleaned = clean.settings(written)
    return Piece(name, path if cleaned == written else _json(cleaned), answers=True)


def _ggufs(going: Going, forms: Forms) -> list[Piece]:
    paths = [files.inside(going.folder.root, export.path) for export in forms.ggufs]
    return [Piece(path.name, path, answers=True) for path in paths]


def _records(going: Going, standing: Standing, clean: Cleaner, *, whole: bool) -> list[Piece]:
    info, config = cleaning.info_of(going.folder, going.info), cleaning.config_of(clean, going.version)
    texts: dict[str, bytes] = {
        "model_info.json": _json(_published(info, whole=whole)),
        "config.yaml": yaml.dumps({**config, "base_model": info["base_model"]}).encode(),
    }
    if standing.results is not None:
        texts["results.json"] = _json(cleaning.results_of(clean, standing.results))
    written = going.version.lineage()
    if written is not None:
        told = cleaning.lineage_of(clean, written, {**config, "base_model": info["base_model"]})
        if standing.results is None:
            told.pop("results", None)  # of another model than this one
        texts["lineage.yaml"] = yaml.dumps(told).encode()
    return [Piece(name, texts[name], answers=name == "model_info.json") for name in _RECORDS if name in texts]


def _published(info: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """The model lies beside this file."""
    place = {"adapter_path": None, "merged_path": "."} if whole else {"adapter_path": "."}
    return {name: value for name, value in {**info, **place}.items() if value is not None}


def _json(content: Any) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()
