"""OpenAI's chat completions over a model that answers whole texts: what is asked, and how it is replied to.

What such a model cannot do is refused by name. An option that is ignored would be one that somebody relies on.
"""

from __future__ import annotations

import json
import math
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nlp_skills.data.render import Message
from nlp_skills.data.rows import brief
from nlp_skills.i18n import _
from nlp_skills.schema.version import Sampling

# Where a request does not say how long an answer may get.
TOKENS = 256
_ROLES = ("system", "developer", "user", "assistant")
_KNOWN = {
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stream",
    "stream_options",
}  # fmt: skip
# What may be there as long as it asks for nothing; the values that do.
_IDLE: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "user": (),
    "metadata": (),
    "store": (False,),
    "safety_identifier": (),
    "service_tier": (),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
}
# Of these, any value asks for nothing.
_ANYTHING = ("user", "metadata", "safety_identifier", "service_tier")


class Refused(Exception):
    """A request that cannot be carried out, as OpenAI's clients are told of it."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, param, code, kind="invalid_request_error")


@dataclass(frozen=True)
class Asked:
    """A request, read. `usage`: a stream ends with the tokens it took."""

    messages: list[Message]
    sampling: Sampling
    stream: bool
    usage: bool


@dataclass(frozen=True)
class Said:
    """The model's reply and the tokens it took."""

    text: str
    cut: bool
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Reply:
    """What goes back: a status and an object, or the events of a stream."""

    status: int
    body: dict[str, Any] | None = None
    events: Iterator[bytes] | None = None


def error_body(message: str, param: str | None = None, code: str | None = None, *, kind: str) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def read(body: dict[str, Any]) -> Asked:
    """What a request asks for.

    Raises:
        Refused: it is not one, or asks for what cannot be done here.
    """
    for name, value in body.items():
        if name not in _KNOWN and value is not None and not _idle(name, value):
            raise Refused(_("{name} is not supported by this engine", name=brief(name)), name, "unsupported_parameter")
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    tokens = body.get(limit)
    # As versions are evaluated: the likeliest answer, unless another is asked for.
    temperature = _number(body, "temperature", 0.0, 2.0, 0.0)
    seed = body.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise Refused(_("{name} is a whole number", name="seed"), "seed")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        raise Refused(_("{name} is a whole number of at least 1", name=limit), limit)
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise Refused(_("{name} is an object", name="stream_options"), "stream_options")
    return Asked(
        messages=messages(body.get("messages")),
        sampling=Sampling(
            temperature=temperature,
            top_p=_number(body, "top_p", 0.0, 1.0, 1.0),
            max_new_tokens=tokens or TOKENS,
            # Drawn anew each time unless the client wants the same again.
            seed=(secrets.randbits(31) if seed is None else seed) if temperature else None,
        ),
        stream=body.get("stream") is True,
        usage=options.get("include_usage") is True,
    )


def completion(said: Said, model: str) -> dict[str, Any]:
    """The whole reply as one object."""
    message = {"role": "assistant", "content": said.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _ending(said)}
    return {**_head("chat.completion", model), "choices": [choice], "usage": _usage(said)}


def chunks(said: Said, model: str, *, usage: bool) -> Iterator[bytes]:
    """The reply as the events of a stream: its beginning, its text, its end."""
    head = _head("chat.completion.chunk", model)
    parts = [
        ({"role": "assistant", "content": ""}, None),
        *([({"content": said.text}, None)] if said.text else []),
        ({}, _ending(said)),
    ]
    rest = {"usage": None} if usage else {}
    for delta, ending in parts:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": ending}
        yield _event({**head, "choices": [choice], **rest})
    if usage:
        yield _event({**head, "choices": [], "usage": _usage(said)})
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _usage(said: Said) -> dict[str, int]:
    total = said.prompt_tokens + said.completion_tokens
    return {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "total_tokens": total,
    }


def _ending(said: Said) -> str:
    return "length" if said.cut else "stop"


def _idle(name: str, value: Any) -> bool:
    if name in _ANYTHING:
        return True
    # True is 1 to Python, and is no number of choices.
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in _IDLE.get(name, ()))


def _number(body: dict[str, Any], name: str, least: float, most: float, otherwise: float) -> float:
    value = body.get(name)
    if value is None:
        return otherwise
    number = not isinstance(value, bool) and isinstance(value, int | float)
    # No token is likely enough for a share of nothing.
    if not number or not math.isfinite(value) or not least <= value <= most or (name == "top_p" and not value):
        raise Refused(_("{name} is a number from {least} to {most}", name=name, least=least, most=most), name)
    return float(value)


def messages(given: Any) -> list[Message]:
    """The conversation of a request.

    Raises:
        Refused: it is none, or has anything but text.
    """
    if not isinstance(given, list) or not given:
        raise Refused(_("{name} is a list with at least one message", name="messages"), "messages")
    return [_message(one, f"messages[{place}]") for place, one in enumerate(given)]


def _message(given: Any, place: str) -> Message:
    if not isinstance(given, dict) or given.get("role") not in _ROLES:
        raise Refused(_("a message has one of the roles {roles}", roles=", ".join(_ROLES)), place)
    # What newer clients call the system's messages, which no template of an open model knows.
    role = "system" if given["role"] == "developer" else str(given["role"])
    content = given.get("content")
    if isinstance(content, list):
        parts = [one["text"] for one in content if _is_text(one)]
        content = "".join(parts) if len(parts) == len(content) else None
    if not isinstance(content, str) or not _whole(content):
        raise Refused(_("the content of a message is text"), f"{place}.content")
    return {"role": role, "content": content}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _whole(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can spell and no text can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
