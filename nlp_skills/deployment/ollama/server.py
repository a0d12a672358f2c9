"""An Ollama server, spoken to through Ollama's own client; what it refuses, or what gets lost, in words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_skills import extras, progress
from nlp_skills.data import rows as lines
from nlp_skills.data.render import Message
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _

# Seconds: until somebody answers at all, and for what it does, which may be to load a large model.
_KNOCK, _PATIENCE = 5.0, 900.0
_CHUNK = 1 << 20
_BLOB = re.compile(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)
_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104
_NO_KEY = (401, 403)


class Server:
    """A server at an address, `host` or what OLLAMA_HOST says."""

    def __init__(self, host: str | None = None) -> None:
        extras.need("ollama", "ollama")
        import httpx
        import ollama

        patience = httpx.Timeout(_PATIENCE, connect=_KNOCK)
        try:
            self.client = ollama.Client(host, timeout=patience)
            if self._http.base_url.host in _HERE:
                # Whatever proxy there may be, this is not its business.
                self.client = ollama.Client(host, timeout=patience, trust_env=False)
        except (ValueError, httpx.InvalidURL) as error:
            raise Invalid(
                _("this is not the address of a server: {host}", host=lines.cut(str(host), 100)),
                cause=str(error),
                mend=_("such as http://127.0.0.1:11434"),
            ) from error
        self.address = str(self._http.base_url).rstrip("/")

    @property
    def _http(self) -> Any:
        """The client's own connection, for what the client has no words for: it knows the address and the key."""
        return self.client._client

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def version(self) -> str | None:
        """The server's version; None where nobody answers.

        Raises:
            Invalid: somebody answers who is no Ollama server.
        """
        import httpx

        try:
            answer = self._http.get("/api/version", timeout=_KNOCK)
            return str(answer.raise_for_status().json()["version"])
        except httpx.TransportError:
            return None
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise Invalid(
                _("what answers at {host} is no Ollama server", host=self.address),
                cause=lines.cut(str(error), 200),
                mend=_("give its address: --host ADDRESS, or the variable OLLAMA_HOST"),
            ) from error

    def shown(self, name: str) -> dict[str, Any] | None:
        """What the server tells of a model; None where it has none of that name.

        Raises:
            Problem: it cannot be asked.
        """
        with self._speaking(name):
            answer = self._http.post("/api/show", json={"model": name})
            if answer.status_code == 404:
                return None
            return dict(self._told(answer))

    def send(self, path: Path, sha256: str) -> bool:
        """Bring a file there by its hash, unless it is there; whether it was sent.

        Raises:
            Invalid: the server refuses it.
            Unavailable: the connection was lost, or the server's disk is full.
        """
        digest = f"sha256:{sha256.removeprefix('sha256:')}"
        with self._speaking(path.name):
            if self._http.head(f"/api/blobs/{digest}").status_code == 200:
                return False
            size = path.stat().st_size
            label = _("send {file} to {host}, MB", file=path.name, host=self.address)
            with progress.bar(label, _chunks(size)) as bar:
                headers = {"content-type": "application/octet-stream", "content-length": str(size)}
                self._told(self._http.post(f"/api/blobs/{digest}", content=_pieces(path, bar), headers=headers))
        return True

    def create(self, name: str, file: str, sha256: str, told: dict[str, Any]) -> None:
        """Make a model of a file that is there.

        Raises:
            Invalid: the server refuses it.
            Unavailable: the connection was lost, or the server's disk is full.
        """
        digest = f"sha256:{sha256.removeprefix('sha256:')}"
        with self._speaking(name):
            self._followed(self.client.create(name, files={file: digest}, stream=True, **told), name)

    def copy(self, source: str, name: str) -> None:
        """Let a name stand for what another stands for."""
        with self._speaking(name):
            self.client.copy(source, name)

    def delete(self, name: str) -> None:
        """Remove a name; fine where it is gone."""
        import ollama

        with self._speaking(name):
            try:
                self.client.delete(name)
            except ollama.ResponseError as error:
                if error.status_code != 404:
                    raise

    def push(self, name: str) -> None:
        """Send a model from the server to the registry it belongs to.

        Raises:
            Invalid: the registry refuses it.
            Unavailable: the connection was lost.
        """
        with self._speaking(name, pushing=True):
            self._followed(self.client.push(name, stream=True), _("push {name}", name=name))

    def rendered(self, name: str, messages: list[Message], think: bool | None) -> str | None:
        """The prompt that the server makes of messages; None where it does not tell, as older ones do not."""
        body = {"model": name, "messages": messages, "stream": False, "_debug_render_only": True}
        # One that does not know what it is asked answers instead, as briefly as can be.
        body |= {"options": {"num_predict": 1}} | ({} if think is None else {"think": think})
        with self._speaking(name):
            told = self._told(self._http.post("/api/chat", json=body))
        shown = (told.get("_debug_info") or {}).get("rendered_template")
        return None if shown is None else str(shown)

    def answer(self, name: str, messages: list[Message], options: dict[str, Any], **more: Any) -> Any:
        """The answer to a conversation."""
        with self._speaking(name):
            return self.client.chat(name, messages, options=options, **more)

    def _followed(self, told: Any, label: str) -> None:
        """What a long request says on its way, until it says that it is done."""
        done, at = False, ""
        with contextlib.ExitStack() as stack:
            for part in told:
                if part.total and part.digest != at:
                    stack.close()
                    at, moved = part.digest, 0
                    title = f"{label}: {lines.cut(str(part.status), 40)}, MB"
                    bar = stack.enter_context(progress.bar(title, _chunks(part.total)))
                if part.total and part.completed:
                    bar.advance(_chunks(part.completed) - moved)
                    moved = _chunks(part.completed)
                done = part.status == "success"
        if not done:
            raise _lost(self.address, _("it ended before it was done"))

    def _told(self, answer: Any) -> Any:
        """The body of an answer, once it is none of refusal."""
        import ollama

        if answer.status_code >= 400:
            raise ollama.ResponseError(answer.text, answer.status_code)
        return answer.json() if answer.content else {}

    @contextlib.contextmanager
    def _speaking(self, name: str, *, pushing: bool = False) -> Iterator[None]:
        """Within the block, what goes wrong between us and the server is told as a problem."""
        import httpx
        import ollama

        try:
            yield
        except ollama.ResponseError as error:
            raise self._refused(error, name, pushing) from error
        except (httpx.HTTPError, httpx.StreamError, ConnectionError) as error:
            raise _lost(self.address, str(error) or type(error).__name__) from error
        except ValueError as error:
            raise _lost(self.address, _("its answer cannot be read")) from error

    def _refused(self, error: Any, name: str, pushing: bool) -> Problem:
        said = lines.cut(str(error.error), 300)
        low, status = said.lower(), error.status_code
        if "no space left" in low or "not enough space" in low:
            return Unavailable(
                _("the disk of the Ollama server at {host} is full", host=self.address),
                cause=said,
                mend=_("remove models there (ollama rm NAME), then run this again"),
            )
        if pushing and ("quota" in low or "too large" in low or status in (402, 413, 429)):
            return Invalid(
                _("the registry takes no more: {name}", name=name),
                cause=said,
                mend=_("look at the account's limits, remove models there, then run this again"),
            )
        if pushing and any(word in low for word in ("unauthor", "denied", "permission", "access", "not signed in")):
            return _unsigned(name, said)
        if status in _NO_KEY:
            return (
                _unsigned(name, said)
                if pushing
                else Invalid(
                    _("the Ollama server at {host} wants a key", host=self.address),
                    cause=said,
                    mend=_("set the variable OLLAMA_API_KEY"),
                )
            )
        return Invalid(
            _("the Ollama server refuses {name}", name=name),
            cause=said,
            mend=_("update the server where it does not know the model's architecture; see its log otherwise"),
        )


def _unsigned(name: str, said: str) -> Invalid:
    return Invalid(
        _("{name} may not be pushed by this server", name=name),
        cause=said,
        mend=_("sign it in (ollama signin), and choose an owner that is yours: --model OWNER/NAME"),
    )


def _lost(host: str, cause: str) -> Unavailable:
    return Unavailable(
        _("the Ollama server at {host} cannot be reached, or was lost on the way", host=host),
        cause=lines.cut(cause, 200),
        mend=_("see that it runs (ollama serve), then run this again: what is there is not sent twice"),
    )


def digest(shown: dict[str, Any]) -> str | None:
    """The hash of the file that a model at a server is made of, as it tells it; None where it does not."""
    found = _BLOB.search(str(shown.get("modelfile") or ""))
    return f"sha256:{found[1]}" if found else None


def _chunks(size: int) -> int:
    return -(-int(size) // _CHUNK)


def _pieces(path: Path, bar: progress.Bar) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece
            bar.advance()
