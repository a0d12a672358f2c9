"""The bytes of a web page as text, read as browsers do: what is declared is believed, old Chinese encodings too."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# A declaration stands near the beginning; browsers look at 1,024 bytes, some pages put a long comment first.
_HEAD = 4096
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_META = re.compile(rb"""<meta\s[^>]*?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_XML = re.compile(rb"""^\s*<\?xml\s[^>]*?encoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE)
_HEADER = re.compile(r"""charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)

# What pages call their encoding, and the widest codec of ours that reads it; several are tried in turn.
_BIG5 = ("cp950", "big5hkscs")
_LABELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("utf-8", "utf8", "unicode-1-1-utf-8"), ("utf-8",)),
    **dict.fromkeys(("utf-16", "utf16", "ucs-2", "unicode"), ("utf-16",)),
    "utf-16le": ("utf-16-le",),
    "utf-16be": ("utf-16-be",),
    **dict.fromkeys(("big5", "big5-hkscs", "cn-big5", "csbig5", "x-x-big5", "big-5", "cp950"), _BIG5),
    **dict.fromkeys(("gbk", "gb2312", "gb_2312-80", "gb18030", "x-gbk", "csgb2312", "chinese", "cp936"), ("gb18030",)),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "ms932", "windows-31j"), ("cp932",)),
    **dict.fromkeys(("euc-jp", "x-euc-jp"), ("euc_jp",)),
    "iso-2022-jp": ("iso2022_jp_ext",),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ksc5601", "windows-949"), ("cp949",)),
    **dict.fromkeys(("iso-8859-1", "latin1", "l1", "us-ascii", "ascii", "windows-1252", "cp1252"), ("cp1252",)),
    **{f"windows-{number}": (f"cp{number}",) for number in (874, *range(1250, 1259))},
    **{f"iso-8859-{number}": (f"iso8859_{number}",) for number in (*range(2, 9), 10, 13, 14, 15, 16)},
    "iso-8859-9": ("cp1254",),
    **dict.fromkeys(("tis-620", "iso-8859-11"), ("cp874",)),
    "koi8-r": ("koi8_r",),
    "koi8-u": ("koi8_u",),
}
_CODE = (b"script", b"style")
# So many bytes of words are enough to tell an encoding by.
_ENOUGH = 1 << 17
_GUESSES = ["cp950", "gb18030", "cp932", "cp949", "cp1252", "cp1251"]


@dataclass(frozen=True)
class Decoded:
    """A page's text. `bad`: how many characters could not be read and are U+FFFD in it."""

    text: str
    encoding: str
    bad: int


def is_known(label: str) -> bool:
    """Whether text can be read with an encoding of this name."""
    try:
        "".encode(label)
    except (LookupError, ValueError):
        return label.strip().lower() in _LABELS
    return True


def decode(body: bytes, *, given: str | None = None, content_type: str = "") -> Decoded:
    """Read a page: with the encoding `given`, else with what its byte order mark, the Content-Type header or the page
    itself declares, else with what its bytes look like. Never fails: what cannot be read is counted.
    """
    bom = next((name for mark, name in _BOMS if body.startswith(mark)), None)
    candidates = _named(given) or ((bom,) if bom else ()) or _in_header(content_type) or _in_page(body)
    found = _best(body, candidates or _looks_like(body))
    return Decoded(found.text.removeprefix("\ufeff"), found.encoding, found.bad)


def _named(label: str | None) -> tuple[str, ...]:
    if label is None:
        return ()
    return _LABELS.get(label.strip().lower(), (label,))


def _in_header(content_type: str) -> tuple[str, ...]:
    found = _HEADER.search(content_type)
    return _LABELS.get(found[1].lower(), ()) if found else ()


def _in_page(body: bytes) -> tuple[str, ...]:
    head = _COMMENT.sub(b"", body[:_HEAD])
    found = _XML.search(head) or _META.search(head)
    candidates = _LABELS.get(found[1].decode("ascii", "replace").lower(), ()) if found else ()
    # Whoever could read "utf-16" in single bytes is not reading UTF-16.
    return ("utf-8",) if candidates and candidates[0].startswith("utf-16") else candidates


def _looks_like(body: bytes) -> tuple[str, ...]:
    if body[1:2] == b"\0" != body[:1]:
        return ("utf-16-le",)
    if body[:1] == b"\0" != body[1:2]:
        return ("utf-16-be",)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(body)
    return ("utf-8",)


def _guessed(body: bytes) -> tuple[str, ...]:
    import charset_normalizer

    found = charset_normalizer.from_bytes(_words(body), cp_isolation=_GUESSES).best()
    name = found.encoding if found else "utf-8"
    return _BIG5 if name == "cp950" else (name,)


def _words(body: bytes) -> bytes:
    """What stands between the tags, which are the same in every encoding; `<` and blank are never half a character."""
    parts = (part.partition(b">")[2] for part in body.split(b"<") if not part[:6].lower().startswith(_CODE))
    words = b" ".join(filter(None, (part.strip() for part in parts)))
    return words if len(words) <= _ENOUGH else words[:_ENOUGH].rpartition(b" ")[0]


def _best(body: bytes, candidates: tuple[str, ...]) -> Decoded:
    """The reading with the fewest characters lost; the first of equals."""
    found = [_read(body, name) for name in candidates]
    return min(found, key=lambda decoded: decoded.bad)


def _read(body: bytes, name: str) -> Decoded:
    text = body.decode(name, "replace")
    lost = text.count("\ufffd") and text.count("\ufffd") - body.decode(name, "ignore").count("\ufffd")
    return Decoded(text, name, lost)
