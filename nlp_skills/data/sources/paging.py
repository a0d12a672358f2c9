"""Going through an API page by page: by offset, number, cursor or link, and never round in a circle.

A marker says where a page is: plain JSON, so that it can be kept and gone on from. `pager.ask` turns it into a
request, `pager.after` finds the next one in an answer, None at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.sources.answers import Path
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.source import CursorPages, LinkPages, NumberedPages, OffsetPages

Marker = Any
Wrong = Callable[..., Problem]

# A page that comes back is a circle; of single rows, several may well be the same.
_SAME_PAGES, _SAME_ROWS = 1, 10


@dataclass(frozen=True)
class Ask:
    """One request: where, with which parameters, and with which JSON body."""

    url: str
    params: Mapping[str, Any]
    body: dict[str, Any] | None

    def put(self, place: str, name: str, value: Any) -> Ask:
        """The request with a value more; in a body `name` may be a path such as `variables.after`."""
        if place == "query":
            return replace(self, params={**self.params, name: value})
        return replace(self, body=_placed(self.body or {}, name.split("."), value))


@dataclass(frozen=True)
class Page:
    """One answer: its JSON, how many rows are in it, where it came from, and its `Link` header's next."""

    answer: Any
    rows: int
    url: str
    link: str | None


class Pager(Protocol):
    """A way through the pages. `missing_ends`: 404 on a later page says that there are no more."""

    first: Marker
    missing_ends: bool

    def ask(self, base: Ask, marker: Marker) -> Ask:
        """The request for a page."""

    def after(self, marker: Marker, page: Page) -> Marker | None:
        """Where the next page is."""


def pager(
    settings: OffsetPages | NumberedPages | CursorPages | LinkPages | None, base: Ask, wrong: Wrong, secret: Secret
) -> Pager:
    """The way through the pages of the request `base`. `wrong` makes a problem of the setting `pagination`.

    Raises:
        Invalid: a JMESPath of it cannot be read.
    """
    if isinstance(settings, OffsetPages):
        return _Offset(settings, wrong)
    if isinstance(settings, NumberedPages):
        return _Numbered(settings)
    if isinstance(settings, CursorPages):
        return _Cursor(settings, wrong)
    return _Linked(settings, base, wrong, secret) if settings else _Single()


class _Single:
    first: Marker = 0
    missing_ends = False

    def ask(self, base: Ask, marker: Marker) -> Ask:
        return base

    def after(self, marker: Marker, page: Page) -> Marker | None:
        return None


class _Offset:
    """A marker is [offset, rows of the fullest page]: some servers give less than they are asked for, always."""

    first: Marker = (0, 0)
    missing_ends = False

    def __init__(self, settings: OffsetPages, wrong: Wrong) -> None:
        self.settings = settings
        self.wrong = wrong
        self.total = Path(settings.total, wrong) if settings.total else None

    def ask(self, base: Ask, marker: Marker) -> Ask:
        settings = self.settings
        asked = base.put(settings.place, settings.offset_param, marker[0])
        return asked.put(settings.place, settings.limit_param, settings.limit)

    def after(self, marker: Marker, page: Page) -> Marker | None:
        reached, fullest = marker[0] + page.rows, max(marker[1], page.rows)
        if self.total:
            return (reached, fullest) if page.rows and reached < self._count(page) else None
        return (reached, fullest) if page.rows and page.rows == fullest else None

    def _count(self, page: Page) -> int:
        assert self.total is not None
        total = self.total.find(page.answer)
        if isinstance(total, str) and total.isdigit():
            total = int(total)
        if not isinstance(total, int) or isinstance(total, bool):
            raise self.wrong(
                _("total: finds no number in the answer"),
                cause=_("it finds {value}", value=lines.shown(total)),
                mend=_compare(),
            )
        return total


class _Numbered:
    """A marker is [number, rows of the fullest page]."""

    missing_ends = True

    def __init__(self, settings: NumberedPages) -> None:
        self.settings = settings
        self.first: Marker = (settings.start, 0)

    def ask(self, base: Ask, marker: Marker) -> Ask:
        settings = self.settings
        asked = base.put(settings.place, settings.page_param, marker[0])
        if settings.size_param and settings.size:
            asked = asked.put(settings.place, settings.size_param, settings.size)
        return asked

    def after(self, marker: Marker, page: Page) -> Marker | None:
        number, fullest = marker
        short = self.settings.size is not None and page.rows < fullest
        return (number + 1, max(fullest, page.rows)) if page.rows and not short else None


