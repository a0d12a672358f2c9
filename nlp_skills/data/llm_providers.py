"""The providers' own packages behind one call: a conversation goes in, a reply or a `Refused` comes out.

In: messages `{"role": "system"|"user"|"assistant", "content": text}` and what to ask for. Nothing here retries
more than the packages do by themselves, records, or speaks to a person.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from nlp_skills import extras

Message = dict[str, str]

ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
}
KEY_VARIABLES = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
# How often a package asks again by itself after a 429, a 5xx, a time-out or a broken connection.
RETRIES = 3
_MODELS = 20


@dataclass(frozen=True)
class Dialect:
    """What a server was found to understand.

    `limit`: its word for the longest answer, `switched` when the other word was refused. `dropped`: parameters it
    refuses. `plain`: it takes no schema, the form is told in words instead.
    """

    limit: str = "max_tokens"
    switched: bool = False
    dropped: frozenset[str] = frozenset()
    plain: bool = False


@dataclass(frozen=True)
class Request:
    """One question. `params`: `temperature`, `top_p`, `max_tokens` and `seed`, as far as they are set; `logprobs`, of
    OpenAI's protocol only: how many likely tokens are told at every place beside the one that was taken.
    """

    model: str
    messages: list[Message]
    schema: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def known(self, dialect: Dialect) -> dict[str, Any]:
        """The parameters this server takes."""
        return {name: value for name, value in self.params.items() if name not in dialect.dropped}

    def told(self, dialect: Dialect) -> list[Message]:
        """The messages; where the server takes no schema the last one ends with it."""
        if self.schema is None or not dialect.plain:
            return self.messages
        *before, last = self.messages
        form = json.dumps(self.schema, ensure_ascii=False)
        words = f"{last['content']}\n\nAnswer with JSON alone, no other words, meeting this JSON Schema:\n{form}"
        return [*before, {**last, "content": words}]


@dataclass(frozen=True)
class Token:
    """A token of an answer as bytes, its log-probability, and the likeliest ones at its place (itself among them)."""

    text: bytes
    log: float
    likely: tuple[tuple[bytes, float], ...] = ()


@dataclass(frozen=True)
class Reply:
    """What came back. `finish`: `stop`, `length` (cut off), `refusal`, or the provider's own word. `tokens` where
    they were asked for and told.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish: str
    id: str | None
    model: str | None
    tokens: tuple[Token, ...] = ()


