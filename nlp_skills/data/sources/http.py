"""Asking a web server: one client for APIs and pages, patient with servers, strict about where secrets go.

What fails for a moment (no connection, a time-out, 429, 5xx) is asked again; everything else is a `Problem` in plain
words. No text that leaves this module, log lines included, holds what the `Variables` hide.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.sources.refusals import Refusals, Where, nowhere
from nlp_skills.errors import Problem
from nlp_skills.schema.source import ApiKeyAuth, Auth, BasicAuth
from nlp_skills.variables import Variables, is_confidential

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

MAX_BYTES = 64 << 20
MAX_REDIRECTS = 10
# Headers that tell nothing about who asks; any other may be a credential.
_PLAIN_HEADERS = frozenset({"accept", "accept-language", "user-agent"})
# A whole answer may take this many times the time-out, which is for each wait on the network.
_WHOLE = 10


@dataclass(frozen=True)
class Patience:
    """How often a request is tried, and for how long in all; times in seconds."""

    tries: int = 5
    first: float = 0.5
    longest: float = 60.0
    total: float = 120.0


PATIENCE = Patience()


@dataclass(frozen=True)
class Response:
    """A whole answer. `url` is where it came from in the end; `headers` do not mind upper and lower case.

    `location` is where a redirect points that was not followed, `next` what the `Link` header calls so.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    content: bytes
    location: str | None = None
    next: str | None = None

    @property
    def media_type(self) -> str:
        """`text/html`, `application/json` and so on; empty where the server does not say."""
        return _media_type(self.headers)


