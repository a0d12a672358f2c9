"""A GGUF file, asked through llama.cpp's own server (xllamacpp) in a process of its own on this machine.

The likelihood of given answers is sound here: a token is forced with a bias on its logit, and the server tells its
log-probability as the model gave it, before the bias (measured: equal to what a grammar that forces the token is told,
and to transformers on the same weights but for rounding). Chat completions would tell neither, so the server is
asked for completions of the prompt that it rendered itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nlp_skills import extras, files
from nlp_skills.data import rows as lines
from nlp_skills.data.render import Message
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.evaluation.answering import together
from nlp_skills.evaluation.answering.endpoint import closed
from nlp_skills.evaluation.answering.scorer import Likely, Question, Said, Way
from nlp_skills.i18n import _
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling

# Beyond any logit, so that the token it is put on is taken.
_FORCED = 1e6
_SERVER = Path(__file__).with_name("llamacpp_server.py")
_LOG_BYTES = 1_000_000


def open(  # noqa: A001
    gguf: Path,
    *,
    chat_template: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    parallel: int = 4,
    context: int = 4096,
    threads: int | None = None,
) -> LlamaCpp:
    """A scorer for a GGUF file, its server started and the model loaded.

    Args:
        gguf: the file.
        chat_template: in place of the file's own.
        chat_template_kwargs: what the template is given beside the messages.
        parallel: rows asked at a time.
        context: tokens that prompt and answer of a row may take together.
        threads: of the processor; as many as llama.cpp thinks best when left out.

    Raises:
        Invalid: there is no such file, it is not GGUF, or llama.cpp cannot load it.
        Unavailable: the extra is not installed.
    """
    extras.need("llamacpp", "xllamacpp")
    _check(gguf)
    if os.environ.get("NLP_SKILLS_DETERMINISTIC") == "1":
        parallel, threads = 1, 1
    told = {
        "model": str(gguf.resolve()),
        "parallel": parallel,
        "context": context,
        "threads": threads,
        "chat_template": chat_template,
    }
    return LlamaCpp(gguf, _Server(gguf, told), chat_template_kwargs or {})


def _check(gguf: Path) -> None:
    try:
        with gguf.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        mend = _("check the file's name")
        raise Invalid(_("the GGUF file cannot be read"), file=gguf, cause=error.strerror, mend=mend) from error
    if magic != b"GGUF":
        raise Invalid(_("this is not a GGUF file"), file=gguf, mend=_("name a file that llama.cpp's tools made"))


class _Server:
    """llama.cpp in a process that ends when this object is closed, or when our own process does, however it does."""

    def __init__(self, gguf: Path, told: dict[str, Any]) -> None:
        self.gguf, self.parallel = gguf, int(told["parallel"])
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: Ctrl-C is for us, who then close it. -P: its folder has modules named like packages.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        try:
            self.address = self._started(json.dumps(told))
        except BaseException:
            self.close()
            raise
        place = urlsplit(self.address)
        self._place = (place.hostname or "127.0.0.1", place.port)
        self._links = threading.local()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The server's answer; each thread that asks keeps a connection of its own.

        Raises:
            Invalid: it refuses the request.
            Unavailable: it is gone or broken.
        """
        try:
            status, answer = self._asked(path, json.dumps(body).encode())
            told = json.loads(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(
                _("llama.cpp has stopped"),
                file=self.gguf,
                cause=self.last_words() or str(error),
                mend=_("look at the memory it needs; answers so far are kept, run this again"),
            ) from error
        if status >= 400:
            raise self._refused(told, status)
        return told

    def _asked(self, path: str, body: bytes) -> tuple[int, bytes]:
        link: http.client.HTTPConnection | None = getattr(self._links, "one", None)
        if link is not None:
            try:
                return self._exchanged(link, path, body)
            except (OSError, http.client.HTTPException):
                # It closes connections that were at rest; whether it is gone, a new one tells.
                link.close()
        link = self._links.one = http.client.HTTPConnection(*self._place)
        link.connect()
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._exchanged(link, path, body)

    def _exchanged(self, link: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
        link.request("POST", path, body, {"content-type": "application/json"})
        answer = link.getresponse()
        return answer.status, answer.read()

    def last_words(self) -> str:
        """The first error the process wrote of, else the end of what it wrote."""
        # Not read, which would move the place where the process writes.
        written = os.pread(self.log.fileno(), _LOG_BYTES, 0).decode("utf-8", "replace").splitlines()
        errors = [line.partition(" E ")[2] for line in written if " E " in line]
        return lines.cut((errors or written[-1:] or [""])[0].strip(), 300)

    def close(self) -> None:
        """End the process."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _started(self, told: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(told + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            self.process.wait()
            mend = _("check that the file is whole and that its architecture is one llama.cpp knows")
            raise Invalid(_("llama.cpp cannot load the model"), file=self.gguf, cause=self.last_words(), mend=mend)
        return line.split()[1].rstrip("/")

    def _refused(self, told: Any, status: int) -> Problem:
        try:
            said = str(told["error"]["message"])
        except (KeyError, TypeError):
            said = str(status)
        return Invalid(
            _("llama.cpp refuses a row"), cause=lines.cut(said, 300), mend=_("shorten the row, or give more context")
        )


class LlamaCpp:
    """A `Scorer`; rows are asked in parallel, and a row's prompt is read once for all answers it is scored with."""

    backend = "llama.cpp"
    ways: tuple[Way, ...] = ("likelihood", "constrained", "free")

    def __init__(self, gguf: Path, server: _Server, chat_template_kwargs: dict[str, Any]) -> None:
        self.gguf, self.server, self.kwargs = gguf, server, chat_template_kwargs
        self.model = gguf.name
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(server.parallel):
            self._slots.put(slot)

    @cached_property
    def fingerprint(self) -> str:
        """Of the file and of the prompt's format."""
        shown = self.rendered([{"role": "user", "content": "?"}])
        return files.sha256_bytes(lines.canonical([files.sha256_file(self.gguf), self.kwargs, shown]))

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """As `Scorer.likelihood`.

        Raises:
            Invalid: a row is longer than the context, or the chat template refuses it.
            Unavailable: the server is gone.
        """
        if not questions:
            return
        first = questions[0].messages
        tails = [self.tokens(self._after(first, answer), begins=False) for answer in answers]
        yield from together.asked(lambda one: self._likely(one, tails), questions, self.server.parallel)

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """As `Scorer.generate`; `probability` is that of the whole text and its end, as the model gave it.

        Raises:
            Invalid: as `likelihood`; or llama.cpp cannot enforce the schema.
            Unavailable: the server is gone.
        """
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n_predict": sampling.max_new_tokens,
            "seed": -1 if sampling.seed is None else sampling.seed,
            # Nothing but temperature and top_p decides, as in the other backends.
            "samplers": ["top_p", "temperature"],
            "n_probs": 1,
            **constraint(output),
        }
        tells = output is not None and not sampling.temperature
        yield from together.asked(lambda one: self._said(one, settings, tells), questions, self.server.parallel)

    def close(self) -> None:
        """End the server."""
        self.server.close()

    def _likely(self, question: Question, tails: Sequence[list[int]]) -> Likely:
        started = time.monotonic()
        with self._asking(question) as slot:
            prompt = self.rendered(question.messages)
            logs = self._logs(self.tokens(prompt), tails, slot)
        return Likely(question.row, logs, files.sha256_bytes(prompt.encode()), time.monotonic() - started)

    def _said(self, question: Question, settings: dict[str, Any], tells: bool) -> Said:
        """`tells`: whether a token that is not the likeliest must be the schema's doing."""
        started = time.monotonic()
        with self._asking(question) as slot:
            prompt = self.rendered(question.messages)
            found = self.server.post("/completion", {**settings, "prompt": self.tokens(prompt), "id_slot": slot})
        tokens = found["completion_probabilities"]
        return Said(
            row=question.row,
            text=found["content"],
            prompt_sha256=files.sha256_bytes(prompt.encode()),
            seconds=time.monotonic() - started,
            probability=math.exp(sum(token["logprob"] for token in tokens)),
            cut=found["stop_type"] == "limit",
            bent=any(token["id"] != token["top_logprobs"][0]["id"] for token in tokens) if tells else None,
        )

    @contextlib.contextmanager
    def _asking(self, question: Question) -> Iterator[int]:
        """A slot of the server for one row; what goes wrong is of that row."""
        slot = self._slots.get()
        try:
            yield slot
        except Invalid as problem:
            problem.cause = _("at row {row}: {cause}", row=question.row + 1, cause=problem.cause or "")
            raise
        finally:
            self._slots.put(slot)

    def _logs(self, prompt: list[int], tails: Sequence[list[int]], slot: int) -> list[float]:
        """Each tail's log-probability after the prompt; tokens that tails begin with together are asked for once."""
        known: dict[tuple[int, ...], float] = {}
        for tail in tails:
            for end in range(1, len(tail) + 1):
                begun = tuple(tail[:end])
                if begun not in known:
                    known[begun] = self._forced([*prompt, *begun[:-1]], begun[-1], slot)
        return [sum(known[tuple(tail[:end])] for end in range(1, len(tail) + 1)) for tail in tails]

    def _forced(self, before: list[int], token: int, slot: int) -> float:
        """A token's log-probability after others."""
        body = {"prompt": before, "id_slot": slot, "n_predict": 1, "n_probs": 1, "temperature": 0.0}
        found = self.server.post("/completion", {**body, "logit_bias": [[token, _FORCED]]})
        told = found["completion_probabilities"][0]
        if told["id"] != token:
            raise Unavailable(_("this llama.cpp does not take the token it is told to"), file=self.gguf)
        return float(told["logprob"])

    def rendered(self, messages: Sequence[Message], *, answered: bool = False) -> str:
        """The prompt as the server's chat template makes it; `answered`: the last message is the whole answer.

        Raises:
            Invalid: the template refuses the messages.
            Unavailable: the server is gone.
        """
        body = {
            "messages": list(messages),
            "chat_template_kwargs": self.kwargs,
            "add_generation_prompt": not answered,
        }
        return str(self.server.post("/apply-template", body)["prompt"])

    def _after(self, messages: Sequence[Message], answer: str) -> str:
        """What follows the prompt where this is the answer, the end of the turn included."""
        prompt = self.rendered(messages)
        whole = self.rendered([*messages, {"role": "assistant", "content": answer}], answered=True)
        if not whole.startswith(prompt):
            raise Invalid(
                _("the prompt is not the beginning of prompt and answer together"),
                file=self.gguf,
                mend=_(
                    "set training.chat_template_kwargs so that both agree, such as enable_thinking: false for Qwen3"
                ),
            )
        return whole[len(prompt) :].rstrip()

    def tokens(self, text: str, *, begins: bool = True) -> list[int]:
        """Token ids of a text as the server reads it; `begins`: nothing stands before it."""
        body = {"content": text, "add_special": begins, "parse_special": True}
        return list(self.server.post("/tokenize", body)["tokens"])


def constraint(output: OutputFormat | None) -> dict[str, Any]:
    """What llama.cpp is told so that only answers of this form come: a grammar or a JSON Schema, or nothing."""
    if output is None:
        return {}
    if output.type == "json":
        return {"json_schema": _as_dumped(output.json_schema())}
    (prop,) = output.schema_.values()
    if prop.type != "string":
        return {"json_schema": _as_dumped(prop.model_dump(exclude_none=True))}
    # A literal of its grammars is spelled as one of JSON.
    choices = " | ".join(json.dumps(str(choice), ensure_ascii=False) for choice in prop.choices)
    return {"grammar": f"root ::= {choices}"} if choices else {}


def _as_dumped(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the white space of training; left free, a model may go on with line breaks until it is cut."""
    spaces = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {**closed(schema), "x-guidance": spaces}