class Refused(Exception):
    """No reply. `status` is the HTTP status; None: `code` is `timeout`, `connection` or `garbled`."""

    def __init__(self, status: int | None, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words


class Provider(Protocol):
    """A server that answers."""

    def complete(self, request: Request, dialect: Dialect) -> Reply:
        """Ask once.

        Raises:
            Refused: there is no reply.
        """

    def models(self) -> list[str]:
        """Names of a few models the server has; empty where it does not say."""


class OpenAI:
    """Chat completions: OpenAI itself and every server that speaks its protocol."""

    def __init__(self, key: str, address: str, timeout: float) -> None:
        extras.need("llm", "openai")
        import openai

        self.sdk = openai
        self.client = openai.OpenAI(api_key=key, base_url=address, timeout=timeout, max_retries=RETRIES)

    def complete(self, request: Request, dialect: Dialect) -> Reply:
        """As `Provider.complete`."""
        options = request.known(dialect)
        if "max_tokens" in options:
            options[dialect.limit] = options.pop("max_tokens")
        if (likely := options.pop("logprobs", None)) is not None:
            options |= {"logprobs": True, **({"top_logprobs": likely} if likely else {})}
        if request.schema is not None and not dialect.plain:
            form = {"name": "answer", "schema": request.schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": form}
        create: Any = self.client.chat.completions.create
        answer = _asked(self.sdk, lambda: create(model=request.model, messages=request.told(dialect), **options))
        try:
            choice, usage = answer.choices[0], answer.usage
            text, finish = choice.message.content or "", choice.finish_reason
            refused = not text and getattr(choice.message, "refusal", None)
        except (AttributeError, IndexError, TypeError) as error:
            raise Refused(None, "garbled", str(answer)[:200]) from error
        return Reply(
            text=text,
            input_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            output_tokens=getattr(usage, "completion_tokens", 0) or 0,
            finish="refusal" if refused or finish == "content_filter" else finish or "stop",
            id=answer.id,
            model=answer.model,
            tokens=_tokens(choice),
        )

    def models(self) -> list[str]:
        """As `Provider.models`."""
        return _listed(lambda: [model.id for model in self.client.with_options(max_retries=0).models.list().data])


class Anthropic:
    """The Messages API."""

    def __init__(self, key: str, address: str, timeout: float) -> None:
        extras.need("llm", "anthropic")
        import anthropic

        self.sdk = anthropic
        self.client = anthropic.Anthropic(api_key=key, base_url=address, timeout=timeout, max_retries=RETRIES)

    def complete(self, request: Request, dialect: Dialect) -> Reply:
        """As `Provider.complete`; the API knows no seed and tells no probabilities."""
        options = {name: value for name, value in request.known(dialect).items() if name not in ("seed", "logprobs")}
        if "temperature" in options:
            # The package has no argument for it since newer models refuse it; older ones take it.
            options["extra_body"] = {"temperature": options.pop("temperature")}
        system, messages = _without_system(request.told(dialect))
        if system:
            options["system"] = system
        if request.schema is not None and not dialect.plain:
            options["output_config"] = {"format": {"type": "json_schema", "schema": self._simple(request.schema)}}
        create: Any = self.client.messages.create
        answer = _asked(self.sdk, lambda: create(model=request.model, messages=messages, **options))
        try:
            text = "".join(block.text for block in answer.content if block.type == "text")
            finish = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
            return Reply(
                text=text,
                input_tokens=answer.usage.input_tokens,
                output_tokens=answer.usage.output_tokens,
                finish=finish.get(str(answer.stop_reason), str(answer.stop_reason)),
                id=answer.id,
                model=answer.model,
            )
        except (AttributeError, TypeError) as error:
            raise Refused(None, "garbled", str(answer)[:200]) from error

    def models(self) -> list[str]:
        """As `Provider.models`."""
        return _listed(lambda: [model.id for model in self.client.with_options(max_retries=0).models.list().data])

    def _simple(self, schema: dict[str, Any]) -> dict[str, Any]:
        """What the API can enforce of a schema; the rest becomes words in it."""
        try:
            simple: dict[str, Any] = self.sdk.transform_schema(schema)
        except ValueError:
            return schema
        return simple


class Google:
    """The Gemini API."""

    def __init__(self, key: str, address: str, timeout: float) -> None:
        # Asked in two steps: the package lies in a namespace that may not be there at all.
        extras.need("llm", "google")
        extras.need("llm", "google.genai")
        from google import genai
        from google.genai import types

        again = types.HttpRetryOptions(attempts=RETRIES + 1, initial_delay=0.5)
        options = types.HttpOptions(base_url=address, timeout=int(timeout * 1000), retry_options=again)
        self.client = genai.Client(api_key=key, http_options=options, vertexai=False)

    def complete(self, request: Request, dialect: Dialect) -> Reply:
        """As `Provider.complete`."""
        options = {name: value for name, value in request.known(dialect).items() if name != "logprobs"}
        if "max_tokens" in options:
            options["max_output_tokens"] = options.pop("max_tokens")
        system, messages = _without_system(request.told(dialect))
        if system:
            options["system_instruction"] = system
        if request.schema is not None:
            options["response_mime_type"] = "application/json"
            if not dialect.plain:
                options["response_json_schema"] = request.schema
        contents = [
            {"role": "model" if message["role"] == "assistant" else "user", "parts": [{"text": message["content"]}]}
            for message in messages
        ]
        generate: Any = self.client.models.generate_content
        answer = self._asked(lambda: generate(model=request.model, contents=contents, config=options))
        candidate = (answer.candidates or [None])[0]
        parts = (candidate.content.parts or []) if candidate and candidate.content else []
        usage = answer.usage_metadata
        thought = getattr(usage, "thoughts_token_count", 0) or 0
        return Reply(
            text="".join(part.text or "" for part in parts if not part.thought),
            input_tokens=getattr(usage, "prompt_token_count", 0) or 0,
            output_tokens=(getattr(usage, "candidates_token_count", 0) or 0) + thought,
            finish=_google_finish(candidate),
            id=answer.response_id,
            model=answer.model_version,
        )

    def models(self) -> list[str]:
        """As `Provider.models`."""
        return _listed(lambda: [str(model.name) for model in self.client.models.list().page])

    @staticmethod
    def _asked(ask: Callable[[], Any]) -> Any:
        from google.genai import errors

        try:
            return ask()
        except errors.APIError as error:
            words = error.message or str(error)
            # A wrong key is a 400 here.
            status = 401 if error.code == 400 and "API key" in words else error.code
            raise Refused(status, str(error.status or ""), words) from error
        except errors.UnknownApiResponseError as error:
            raise Refused(None, "garbled", str(error)) from error
        except Exception as error:
            raise _transport(error) from error


PROVIDERS: dict[str, Callable[[str, str, float], Provider]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "google": Google,
}


def _asked(sdk: Any, ask: Callable[[], Any]) -> Any:
    """Ask through the packages of OpenAI and Anthropic, whose errors have the same names."""
    try:
        return ask()
    except sdk.APITimeoutError as error:
        raise Refused(None, "timeout", str(error)) from error
    except sdk.APIConnectionError as error:
        raise Refused(None, "connection", str(error.__cause__ or error)) from error
    except sdk.APIStatusError as error:
        raise Refused(error.status_code, _code(error.body), _said(error)) from error
    except (sdk.APIError, ValueError) as error:
        raise Refused(None, "garbled", str(error)) from error


def _tokens(choice: Any) -> tuple[Token, ...]:
    """An answer's tokens; none where the server tells nothing usable of them."""
    told = getattr(getattr(choice, "logprobs", None), "content", None) or []
    try:
        return tuple(
            Token(_bytes(one), _log(one), tuple((_bytes(other), _log(other)) for other in likely))
            for one in told
            for likely in [getattr(one, "top_logprobs", None) or []]
        )
    except (AttributeError, TypeError, ValueError):
        return ()


def _bytes(token: Any) -> bytes:
    """A token may be half a character, which only its bytes can tell."""
    spelled = getattr(token, "bytes", None)
    return bytes(spelled) if spelled is not None else str(token.token).encode("utf-8", "replace")


def _log(token: Any) -> float:
    return round(float(token.logprob), 5)


def _code(body: Any) -> str:
    inner = body.get("error", body) if isinstance(body, dict) else {}
    return str(inner.get("code") or inner.get("type") or "") if isinstance(inner, dict) else ""


def _said(error: Any) -> str:
    """The server's own sentence, without the package's wrapping."""
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else body
    said = inner.get("message") if isinstance(inner, dict) else inner
    return str(said or error)


def _transport(error: Exception) -> Exception:
    """What the HTTP client below raised, as a `Refused`; anything else as it is."""
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("httpx")}
    if "TimeoutException" in kinds:
        return Refused(None, "timeout", str(error))
    if "TransportError" in kinds or isinstance(error, OSError):
        return Refused(None, "connection", str(error))
    return Refused(None, "garbled", str(error)) if isinstance(error, ValueError) else error


def _listed(ask: Callable[[], list[str]]) -> list[str]:
    """A list that helps where it can be had; that it cannot is no news to someone whose request failed."""
    try:
        return ask()[:_MODELS]
    except Exception:
        return []


def _without_system(messages: list[Message]) -> tuple[str, list[Message]]:
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return system, [message for message in messages if message["role"] != "system"]


def _google_finish(candidate: Any) -> str:
    word = str(getattr(getattr(candidate, "finish_reason", None), "name", "") or "")
    if candidate is None or word in ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII"):
        return "refusal"
    return {"STOP": "stop", "MAX_TOKENS": "length"}.get(word, word.lower() or "stop")
