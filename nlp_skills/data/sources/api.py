"""Rows of a REST or GraphQL API, page by page.

While a fetch is not finished its pages are kept, so that the next one goes on where it stopped.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.sources import Fetching, http
from nlp_skills.data.sources.answers import Records
from nlp_skills.data.sources.http import Client, Response
from nlp_skills.data.sources.paging import Ask, Circle, Marker, Page, Pager, pager
from nlp_skills.data.sources.recording import Recording, request_key
from nlp_skills.data.sources.refusals import messages
from nlp_skills.data.sources.settings import filled, line_of
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.source import Api, ApiKeyAuth, ApiRequest
from nlp_skills.variables import HIDDEN, Variables, is_confidential

VERSION = 1

# Pages older than this belong to another state of the server.
_KEPT_FOR = dt.timedelta(hours=24)
# A shorter password may well be a word of the rows.
_LONG = 8
_LOOPBACK = re.compile(r"http://(localhost|127\.|\[::1\])")


def fetch(source: Api, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The rows of all requests and pages, in their order.

    Raises:
        Invalid: the answers are not what the settings say: no JSON, no rows, GraphQL errors, endless pages, 404.
        Unavailable: the server is not there, fails, or does not accept the credentials.
    """
    started = time.monotonic()
    found, secrets = filled(source, fetching.folder)
    where = _Places(source, fetching)
    client = Client(
        secrets,
        timeout=found.timeout,
        rate_limit=found.rate_limit,
        headers=found.headers,
        auth=found.auth,
        where=where.of,
        note=fetching.note,
        # Somebody waits for a preview, and can ask again.
        patience=replace(http.PATIENCE, tries=2) if fetching.preview else None,
    )
    kept = _Kept.open(source, found, secrets, fetching)
    talk = _Talk(found, client, secrets, where, fetching, kept)
    count = 0
    try:
        with client:
            for row in islice(talk.rows(), found.max_rows):
                count += 1
                yield row
        if not count:
            raise where.wrong("records" if found.records else "endpoint")(
                _("source {name} has no rows", name=str(source.name)),
                cause=_("the server answered, with an empty list"),
                mend=_("check the parameters and records:"),
            )
    except Invalid:
        # Answers that are wrong are asked for again; to keep them would be to stay wrong.
        kept.clear()
        raise
    finally:
        fetching.record.update(talk.record(), seconds=round(time.monotonic() - started, 3))
    kept.clear()


def warnings(source: Api) -> list[str]:
    """Credentials that anybody on the way can read."""
    if source.auth and source.endpoint.startswith("http://") and not _LOOPBACK.match(source.endpoint):
        return [_("source {name}: the credentials are sent without encryption; use https://", name=str(source.name))]
    return []


@dataclass(frozen=True)
class _Places:
    """Where the settings of a source stand."""

    source: Api
    fetching: Fetching

    def of(self, setting: str) -> tuple[Any, int | None]:
        folder = self.fetching.folder
        return folder.sources_path, line_of(self.source, folder, setting)

    def wrong(self, setting: str) -> Any:
        """Makes problems of one setting."""

        def make(message: str, **parts: str | None) -> Invalid:
            file, line = self.of(setting)
            return Invalid(message, file=file, line=line, **parts)  # type: ignore[arg-type]

        return make


