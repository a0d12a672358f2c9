"""Asking a language model: one question, one answer, recorded so that the same question costs nothing again.

In: `LlmSettings` and messages. Out: an `Answer`. A recorded answer needs neither the network, nor a key, nor the
provider's package.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data.llm_providers import (
    ADDRESSES,
    KEY_VARIABLES,
    PROVIDERS,
    Dialect,
    Provider,
    Refused,
    Request,
    Token,
)
from nlp_skills.data.sources.recording import Recording, request_key
from nlp_skills.data.sources.settings import filled, place, unexpanded
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmSettings, Price
from nlp_skills.workspace.folder import TaskFolder

# Servers on one's own machine mostly want no key, and the packages refuse to go without one.
_NO_KEY = "none"
_UNSUPPORTED = re.compile(
    r"support|deprecat|unknown|unrecogni|unexpected|not permitted|extra input|not allowed|removed"
)
# Nothing but a shorter question helps.
_TOO_LONG = re.compile(r"context[ _](?:size|length|window)")


@dataclass(frozen=True)
class Answer:
    """What the model said.

    `finish` is `stop`, `length` (cut off at max_tokens), `refusal`, or the provider's own word. `cost`: US dollars
    paid for it now, 0 when replayed; `worth`: what it cost when it was asked. Both are None where no price is known.
    `seconds`: how long it took when it was asked. `tokens`: where `logprobs` were asked for and the server tells them.
    """

    text: str
    input_tokens: int
    output_tokens: int
    finish: str
    replayed: bool
    cost: float | None
    worth: float | None
    id: str | None = None
    model: str | None = None
    seconds: float | None = None
    tokens: tuple[Token, ...] = ()


class OverBudget(Unavailable):
    """The next request might cost more than is left of `max_cost`."""


@dataclass
class Budget:
    """US dollars that may be spent; None: no limit. Replayed answers count with what they cost, so that running a
    thing twice neither spends twice nor stops elsewhere.
    """

    limit: float | None
    spent: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reserve(self, most: float | None) -> None:
        """Set aside what a request may cost at most.

        Raises:
            OverBudget: less than that is left.
        """
        with self._lock:
            if self.limit is not None and most is not None and self.spent + most > self.limit:
                words = _("the next request could cost up to ${most:.4f}", most=most)
                mend = _("raise max_cost: or lower max_tokens:, then run this again; what came is kept")
                raise OverBudget(_("max_cost would be passed"), cause=words, mend=mend)
            self.spent += most or 0.0

    def settle(self, most: float | None, worth: float | None) -> None:
        """Put what it did cost in place of what was set aside."""
        with self._lock:
            self.spent += (worth or 0.0) - (most or 0.0)


def estimated_tokens(text: str) -> int:
    """A guess at a text's tokens: one for each Chinese, Japanese or Korean character, one for four others."""
    wide = sum(ord(character) > 0x2E7F for character in text)
    return wide + (len(text) - wide + 3) // 4


