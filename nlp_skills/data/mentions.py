"""Where known texts stand in a longer one: from left to right, the longest first, and no pieces of words."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence


def lengths(texts: Sequence[str]) -> list[int]:
    """The lengths of the known texts as `find` wants them."""
    return sorted({len(text) for text in texts}, reverse=True)


def find(text: str, known: Container[str], sizes: Sequence[int], start: int = 0) -> Iterator[tuple[int, int]]:
    """Start and end of each known text in `text`, without overlaps; `sizes` are the `lengths` of the known ones."""
    at = start
    while at < len(text):
        size = next((n for n in sizes if text[at : at + n] in known and whole(text, at, at + n)), 0)
        if size:
            yield at, at + size
        at += size or 1


def whole(text: str, start: int, end: int) -> bool:
    """Whether a part of a text is not the piece of a longer word or number, in scripts that space their words."""
    before = text[start - 1] if start else ""
    return end <= len(text) and not (_joined(before, text[start]) or _joined(text[end - 1], text[end : end + 1]))


def _joined(one: str, other: str) -> bool:
    return bool(one and other) and all(c.isalnum() and (c.isdigit() or _spaced(c)) for c in (one, other))


def _spaced(character: str) -> bool:
    """Letters of alphabets, as against Chinese, Japanese and Thai."""
    return ord(character) < 0x0E00 or 0x1E00 <= ord(character) < 0x2000 or 0xAC00 <= ord(character) < 0xD7B0
