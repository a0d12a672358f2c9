"""What a web server or the way to it refused, as problems in plain words without anything secret."""

from __future__ import annotations

import errno
import html
import json
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.variables import Variables

if TYPE_CHECKING:
    import httpx2

Place = tuple[Path | None, int | None]
Where = Callable[[str], Place]

# Of a body that is quoted, so much is looked at, and so much shown.
_LOOKED_AT = 1 << 16
_SHOWN = 200
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_MESSAGES = ("message", "error_description", "detail", "error", "title", "errors")


def nowhere(setting: str) -> Place:
    """The place of a setting that stands in no file."""
    return None, None


@dataclass(frozen=True)
class Refusals:
    """Problems of one client. `where` tells file and line of a setting; `signed` is the one with credentials."""

    variables: Variables
    where: Where
    signed: str | None

    def _at(self, setting: str) -> dict[str, Any]:
        file, line = self.where(setting)
        return {"file": file, "line": line}

    def address(self, url: str) -> str:
        """An address for people: without query, password and secrets."""
        bare = re.sub(r"//[^/@]*@", "//", url.split("?")[0].split("#")[0])
        return lines.cut(self.variables.hide(bare), _SHOWN)

    def quoted(self, text: str) -> str:
        """Somebody else's words: hidden before they are cut, so that no half of a secret is left, and escaped."""
        return lines.cut(repr(self.variables.hide(" ".join(text[:_LOOKED_AT].split()))), _SHOWN)

    def words(self, media_type: str, content: bytes) -> str | None:
        """What a body says: its messages, a page's title, or its beginning; None for an empty one."""
        text = content[:_LOOKED_AT].decode("utf-8", "replace").strip()
        if not text:
            return None
        if is_page(media_type, content):
            return _("a web page: {title}", title=self.quoted(_title(text)))
        return self.quoted(" · ".join(messages(_json(content))) or text)

    def pause(self, reason: str, seconds: float, tried: int, tries: int) -> str:
        """A word on a pause."""
        return _(
            "{reason}; trying again in {seconds} s ({tried} of {tries} tries)",
            reason=reason,
            seconds=f"{seconds:.1f}",
            tried=tried,
            tries=tries,
        )

    def no_address(self, url: str, error: Exception) -> Problem:
        """The text is no address."""
        return Invalid(
            _("{address} is not a web address", address=self.address(url) or repr("")),
            **self._at("endpoint"),
            cause=self.quoted(str(error)),
            mend=_("write it like https://host/path"),
        )

    def header(self, name: str, setting: str) -> Problem:
        """A header cannot hold its value."""
        return Invalid(
            _("the header {name} cannot be sent", name=lines.shown_name(name)),
            **self._at(setting),
            cause=_("its value has a line break, a space at an end, or characters other than ASCII"),
            mend=_("look at the variable it is filled from; a value read from a file often ends with a line break"),
        )

    def endless_redirects(self, url: str, count: int) -> Problem:
        """Redirects that lead nowhere."""
        return Invalid(
            _("{address} redirects more than {count} times", address=self.address(url), count=count),
            **self._at("endpoint"),
            mend=_("open the address in a browser and write the one it ends at"),
        )

    def elsewhere(self, url: str) -> Problem:
        """A redirect that would take credentials or a body to another server."""
        return Invalid(
            _("the server sends us to another one: {address}", address=self.address(url)),
            **self._at("endpoint"),
            cause=_("credentials and request bodies are not sent to a server that the settings do not name"),
            mend=_("if that is the right server, write its address in the settings"),
        )

    def too_large(self, url: str, limit: int) -> Problem:
        """More bytes than are read."""
        return Invalid(
            _("the answer of {address} is larger than {size} MiB", address=self.address(url), size=limit >> 20),
            **self._at("endpoint"),
            mend=_("ask for less at a time, such as with pagination: and a smaller limit"),
        )

    def not_json(self, media_type: str, content: bytes, error: Exception) -> Problem:
        """An answer that should have been JSON."""
        code, detail = lines.parse_fault(error)
        if not content.strip():
            cause: str | None = _("the answer is empty")
        elif is_page(media_type, content):
            cause = self.words(media_type, content)
        else:
            quote = self.quoted(content[:_LOOKED_AT].decode("utf-8", "replace"))
            cause = f"{fault_words(code)} ({detail}): {quote}"
        return Invalid(
            _("the server did not answer with JSON"),
            **self._at("endpoint"),
            cause=cause,
            mend=_("check the address: it may be a page for people, a login, or the wrong path of the API"),
        )

    def status(self, status: int, url: str, media_type: str, content: bytes) -> Problem:
        """An answer with a status that says no."""
        address, cause = self.address(url), self.words(media_type, content)
        if status in (401, 403):
            return self._denied(status, address, cause)
        if status in (404, 410):
            return Invalid(
                _("there is nothing at {address} ({status})", address=address, status=status),
                **self._at("endpoint"),
                cause=cause,
                mend=_("correct the address"),
            )
        if status == 429 or status >= 500:
            return Unavailable(
                _("{address} answers {status}", address=address, status=_status_words(status)),
                **self._at("endpoint"),
                cause=cause,
                mend=_("try again later; give a lower rate_limit: if the server is asked too often")
                if status == 429
                else _("try again later, or ask who runs the server"),
            )
        return Invalid(
            _("{address} answers {status}", address=address, status=_status_words(status)),
            **self._at("endpoint"),
            cause=cause,
            mend=_("compare the address and the parameters with the server's documentation"),
        )

    def wait_too_long(self, problem: Problem, seconds: float) -> Problem:
        """A server that asks for a longer pause than anybody wants to sit through."""
        problem.mend = _("run the command again in {seconds} s, as the server asks", seconds=round(seconds))
        return problem

    def _denied(self, status: int, address: str, cause: str | None) -> Problem:
        if self.signed:
            mend = _(
                "check the variable that {setting}: takes its secret from; a token may have expired",
                setting=self.signed,
            )
        else:
            mend = _("add auth: (bearer, basic or api_key) with the secret as ${VAR}")
        refused = _("{address} does not accept the credentials (401)", address=address)
        denied = _("{address} does not allow this with these credentials (403)", address=address)
        return Unavailable(
            refused if status == 401 else denied, **self._at(self.signed or "auth"), cause=cause, mend=mend
        )

    def no_answer(self, error: httpx2.HTTPError, url: str, timeout: float) -> tuple[Problem, bool]:
        """Why there is no answer, and whether that may pass."""
        import httpx2

        address, causes = self.address(url), _chain(error)
        mend, passing = _("check that the server runs and can be reached from this machine"), True
        if isinstance(error, httpx2.TimeoutException):
            what = _("{address} did not answer in {seconds} s", address=address, seconds=f"{timeout:g}")
            mend = _("try again later, or give a longer timeout:")
        elif any(isinstance(cause, ssl.SSLError) for cause in causes):
            what, passing = _("the connection to {address} is not secure", address=address), False
            mend = _("correct the server's certificate; one of your own goes into the file that SSL_CERT_FILE names")
        elif found := next((cause for cause in causes if isinstance(cause, socket.gaierror)), None):
            what, passing = _("no host has the name in {address}", address=address), found.errno == socket.EAI_AGAIN
            mend = _("correct the host's name, and check that this machine has a network")
        elif any(getattr(cause, "errno", None) == errno.ECONNREFUSED for cause in causes):
            what = _("no server answers at {address}", address=address)
        elif isinstance(error, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
            what, passing = _("the request to {address} cannot be sent", address=address), False
            mend = _("correct the settings of the request")
        else:
            what = _("the connection to {address} broke off", address=address)
        cause = None if isinstance(error, httpx2.TimeoutException) else self.quoted(str(error))
        return Unavailable(what, **self._at("endpoint"), cause=cause, mend=mend), passing


def is_page(media_type: str, content: bytes) -> bool:
    """Whether an answer is a page for people."""
    return "html" in media_type or content[:512].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def messages(answer: Any) -> list[str]:
    """The words in an answer that reports an error, as APIs commonly put them."""
    if isinstance(answer, str):
        return [answer]
    if isinstance(answer, list):
        return [text for item in answer[:3] for text in messages(item)]
    if not isinstance(answer, dict):
        return []
    return next((found for name in _MESSAGES if (found := messages(answer.get(name)))), [])


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _title(text: str) -> str:
    found = _TITLE.search(text)
    return html.unescape(found[1] if found else re.sub(r"<[^>]*>", " ", text))


def _status_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