class Model:
    """A model that answers; safe to ask from several threads at once.

    `at` is where the settings stand in task.yaml; without it they are a source's, in data_source.yaml.
    """

    def __init__(self, settings: LlmSettings, folder: TaskFolder, at: tuple[str, ...] = ()) -> None:
        self.written, self.folder, self.at = settings, folder, at
        self._lock = threading.Lock()
        self._provider: Provider | None = None
        # The key is looked for when it is needed: replaying needs none.
        self.settings, self._secrets = filled(settings.model_copy(update={"api_key": None}), folder, at)
        own = self.settings.provider == "openai" and self.settings.base_url is None
        self._dialect = Dialect(limit="max_completion_tokens" if own else "max_tokens")
        self.address = self.settings.base_url or ADDRESSES[self.settings.provider]
        self.budget = Budget(self.settings.max_cost)

    @classmethod
    def of(cls, settings: LlmSettings, folder: TaskFolder, at: tuple[str, ...] = ()) -> Model:
        """The model these settings name; nothing is asked yet, and no key is needed yet.

        Raises:
            Invalid: a variable is not set, or `max_cost` stands beside a model whose price nobody knows.
        """
        model = cls(settings, folder, at)
        if model.settings.max_cost is not None and model.price(1, 1) is None:
            file, line = place(settings, folder, "max_cost", at)
            raise Invalid(
                _("max_cost: needs a price, and that of {model} is not known", model=model.shown),
                file=file,
                line=line,
                mend=_("write the price in US dollars for a million tokens, such as price: {input: 0.2, output: 0.8}"),
            )
        return model

    @property
    def shown(self) -> str:
        """The model's name as it is written, variables unfilled."""
        return str(unexpanded(self.written)["model"])

    @property
    def dropped(self) -> list[str]:
        """What this server was asked for and refused, so that it is asked without."""
        return [*sorted(self._dialect.dropped), *(["response_format"] if self._dialect.plain else [])]

    def close(self) -> None:
        """Close the connections."""
        client = getattr(self._provider, "client", None)
        if client is not None:
            client.close()
        self._provider = None

    def ask(
        self,
        messages: list[dict[str, str]],
        *,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        turn: int = 0,
        options: Mapping[str, Any] | None = None,
        recording: Recording | None = None,
        budget: Budget | None = None,
    ) -> Answer:
        """The answer to a conversation, from the recording where it was asked before.

        Args:
            messages: `{"role": "system"|"user"|"assistant", "content": text}`; the settings' system prompt comes first.
            schema: JSON Schema of the answer. The caller still checks it: not every server keeps to one.
            seed: in place of the settings' own.
            turn: tells a question from the same one asked again for another answer.
            options: `temperature`, `top_p` and `logprobs`, as `llm_providers.Request` has them, before the settings.
            recording: where answers are looked up and kept.
            budget: in place of the model's own, which is `max_cost`.

        Raises:
            OverBudget: the request might pass `max_cost`.
            Invalid: no key, a key that is refused, or a model the server does not know.
            Unavailable: the server cannot be reached, has no capacity or credit left, or gives no proper answer.
        """
        request = self._request(messages, schema, seed, options)
        key = self._key(request, turn)
        budget = budget or self.budget
        with self._lock:
            kept = recording.get(key) if recording is not None else None
        if kept is not None:
            budget.settle(None, kept.get("cost"))
            return _replayed(kept)
        most = self.most(messages)
        budget.reserve(most)
        worth: float | None = None
        try:
            answer = self._asked(request)
            worth = answer.worth
        finally:
            budget.settle(most, worth)
        if recording is not None:
            with self._lock:
                recording.put(key, self._kept(answer, request))
        return answer

    def recorded(
        self,
        messages: list[dict[str, str]],
        recording: Recording,
        *,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        turn: int = 0,
    ) -> bool:
        """Whether this very question was answered before."""
        return self._key(self._request(messages, schema, seed), turn) in recording

    def most(self, messages: list[dict[str, str]]) -> float | None:
        """US dollars a request may cost at most: its text as estimated, and as long an answer as is allowed."""
        written = sum(estimated_tokens(message["content"]) for message in messages)
        return self.price(written + estimated_tokens(self.settings.system_prompt or ""), self.settings.max_tokens)

    def params(self, seed: int | None) -> dict[str, Any]:
        """What is asked for beside the messages; `seed` in place of the settings' own."""
        settings = self.settings
        found = {
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "seed": settings.seed if seed is None else seed,
        }
        return {name: value for name, value in found.items() if value is not None}

    def price(self, input_tokens: int, output_tokens: int) -> float | None:
        """US dollars for these tokens, by the settings' price or the table of known models; None: unknown."""
        own = self.settings.price
        if own is not None:
            return _at(own, input_tokens, output_tokens)
        if not extras.installed("genai_prices"):
            return None
        import genai_prices

        usage = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        seller: dict[str, Any] = {"provider_id": self.settings.provider}
        if self.settings.base_url:
            seller = {"provider_api_url": self.settings.base_url}
        try:
            return float(genai_prices.calc_price(usage, self.settings.model, **seller).total_price)
        except (LookupError, ValueError):
            return None

    def _request(
        self,
        messages: list[dict[str, str]],
        schema: dict[str, Any] | None,
        seed: int | None,
        options: Mapping[str, Any] | None = None,
    ) -> Request:
        system = self.settings.system_prompt
        return Request(
            model=self.settings.model,
            messages=[*([{"role": "system", "content": system}] if system else []), *messages],
            schema=schema,
            params={**self.params(seed), **(options or {})},
        )

    def _key(self, request: Request, turn: int) -> str:
        return request_key(
            {
                "provider": self.settings.provider,
                "host": urlsplit(self.address).netloc.rpartition("@")[2],
                "model": request.model,
                "messages": request.messages,
                "schema": request.schema,
                "params": request.params,
                "turn": turn,
            }
        )

    def _kept(self, answer: Answer, request: Request) -> dict[str, Any]:
        kept = {
            "text": answer.text,
            "finish": answer.finish,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "cost": answer.worth,
            "id": answer.id,
            "provider": self.settings.provider,
            "model": answer.model,
            "params": request.params,
            "seconds": answer.seconds,
        }
        return {**kept, "tokens": [_packed(token) for token in answer.tokens]} if answer.tokens else kept

    def _asked(self, request: Request) -> Answer:
        provider, started = self._connected(), time.monotonic()
        while True:
            dialect = self._dialect
            try:
                reply = provider.complete(request, dialect)
                break
            except Refused as refused:
                # Every change is made once, so this ends.
                if not self._adapted(refused, dialect, request):
                    raise self._problem(refused, provider) from refused
        cost = self.price(reply.input_tokens, reply.output_tokens)
        return Answer(
            # Half a surrogate pair can come over JSON, and no file can hold it.
            text=reply.text.encode("utf-8", "replace").decode("utf-8"),
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            finish=reply.finish,
            replayed=False,
            cost=cost,
            worth=cost,
            id=reply.id,
            model=reply.model,
            seconds=round(time.monotonic() - started, 4),
            tokens=reply.tokens,
        )

    def _connected(self) -> Provider:
        with self._lock:
            if self._provider is None:
                settings, self._secrets = filled(self.written, self.folder, self.at)
                key = settings.api_key or self._usual_key()
                self._secrets.conceal(key if key != _NO_KEY else None)
                self._provider = PROVIDERS[settings.provider](key, self.address, settings.timeout)
        return self._provider

    def _usual_key(self) -> str:
        names = KEY_VARIABLES[self.settings.provider]
        # A key for the provider itself is not handed to somebody else's server.
        found = None if self.settings.base_url else next(filter(None, map(self._secrets.get, names)), None)
        if found is None and self.settings.base_url is None:
            file, line = place(self.written, self.folder, "model", self.at)
            raise Invalid(
                _("no key for {provider}", provider=self.settings.provider),
                file=file,
                line=line,
                cause=_("the environment variable {name} is not set", name=names[0]),
                mend=_("set it in the shell (export {name}=…) or in the file .env of the task", name=names[0]),
            )
        return found or _NO_KEY

    def _adapted(self, refused: Refused, used: Dialect, request: Request) -> bool:
        """Whether a request that was refused as wrong is worth another try in other words."""
        if refused.status not in (400, 422):
            return False
        with self._lock:
            if self._dialect != used:
                return True
            changed = _next_dialect(refused.words.lower(), used, request)
            if changed is not None:
                self._dialect = changed
            return changed is not None

    def _problem(self, refused: Refused, provider: Provider) -> Problem:
        kind, key, message, mend = self._words(refused, provider)
        file, line = place(self.written, self.folder, key, self.at)
        return kind(
            message,
            file=file,
            line=line,
            cause=lines.cut(" ".join(self._secrets.hide(refused.words).split()), 300) or None,
            mend=mend,
        )

    def _words(self, refused: Refused, provider: Provider) -> tuple[type[Problem], str, str, str]:
        """What kind of problem it is, the setting to blame, what to say of it and how to mend it."""
        where = str(unexpanded(self.written).get("base_url") or self.address)
        status = refused.status
        if status in (401, 403):
            message = _("{where} refuses the key ({status})", where=where, status=status)
            return Invalid, "api_key", message, self._key_mend()
        if status == 404:
            return self._unknown_model(where, provider)
        if status in (402, 429):
            message = _("{where} has no capacity or credit left for this key ({status})", where=where, status=status)
            mend = _("wait, lower concurrency:, or look at the account; answers so far are kept, run this again")
            return Unavailable, "model", message, mend
        if status is not None and status < 500:
            message = _("{where} refuses the request ({status})", where=where, status=status)
            name = self.folder.task_path.name if self.at else self.folder.sources_path.name
            return Invalid, "model", message, _("correct the setting it names in {file}", file=name)
        later = _("run this again later; answers so far are kept")
        if status is not None:
            return Unavailable, "model", _("{where} fails ({status})", where=where, status=status), later
        if refused.code == "timeout":
            message = _("{where} gave no answer in {seconds:g} s", where=where, seconds=self.settings.timeout)
            mend = _("raise timeout:, lower max_tokens: or batch_size:, or look at the server; answers so far are kept")
            return Unavailable, "timeout", message, mend
        if refused.code == "connection":
            mend = _("check that the server runs and base_url: is right; answers so far are kept")
            return Unavailable, "base_url", _("{where} cannot be reached", where=where), mend
        message = _("what {where} sends is not a model's answer", where=where)
        return Unavailable, "base_url", message, _("check base_url:; for OpenAI-compatible servers it ends in /v1")

    def _key_mend(self) -> str:
        if self.written.api_key is None and self.settings.base_url is not None:
            return _("give the key as api_key: ${NAME} and set the variable NAME")
        name = unexpanded(self.written).get("api_key") or KEY_VARIABLES[self.settings.provider][0]
        return _("check the key in {name}, and that it may use this model", name=name)

    def _unknown_model(self, where: str, provider: Provider) -> tuple[type[Problem], str, str, str]:
        known = provider.models()
        if known:
            listed = lines.cut(", ".join(self._secrets.hide(lines.shown_name(name)) for name in known), 300)
            mend = _("models there: {models}", models=listed)
        else:
            mend = _("check model: and base_url:; for OpenAI-compatible servers it ends in /v1")
        return Invalid, "model", _("{where} does not know the model {model}", where=where, model=self.shown), mend


