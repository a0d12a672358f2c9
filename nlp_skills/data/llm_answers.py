"""Rows in what a model wrote: whole JSON, JSON in a fence or among words, and JSON that was cut off."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from nlp_skills.data import rows as lines

_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"```(?:json|JSON)?\s*\n(.*?)```", re.DOTALL)
_decoder = json.JSONDecoder()


class Found(NamedTuple):
    """The objects in an answer; `fault` is None, or why there are none or not all.

    `prose`: no JSON. `cut_off`: it ends in the middle. `empty`: nothing or no rows. `refusal`: the model declines.
    """

    rows: list[Any]
    fault: str | None


def found(text: str, finish: str) -> Found:
    """The rows in an answer that should be `{"rows": [ … ]}`; a bare list or one bare row is taken too."""
    if finish == "refusal":
        return Found([], "refusal")
    text = _THOUGHT.sub("", text).strip()
    if not text:
        return Found([], "cut_off" if finish == "length" else "empty")
    for candidate in (text, *_FENCE.findall(text)):
        rows = _rows(candidate)
        if rows is not None:
            return Found(rows, None if rows else "empty")
    whole, ended = _whole(text)
    if whole:
        return Found(whole, None if ended else "cut_off")
    return Found([], "cut_off" if finish == "length" else "prose")


def _rows(text: str) -> list[Any] | None:
    try:
        value = lines.parse(text.strip().encode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    rows = value.get("rows")
    return rows if isinstance(rows, list) else [value]


def _whole(text: str) -> tuple[list[Any], bool]:
    """The objects that are whole in the first list of a text, and whether the list has its end."""
    at = text.find("[", max(0, text.find('"rows"')))
    rows: list[Any] = []
    while at >= 0:
        at = _next(text, at + 1)
        if at >= len(text) or text[at] == "]":
            return rows, at < len(text)
        try:
            value, after = _decoder.raw_decode(text, at)
            lines.parse(text[at:after].encode("utf-8"))
        except (ValueError, RecursionError):
            return rows, False
        rows.append(value)
        at = _next(text, after)
        if at >= len(text) or text[at] != ",":
            return rows, text[at : at + 1] == "]"
    return rows, False


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
