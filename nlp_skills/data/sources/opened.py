"""A file's bytes and text: decompressed by its name, decoded as told or as found."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, Any, Literal, cast
from unicodedata import category

from nlp_skills import extras

PACKED = (".gz", ".zst")
# What reading a damaged file raises, besides the OSError of a file that cannot be read.
DAMAGED = (EOFError, zlib.error)
_BLOCK = 1 << 20
_SAMPLE = 1 << 15

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What may be guessed, and how it is read: Windows writes supersets of the standards, under their names.
_GUESSED = {
    "big5": ("cp950", "big5"),
    "cp950": ("cp950", "big5"),
    "gb18030": ("gb18030",),
    "shift_jis": ("cp932",),
    "cp932": ("cp932",),
    "euc_kr": ("cp949",),
    "cp1252": ("cp1252",),
}
# Encodings that are never chosen but may fit as well, which makes a guess uncertain.
_RIVALS = ("euc_jp", "cp1250", "cp1251", "iso8859_2", "koi8_r", "tis_620")
_MARGIN = 0.03
_FEWEST = {"cp1252": 5}
_FEWEST_WIDE = 16
_FEWEST_ZEROS = 4
_WESTERN = frozenset("àâäáãåçéèêëíîïìñóôöòõúùûüÿæœøßÀÂÄÁÃÅÇÉÈÊËÍÎÏÌÑÓÔÖÒÕÚÙÛÜÆŒØ«»“”‘’„–—…€£§°·•¡¿\N{NO-BREAK SPACE}")


@dataclass(frozen=True)
class Encoding:
    """A codec's name, and how it was come by; `unknown` is read as UTF-8 and fails at the first wrong byte."""

    name: str
    by: Literal["given", "mark", "utf-8", "zero bytes", "guess", "unknown"]

    @property
    def utf8(self) -> bool:
        """Whether lines may be split before they are decoded."""
        return codecs.lookup(self.name).name in ("utf-8", "utf-8-sig")


def plain_suffix(path: str | PurePath) -> str:
    """The suffix that tells the format: `.csv` of `a.CSV` and of `a.csv.gz`."""
    name = PurePath(path)
    return PurePath(name.stem if name.suffix.lower() in PACKED else name.name).suffix.lower()


def packed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix.lower() in PACKED


def open_bytes(path: Path) -> IO[bytes]:
    """The file's content, decompressed.

    Raises:
        OSError: it cannot be read; on reading also `DAMAGED`, where a compressed file is broken or cut off.
        Unavailable: the extra that unpacks it is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if suffix == ".zst":
        extras.need("files", "pyarrow")
        import pyarrow

        # zstandard's own reader takes a file that was cut off for a shorter one.
        return cast("IO[bytes]", io.BufferedReader(pyarrow.CompressedInputStream(str(path), "zstd")))
    return open(path, "rb")


def open_text(path: Path, encoding: Encoding) -> io.TextIOWrapper:
    """The same as text; line ends stay as they are and only `\\n` ends a line."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding.name, newline="\n")


def encoding_of(path: Path, given: str | None, *, whole: bool) -> Encoding:
    """What the file is written in. UTF-8 is checked to its end if `whole`, else in its first MiB.

    Raises:
        LookupError: the given encoding is not known.
        OSError, EOFError, zlib.error: as `open_bytes`.
    """
    with open_bytes(path) as stream:
        head = stream.read(4)
        mark = next((name for bytes_, name in _MARKS if head.startswith(bytes_)), None)
    if given is not None:
        return Encoding(_given(path, given, mark), "given")
    if mark is not None:
        return Encoding(mark, "mark")
    if _is_utf8(path, whole):
        return Encoding("utf-8", "utf-8")
    return _other(path)


def _given(path: Path, name: str, mark: str | None) -> str:
    """The codec's name, with what it leaves open settled: a mark that may be there, or one that is missing."""
    plain = codecs.lookup(name).name
    if plain == "utf-8":
        return "utf-8-sig"
    if plain == "utf-16" and mark is None:
        with open_bytes(path) as stream:
            return _utf16(stream.read(_SAMPLE)) or name
    return name