class _Again(Exception):
    """Something that may be gone in a moment: what to say if it is not, and how long the server asks to wait."""

    def __init__(self, problem: Problem, after: float | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.after = after


class Client:
    """A connection to web servers; use it in a `with` statement.

    `timeout` is in seconds for each wait on the network, `rate_limit` in requests a second. `where` tells the file
    and line of a setting (`auth`, `headers`, `endpoint`) for messages, `note` takes a word on every pause. Counted
    are `requests`, `retries` (among the requests) and `bytes` (of the answers, unpacked). `interval`, in seconds
    between two requests, may be raised on the way; so may what media types are `wanted`: of others no body is read.
    """

    def __init__(
        self,
        variables: Variables,
        *,
        timeout: float,
        rate_limit: float | None = None,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        where: Where = nowhere,
        note: Callable[[str], None] = lambda text: None,
        patience: Patience | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        extras.need("web", "httpx2", "tenacity")
        import httpx2

        self.requests = self.retries = self.bytes = 0
        self.interval = 1 / rate_limit if rate_limit else 0.0
        self.wanted: Callable[[str], bool] = lambda media_type: True
        self.patience = patience or PATIENCE
        by_header = any(map(is_confidential, headers or {}))
        self.refusals = Refusals(variables, where, "auth" if auth else "headers" if by_header else None)
        self._variables, self._note = variables, note
        self._timeout, self._max_bytes = timeout, max_bytes
        self._query = {auth.name: auth.key} if isinstance(auth, ApiKeyAuth) and auth.place == "query" else {}
        own = {**self._sendable(headers or {}, "headers"), **self._sendable(self._signature(auth), "auth")}
        self._personal = bool(self._query) or any(name.lower() not in _PLAIN_HEADERS for name in own)
        self._free_at = 0.0
        self._client = httpx2.Client(timeout=timeout, headers=own, follow_redirects=False)

    def __enter__(self) -> Client:
        logging.getLogger("httpx2").addFilter(self._hide_log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("httpx2").removeFilter(self._hide_log)
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        accept: Container[int] = (),
        redirects: bool = True,
    ) -> Response:
        """Ask until there is an answer. `params` are added to those of `url`.

        Statuses from 300 on are problems unless `accept` has them; with `redirects` off, a redirect is returned as it
        is. Redirects are followed anywhere, but credentials and bodies stay on their server: then it is a problem.
        A request may be sent more than once, a POST too.

        Raises:
            Invalid: the address, the request or what the server sent is wrong (404 and most 4xx, too large).
            Unavailable: no server, no answer in time, 401, 403, or 429 and 5xx that did not pass.
        """
        import tenacity

        patience = self.patience
        trying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=self._pause,
            stop=tenacity.stop_after_attempt(patience.tries) | tenacity.stop_before_delay(patience.total),
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            response: Response = trying(self._once, method, url, params, json, accept, redirects)
        except _Again as again:
            raise again.problem from again.__cause__
        return response

    def json(self, response: Response) -> Any:
        """The JSON of an answer.

        Raises:
            Invalid: it is a web page, cut off, not UTF-8, or holds NaN.
        """
        content = response.content.removeprefix(lines.BOM)
        try:
            return lines.parse(content)
        except (ValueError, RecursionError) as error:
            raise self.refusals.not_json(response.media_type, content, error) from error

    def _once(
        self, method: str, url: str, params: Mapping[str, Any] | None, json: Any, accept: Container[int], follow: bool
    ) -> Response:
        request = self._built(method, url, params, json)
        for _hop in range(MAX_REDIRECTS + 1):
            response, content = self._sent(request)
            # An answer that is accepted as it is may be a redirect too.
            if response.next_request is None or not follow or response.status_code in accept:
                return self._checked(response, content, accept, follow)
            request = self._followed(request, response.next_request)
        raise self.refusals.endless_redirects(url, MAX_REDIRECTS)

    def _built(self, method: str, url: str, params: Mapping[str, Any] | None, json: Any) -> httpx2.Request:
        import httpx2

        try:
            address, added = httpx2.URL(url), {**(params or {}), **self._query}
            if added:
                # Merging rewrites the query, which spoils one that is escaped in another encoding than UTF-8.
                address = address.copy_merge_params(added)
            if address.scheme not in ("http", "https") or not address.host:
                raise httpx2.InvalidURL("no http:// or https:// in front")
            self._variables.conceal(address.password, name="password")
            return self._client.build_request(method, address, json=json)
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise self.refusals.no_address(url, error) from error

    def _sent(self, request: httpx2.Request) -> tuple[httpx2.Response, bytes]:
        """The answer and its whole body."""
        import httpx2

        self._wait_for_turn()
        self.requests += 1
        try:
            response = self._client.send(request, stream=True)
            with contextlib.closing(response):
                return response, self._read(response) if self.wanted(_media_type(response.headers)) else b""
        except httpx2.HTTPError as error:
            problem, passing = self.refusals.no_answer(error, str(request.url), self._timeout)
            raise (_Again(problem) if passing else problem) from error

    def _read(self, response: httpx2.Response) -> bytes:
        import httpx2

        chunks: list[bytes] = []
        size, limit = 0, time.monotonic() + _WHOLE * self._timeout
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            self.bytes += len(chunk)
            if size > self._max_bytes:
                raise self.refusals.too_large(str(response.url), self._max_bytes)
            if time.monotonic() > limit:
                raise httpx2.ReadTimeout("the answer drips", request=response.request)
        return b"".join(chunks)

    def _followed(self, request: httpx2.Request, to: httpx2.Request) -> httpx2.Request:
        """The request that a redirect asks for, unless it would carry what is meant for the first server only."""
        private = self._personal or bool(request.url.userinfo) or bool(to.headers.get("content-length", "0") != "0")
        if private and not same_server(str(request.url), str(to.url)):
            raise self.refusals.elsewhere(str(to.url))
        if self._query:
            to.url = to.url.copy_merge_params(self._query)
        return to

    def _checked(self, response: httpx2.Response, content: bytes, accept: Container[int], follow: bool) -> Response:
        location = str(response.next_request.url) if response.next_request else None
        found = Response(response.status_code, str(response.url), response.headers, content, location, _next(response))
        if found.status < 300 or found.status in accept or (location and not follow):
            return found
        problem = self.refusals.status(found.status, found.url, found.media_type, found.content)
        if found.status == 429 or found.status >= 500:
            after = _seconds(found.headers.get("retry-after"))
            if after is not None and after > self.patience.longest:
                raise self.refusals.wait_too_long(problem, after)
            raise _Again(problem, after)
        raise problem

    def _pause(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter

        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _Again) and error.after is not None:
            return error.after
        first = self.patience.first
        return wait_exponential_jitter(initial=first, max=self.patience.longest, jitter=first)(state)

    def _tell(self, state: RetryCallState) -> None:
        self.retries += 1
        error = state.outcome.exception() if state.outcome else None
        self._note(self.refusals.pause(str(error), state.upcoming_sleep, state.attempt_number, self.patience.tries))

    def _wait_for_turn(self) -> None:
        now = time.monotonic()
        if self.interval and self._free_at > now:
            time.sleep(self._free_at - now)
        self._free_at = max(now, self._free_at) + self.interval

    def _signature(self, auth: Auth | None) -> dict[str, str]:
        """The header that signs a request; what it holds is hidden from now on, in every form a server may repeat."""
        if auth is None:
            return {}
        if isinstance(auth, ApiKeyAuth):
            self._conceal(auth.key)
            return {auth.name: auth.key} if auth.place == "header" else {}
        if isinstance(auth, BasicAuth):
            encoded = base64.b64encode(f"{auth.user}:{auth.password}".encode()).decode("ascii")
            self._conceal(auth.password, encoded)
            return {"Authorization": f"Basic {encoded}"}
        self._conceal(auth.token)
        return {"Authorization": f"Bearer {auth.token}"}

    def _conceal(self, *secrets: str) -> None:
        import json

        for secret in secrets:
            for form in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
                self._variables.conceal(form)

    def _sendable(self, headers: Mapping[str, str], setting: str) -> Mapping[str, str]:
        for name, value in headers.items():
            if not (value.isascii() and value.isprintable() and value == value.strip()):
                raise self.refusals.header(name, setting)
        return headers

    def _hide_log(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._variables.hide(record.getMessage()), ()
        return True


def same_server(one: str, other: str) -> bool:
    """Whether a secret meant for the first address may go to the second: one host and port, or the same by TLS."""
    import httpx2

    first, second = httpx2.URL(one), httpx2.URL(other)
    if first.host != second.host or (first.scheme, second.scheme) == ("https", "http"):
        return False
    ports = {"http": 80, "https": 443}
    upgrade = first.scheme != second.scheme and first.port is None and second.port is None
    return upgrade or (first.port or ports.get(first.scheme)) == (second.port or ports.get(second.scheme))


def _next(response: httpx2.Response) -> str | None:
    return next(
        (link.get("url") for rel, link in response.links.items() if rel and "next" in rel.lower().split()), None
    )


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _seconds(header: str | None) -> float | None:
    """Retry-After, which is seconds or a date, as seconds from now."""
    if not header:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(header)) if header.strip().isdigit() else _until(header)
    return None


def _until(date: str) -> float:
    return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