@dataclass
class _Kept:
    """The pages of a fetch that did not finish; nothing in a preview."""

    recording: Recording | None
    secrets: Variables
    replayed: int = 0

    @classmethod
    def open(cls, source: Api, found: Api, secrets: Variables, fetching: Fetching) -> _Kept:
        if fetching.preview:
            return cls(None, secrets)
        recording = fetching.recording(source)
        begun = {"version": VERSION, "settings": _identity(found)}
        head = recording.get("fetch") or {}
        old = dt.datetime.fromisoformat(head["begun"]) < files.now() - _KEPT_FOR if "begun" in head else True
        if fetching.refresh or old or {**head, **begun} != head:
            recording.clear()
            recording.put("fetch", {**begun, "begun": files.now().isoformat()})
        elif len(recording) > 1:
            fetching.note(_("going on with a fetch that was cut off; pages kept: {count}", count=len(recording) - 1))
        return cls(recording, secrets)

    def get(self, request: int, marker: Marker) -> dict[str, Any] | None:
        """A page: its rows, where the next one is, and where the rows were."""
        page = self.recording.get(request_key([request, marker])) if self.recording is not None else None
        self.replayed += page is not None
        return page

    def put(self, request: int, marker: Marker, page: dict[str, Any]) -> None:
        """Keep a page, unless the way to the next one is itself a secret: then nothing is kept from here on."""
        place = json.dumps(page["next"], ensure_ascii=False)
        if self.secrets.hide(place) != place:
            self.recording = None
        if self.recording is not None:
            self.recording.put(request_key([request, marker]), page)

    def clear(self) -> None:
        if self.recording is not None:
            self.recording.clear()


def _identity(found: Api) -> str:
    """What decides on the rows; how they are asked for (credentials, pace, limits) does not."""
    other = {"name", "mapping", "auth", "headers", "max_pages", "max_rows", "rate_limit", "timeout"}
    return files.sha256_bytes(lines.canonical(found.model_dump(mode="json", by_alias=True, exclude=other)))


