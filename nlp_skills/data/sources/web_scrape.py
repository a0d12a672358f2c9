"""Rows out of web pages: what CSS selectors find, or each page's main text. robots.txt is always obeyed."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.sources import Fetching
from nlp_skills.data.sources.crawl import Crawl
from nlp_skills.data.sources.decoding import is_known
from nlp_skills.data.sources.page import Page, Selector, WrongSelector, check_css, take
from nlp_skills.data.sources.settings import filled, line_of
from nlp_skills.errors import Invalid, Problem
from nlp_skills.i18n import _
from nlp_skills.schema.source import WebScrape
from nlp_skills.workspace.folder import TaskFolder

VERSION = 1

Row = dict[str, Any]


def fetch(source: WebScrape, fetching: Fetching) -> Generator[Row, None, None]:
    """A row for each page, or for each element that `row` finds; each has `url` and `title` beside its columns.

    Raises:
        Invalid: robots.txt forbids one of `urls`, a selector is wrong or finds nothing anywhere, nothing is left.
        Unavailable: one of `urls` cannot be had now, or a package or the browser is missing.
    """
    extras.need("web", "httpx2", "selectolax", "protego", "tenacity", "trafilatura")
    started = time.monotonic()
    found, variables = filled(source, fetching.folder)
    reading = _Reading(found, fetching.folder)
    with Crawl(found, source, variables, fetching) as crawl:
        for page in crawl.pages():
            for row in reading.rows(page):
                yield {**row, **{name: value for name, value in _about(page, crawl).items() if name not in row}}
            if fetching.preview and reading.kept:
                break
    reading.finish(crawl, fetching)
    fetching.record.update(
        rows=reading.kept, other_keywords=reading.unwanted, seconds=round(time.monotonic() - started, 1)
    )


def warnings(source: WebScrape) -> list[str]:
    """Settings that do nothing as they are."""
    if source.follow is not None and not source.depth:
        return [_("source {name}: follow: does nothing without depth: 1 or more", name=str(source.name))]
    return []


def _about(page: Page, crawl: Crawl) -> Row:
    return {"url": crawl.shown(page.url), "title": page.title}


class _Reading:
    """Takes rows out of pages, and remembers which selectors found nothing."""

    def __init__(self, source: WebScrape, folder: TaskFolder) -> None:
        self.source, self.folder = source, folder
        self.kept = self.unwanted = self.blocks = self.left_out = 0
        self.found: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()
        self.empty_pages = self.textless = 0
        self.first: Page | None = None
        self._check_encoding()
        self._selectors = {name: self._selector(text) for name, text in source.selectors.items()}
        for setting, css in (("row", source.row), ("follow", source.follow)):
            if css is not None:
                self._checked(setting, css)
        self._keywords = [_folded(word) for word in source.keywords]

    def rows(self, page: Page) -> Iterator[Row]:
        """The page's rows that have any of the keywords."""
        self.first = self.first or page
        for row in self._selected(page) if self._selectors else self._main_text(page):
            if self._wanted(row):
                self.kept += 1
                yield row
            else:
                self.unwanted += 1

    def finish(self, crawl: Crawl, fetching: Fetching) -> None:
        """Say what found nothing.

        Raises:
            Invalid: a selector found nothing on any page, or no row is left.
        """
        never = [name for name in self._selectors if not self.found[name]]
        if self.source.row is not None and not self.blocks:
            raise self._nothing("row", "row", self.source.row, crawl)
        if never:
            raise self._nothing("selectors", never[0], self.source.selectors[never[0]], crawl)
        if not self.kept:
            raise self._no_rows()
        name = str(self.source.name)
        for text in self._remarks():
            fetching.warnings.append(_("source {name}: {text}", name=name, text=text))

    def _selected(self, page: Page) -> Iterator[Row]:
        blocks = page.blocks(self.source.row) if self.source.row is not None else [None]
        self.blocks += len(blocks)
        self.empty_pages += not blocks
        for block in blocks:
            found = {name: take(block, page, selector) for name, selector in self._selectors.items()}
            self.found.update(name for name, values in found.items() if values)
            self.missed.update(name for name, values in found.items() if not values)
            if block is None:
                self.repeated.update(name for name, values in found.items() if len(values) > 1)
            if all(found.values()):
                yield {name: values[0] for name, values in found.items()}
            else:
                self.left_out += 1

    def _main_text(self, page: Page) -> Iterator[Row]:
        text = page.main_text()
        self.textless += not text
        if text:
            yield {"text": text}

    def _wanted(self, row: Row) -> bool:
        text = _folded("\n".join(row.values()))
        return not self._keywords or any(word in text for word in self._keywords)

    def _remarks(self) -> Iterator[str]:
        for name, count in self.missed.items():
            yield _(
                "rows left out because {column} ({selector}) found nothing in them: {count}",
                column=lines.shown_name(name),
                selector=self.source.selectors[name],
                count=count,
            )
        for name, count in self.repeated.items():
            yield _(
                "{column} ({selector}) finds several elements on {count} pages and the first is taken; "
                "row: makes a row of each",
                column=lines.shown_name(name),
                selector=self.source.selectors[name],
                count=count,
            )
        if self.empty_pages:
            yield _("pages on which row: found nothing: {count}", count=self.empty_pages)
        if self.textless:
            yield _("pages without a main text: {count}", count=self.textless)

    def _nothing(self, setting: str, name: str, selector: str, crawl: Crawl) -> Problem:
        page = self.first
        about = _("{address} ({title}) has {outline}", **_outline(page, crawl)) if page else _("no page could be read")
        scripts = _("look at the page's source and correct the selector; if scripts write it, give render: true")
        return Invalid(
            _("{name}: the selector {selector} finds nothing", name=lines.shown_name(name), selector=selector),
            **self._at(setting),
            cause=about,
            mend=_("look at the page in a browser and correct the selector") if self.source.render else scripts,
        )

    def _no_rows(self) -> Problem:
        if self.unwanted:
            return Invalid(
                _("no row has any of the keywords"),
                **self._at("keywords"),
                cause=_("rows without them: {count}", count=self.unwanted),
                mend=_("give other keywords:, or leave them out"),
            )
        if self.left_out:
            return Invalid(
                _("no row has all of its columns"),
                **self._at("selectors"),
                cause=", ".join(f"{lines.shown_name(name)}: -{count}" for name, count in self.missed.items()),
                mend=_("correct the selectors that find something in some rows only"),
            )
        return Invalid(
            _("the pages have no text"),
            **self._at("urls"),
            mend=_("give selectors: for what to take; if scripts write the text, give render: true"),
        )

    def _selector(self, text: str) -> Selector:
        try:
            return Selector.parse(text)
        except WrongSelector as error:
            raise self._wrong("selectors", text, error) from error

    def _checked(self, setting: str, css: str) -> None:
        try:
            check_css(css)
        except WrongSelector as error:
            raise self._wrong(setting, css, error) from error

    def _wrong(self, setting: str, text: str, error: WrongSelector) -> Problem:
        return Invalid(
            _("{setting}: {selector} is not a CSS selector", setting=setting, selector=lines.shown(text)),
            **self._at(setting),
            cause=str(error),
            mend=_("write it like .review p, or .review a@href for an attribute"),
        )

    def _check_encoding(self) -> None:
        if self.source.encoding is not None and not is_known(self.source.encoding):
            raise Invalid(
                _("unknown encoding {name}", name=self.source.encoding),
                **self._at("encoding"),
                mend=_("leave it out, or write one such as utf-8, big5 or gb18030"),
            )

    def _at(self, setting: str) -> dict[str, Any]:
        return {"file": self.folder.sources_path, "line": line_of(self.source, self.folder, setting)}


def _outline(page: Page, crawl: Crawl) -> dict[str, str]:
    return {
        "address": crawl.shown(page.url),
        "title": lines.cut(repr(page.title), 80),
        "outline": lines.cut(repr(page.outline())[1:-1], 200),
    }


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
