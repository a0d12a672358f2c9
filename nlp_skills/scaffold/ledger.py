"""Which files we wrote, by hash: the untouched ones may be refreshed, what a user changed is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from nlp_skills import files
from nlp_skills.errors import Invalid

State = Literal["written", "refreshed", "unchanged", "kept", "removed"]


class Ledger:
    """The record in `.nlp-skills/generated.json` of one task folder; `save` when all files are put.

    A lost or damaged record loses nothing: files then count as the user's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".nlp-skills" / "generated.json"
        self.hashes = self._read()

    def _read(self) -> dict[str, str]:
        try:
            content: Any = files.read_json(self.path)
            return {str(name): str(value) for name, value in content["files"].items()}
        except (Invalid, KeyError, TypeError, AttributeError):
            return {}

    def save(self) -> None:
        files.write_json(self.path, {"schema_version": 1, "files": dict(sorted(self.hashes.items()))})

    def is_ours(self, name: str) -> bool:
        """Whether the file is there exactly as we wrote it."""
        path = files.inside(self.root, name)
        return path.is_file() and self.hashes.get(name) == files.sha256_file(path)

    def put(self, name: str, content: bytes) -> State:
        """Write a file, or `NAME.new` beside it when a user changed it (state `kept`)."""
        path, fresh = files.inside(self.root, name), files.sha256_bytes(content)
        there = files.sha256_file(path) if path.is_file() else None
        if there not in (None, fresh, self.hashes.get(name)):
            self._write(f"{name}.new", content)
            return "kept"
        self.remove(f"{name}.new")
        if there == fresh:
            self.hashes[name] = fresh
            return "unchanged"
        self._write(name, content)
        return "refreshed" if there else "written"

    def _write(self, name: str, content: bytes) -> None:
        files.write_bytes(files.inside(self.root, name), content)
        self.hashes[name] = files.sha256_bytes(content)

    def remove(self, name: str) -> bool:
        """Delete a file of ours; one that a user changed stays."""
        ours = self.is_ours(name)
        if ours:
            files.inside(self.root, name).unlink()
        self.hashes.pop(name, None)
        return ours
