"""What the outside world answered, one JSON line an answer, so that asking again costs nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines

Answer = dict[str, Any]


def request_key(request: Any) -> str:
    """`sha256:…` of a request as JSON. Leave out whatever is secret or changes nothing in the answer."""
    return files.sha256_bytes(lines.canonical(request))


class Recording:
    """Answers by the key of their request, on disk; of several under one key the last counts.

    Each answer is on the disk before `put` returns. A line that a kill cut off is dropped on opening; memory holds
    the keys and offsets only.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._offsets: dict[str, int] = {}
        self._end = 0
        for offset, key in self._keys():
            self._offsets[key] = offset

    def __contains__(self, key: object) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, key: str) -> Answer | None:
        """The answer to a request, or None."""
        if key not in self._offsets:
            return None
        with open(self.path, "rb") as stream:
            stream.seek(self._offsets[key])
            answer: Answer = json.loads(stream.readline())["answer"]
        return answer

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, unless this is a preview.

        Raises:
            Unavailable: the disk is full or the folder cannot be written.
        """
        if self.read_only:
            return
        line = lines.dump({"key": key, "time": files.now().isoformat(), "answer": answer})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "r+b" if self.path.exists() else "wb") as stream:
                stream.truncate(self._end)
                stream.seek(self._end)
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise files.storage_problem(error, self.path) from error
        self._offsets[key] = self._end
        self._end += len(line)

    def clear(self) -> None:
        """Forget everything, as for a refresh."""
        if not self.read_only:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        self._offsets, self._end = {}, 0

    def _keys(self) -> Iterator[tuple[int, str]]:
        """Every whole line's offset and key; what follows the last whole line is not counted."""
        if not self.path.is_file():
            return
        with open(self.path, "rb") as stream:
            for line in stream:
                try:
                    key = json.loads(line)["key"] if line.endswith(b"\n") else None
                except (ValueError, KeyError, TypeError):
                    key = None
                if not isinstance(key, str):
                    return
                yield self._end, key
                self._end += len(line)
