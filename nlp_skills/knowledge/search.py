"""Finding what is known: models by what is said of them, and the sections of the documents, in both languages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from nlp_skills import i18n
from nlp_skills.knowledge import catalogue, tables
from nlp_skills.knowledge.catalogue import Model
from nlp_skills.knowledge.write import TOPICS

_CJK = re.compile(r"[\u3400-\u9fff]+")
_WORD = re.compile(r"[a-z0-9][a-z0-9.+_-]*")
# A term in a heading says what the section is about.
_HEADING, _BODY = 8.0, 1.0
_EXCERPT = 160


@dataclass(frozen=True)
class Passage:
    """Something that can be found. `at` is a model's id, or a topic and the number of its section."""

    kind: Literal["model", "topic"]
    at: str
    title: str
    text: str
    language: str | None = None


@dataclass(frozen=True)
class Hit:
    """A passage with how well it fits and the line of it that fits best."""

    passage: Passage
    score: float
    excerpt: str


@dataclass(frozen=True)
class Section:
    """Part of a topic under one heading; the first has the topic's own title."""

    topic: str
    number: int
    title: str
    text: str


def find(terms: Sequence[str], *, limit: int = 8) -> list[Hit]:
    """The passages that have the terms, those first that have most of them, and in their headings.

    A section that stands in both languages is given once: in the language of the terms, or of the user.
    """
    wanted = _wanted(" ".join(terms))
    scored = [
        Hit(passage, score, _excerpt(passage, wanted)) for passage in passages() if (score := _score(passage, wanted))
    ]
    best: dict[tuple[str, str], Hit] = {}
    for hit in sorted(scored, key=lambda hit: -hit.score):
        first = best.setdefault((hit.passage.kind, hit.passage.at), hit)
        # In the user's language, unless that one hardly has the terms.
        if hit.passage.language == i18n.language() and hit.score >= first.score / 2:
            best[hit.passage.kind, hit.passage.at] = replace(hit, score=first.score)
    return sorted(best.values(), key=lambda hit: -hit.score)[:limit]


def near(terms: Sequence[str], *, limit: int = 5) -> list[str]:
    """Words that are known and look like the terms, for whoever found nothing."""
    found: list[str] = []
    for term in _wanted(" ".join(terms)):
        if _CJK.fullmatch(term):
            shared = [(len(set(term) & set(word)) / len(set(term) | set(word)), word) for word in _chinese()]
            found += [word for share, word in sorted(shared, reverse=True)[:limit] if share > 0]
        else:
            found += difflib.get_close_matches(term, _latin(), n=limit, cutoff=0.6)
    return list(dict.fromkeys(found))[:limit]


def topics(language: str | None = None) -> dict[str, str]:
    """The documents by name, without the marks of their tables; the English one where a translation is missing."""
    spoken = language or i18n.language()
    found = {}
    for path in sorted((TOPICS / "en").glob("*.md")):
        own = TOPICS / spoken / path.name
        found[path.stem] = tables.plain((own if own.is_file() else path).read_text(encoding="utf-8"))
    return found


def sections(topic: str, text: str) -> Iterator[Section]:
    """A document taken apart at its headings of the second level."""
    for number, part in enumerate(re.split(r"^## ", text, flags=re.MULTILINE)):
        title, _newline, body = part.partition("\n")
        yield Section(topic, number, title.lstrip("# ").strip(), body.strip())


def passages() -> Iterator[Passage]:
    """Everything that is looked through."""
    for model in catalogue.models():
        yield Passage("model", model.name, model.name, _about(model))
    for language in i18n.LANGUAGES:
        yield from _written(language)


@lru_cache(maxsize=2)
def _written(language: str) -> tuple[Passage, ...]:
    return tuple(
        Passage("topic", f"{topic}#{part.number}", part.title, part.text, language)
        for topic, text in topics(language).items()
        for part in sections(topic, text)
    )


def _about(model: Model) -> str:
    """What of an entry is worth finding it by, a line for each kind of fact."""
    served = "Chinese 中文 繁體中文" if model.serves("zh-TW") else ""
    lines = [
        f"{' '.join(model.names)} {model.family}",
        f"{model.architecture} {tables.short(model.parameters)} {model.licence} {' '.join(model.needs)}",
        f"{' '.join(model.languages)} {served}".strip(),
        model.chat_template or "",
        model.advice.notes or "",
        *(f"{figure.what}: {figure.metric} {figure.value:g}" for figure in model.figures),
    ]
    return "\n".join(line for line in lines if line)


def _wanted(text: str) -> list[str]:
    """The words of what was typed: Latin ones small, Chinese as they stand together."""
    low = text.lower()
    return list(dict.fromkeys([*_WORD.findall(low), *_CJK.findall(low)]))


def _score(passage: Passage, wanted: Sequence[str]) -> float:
    """None of the terms: nothing. Each counts once, more in a heading, and together they count more than apart."""
    title, text = passage.title.lower(), passage.text.lower()
    each = [_fit(term, title) * _HEADING + _fit(term, text) * _BODY for term in wanted]
    present = sum(1 for value in each if value)
    return sum(each) * present / len(wanted) if present else 0.0


def _fit(term: str, text: str) -> float:
    """1 for a whole word, less for the beginning of one; Chinese has no spaces, so half of the pairs will do."""
    if _CJK.fullmatch(term):
        if term in text:
            return 1.0
        pairs = [term[at : at + 2] for at in range(len(term) - 1)]
        shared = sum(pair in text for pair in pairs) / len(pairs) if len(pairs) > 1 else 0.0
        return shared / 2 if shared >= 0.5 else 0.0
    # The point of "3.5" is inside a word, that of "3." is not.
    begin = rf"(?<![a-z0-9])(?<![0-9]\.){re.escape(term)}"
    if re.search(rf"{begin}(?![a-z0-9]|\.[0-9])", text):
        return 1.0
    return 0.5 if len(term) > 2 and re.search(begin, text) else 0.0


def _excerpt(passage: Passage, wanted: Sequence[str]) -> str:
    lines = [line.strip() for line in passage.text.splitlines() if line.strip() and not line.startswith("| ---")]
    best = max(lines, key=lambda line: sum(_fit(term, line.lower()) for term in wanted), default="")
    return best if len(best) <= _EXCERPT else f"{best[: _EXCERPT - 1]}…"


@lru_cache(maxsize=1)
def _latin() -> list[str]:
    titles = " ".join(passage.title for language in i18n.LANGUAGES for passage in _written(language)).lower()
    names = " ".join(name for model in catalogue.models() for name in (*model.names, model.short, model.family)).lower()
    return sorted(set(_WORD.findall(titles)) | set(_WORD.findall(names)))


@lru_cache(maxsize=1)
def _chinese() -> list[str]:
    titles = " ".join(passage.title for passage in _written("zh-TW"))
    return sorted(set(_CJK.findall(titles)))
