"""Which script a text is written in, Traditional and Simplified Chinese told apart; standard library only.

Scripts are named as ISO 15924 names them: Latn, Hant, Hans, Hani (Chinese that could be either), Jpan …
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from nlp_skills.i18n import _

MUCH = 0.05
_FITS = 0.2
_SHOWN = 5
_HAN = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUNS = re.compile(
    rf"(?P<Hani>[{_HAN}]+)|(?P<Jpan>[\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9d]+)"
    r"|(?P<Hang>[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]+)|(?P<Thai>[\u0e01-\u0e4e]+)"
    r"|(?P<Latn>[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]+)"
    r"|(?P<Cyrl>[\u0400-\u052f]+)|(?P<Arab>[\u0620-\u06d3\u0750-\u077f]+)|(?P<Hebr>[\u05d0-\u05f2]+)"
    r"|(?P<Grek>[\u0370-\u03ff\u1f00-\u1fff]+)|(?P<Deva>[\u0900-\u0963\u0970-\u097f]+)"
)
_ADDRESS = re.compile(r"https?://[!-~]+|www\.[!-~]+|[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]+|@\w+")
_ENOUGH = 2000

# Of these, each character weighs as much as a word of the others.
_BY_CHARACTER = frozenset(("Hani", "Jpan", "Hang"))

# The script of each language that is not written in Latin letters.
_SCRIPTS = {
    "ja": "Jpan",
    "ko": "Hang",
    "th": "Thai",
    "he": "Hebr",
    "el": "Grek",
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "mn"), "Cyrl"),
    **dict.fromkeys(("ar", "fa", "ur", "ps"), "Arab"),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), "Deva"),
}
_CHINESE = {"hant": "Hant", "tw": "Hant", "hk": "Hant", "mo": "Hant", "hans": "Hans", "cn": "Hans", "sg": "Hans"}
# Both encodings know these in ordinary text of the other side's writers; they show nothing.
_UNTOLD = frozenset("着温")


def units(text: str) -> Counter[str]:
    """How much of a text's beginning is written in which script; addresses do not count."""
    text = text[:_ENOUGH]
    found: Counter[str] = Counter()
    for run in _RUNS.finditer(_ADDRESS.sub(" ", text)):
        name = str(run.lastgroup)
        found[name] += run.end() - run.start() if name in _BY_CHARACTER else 1
    han = found.pop("Hani", 0)
    if han:
        # One の makes no Japanese; kana beside every few characters does.
        found["Jpan" if found["Jpan"] * 5 >= found["Jpan"] + han else _chinese(text)] += han
    return +found


def script(text: str) -> str | None:
    """The script most of a text is written in; None where there are no letters."""
    return _most(units(text))


def _most(found: Counter[str]) -> str | None:
    return max(found, key=lambda name: (found[name], name), default=None)


def _chinese(text: str) -> str:
    traditional, simplified = _telling()
    hant, hans = sum(map(traditional.__contains__, text)), sum(map(simplified.__contains__, text))
    if hant == hans:
        return "Hani"
    return "Hant" if hant > hans else "Hans"


@cache
def _telling() -> tuple[frozenset[str], frozenset[str]]:
    """Characters that only Taiwan's Big5 can encode, and those that only the mainland's GB 2312 can."""
    han = [chr(code) for code in range(0x4E00, 0xA000)]
    big5, gb2312 = ({char for char in han if _encodes(char, codec)} for codec in ("cp950", "gb2312"))
    return frozenset(big5 - gb2312 - _UNTOLD), frozenset(gb2312 - big5 - _UNTOLD)


def _encodes(char: str, codec: str) -> bool:
    try:
        return bool(char.encode(codec))
    except UnicodeEncodeError:
        return False


def expected(languages: Iterable[str]) -> set[str]:
    """The scripts that texts in these languages (`zh-TW`, `en`, …) may be written in."""
    scripts: set[str] = set()
    for language in languages:
        tag, *rest = language.lower().replace("_", "-").split("-")
        if tag in ("zh", "yue"):
            told = {_CHINESE[part] for part in rest if part in _CHINESE}
            scripts |= {"Hani", *(told or {"Hant", "Hans"})}
        elif tag == "ja":
            scripts |= {"Jpan", "Hani", "Hant", "Hans"}
        else:
            scripts.add(_SCRIPTS.get(tag, "Latn"))
    return scripts


class Mix:
    """The scripts of a split's texts, and where those stand that none of the expected languages uses."""

    def __init__(self, languages: Iterable[str]) -> None:
        self.expected = expected(languages)
        self.counts: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.places: list[tuple[int, str]] = []

    def look(self, line: int, text: str) -> None:
        """Count one row's text."""
        found = units(text)
        name = _most(found)
        if name is None:
            return
        self.counts[name] += 1
        # Names and borrowed words do not make a text another language's.
        if self.expected and sum(found[one] for one in self.expected) < _FITS * found.total():
            self.others[name] += 1
            if len(self.places) < _SHOWN:
                self.places.append((line, text))

    @property
    def share(self) -> float:
        """The fraction of texts in another script than expected."""
        return self.others.total() / self.counts.total() if self.counts else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Texts by script, most frequent first."""
        return dict(self.counts.most_common())


def words(name: str) -> str:
    """A script's name for people."""
    names = {
        "Hani": _("Chinese"),
        "Hant": _("Traditional Chinese"),
        "Hans": _("Simplified Chinese"),
        "Jpan": _("Japanese"),
        "Hang": _("Korean"),
        "Thai": _("Thai"),
        "Latn": _("Latin letters"),
        "Cyrl": _("Cyrillic"),
        "Arab": _("Arabic"),
        "Hebr": _("Hebrew"),
        "Grek": _("Greek"),
        "Deva": _("Devanagari"),
    }
    return names[name]