def _next_dialect(words: str, used: Dialect, request: Request) -> Dialect | None:
    """How to ask instead, by what the server said; None: nothing left to change."""
    if _TOO_LONG.search(words):
        return None
    other = "max_completion_tokens" if used.limit == "max_tokens" else "max_tokens"
    # Few servers tell probabilities, and those that do differ in how many.
    if "logprobs" in words and "logprobs" in request.params and "logprobs" not in used.dropped:
        return replace(used, dropped=used.dropped | {"logprobs"})
    if _UNSUPPORTED.search(words):
        if used.limit in words and not used.switched:
            return replace(used, limit=other, switched=True)
        for name in ("temperature", "top_p", "seed"):
            if name in words and name in request.params and name not in used.dropped:
                return replace(used, dropped=used.dropped | {name})
    return replace(used, plain=True) if request.schema is not None and not used.plain else None


def _at(price: Price, input_tokens: int, output_tokens: int) -> float:
    return (input_tokens * price.input + output_tokens * price.output) / 1_000_000


def _replayed(kept: dict[str, Any]) -> Answer:
    return Answer(
        text=kept["text"],
        input_tokens=kept["input_tokens"],
        output_tokens=kept["output_tokens"],
        finish=kept["finish"],
        replayed=True,
        cost=0.0,
        worth=kept.get("cost"),
        id=kept.get("id"),
        model=kept.get("model"),
        seconds=kept.get("seconds"),
        tokens=tuple(_unpacked(token) for token in kept.get("tokens", [])),
    )


def _packed(token: Token) -> list[Any]:
    """A token for a JSON line. Latin-1 has a character for every byte."""
    likely = [[text.decode("latin-1"), log] for text, log in token.likely]
    return [token.text.decode("latin-1"), token.log, likely]


def _unpacked(kept: list[Any]) -> Token:
    text, log, likely = kept
    return Token(text.encode("latin-1"), log, tuple((other.encode("latin-1"), value) for other, value in likely))
