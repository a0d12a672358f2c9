"""What stands before the gateway's application: how much at once, how long, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from nlp_skills.deployment.serving.limits import Limits
from nlp_skills.deployment.serving.logs import Watched
from nlp_skills.deployment.serving.settings import Settings

SECRET = "a sentence that a user wrote"
App = Callable[[Any, Any, Any], Awaitable[None]]


class Counted:
    """Stands in for the figures: keeps what it is told."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.ends: list[tuple[Any, ...]] = []

    def rejected(self, reason: str) -> None:
        self.reasons.append(reason)

    def waiting(self, count: int) -> None:
        pass

    def begun(self) -> None:
        pass

    def ended(self, *told: Any) -> None:
        self.ends.append(told)


async def echo(_scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-nlp-skills-version", b"v2")]})
    await send({"type": "http.response.body", "body": body})


async def asked(app: App, parts: Sequence[bytes] = (b"{}",), path: str = "/api/v1/predict", **headers: str) -> Any:
    """The messages that answer one request whose body comes in these parts."""
    left, sent = list(parts), []

    async def receive() -> Any:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": "POST", "path": path, "headers": raw, "client": ("::1", 1)}, receive, send)
    return sent


def fault(sent: Any) -> tuple[int, str]:
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]


@pytest.mark.parametrize(("parts", "headers"), [((b"{}",), {"content_length": "11"}), ((b"12345", b"678901"), {})])
def test_a_body_that_is_too_long_is_refused_whether_its_length_is_said_or_not(parts: Any, headers: Any) -> None:
    figures = Counted()
    sent = asyncio.run(asked(Limits(echo, Settings(max_body_bytes=10), figures), parts, **headers))
    assert fault(sent) == (413, "too_long")
    assert figures.reasons == ["too_long"]
    assert dict(sent[0]["headers"])[b"connection"] == b"close"


def test_a_body_as_long_as_allowed_arrives_whole() -> None:
    sent = asyncio.run(asked(Limits(echo, Settings(max_body_bytes=10), Counted()), (b"12345", b"67890")))
    assert sent[1]["body"] == b"1234567890"


def test_what_takes_too_long_is_told_so() -> None:
    async def slow(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(30)

    assert fault(asyncio.run(asked(Limits(slow, Settings(timeout_s=0.05), Counted())))) == (504, "timeout")


def test_a_stream_may_take_longer_as_long_as_it_goes_on() -> None:
    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(6):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b""})

    sent = asyncio.run(asked(Limits(stream, Settings(timeout_s=0.4), Counted())))
    assert b"".join(message.get("body", b"") for message in sent) == b"xxxxxx"


def test_beyond_the_queue_is_sent_away_at_once_and_health_is_not() -> None:
    async def run() -> None:
        open_ = asyncio.Event()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] != "/healthz":
                await open_.wait()
            await echo(scope, receive, send)

        figures = Counted()
        app = Limits(waits, Settings(max_concurrency=1, queue=1), figures)
        taken = [asyncio.create_task(asked(app)) for _ in range(2)]
        await asyncio.sleep(0.05)
        away = await asked(app)
        assert fault(away) == (429, "busy")
        assert dict(away[0]["headers"])[b"retry-after"] == b"1"
        assert (await asked(app, path="/healthz"))[0]["status"] == 200
        open_.set()
        assert [sent[0]["status"] for sent in await asyncio.gather(*taken)] == [200, 200]
        assert (await asked(app))[0]["status"] == 200
        assert figures.reasons == ["busy"]

    asyncio.run(run())


def test_a_request_is_one_line_without_what_the_user_wrote() -> None:
    lines: list[str] = []
    app = Watched(echo, Settings(), Counted(), lines.append)
    sent = asyncio.run(asked(app, (SECRET.encode(),), x_request_id="order-7"))
    told = json.loads(lines[0])
    assert (told["id"], told["route"], told["status"], told["version"]) == ("order-7", "/api/v1/predict", 200, "v2")
    assert told["bytes_in"] == told["bytes_out"] == len(SECRET)
    assert dict(sent[0]["headers"])[b"x-request-id"] == b"order-7"
    asyncio.run(asked(app, path=f"/{SECRET}", x_request_id="two words"))
    assert json.loads(lines[1])["route"] == "other"
    assert json.loads(lines[1])["id"] != "two words"
    assert SECRET not in "".join(lines)


def test_texts_are_logged_where_that_was_asked_for() -> None:
    lines: list[str] = []
    asyncio.run(asked(Watched(echo, Settings(log_texts=True), Counted(), lines.append), (SECRET.encode(),)))
    assert json.loads(lines[0])["texts"] == [SECRET, SECRET]


def test_a_fault_of_ours_is_answered_and_logged_without_what_the_user_wrote(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError(SECRET)

    lines: list[str] = []
    with caplog.at_level(logging.ERROR):
        sent = asyncio.run(asked(Watched(broken, Settings(), Counted(), lines.append)))
    assert fault(sent) == (500, "internal")
    assert "ValueError at" in caplog.text
    assert SECRET not in caplog.text + lines[0] + sent[1]["body"].decode()
