"""How much at once: the length of bodies, the number of requests, the time of answers. What is beyond is sent away."""

from __future__ import annotations

import asyncio
from typing import Any

from nlp_skills.deployment.serving import answering
from nlp_skills.deployment.serving.answering import ASGI, Message, Receive, Scope, Send
from nlp_skills.deployment.serving.metrics import Figures
from nlp_skills.deployment.serving.reading import Refused
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.i18n import _

_RETRY_SECONDS = "1"


class Limits:
    """Before the application. A body is read whole first: who sends slowly takes no place from others meanwhile."""

    def __init__(self, app: ASGI, settings: Settings, figures: Figures) -> None:
        self.app, self.settings, self.figures = app, settings, figures
        self._places = asyncio.Semaphore(settings.max_concurrency)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        try:
            async with asyncio.timeout(self.settings.timeout_s) as limit:
                answer.limit, answer.seconds = limit, self.settings.timeout_s
                again = _Again(await self._body(scope, receive), receive)
                if scope["path"] in answering.ASKING:
                    await self._in_turn(scope, again, answer)
                else:
                    await self.app(scope, again, answer)
        except Refused as refused:
            self.figures.rejected(refused.code)
            headers = {"retry-after": _RETRY_SECONDS} if refused.status == 429 else {}
            # The rest of a body that nobody reads would be taken for the next request.
            headers |= {"connection": "close"} if refused.status in (408, 413) else {}
            await answering.refuse(scope, send, refused, headers)
        except TimeoutError:
            self.figures.rejected("timeout")
            if answer.begun:
                # What was begun cannot be taken back; a connection that is cut tells that it is not whole.
                raise
            told = _("it took longer than {seconds:g} s", seconds=self.settings.timeout_s)
            await answering.refuse(scope, send, Refused(504, "timeout", told, _("ask for less at a time")))

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        most = self.settings.max_body_bytes
        long = Refused(413, "too_long", _("the body is longer than {most} bytes", most=most), _("send less at a time"))
        said = answering.header(scope, b"content-length")
        if said is not None and said.isdecimal() and int(said) > most:
            raise long
        parts, length = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "cut", _("the body ended before it was whole"))
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > most:
                raise long
            if not message.get("more_body"):
                return b"".join(parts)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._places.locked() and self._waiting >= self.settings.queue:
            raise Refused(429, "busy", _("too many requests at a time"), _("ask again in a moment"))
        self._waiting += 1
        self.figures.waiting(self._waiting)
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
            self.figures.waiting(self._waiting)
        try:
            await self.app(scope, receive, send)
        finally:
            self._places.release()


class _Again:
    """A body that was read already, and after it whatever else the client says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """What is sent; every piece of a stream is given the time anew."""

    limit: Any = None
    seconds: float = 0.0

    def __init__(self, send: Send) -> None:
        self.send, self.begun = send, False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        if message.get("more_body"):
            self.limit.reschedule(asyncio.get_running_loop().time() + self.seconds)
        await self.send(message)