@dataclass
class _Talk:
    """One fetch: requests, pages and rows, in order."""

    source: Api
    client: Client
    secrets: Variables
    where: _Places
    fetching: Fetching
    kept: _Kept
    pages: int = 0
    count: int = 0
    stopped: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        for number, request in enumerate(self.source.requests or [ApiRequest()]):
            for page in self._pages(number, self._base(request)):
                yield from page
            if self.stopped:
                return

    def record(self) -> dict[str, int]:
        client = self.client
        counts = {"requests": client.requests, "pages": self.pages, "bytes": client.bytes, "retries": client.retries}
        return {**counts, **({"pages_kept": self.kept.replayed} if self.kept.replayed else {})}

    def _base(self, request: ApiRequest) -> Ask:
        source = self.source
        if request.path and ("://" in request.path or request.path.startswith("//")):
            raise self.where.wrong("requests")(
                _("path: {path} is a whole address", path=lines.shown(self.secrets.hide(request.path))),
                mend=_("write only what follows endpoint:, or make it a source of its own"),
            )
        params = {name: _text(value) for name, value in {**source.params, **request.params}.items()}
        body = None if source.body is None and request.body is None else {**(source.body or {}), **(request.body or {})}
        if source.query is not None:
            body = {"query": source.query, "variables": {**source.variables, **request.variables}}
        return Ask(_joined(source.endpoint, request.path), params, body)

    def _pages(self, number: int, base: Ask) -> Iterator[list[dict[str, Any]]]:
        """The pages of one request."""
        wrong = self.where.wrong("pagination")
        way = pager(self.source.pagination, base, wrong, self._secret)
        records = Records(self.source.records, self.where.wrong("records" if self.source.records else "endpoint"))
        circle = Circle(wrong)
        marker, page = way.first, 0
        while marker is not None:
            page += 1
            circle.enter(page, marker)
            if self.pages == self.source.max_pages:
                self._stopped()
                return
            rows, following = self._page(number, base, way, marker, records)
            circle.leave(page, rows)
            self.pages += 1
            self.count += len(rows)
            self.fetching.note(_("page {page}: rows {rows}", page=self.pages, rows=self.count))
            yield rows
            marker = following

    def _page(
        self, number: int, base: Ask, way: Pager, marker: Marker, records: Records
    ) -> tuple[list[dict[str, Any]], Marker | None]:
        kept = self.kept.get(number, marker)
        if kept:
            records.settle(kept["records"])
            return kept["rows"], kept["next"]
        response = self._asked(way.ask(base, marker), may_miss=way.missing_ends and marker != way.first)
        if response.status == 404:
            return [], None
        answer = self._answer(response)
        rows = self._without_credentials(records.rows(answer))
        following = way.after(marker, Page(answer, len(rows), response.url, response.next))
        self.kept.put(number, marker, {"rows": rows, "next": following, "records": records.path})
        return rows, following

    def _asked(self, ask: Ask, *, may_miss: bool) -> Response:
        method = self.source.method or ("GET" if ask.body is None else "POST")
        if method == "GET" and ask.body is not None:
            raise self.where.wrong("pagination")(
                _("a GET request has no body to page in"), mend=_("use in: query, or method: POST")
            )
        # GraphQL servers report a wrong query with 400, and say what is wrong in the body.
        accept = {400} if self.source.query is not None else {404} if may_miss else set()
        return self.client.request(method, ask.url, params=ask.params, json=ask.body, accept=accept)

    def _answer(self, response: Response) -> Any:
        refusals = self.client.refusals
        if self.source.query is None:
            return self.client.json(response)
        refused = refusals.status(response.status, response.url, response.media_type, response.content)
        try:
            answer = self.client.json(response)
        except Invalid:
            if response.status == 400:
                raise refused from None
            raise
        found = answer if isinstance(answer, dict) else {}
        if found.get("errors"):
            words = refusals.quoted(" · ".join(messages(found["errors"])) or str(found["errors"]))
            mend = _("correct query: or variables:, and try it with: nlp-skills data-source check")
            raise self.where.wrong("query")(_("the GraphQL server reports errors"), cause=words, mend=mend)
        if response.status == 400:
            raise refused
        if found.get("data") is None:
            raise self.where.wrong("endpoint")(
                _("the answer is not one of a GraphQL server"),
                cause=refusals.words(response.media_type, response.content),
                mend=_("check the address; a GraphQL answer has data or errors"),
            )
        return answer

    def _secret(self, name: str, value: str) -> bool:
        """Whether a parameter of an address must not be kept."""
        auth = self.source.auth
        return (isinstance(auth, ApiKeyAuth) and name == auth.name) or self.secrets.hide(value) != value

    def _without_credentials(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows; where a server repeats the secret it was shown, that does not become data."""
        auth = self.source.auth.model_dump() if self.source.auth else {}
        given = [auth[name] for name in ("token", "password", "key") if name in auth]
        # `Authorization: Bearer TOKEN` is also a way to write it.
        given += [value.split()[-1] for name, value in self.source.headers.items() if is_confidential(name) and value]
        secrets = [secret for secret in given if len(secret) >= _LONG]
        text = lines.canonical(rows).decode("utf-8") if secrets else ""
        if not any(json.dumps(secret, ensure_ascii=False)[1:-1] in text for secret in secrets):
            return rows
        name = str(self.source.name)
        warning = _("source {name}: the server repeats the credentials in its rows; they are hidden there", name=name)
        if warning not in self.fetching.warnings:
            self.fetching.warnings.append(warning)
        clean: list[dict[str, Any]] = _replaced(rows, secrets)
        return clean

    def _stopped(self) -> None:
        self.stopped = True
        self.fetching.warnings.append(
            _(
                "source {name}: stopped at max_pages: {pages}, with rows {rows}; there are more pages",
                name=str(self.source.name),
                pages=self.pages,
                rows=self.count,
            )
        )


def _replaced(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {_replaced(key, secrets): _replaced(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value


def _text(value: Any) -> Any:
    """A parameter as it goes into an address: structures as JSON, which is what servers that take them expect."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _joined(endpoint: str, path: str | None) -> str:
    if not path:
        return endpoint
    address, mark, query = endpoint.partition("?")
    own, own_mark, own_query = path.partition("?")
    queries = "&".join(filter(None, (query, own_query)))
    joined = f"{address.rstrip('/')}/{own.lstrip('/')}" if own else address
    return joined + ("?" if mark or own_mark else "") + queries
