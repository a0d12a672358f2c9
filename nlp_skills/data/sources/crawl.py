"""Web pages in a fixed order: the given ones, then those they link to, level by level as the links stand.

Each answer is recorded before the page is used, so that a crawl that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

from nlp_skills import __version__
from nlp_skills.data.sources import Fetching, robots
from nlp_skills.data.sources.browser import Browser, Drawn
from nlp_skills.data.sources.decoding import decode
from nlp_skills.data.sources.http import MAX_REDIRECTS, Client, Response
from nlp_skills.data.sources.page import Page, canonical, nests_too_deeply, site
from nlp_skills.data.sources.placeholders import Placeholders
from nlp_skills.data.sources.recording import Answer, request_key
from nlp_skills.data.sources.refusals import Place
from nlp_skills.data.sources.settings import line_of
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.source import WebScrape
from nlp_skills.variables import Variables

_AGENT = f"nlp-skills/{__version__}"
_ACCEPT = "text/html,application/xhtml+xml,*/*;q=0.1"
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
# A page of text is rarely a tenth of this.
_MAX_BYTES = 16 << 20
# What these say is for us to put in words; 429 and 5xx may pass and are asked again.
_ANSWERS = frozenset(range(400, 500)) - {429}
# A look goes so far for a page that has rows.
_LOOK = 3
# Reasons to pass over a link that will be there next time too.
_LASTING = frozenset({"robots", "type", "elsewhere", "gone"})
_SETTING = {"headers": "user_agent"}


class _Passed(Exception):
    """An address that gives no page: one word why, and the problem that it is where it was asked for by name."""

    def __init__(self, reason: str, problem: Problem) -> None:
        super().__init__(reason)
        self.reason = reason
        self.problem = problem


@dataclass
class Tally:
    """What a crawl did. `recorded`: pages read from the record; `passed`: addresses without a page, by reason;
    `delay`: the longest pause that a robots.txt asked for, in seconds.
    """

    pages: int = 0
    recorded: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    delay: float = 0.0
    failures: list[str] = field(default_factory=list)
    spoilt: list[str] = field(default_factory=list)


class Crawl:
    """The pages of one source; use it in a `with` statement. `source` has its variables filled in."""

    def __init__(self, source: WebScrape, written: WebScrape, variables: Variables, fetching: Fetching) -> None:
        self.source, self.fetching, self.tally = source, fetching, Tally()
        self._written, self._variables = written, variables
        self._agent = source.user_agent or _AGENT
        self._starts = [self._start(url) for url in source.urls]
        names = [self._placeholders(url) for url in self._starts]
        self._names = {site(url): found for url, found in zip(self._starts, names, strict=True)}
        self._clients: dict[str, Client] = {}
        self._rules: dict[str, robots.Rules] = {}
        self._browser: Browser | None = None
        self._recording = fetching.recording(written)
        # A look is a look at the site, not at the record.
        self._trusted = not (fetching.refresh or fetching.preview)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Crawl:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._report()

    def shown(self, url: str) -> str:
        """An address for people and rows."""
        return self._names[site(url)].shown(url)

    def pages(self) -> Iterator[Page]:
        """Every page once; with `preview` the first few at most.

        Raises:
            Invalid: robots.txt forbids one of `urls`, or it is no page of its site.
            Unavailable: one of `urls` or a robots.txt cannot be had now.
        """
        waiting = deque((url, 0) for url in dict.fromkeys(self._starts))
        seen = {url for url, _step in waiting}
        left = min(self.source.max_pages, _LOOK) if self.fetching.preview else self.source.max_pages
        while waiting and left:
            left -= 1
            url, step = waiting.popleft()
            page = self._page(url, given=step == 0)
            if page is None or (page.url != url and page.url in seen):
                continue
            seen.add(page.url)
            yield page
            for link in self._links(page) if step < self.source.depth else ():
                if link not in seen:
                    seen.add(link)
                    waiting.append((link, step + 1))
        if waiting and not self.fetching.preview:
            self._warn(
                _(
                    "stopped at max_pages ({count}); pages not read: {left}",
                    left=len(waiting),
                    count=self.source.max_pages,
                )
            )

    def _links(self, page: Page) -> Iterator[str]:
        """Where to go from a page: within its site."""
        names = self._names[site(page.url)]
        for found in page.links(self.source.follow or "a[href]"):
            link = canonical(names.filled(found), page.encoding)
            if site(link) == site(page.url):
                yield link

    def _page(self, url: str, *, given: bool) -> Page | None:
        names = self._names[site(url)]
        key = request_key(
            {
                "url": names.named(url),
                "agent": self._written.user_agent,
                "encoding": self.source.encoding,
                "render": self.source.render,
                "wait_for": self.source.wait_for,
            }
        )
        answer = self._recording.get(key) if self._trusted else None
        if answer is not None and (not given or "html" in answer):
            self.tally.recorded += "html" in answer
        else:
            answer = self._asked(url, key, given)
        if answer is None or "html" not in answer:
            self.tally.passed[answer["passed"] if answer else "failed"] += 1
            return None
        return self._counted(url, answer)

    def _asked(self, url: str, key: str, given: bool) -> Answer | None:
        """The answer of the site, which is recorded; None where it may be another next time."""
        self.fetching.note(
            _("page {number}: {address}", number=self.tally.pages + 1, address=self._names[site(url)].shown(url))
        )
        try:
            answer = self._fetched(url)
        except (_Passed, Problem) as error:
            problem = error.problem if isinstance(error, _Passed) else error
            if given:
                raise problem from error
            reason = error.reason if isinstance(error, _Passed) else "failed"
            if reason in ("gone", "failed"):
                self.tally.failures.append(problem.message)
            if reason not in _LASTING:
                return None
            answer = {"passed": reason}
        self._keep(key, answer)
        return answer

    def _keep(self, key: str, answer: Answer) -> None:
        """Record an answer. What a refresh replaces goes when the first new page is there, and not before."""
        if self.fetching.refresh and not self._trusted:
            self._recording.clear()
            self._trusted = True
        self._recording.put(key, answer)

    def _counted(self, url: str, answer: Answer) -> Page:
        names = self._names[site(url)]
        final = canonical(names.filled(answer["url"])) if "url" in answer else url
        page = Page(final, answer["html"], answer["encoding"], answer["bad"])
        if page.bad:
            self.tally.spoilt.append(f"{names.shown(final)} ({page.encoding})")
        self.tally.pages += 1
        self.tally.encodings[page.encoding] += 1
        self.tally.unreadable += page.bad
        return page

    def _fetched(self, start: str) -> Answer:
        """The page at an address as it is recorded, drawn where that was asked for."""
        names, url = self._names[site(start)], start
        for _hop in range(MAX_REDIRECTS + 1):
            response, url = self._response(url)
            content_type = response.headers.get("content-type", "")
            found = decode(response.content, given=self.source.encoding, content_type=content_type)
            if nests_too_deeply(found.text):
                raise _Passed("type", self._no_page(url, _("it is nested too deeply to be one")))
            html, moved = self._drawn(url, found.text, response) if self.source.render else (found.text, None)
            if moved is None:
                final = {"url": names.named(url)} if url != start else {}
                bad = {"encoding": found.encoding, "bad": found.bad}
                return {"status": response.status, **final, **bad, "html": names.kept(html)}
            url = self._within(start, moved)
        raise self._client(start).refusals.endless_redirects(start, MAX_REDIRECTS)

    def _response(self, url: str) -> tuple[Response, str]:
        """The page at an address, and where it was in the end; redirects stay on the site and within its rules."""
        start = url
        for _hop in range(MAX_REDIRECTS + 1):
            client = self._client(url)
            if refusal := self._rules[site(url)].refusal(url):
                raise _Passed("robots", self._forbidden(url, refusal))
            response = client.request("GET", url, accept=_ANSWERS, redirects=False)
            if response.location is None:
                return self._checked(url, response), url
            url = self._within(start, response.location)
        raise client.refusals.endless_redirects(start, MAX_REDIRECTS)

    def _checked(self, url: str, response: Response) -> Response:
        if response.status in (401, 403):
            raise _Passed(
                "gone",
                Unavailable(
                    _(
                        "{address} may not be read by everyone ({status})",
                        address=self.shown(url),
                        status=response.status,
                    ),
                    **self._at("urls"),
                    mend=_("leave it out of urls:, or ask who runs the site"),
                ),
            )
        if response.status >= 400:
            refusals = self._client(url).refusals
            raise _Passed("gone", refusals.status(response.status, url, response.media_type, response.content))
        if response.media_type not in _PAGES and (response.media_type or not _is_markup(response.content)):
            kind = response.media_type or _("of no type")
            raise _Passed("type", self._no_page(url, _("the server says that it is {type}", type=kind)))
        return response

    def _client(self, url: str) -> Client:
        """The connection to a site, which keeps to the slower of our rate and the site's own."""
        place = site(url)
        if place not in self._clients:
            client = Client(
                self._variables,
                timeout=self.source.timeout,
                rate_limit=self.source.rate_limit,
                headers={"User-Agent": self._agent, "Accept": _ACCEPT},
                where=self._where,
                note=self.fetching.note,
                max_bytes=_MAX_BYTES,
            )
            self._clients[place] = self._open.enter_context(client)
        if place not in self._rules:
            client, address = self._clients[place], urljoin(url, "/robots.txt")
            ask = partial(client.request, "GET", address, accept=_ANSWERS)
            self._rules[place] = robots.read(ask, self._agent, self.shown(address))
            client.interval = max(client.interval, self._slower(address, self._rules[place].delay))
            client.wanted = _may_be_read
        return self._clients[place]

    def _slower(self, address: str, delay: float) -> float:
        """The seconds that a robots.txt wants between two requests, told where that is more than ours."""
        if delay > 1 / self.source.rate_limit:
            text = _("{address} asks for {seconds} s between two requests", address=self.shown(address), seconds=delay)
            self.fetching.note(text)
            self.tally.delay = max(self.tally.delay, delay)
        return delay

    def _drawn(self, url: str, html: str, response: Response) -> Drawn:
        if self._browser is None:
            browser = Browser(agent=self._agent, timeout=self.source.timeout, wait_for=self.source.wait_for)
            self._browser = self._open.enter_context(browser)
        try:
            return self._browser.drawn(url, html, response.headers)
        except Problem as problem:
            problem.message = f"{self.shown(url)}: {problem.message}"
            problem.file, problem.line = str(self.fetching.folder.sources_path), self._line("urls")
            raise

    def _start(self, url: str) -> str:
        found = canonical(url)
        if not found.startswith(("http://", "https://")) or not site(found).partition("//")[2]:
            raise Invalid(
                _("{address} is not a web address", address=self._variables.hide(url) or repr("")),
                **self._at("urls"),
                mend=_("write it like https://host/path"),
            )
        return found

    def _placeholders(self, start: str) -> Placeholders:
        """The variables that addresses of this site are written with."""
        pairs = zip(self._starts, self._written.urls, strict=True)
        return Placeholders([text for url, text in pairs if site(url) == site(start)], self._variables)

    def _forbidden(self, url: str, refusal: str) -> Problem:
        return Invalid(
            _("the site does not let programs read {address}", address=self.shown(url)),
            **self._at("urls"),
            cause=refusal,
            mend=_("leave it out of urls:, or ask who runs the site"),
        )

    def _no_page(self, url: str, cause: str) -> Problem:
        return Invalid(
            _("{address} is not a web page", address=self.shown(url)),
            **self._at("urls"),
            cause=cause,
            mend=_("files are read by a source of type file_import, data by one of type api"),
        )

    def _within(self, start: str, target: str) -> str:
        """Where we are sent, which must be on the same site."""
        found = canonical(target)
        if site(found) == site(start):
            return found
        message = _(
            "{address} leads to another site: {target}",
            address=self.shown(start),
            target=self._variables.hide(found or repr(target)),
        )
        mend = _("if that is the right one, write its address in urls:")
        raise _Passed("elsewhere", Invalid(message, **self._at("urls"), mend=mend))

    def _at(self, setting: str) -> dict[str, Any]:
        return {"file": self.fetching.folder.sources_path, "line": self._line(setting)}

    def _line(self, setting: str) -> int | None:
        return line_of(self._written, self.fetching.folder, setting)

    def _where(self, setting: str) -> Place:
        return self.fetching.folder.sources_path, self._line(_SETTING.get(setting, "urls"))

    def _warn(self, text: str) -> None:
        self.fetching.warnings.append(_("source {name}: {text}", name=str(self.source.name), text=text))

    def _report(self) -> None:
        """What was done, for the record; what was passed over, for people."""
        tally, clients = self.tally, self._clients.values()
        if tally.passed["robots"]:
            self._warn(_("linked pages that robots.txt keeps us from: {count}", count=tally.passed["robots"]))
        if failed := tally.passed["gone"] + tally.passed["failed"]:
            first = tally.failures[0] if tally.failures else _("they could not be read the last time")
            self._warn(_("linked pages that could not be read: {count}; {first}", count=failed, first=first))
        if tally.spoilt:
            self._warn(
                _(
                    "characters that could not be read: {count}; pages: {pages}, first {first}; is encoding: another?",
                    count=tally.unreadable,
                    pages=len(tally.spoilt),
                    first=tally.spoilt[0],
                )
            )
        self.fetching.record.update(
            pages=tally.pages,
            recorded=tally.recorded,
            requests=sum(client.requests for client in clients),
            retries=sum(client.retries for client in clients),
            bytes=sum(client.bytes for client in clients),
            passed=dict(sorted(tally.passed.items())),
            encodings=dict(sorted(tally.encodings.items())),
            unreadable=tally.unreadable,
            delay=tally.delay,
        )


def _may_be_read(media_type: str) -> bool:
    """Pages, errors in plain text, and what does not say what it is; films and archives are not even fetched."""
    return not media_type or media_type.startswith("text/") or media_type in _PAGES


def _is_markup(content: bytes) -> bool:
    return content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