def _is_utf8(path: Path, whole: bool) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as stream:
        blocks: Iterator[bytes] = iter(lambda: stream.read(_BLOCK), b"")
        try:
            for block in blocks if whole else islice(blocks, 1):
                if b"\0" in block:
                    return False
                decoder.decode(block)
            decoder.decode(b"", final=whole)
        except UnicodeDecodeError:
            return False
    return True


def _other(path: Path) -> Encoding:
    with open_bytes(path) as stream:
        head = stream.read(_SAMPLE)
    if wide := _utf16(head):
        return Encoding(wide, "zero bytes")
    sample = _sample(path)
    # A file with a zero byte here and there, or a few wrong ones, is UTF-8 that somebody spoilt.
    spoilt = not sample or _damaged_utf8(sample)
    guessed = None if spoilt or not extras.installed("charset_normalizer") else _guess(sample)
    return Encoding(guessed, "guess") if guessed else Encoding("utf-8", "unknown")


def _utf16(head: bytes) -> str | None:
    """Commas, quotes and line ends have a zero byte in UTF-16, always on the same side."""
    zeros = [head[side::2].count(0) for side in (0, 1)]
    if max(zeros) < _FEWEST_ZEROS or min(zeros) > max(zeros) // 20:
        return None
    name = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    # Half a character at the end of what was read is nobody's fault.
    text = head[: len(head) // 4 * 4].decode(name, errors="replace").rstrip("\N{REPLACEMENT CHARACTER}")
    if "\n" not in text and not text.startswith(("{", "[")):
        return None
    odd = sum(category(char) in ("Cc", "Cn", "Co", "Cs") and char not in "\r\n\t" for char in text)
    return name if "\N{REPLACEMENT CHARACTER}" not in text and odd <= len(text) // 100 else None


def _sample(path: Path) -> bytes:
    """Lines that hold more than ASCII, about 32 KiB of them."""
    found = bytearray()
    with open_bytes(path) as stream:
        for line in iter(lambda: stream.readline(_SAMPLE), b""):
            if not line.isascii():
                found += line
            if len(found) >= _SAMPLE:
                break
    return bytes(found)


def _damaged_utf8(sample: bytes) -> bool:
    """Whether this is UTF-8 with a few wrong bytes: text in another encoding hardly ever looks like UTF-8."""
    text = sample.decode("utf-8", errors="replace")
    wrong = text.count("\N{REPLACEMENT CHARACTER}")
    return sum(not char.isascii() for char in text) - wrong > wrong


def _guess(sample: bytes) -> str | None:
    """The one encoding that fits, or None where another fits nearly as well or there is too little text to tell."""
    from charset_normalizer import from_bytes

    matches = list(from_bytes(sample, cp_isolation=[*_GUESSED, *_RIVALS], enable_fallback=False))
    names = [name for match in matches[:1] for name in (match.encoding, *match.could_be_from_charset)]
    known = next((name for name in names if name in _GUESSED), None)
    if known is None or not _plausible(str(matches[0]), known):
        return None
    if any(_as_good(rival, matches[0], known) for rival in matches[1:]):
        return None
    return next((name for name in _GUESSED[known] if _decodes(sample, name)), None)


def _plausible(text: str, name: str) -> bool:
    """Enough characters to tell by, and such as people write in this encoding."""
    odd = [char for char in text if not char.isascii()]
    if len(odd) < _FEWEST.get(name, _FEWEST_WIDE):
        return False
    if name == "cp1252":
        return _western(odd)
    # Half-width katakana is what Cyrillic and Thai look like to Shift JIS.
    return sum("\uff61" <= char <= "\uff9f" for char in odd) <= len(odd) // 10


def _western(odd: list[str]) -> bool:
    return sum(char not in _WESTERN for char in odd) <= len(odd) // 50


def _as_good(rival: Any, best: Any, name: str) -> bool:
    text = str(rival)
    if text == str(best) or rival.chaos > best.chaos + _MARGIN or best.coherence >= rival.coherence + 0.02:
        return False
    return not (name == "cp1252" and not _western([char for char in text if not char.isascii()]))


def _decodes(sample: bytes, name: str) -> bool:
    try:
        sample.decode(name)
    except UnicodeDecodeError:
        return False
    return True
