"""What is known of a request afterwards: a line of JSON, and figures. What users wrote is in neither, unless asked."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable

from nlp_skills import files
from nlp_skills.deployment.serving import answering
from nlp_skills.deployment.serving.answering import ASGI, Message, Receive, Scope, Send
from nlp_skills.deployment.serving.metrics import Figures
from nlp_skills.deployment.serving.reading import Refused
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.i18n import _

_log = logging.getLogger("nlp_skills.serving")
_ID = re.compile(r"[\w.-]{1,64}\Z", re.ASCII)
_ID_HEADER, _VERSION_HEADER = b"x-request-id", b"x-nlp-skills-version"
# A client that went away before it was answered.
_GONE = 499
_TEXT_CHARS = 10_000
Write = Callable[[str], None]


class Watched:
    """The outermost: sees every request come and its answer go."""

    def __init__(self, app: ASGI, settings: Settings, figures: Figures, write: Write | None = None) -> None:
        self.app, self.settings, self.figures = app, settings, figures
        self.write = write or _to_stderr

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = _Seen(scope, receive, send, texts=self.settings.log_texts)
        self.figures.begun()
        try:
            await self.app(scope, seen.receive, seen.send)
        except Exception as error:
            # Nothing but a fault of ours comes as far as this; what it says may hold what a user wrote.
            where = f"{type(error).__name__} at {_place(error)}"
            _log.error("request %s failed: %s", seen.id, where)
            if seen.status is None:
                told = _("the gateway has a fault; its log says more")
                await answering.refuse(scope, seen.send, Refused(500, "internal", told))
            elif not seen.over:
                # An answer that was begun is cut off: nobody is to take it for whole.
                raise
        finally:
            took = time.monotonic() - seen.began
            status = seen.status if seen.status is not None else _GONE
            self.figures.ended(scope["path"], scope["method"], status, seen.version, took)
            self.write(seen.line(status, took))


class _Seen:
    """One request and its answer, as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, texts: bool) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.status: int | None = None
        given = answering.header(scope, _ID_HEADER) or ""
        self.id = given if _ID.match(given) else uuid.uuid4().hex
        self.began, self.version, self.over = time.monotonic(), "", False
        self.bytes_in = self.bytes_out = 0
        self.texts: tuple[bytearray, bytearray] | None = (bytearray(), bytearray()) if texts else None

    async def receive(self) -> Message:
        message = await self._receive()
        self.bytes_in += self._kept(message.get("body", b""), 0)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.version = next((value.decode() for name, value in message["headers"] if name == _VERSION_HEADER), "")
            message = {**message, "headers": [*message["headers"], (_ID_HEADER, self.id.encode())]}
        else:
            self.bytes_out += self._kept(message.get("body", b""), 1)
            self.over = not message.get("more_body")
        await self._send(message)

    def _kept(self, body: bytes, side: int) -> int:
        if self.texts is not None and len(self.texts[side]) < _TEXT_CHARS:
            self.texts[side].extend(body[:_TEXT_CHARS])
        return len(body)

    def line(self, status: int, took: float) -> str:
        """The request as one line of JSON."""
        path = self.scope["path"]
        told = {
            "time": files.now().isoformat(),
            "id": self.id,
            "method": self.scope["method"],
            # A path that is none of ours is what somebody wrote.
            "route": path if path in answering.ROUTES else "other",
            "status": status,
            "version": self.version or None,
            "ms": round(took * 1000, 2),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "key": self.scope.get("state", {}).get("key"),
        }
        if self.texts is not None:
            told["texts"] = [bytes(one).decode("utf-8", "replace") for one in self.texts]
        return json.dumps({name: value for name, value in told.items() if value is not None}, ensure_ascii=False)


def _place(error: BaseException) -> str:
    """Where a fault arose: file and line of the innermost frame."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at is not None else "?"


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
