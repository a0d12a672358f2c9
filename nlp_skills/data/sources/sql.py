"""A query as text: what in it is code and what is quoted, how it begins, and whether its order is fixed.

This is no parser: it knows quotes, comments and parentheses, which is what the questions asked here need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_QUOTED = re.compile(
    r"""
      '(?:[^']|'')*' | "(?:[^"]|"")*"   # text and names
    | `[^`]*`
    | \$(\w*)\$.*?\$\1\$                 # PostgreSQL's dollar quotes
    | --[^\n]* | /\*.*?\*/               # comments
    """,
    re.DOTALL | re.VERBOSE,
)
_QUOTED_MYSQL = re.compile(
    r"""
      '(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*"   # a backslash escapes
    | `[^`]*`
    | --[^\n]* | \#[^\n]* | /\*.*?\*/
    """,
    re.DOTALL | re.VERBOSE,
)
_SNAPSHOT_DATE = re.compile(r"(?<![\w:]):snapshot_date\b")
_LIMIT = re.compile(r"\bLIMIT\b|\bFETCH\s+(?:FIRST|NEXT)\b|\bTOP\s+\d")
_TOP = re.compile(r"\bTOP\s*\(")
_ORDER = re.compile(r"\bORDER\s+BY\b")
# What changes a database, or the session that reads it. A word that is merely wrong is left to the server to refuse.
_CHANGES = re.compile(
    r"""(?:ALTER|ANALYZE|ATTACH|BEGIN|CALL|COMMIT|COPY|CREATE|DELETE|DETACH|DO|DROP|GRANT|INSERT|LOAD|LOCK|MERGE
    |REINDEX|RENAME|REPLACE|RESET|REVOKE|ROLLBACK|SET|START|TRUNCATE|UPDATE|USE|VACUUM)\b""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Sql:
    """A query; `mysql` quotes a little differently."""

    text: str
    mysql: bool = False

    @property
    def changing_word(self) -> str | None:
        """The first word of a statement that changes something, or None: DELETE, SET and so on."""
        found = _CHANGES.match(self._code.strip(" \t\r\n(").upper())
        return found[0] if found else None

    @property
    def several_statements(self) -> bool:
        """Whether anything follows a semicolon."""
        return bool(self._code.partition(";")[2].strip("; \t\r\n"))

    @property
    def takes_snapshot_date(self) -> bool:
        """Whether `:snapshot_date` stands in the code, not in quotes, nor as a cast."""
        return any(_SNAPSHOT_DATE.search(code) for code, quoted in self._parts() if not quoted)

    @property
    def unordered(self) -> bool:
        """Whether rows that come from a table come in whatever order the database likes."""
        outer = self._levels()[0]
        return bool(re.search(r"\bFROM\b", outer)) and not _ORDER.search(outer)

    @property
    def limits_unordered(self) -> bool:
        """Whether some SELECT takes the first rows of an order that nobody fixed."""
        return any(_LIMIT.search(level) and not _ORDER.search(level) for level in self._levels())

    def with_marker(self, marker: str, escaped: Callable[[str], str]) -> tuple[str, int]:
        """The query with a driver's `marker` for each `:snapshot_date`, and how many; `escaped` sees all the rest."""
        written, count = "", 0
        for text, quoted in self._parts():
            pieces = [text] if quoted else _SNAPSHOT_DATE.split(text)
            written += marker.join(escaped(piece) for piece in pieces)
            count += len(pieces) - 1
        return written, count

    @property
    def _code(self) -> str:
        return "".join(" " if quoted else text for text, quoted in self._parts())

    def _parts(self) -> Iterator[tuple[str, bool]]:
        """The query in pieces, in order; True for what is quoted or a comment."""
        end = 0
        for found in (_QUOTED_MYSQL if self.mysql else _QUOTED).finditer(self.text):
            yield self.text[end : found.start()], False
            yield found[0], True
            end = found.end()
        yield self.text[end:], False

    def _levels(self) -> list[str]:
        """The outermost code, in capitals and without what is in its parentheses; then each parenthesis likewise."""
        code = _TOP.sub("TOP 1 (", self._code.upper()).strip().rstrip(";").strip()
        while _wrapped(code):
            code = code[1:-1].strip()
        done: list[str] = []
        outer: list[str] = [""]
        for char in code:
            if char == "(":
                outer.append("")
            elif char == ")" and len(outer) > 1:
                done.append(outer.pop())
                outer[-1] += " "
            else:
                outer[-1] += char
        return [outer[0], *done, *outer[1:]]


def _wrapped(code: str) -> bool:
    """Whether one pair of parentheses holds all of it."""
    depth = 0
    for index, char in enumerate(code):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return char == ")" and index == len(code) - 1
    return False
