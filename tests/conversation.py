"""A conversation in the real client, held from both ends: what the person types and picks, what the model does.

The model's side answers when the client asks, from the thread of the test: a reply may depend on what the model
was shown last, and the test reads from top to bottom as the conversation went.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from claude_code import Model, Reply, Session, _texts, call, text
from conftest import ROOT

TOOLS = "Bash,Write,Edit,Read,Skill,Agent"
LIMIT = 180  # seconds that one step may take


@dataclass(frozen=True)
class Question:
    """One question of AskUserQuestion, and what the person answers: the first option, or words of their own."""

    words: str
    header: str
    options: tuple[tuple[str, str], ...]
    own: str | None = None

    @property
    def answer(self) -> str:
        return self.own or self.options[0][0]

    @property
    def asked(self) -> dict[str, Any]:
        options = [{"label": label, "description": what} for label, what in self.options]
        return {"question": self.words, "header": self.header, "multiSelect": False, "options": options}


@dataclass(frozen=True)
class Seen:
    """One request of the client: what the model is shown, of which `new` came since its last reply."""

    request: dict[str, Any]

    @property
    def system(self) -> str:
        return "\n".join(_texts(self.request["system"]))

    @property
    def _since(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.request["messages"]
        spoken = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
        return messages[spoken[-1] + 1 :] if spoken else messages

    @property
    def new(self) -> str:
        return "\n".join(_texts(self._since))

    @property
    def ours(self) -> list[str]:
        """Each time one of our hooks spoke: from the tag to the end of the reminder around it."""
        return [part.split("</system-reminder>")[0].strip() for part in self.new.split("[nlp-skills] ")[1:]]

    @property
    def _results(self) -> list[dict[str, Any]]:
        blocks = [
            block for message in self._since if isinstance(message["content"], list) for block in message["content"]
        ]
        return [block for block in blocks if block["type"] == "tool_result"]

    @property
    def result(self) -> str:
        """What the tool gave back."""
        return "\n".join(_texts(self._results))

    @property
    def failed(self) -> bool:
        return any(block.get("is_error") for block in self._results)

    @property
    def json(self) -> Any:
        assert not self.failed, self.result
        return json.loads(self.result)


class Spoken(Model):
    """The Messages API whose replies are given one at a time, by whoever holds the conversation."""

    def __init__(self) -> None:
        self.heard: queue.Queue[dict[str, Any] | None] = queue.Queue()  # None: the client is gone
        self.replies: queue.Queue[Reply] = queue.Queue()
        super().__init__()

    def answer(self, body: dict[str, Any]) -> Reply:
        if not body.get("tools"):
            return [text("ok")]
        self.requests.append(body)
        self.heard.put(body)
        return self.replies.get()


class Talk:
    """One session: `say` is the person's turn, `play` and `ask` are steps of the model's, `tell` ends it."""

    def __init__(self, program: Path, environment: dict[str, str], folder: Path, errors: Path) -> None:
        self.model = Spoken()
        self.asked: list[dict[str, Any]] = []  # the questions that reached the person
        self.told: list[str] = []  # what the person was told at the end of each turn
        self._answers: dict[str, str] = {}
        self._events: list[dict[str, Any]] = []
        self._ends: queue.Queue[str] = queue.Queue()
        self._errors = errors
        with open(errors, "w") as stderr:
            self._client = subprocess.Popen(
                [program, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
                 "--include-hook-events", "--permission-prompt-tool", "stdio", "--plugin-dir", ROOT,
                 "--allowedTools", TOOLS],
                cwd=folder, env={**environment, "ANTHROPIC_BASE_URL": self.model.url},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8",
            )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, words: str) -> Seen:
        """The person types; returns what the model is shown then."""
        self._send({"type": "user", "message": {"role": "user", "content": words}})
        return self._next()

    def play(self, reply: Reply) -> Seen:
        """The model replies; returns what it is shown after the tool ran."""
        self.model.replies.put(reply)
        return self._next()

    def ask(self, *questions: Question) -> Seen:
        """The model asks the person, who answers."""
        self._answers = {question.words: question.answer for question in questions}
        return self.play(call("AskUserQuestion", questions=[question.asked for question in questions]))

    def tell(self, words: str) -> None:
        """The model ends its turn with words for the person."""
        self.model.replies.put([text(words)])
        self.told.append(self._ends.get(timeout=LIMIT))

    def end(self) -> Session:
        """The person leaves; returns what the client printed and asked, from first to last."""
        assert self._client.stdin is not None
        self._client.stdin.close()
        assert self._client.wait(timeout=30) == 0, self._errors.read_text()
        return Session(self._events, self.model.requests, self._errors.read_text())

    def drop(self) -> None:
        """Whatever is left of it, however the test went."""
        self.model.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # it is cut off on purpose
        self.model.replies.put([text("done")])  # a request that is still open must not keep its thread
        self._client.kill()
        self._client.wait()
        self.model.server.shutdown()
        self.model.server.server_close()

    def _next(self) -> Seen:
        try:
            request = self.model.heard.get(timeout=LIMIT)
        except queue.Empty:
            request = None
        if request is None:
            pytest.fail(f"the client asked nothing more: {self._events[-3:]} {self._errors.read_text()[-2000:]}")
        return Seen(request)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._client.stdin is not None
        self._client.stdin.write(json.dumps(message) + "\n")
        self._client.stdin.flush()

    def _listen(self) -> None:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            event = json.loads(line)
            if event["type"] == "control_request":
                self._decide(event["request_id"], event["request"])
            elif event["type"] == "result":
                self._ends.put(event.get("result") or "")
            self._events.append(event)
        self.model.heard.put(None)

    def _decide(self, number: str, request: dict[str, Any]) -> None:
        """What the person does when the client turns to them: a question is answered, all else is refused."""
        given = request.get("input") or {}
        if request.get("tool_name") == "AskUserQuestion":
            self.asked += given["questions"]
            decision = {"behavior": "allow", "updatedInput": {**given, "answers": self._answers}}
        else:
            decision = {"behavior": "deny", "message": f"the test allows no {request.get('tool_name')}"}
        response = {"subtype": "success", "request_id": number, "response": decision}
        self._send({"type": "control_response", "response": response})


@pytest.fixture
def talk(claude: Path, environment: dict[str, str], project: Path, tmp_path: Path) -> Iterator[Callable[..., Talk]]:
    """Begin a session in the project, in the locale of a person."""
    begun: list[Talk] = []

    def begin(locale: str = "en_US.UTF-8", **variables: str) -> Talk:
        # As with a real person, the language comes from the locale and nothing else.
        theirs = {name: value for name, value in environment.items() if name != "NLP_SKILLS_LANG"}
        theirs.update(LANG=locale, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", **variables)
        begun.append(Talk(claude, theirs, project, tmp_path / f"client-{len(begun)}.err"))
        return begun[-1]

    yield begin
    for one in begun:
        one.drop()
