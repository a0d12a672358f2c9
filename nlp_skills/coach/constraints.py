"""Constraints as people write them: "資料量: 500 筆已標註", "GPU: one A100 over SSH", "deadline: 2 weeks"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_ROWS = ("資料量", "資料", "data", "rows", "labelled", "labeled")
_GPU = ("gpu", "顯卡", "顯示卡", "運算", "compute")
_TIME = ("時程", "期限", "deadline", "time", "schedule")
_COUNT = re.compile(r"\d[\d,]*(?:\.\d+)?(?:\s*(?:k|千|萬))?", re.IGNORECASE)
_TIMES = {"k": 1_000, "千": 1_000, "萬": 10_000}
_SPAN = re.compile(
    r"(\d+(?:\.\d+)?|[一二兩三四五六七八九十]|\b(?:an?|one|two|three|four|five|six)\b)\s*個?\s*"
    r"(hours?|小時|days?|天|日|weeks?|週|周|星期|months?|月)",
    re.IGNORECASE,
)
_HOURS = {"h": 1, "小": 1, "d": 24, "天": 24, "日": 24, "w": 168, "週": 168, "周": 168, "星": 168, "m": 720, "月": 720}
_NUMERALS = {"一": 1, "二": 2, "兩": 2, **dict(zip("三四五六七八九十", range(3, 11), strict=True))}
_NUMERALS |= {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
# A model of GPU in a sentence: letters and digits together, with a family before and a memory after it where written.
_NAMED = re.compile(r"(?:(?:RTX|GTX|Tesla|Quadro|MI)\s*)?\b[A-Z]{0,4}\d{1,4}[A-Z]{0,3}\b(?:\s*(?:Ti|Super))?"
                    r"(?:\s*(?:PCIe|SXM))?(?:\s*\d{2,3}\s*GB)?", re.IGNORECASE)  # fmt: skip
_SEVERAL = re.compile(r"(?:(?<![A-Za-z])[x×*]\s*(\d+)\b|\b(\d+)\s*[x×*張片])", re.IGNORECASE)
_NONE = re.compile(r"\b(?:no|none|without|cpu)\b|沒有|無|僅\s*CPU", re.IGNORECASE)
_FILLING = re.compile(r"\b(?:remote|ssh|server|local|one|a|over)\b|遠端|伺服器|本地|本機|一張|張", re.IGNORECASE)
_REMOTE = re.compile(r"remote|ssh|server|遠端|伺服器", re.IGNORECASE)


@dataclass(frozen=True)
class Constraints:
    """What could be read. `gpu` is "" where there is none, None where nothing is said; `hours` until it must run."""

    rows: int | None = None
    gpu: str | None = None
    remote: bool = False
    hours: float | None = None


def read(entries: Iterable[str | dict[str, Any]]) -> Constraints:
    """The constraints of a summary; what is not understood says nothing."""
    found: dict[str, Any] = {}
    for entry in entries:
        for name, value in _pairs(entry):
            found |= _read(name.strip().lower(), value)
    return Constraints(**found)


def _pairs(entry: str | dict[str, Any]) -> list[tuple[str, str]]:
    if isinstance(entry, dict):
        return [(str(name), str(value)) for name, value in entry.items()]
    name, colon, value = re.split(r"([:：])", entry, maxsplit=1) if re.search("[:：]", entry) else (entry, "", entry)
    return [(name, value)] if colon else [(name, name)]


def _read(name: str, value: str) -> dict[str, Any]:
    if any(word in name for word in _GPU):
        return _gpu(value)
    if any(word in name for word in _TIME):
        hours = _hours(value)
        return {} if hours is None else {"hours": hours}
    if any(word in name for word in _ROWS):
        rows = _rows(value)
        return {} if rows is None else {"rows": rows}
    return {}


def _rows(text: str) -> int | None:
    if not (found := _COUNT.search(text)):
        return 0 if _NONE.search(text) else None
    digits = re.sub(r"[^\d.]", "", found[0])
    return round(float(digits) * _TIMES.get(found[0][-1].lower(), 1))


def _gpu(text: str) -> dict[str, Any]:
    rest = _SEVERAL.sub(" ", text)
    named = [found[0].strip() for found in _NAMED.finditer(rest) if re.search(r"[A-Za-z]", found[0])]
    about = {"remote": bool(_REMOTE.search(text))}
    if named:
        return {"gpu": named[0], **about}
    if _NONE.search(text):
        return {"gpu": "", **about}
    # A name nobody can read is still a name, and is told to be unknown.
    return {"gpu": " ".join(_FILLING.sub(" ", rest).split()) or None, **about}


def _hours(text: str) -> float | None:
    if not (found := _SPAN.search(text)):
        return None
    number = _NUMERALS.get(found[1].lower()) or float(found[1])
    return number * _HOURS[found[2][0].lower()]
