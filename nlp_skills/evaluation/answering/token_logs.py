"""How sure a server was, from the tokens it tells beside its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nlp_skills.data.llm_providers import Token

# How much of the labels' probability may hide behind what is told before the figure is left out.
_HIDDEN = 0.02


def of_text(tokens: Sequence[Token], text: str) -> float | None:
    """The probability of a whole text, its end not counted; None where the tokens are not those of the text."""
    if not _spell(tokens, text):
        return None
    return min(1.0, math.exp(sum(token.log for token in tokens)))


def of_label(tokens: Sequence[Token], text: str, chosen: int, labels: Sequence[str]) -> float | None:
    """The share of the label that was given in the probability of all labels.

    It is read at the first token in which labels differ, among the likeliest tokens there. None where that is not
    sound: the text is another, a token fits several labels, or tokens that are not told may weigh as well.

    Args:
        tokens: of `text`, with the likeliest ones at each place.
        text: an answer that ends with one of `labels`, or with it and signs that follow any label.
        chosen: which one of `labels`.
        labels: as they are spelled in such a text, what marks their end (a quotation mark) included where there is one.
    """
    whole, spelled = b"".join(token.text for token in tokens), [label.encode() for label in labels]
    start = whole.rfind(spelled[chosen])
    if start < 0 or not _spell(tokens, text):
        return None
    place, offset = _covering(tokens, start + _same(spelled))
    if place is None or not place.likely:
        return None
    rests = [whole[offset:start] + label if offset <= start else label[offset - start :] for label in spelled]
    shares, doubtful = _shares(place, rests)
    # Of every label there may be another token, just not likely enough to be told.
    doubtful += len(labels) * math.exp(min(log for _text, log in place.likely))
    total = sum(shares)
    if not shares[chosen] or doubtful > _HIDDEN * (total + doubtful):
        return None
    return shares[chosen] / total


def _spell(tokens: Sequence[Token], text: str) -> bool:
    """Whether the text is of these tokens; servers take white space and a Markdown fence off its ends."""
    return bool(tokens) and text.encode().strip() in b"".join(token.text for token in tokens)


def _same(labels: Sequence[bytes]) -> int:
    """How many bytes all labels begin with."""
    columns = zip(*labels, strict=False)
    return next((at for at, column in enumerate(columns) if len(set(column)) > 1), min(map(len, labels)))


def _covering(tokens: Sequence[Token], at: int) -> tuple[Token | None, int]:
    """The token that holds the byte at this place, and where it begins."""
    offset = 0
    for token in tokens:
        if offset + len(token.text) > at:
            return token, offset
        offset += len(token.text)
    return None, offset


def _shares(place: Token, rests: Sequence[bytes]) -> tuple[list[float], float]:
    """The probability of tokens that begin each label and no other, and of those that begin several."""
    shares, doubtful = [0.0] * len(rests), 0.0
    for text, log in {place.text: place.log, **dict(place.likely)}.items():
        fits = [
            number for number, rest in enumerate(rests) if text and (rest.startswith(text) or text.startswith(rest))
        ]
        if len(fits) == 1:
            shares[fits[0]] += math.exp(log)
        elif fits:
            doubtful += math.exp(log)
    return shares, doubtful
