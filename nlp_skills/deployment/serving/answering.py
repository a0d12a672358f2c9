"""Answers of what stands before the application: small bodies, written without a framework."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from nlp_skills.deployment.serving.reading import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = frozenset({"/healthz", "/readyz"})
ADMIN = frozenset({"/api/v1/rollback", "/api/v1/promote"})
# What asks a model, and so takes a place among those that are answered at a time.
ASKING = frozenset({"/api/v1/predict", "/v1/chat/completions"})
ROUTES = HEALTH | ADMIN | ASKING | {"/api/v1/versions", "/v1/models", "/metrics", "/docs", "/openapi.json"}


def header(scope: Scope, name: bytes) -> str | None:
    """A header of a request, the last of that name."""
    return next((value.decode("latin-1") for key, value in reversed(scope["headers"]) if key == name), None)


async def refuse(scope: Scope, send: Send, refused: Refused, headers: Mapping[str, str] | None = None) -> None:
    """Answer with an error, in the form that the path's callers read."""
    body = json.dumps(refused.body(openai=scope["path"].startswith("/v1/")), ensure_ascii=False).encode()
    told = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    start = {"type": "http.response.start", "status": refused.status, "headers": encoded(told)}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