class _Cursor:
    """A marker is [cursor], the first one []."""

    first: Marker = ()
    missing_ends = False

    def __init__(self, settings: CursorPages, wrong: Wrong) -> None:
        self.settings = settings
        self.wrong = wrong
        self.path = Path(settings.cursor, wrong)

    def ask(self, base: Ask, marker: Marker) -> Ask:
        return base.put(self.settings.place, self.settings.param, marker[0]) if marker else base

    def after(self, marker: Marker, page: Page) -> Marker | None:
        cursor = self.path.find(page.answer)
        # `hasNextPage && endCursor` gives false at the end.
        if cursor is None or cursor is False or cursor == "":
            return None
        if not isinstance(cursor, str | int | float):
            raise self.wrong(
                _("cursor: finds no text or number in the answer"),
                cause=_("it finds {value}", value=lines.shown(cursor)),
                mend=_compare(),
            )
        # An empty page that repeats the cursor is how some servers say that nothing follows.
        return None if not page.rows and marker and marker[0] == cursor else (cursor,)


class _Linked:
    """A marker is [address]: path and query on the first request's server, without secrets that were sent along."""

    first: Marker = ()
    missing_ends = False

    def __init__(self, settings: LinkPages, base: Ask, wrong: Wrong, secret: Secret) -> None:
        self.path = Path(settings.path, wrong) if settings.path else None
        self.wrong = wrong
        self.secret = secret
        self.kept = {name: value for name, value in base.params.items() if secret(name, str(value))}
        self.server = base.url

    def ask(self, base: Ask, marker: Marker) -> Ask:
        if not marker:
            return base
        import httpx2

        address = httpx2.URL(base.url).join(marker[0])
        return replace(base, url=str(address.copy_merge_params(self.kept)), params={})

    def after(self, marker: Marker, page: Page) -> Marker | None:
        address = self.path.find(page.answer) if self.path else page.link
        if address is None or address is False or address == "":
            return None
        if not isinstance(address, str):
            raise self._no_address(address)
        return (self._bare(address, page.url),)

    def _no_address(self, found: Any) -> Problem:
        return self.wrong(
            _("path: finds no address in the answer"),
            cause=_("it finds {value}", value=lines.shown(found)),
            mend=_compare(),
        )

    def _bare(self, address: str, origin: str) -> str:
        import httpx2

        try:
            found = httpx2.URL(origin).join(address)
        except httpx2.InvalidURL as error:
            raise self._no_address(address) from error
        # The scheme is left out: behind a proxy, servers often link to http:// where they are asked by https://.
        if (found.host, found.port) != (httpx2.URL(origin).host, httpx2.URL(origin).port):
            raise self.wrong(
                _("the next page is on another server: {host}", host=lines.shown_name(found.host)),
                mend=_("write the address of that server as endpoint:, or page in another way"),
            )
        pairs = [(name, value) for name, value in found.params.multi_items() if not self.secret(name, value)]
        if len(pairs) != len(found.params.multi_items()):
            found = found.copy_with(params=pairs) if pairs else found.copy_with(query=None)
        home = httpx2.URL(self.server)
        return found.raw_path.decode("ascii") if (found.host, found.port) == (home.host, home.port) else str(found)


Secret = Callable[[str, str], bool]


class Circle:
    """Refuses pages that come back: the same place twice, or the same rows under another."""

    def __init__(self, wrong: Wrong) -> None:
        self.wrong = wrong
        self.places: set[bytes] = set()
        self.pages: Counter[str] = Counter()
        self.first_of: dict[str, int] = {}

    def enter(self, number: int, marker: Marker) -> None:
        """Before page `number` (from 1) is asked for.

        Raises:
            Invalid: we were there.
        """
        place = lines.canonical(marker)
        if place in self.places:
            raise self._refusal(_("page {page} leads back to an earlier one", page=number - 1))
        self.places.add(place)

    def leave(self, number: int, rows: list[dict[str, Any]]) -> None:
        """With its rows.

        Raises:
            Invalid: we saw them.
        """
        if not rows:
            return
        digest = files.sha256_bytes(lines.canonical(rows))
        self.pages[digest] += 1
        first = self.first_of.setdefault(digest, number)
        if self.pages[digest] > (_SAME_PAGES if len(rows) > 1 else _SAME_ROWS):
            raise self._refusal(_("page {page} has the same rows as page {first}", page=number, first=first))

    def _refusal(self, cause: str) -> Problem:
        return self.wrong(
            _("endless pagination"),
            cause=cause,
            mend=_(
                "check the names in pagination: against the server's documentation (for GraphQL, in: body with "
                "variables.NAME); leave it out if every row comes at once"
            ),
        )


def _compare() -> str:
    return _("compare pagination: with an answer of the server; a JMESPath leads from the top of the answer")


def _placed(body: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    name, *rest = path
    if not rest:
        return {**body, name: value}
    inner = body.get(name)
    return {**body, name: _placed(inner if isinstance(inner, dict) else {}, rest, value)}
