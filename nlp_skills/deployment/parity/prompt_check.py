"""Test prompts rendered and tokenised by us and by what was deployed: they must be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nlp_skills.data import rows as lines
from nlp_skills.data.render import Message, tokenise
from nlp_skills.evaluation import asking, model
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import PromptDifference, PromptParity

# What is shown around the place where two prompts part: characters of text, and tokens.
_BEFORE, _AFTER = 30, 50
_TOKENS = 6


def prompts(
    chosen: Subject, render: Callable[[list[Message]], str], tokens: Callable[[str], list[int]], count: int
) -> PromptParity:
    """Up to `count` prompts, spread over the test rows, held against those the version was trained and evaluated with.

    Args:
        chosen: the version.
        render: the prompt that the engine makes of messages.
        tokens: the ids that the engine reads a prompt as.
        count: at most so many rows.

    Raises:
        Problem: what the engine raises.
    """
    tokenizer = model.tokenizer(chosen.folder, chosen.info)
    places = asking.spread(len(chosen.test), count)
    equal_text = equal_ids = 0
    first = None
    for place in places:
        messages = chosen.renderer.messages(chosen.test[place])
        ours = chosen.renderer.prompt_after(tokenizer, messages)
        theirs = render(messages)
        ids, their_ids = tokenise(tokenizer, ours), tokens(theirs)
        same_ids = ids == their_ids
        same_text = theirs == ours or (same_ids and ours == f"{tokenizer.bos_token or ''}{theirs}")
        equal_text, equal_ids = equal_text + same_text, equal_ids + same_ids
        if first is None and not (same_text and same_ids):
            shown = _ids_apart(tokenizer, ids, their_ids) if theirs == ours else _apart(ours, theirs)
            first = PromptDifference(row=place + 1, ours=shown[0], theirs=shown[1])
    return PromptParity(asked=len(places), equal_text=equal_text, equal_ids=equal_ids, first=first)


def _apart(ours: str, theirs: str) -> tuple[str, str]:
    """Both texts around the place where they part, escaped."""
    at = next((place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    at = min(len(ours), len(theirs)) if at is None else at
    return _around(ours, at), _around(theirs, at)


def _around(text: str, at: int) -> str:
    start, end = max(0, at - _BEFORE), at + _AFTER
    shown = ascii_of(text[start:end])
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}"


def ascii_of(text: str) -> str:
    """A piece of a row for people: in quotes, in one line, whatever does not print escaped; cut."""
    return lines.cut(repr(text), 2 * (_BEFORE + _AFTER))


def _ids_apart(tokenizer: Any, ours: list[int], theirs: list[int]) -> tuple[str, str]:
    """The same text, read as other tokens: from the first that differs."""
    at = next((place for place, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    at = min(len(ours), len(theirs)) if at is None else at
    return _tokens(tokenizer, ours, at), _tokens(tokenizer, theirs, at)


def _tokens(tokenizer: Any, ids: list[int], at: int) -> str:
    part = ids[at : at + _TOKENS]
    known = [one for one in part if 0 <= one < len(tokenizer)]
    return _("tokens {ids} from place {place} on: {text}",
             ids=str(part), place=at + 1, text=ascii_of(tokenizer.decode(known)))  # fmt: skip
