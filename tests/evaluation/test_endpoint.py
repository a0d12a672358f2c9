"""Models behind an address: a real one on test rows, cut connections, and what servers do rarely."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, reviews
from fixtures_llm import Door, FakeChat, LlamaServer, Said, Script

from nlp_skills.data import llm_providers
from nlp_skills.data.llm_providers import Token
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation.answering import ask, endpoint, token_logs
from nlp_skills.evaluation.answering.endpoint import Endpoint
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Question
from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling
from nlp_skills.workspace.folder import TaskFolder

KEY = "sk-planted-7f3a91"
GREEDY = Sampling(max_new_tokens=16, seed=42)
LABEL = {"type": "string", "enum": list(LABELS)}
BARE = OutputFormat.model_validate({"type": "text", "schema": {"label": LABEL}})
SIDES = OutputFormat.model_validate(
    {"type": "text", "schema": {"side": {"type": "string", "enum": ["positive", "negative"]}}}
)
RECORD = OutputFormat.model_validate({"schema": {"label": LABEL, "urgent": {"type": "boolean"}}})
ROWS = reviews(5)
Start = Callable[[Script], FakeChat]


@pytest.fixture
def folder(make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(llm_providers, "RETRIES", 0)
    return TaskFolder.at(make_task())


def written(folder: TaskFolder, url: str, **settings: Any) -> LlmSettings:
    """The endpoint's settings, as they come from task.yaml."""
    found = {"model": "smollm2", "base_url": f"{url}/v1", "max_tokens": 24, **settings}
    with open(folder.task_path, "a") as stream:
        stream.write(f"evaluation:\n  endpoint: {json.dumps(found)}\n")
    evaluation = folder.task().evaluation
    assert evaluation is not None
    assert evaluation.endpoint is not None
    return evaluation.endpoint


def shown(count: int) -> list[Question]:
    """Questions with answers to earlier ones, after which the model hardly thinks of anything but the labels."""
    earlier = [
        {"role": role, "content": text}
        for text, side in [("I love it.", "positive"), ("It broke.", "negative")] * 3
        for role, text in (("user", text), ("assistant", json.dumps({"side": side})))
    ]
    return [
        Question(at, [*earlier, {"role": "user", "content": f"It is {'fine' if at else 'bad'}."}])
        for at in range(count)
    ]


def questions(count: int = 5) -> list[Question]:
    return [
        Question(number, [{"role": "user", "content": f"Positive, neutral or negative?\n{row['text']}"}])
        for number, row in enumerate(ROWS[:count])
    ]


def answered(scorer: Endpoint, count: int = 5, output: OutputFormat | None = BARE) -> dict[int, Any]:
    return {said.row: said for said in scorer.generate(questions(count), GREEDY, output)}


def asked(scorer: Endpoint, partial: Path) -> list[Any]:
    """The way `evaluate` asks."""
    renderer = Renderer("Positive, neutral or negative?\n{text}", BARE)
    return ask.ask(scorer, ROWS, renderer, "label", GREEDY, Partial(partial, scorer.fingerprint), "endpoint")


def test_a_real_model_gives_labels_their_probability_and_records(folder: TaskFolder, door: Door) -> None:
    settings = written(folder, door.url)
    scorer = endpoint.open(settings, folder)
    first = {said.row: said for said in scorer.generate(shown(2), GREEDY, SIDES)}
    assert all(said.text in ("positive", "negative") for said in first.values())
    # The model is greedy: it takes the likelier of two.
    assert all(0.5 < said.probability <= 1 for said in first.values())
    assert len({said.prompt_sha256 for said in first.values()}) == 2
    assert all(said.seconds > 0 and not said.cut for said in first.values())
    assert door.questions == 2
    again = endpoint.open(settings, folder)
    assert {said.row: said for said in again.generate(shown(2), GREEDY, SIDES)} == first
    assert door.questions == 2
    # As an object, the very answer that was recorded is the text itself.
    whole = OutputFormat.model_validate({"schema": SIDES.schema_})
    (said,) = scorer.generate(shown(1), GREEDY, whole)
    assert Renderer("{text}", whole).parse(said.text) == {"side": first[0].text}
    assert door.questions == 2
    free = answered(scorer, 2, None)
    assert all(said.text not in LABELS for said in free.values())
    assert all(0 < said.probability < 1 for said in free.values())
    assert scorer.cost is None
    scorer.close()


class Cutting(Door):
    """A door that slams in the middle of every answer after the first few."""

    def __init__(self, behind: str, good: int) -> None:
        super().__init__(behind)
        handler = self.server.RequestHandlerClass
        passed, lock, left = handler.do_POST, threading.Lock(), [good]

        def do_post(self: Any) -> None:
            with lock:
                left[0] -= 1
            if left[0] >= 0:
                passed(self)
                return
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(b'HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"choices": [')
            self.close_connection = True

        handler.do_POST = do_post  # type: ignore[attr-defined]


@pytest.fixture
def cutting(llama: LlamaServer) -> Iterator[Cutting]:
    opened = Cutting(llama.address, good=2)
    yield opened
    opened.close()


def test_a_connection_cut_midway_goes_on_where_it_stopped(
    folder: TaskFolder, cutting: Cutting, llama: LlamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER", cutting.url)
    settings = written(folder, "${SERVER}", concurrency=1, api_key=KEY)
    partial = folder.root / "endpoint.partial"
    scorer = endpoint.open(settings, folder)
    with pytest.raises(Unavailable) as caught:
        asked(scorer, partial)
    told = json.dumps(caught.value.as_dict())
    assert "${SERVER}/v1 cannot be reached" in told
    assert KEY not in told + partial.read_text() + scorer.recording.path.read_text()
    assert str(caught.value.file).endswith("task.yaml")
    assert caught.value.line is not None
    assert "answers so far are kept" in told
    kept = partial.read_text().splitlines()[1:]
    assert len(kept) == 2
    # The server is well again: only what is missing is asked for.
    through = Door(llama.address)
    monkeypatch.setenv("SERVER", through.url)
    resumed = endpoint.open(settings, folder)
    answers = [*Partial(partial, scorer.fingerprint).read()]
    found = ask.ask(
        resumed,
        ROWS,
        Renderer("Positive, neutral or negative?\n{text}", BARE),
        "label",
        GREEDY,
        Partial(partial, scorer.fingerprint),
        "endpoint",
    )
    assert answers == [0, 1]
    assert through.questions == 3
    assert all(answer.predicted in LABELS for answer in found)
    through.close()


def test_one_that_fails_leaves_the_others_answers(folder: TaskFolder, fake_chat: Start) -> None:
    def script(body: dict[str, Any]) -> Said:
        if ROWS[1]["text"] in body["messages"][-1]["content"]:
            return Said(status=400, error="the request exceeds the available context size")
        return Said('{"label": "neutral"}', hang=0.3)

    scorer = endpoint.open(written(folder, fake_chat(script).url, concurrency=3), folder)
    kept: list[int] = []
    with pytest.raises(Invalid) as caught:
        kept.extend(said.row for said in scorer.generate(questions(), GREEDY, None))
    assert sorted(kept) == [0, 2]
    assert str(caught.value.cause).startswith("at row 2: the request exceeds")
    assert "task.yaml" in str(caught.value.mend)


def test_silence_a_wrong_key_and_an_unknown_model(
    folder: TaskFolder, fake_chat: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", KEY)
    said = {"slow": Said("too late", hang=1), "locked": Said(status=401, error=f"no {KEY}"), "gone": Said(status=404)}
    fake = fake_chat(lambda body: said[body["model"]])
    settings = written(folder, fake.url, model="slow", timeout=0.3, api_key="${LLM_KEY}")
    for model, kind, words in (
        ("slow", Unavailable, "no answer in 0.3 s"),
        ("locked", Invalid, "refuses the key"),
        ("gone", Invalid, "does not know the model gone"),
    ):
        scorer = endpoint.open(settings.model_copy(update={"model": model}), folder)
        with pytest.raises(kind, match=words) as caught:
            answered(scorer)
        assert KEY not in json.dumps(caught.value.as_dict())
        assert caught.value.mend
        assert caught.value.line == len(folder.task_path.read_text().splitlines())
    assert "row" not in str(caught.value.cause)
    with pytest.raises(Invalid, match="NO_SUCH_KEY") as caught:
        answered(endpoint.open(settings.model_copy(update={"api_key": "${NO_SUCH_KEY}"}), folder))
    assert "evaluation.endpoint.api_key needs it" in str(caught.value.cause)


def test_a_silent_server_does_not_hold_us_after_ctrl_c(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(lambda body: Said("late", hang=2 if "late" in body["messages"][-1]["content"] else 90))
    written(folder, fake.url)
    code = (
        "from pathlib import Path; from nlp_skills.evaluation.answering import endpoint;"
        "from nlp_skills.evaluation.answering.scorer import Question; from nlp_skills.schema.version import Sampling;"
        "from nlp_skills.workspace.folder import TaskFolder;"
        f"folder = TaskFolder(Path({str(folder.root)!r}));"
        "asked = [Question(0, [{'role': 'user', 'content': text}]) for text in ('late', 'never')];"
        "scorer = endpoint.open(folder.task().evaluation.endpoint, folder);"
        "list(scorer.generate(asked, Sampling(max_new_tokens=4), None))"
    )
    ours = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while fake.questions < 2:
        time.sleep(0.05)
    ours.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in ours.communicate(timeout=60)[1]
    # What was under way is paid for: it was waited for, and is recorded.
    assert '"late"' in endpoint.recording_path(folder, "endpoint").read_text()


def test_what_a_server_refuses_is_left_out_and_said(
    folder: TaskFolder, fake_chat: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    def script(body: dict[str, Any]) -> Said:
        for name in ("logprobs", "temperature", "top_p"):
            if name in body:
                return Said(status=400, error=f"Unsupported parameter: {name}")
        return Said("positive, I should say", finish="stop")

    fake = fake_chat(script)
    scorer = endpoint.open(written(folder, fake.url, concurrency=1), folder)
    sampling = Sampling(temperature=0.7, top_p=0.9, max_new_tokens=8, seed=3)
    said = {one.row: one for one in scorer.generate(questions(3), sampling, BARE)}
    # Taken at its word: whoever parses it will see that it is no label.
    assert {one.text for one in said.values()} == {"positive, I should say"}
    assert {one.probability for one in said.values()} == {None}
    assert scorer.dropped == ["logprobs", "temperature", "top_p"]
    assert fake.requests[-1][2]["seed"] == 3
    shown = capfd.readouterr().err
    assert shown.count("without temperature") == 1
    assert fake.questions == 6


def test_other_protocols_prices_and_the_answers_form(
    folder: TaskFolder, fake_chat: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    fake = fake_chat(lambda body: Said('{"label": "negative"}', finish="stop"))
    for provider in ("anthropic", "google"):
        settings = LlmSettings.model_validate(
            {
                "model": "fake-small",
                "provider": provider,
                "base_url": fake.url,
                "api_key": KEY,
                "price": {"input": 1, "output": 2},
            }
        )
        scorer = endpoint.open(settings, folder)
        assert {said.text for said in answered(scorer, 2).values()} == {"negative"}
        assert scorer.cost == pytest.approx(2 * (100 + 2 * 50) / 1e6)
        assert answered(scorer, 2)
        assert scorer.cost == pytest.approx(scorer.worth / 2)
        scorer.close()
        assert "fake-small: $0.0004 paid" in capfd.readouterr().err
    whole = answered(endpoint.open(settings, folder), 1, RECORD)[0]
    assert whole.text == '{"label": "negative"}'
    with pytest.raises(Invalid, match="max_cost") as caught:
        endpoint.open(written(folder, fake.url, max_cost=1), folder)
    assert str(caught.value.file).endswith("task.yaml")


def test_a_system_prompt_of_the_settings_takes_the_place_of_the_versions(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(lambda body: Said("fine"))
    scorer = endpoint.open(written(folder, fake.url, system_prompt="Be brief."), folder)
    messages = [{"role": "system", "content": "As trained."}, {"role": "user", "content": "Hello"}]
    list(scorer.generate([Question(0, messages)], GREEDY, None))
    assert fake.requests[0][2]["messages"] == [{"role": "system", "content": "Be brief."}, messages[1]]


def token(text: str, **likely: float) -> Token:
    import math

    told = tuple((name.replace("_", "").encode(), math.log(share)) for name, share in likely.items())
    return Token(text.encode(), math.log(likely.get(text, 0.5)), told)


LABELLED = '{"label": "positive"}'
SPELLED = [json.dumps(label) for label in LABELS]


def share(place: Token, *, labels: list[str] = SPELLED) -> float | None:
    return token_logs.of_label([token('{"label": "'), place, token('"}')], LABELLED, 0, labels)


def test_a_labels_share_is_read_where_labels_part() -> None:
    sure = share(token("positive", positive=0.6, negative=0.15, neutral=0.05, other=0.2 - 1e-9, tiny=1e-9))
    assert sure == pytest.approx(0.75)
    # "ne" could be either of two labels.
    assert share(token("positive", positive=0.6, ne=0.3, tiny=1e-9)) is None
    # A label that is not told may have as much as the least of those that are.
    assert share(token("positive", positive=0.5, negative=0.2, other=0.2)) is None
    assert share(token("positive", positive=0.9, negative=0.05, other=0.0001)) == pytest.approx(0.9 / 0.95)
    # A label that begins like another one is told from it by the quotation mark.
    longer = ['"positive"', '"positively bad"', '"bad"']
    tokens = [token('{"label": "'), token("positive", positive=0.8, bad=0.2, tiny=1e-9)]
    end = Token(b'"}', -0.1, ((b'"}', -0.105), (b"ly", -2.3), (b"x", -20.0)))
    assert token_logs.of_label([*tokens, end], LABELLED, 0, longer) is None
    assert token_logs.of_label([*tokens, end], LABELLED, 0, longer[:2]) == pytest.approx(0.9, abs=0.01)
    assert token_logs.of_label([], LABELLED, 0, SPELLED) is None


def test_half_characters_are_followed_by_their_bytes() -> None:
    labels = ['"正面"', '"負面"']
    text = '{"label": "正面"}'
    half = "正".encode()[:2]
    place = Token(half, -0.2, ((half, -0.2), ("負".encode()[:1], -1.8), (b"x", -15.0)))
    rest = Token('正面"}'.encode()[2:], -0.01)
    tokens = [Token(b'{"label": "', 0.0), place, rest]
    found = token_logs.of_label(tokens, text, 0, labels)
    assert found == pytest.approx(0.83, abs=0.01)
    assert token_logs.of_text(tokens, text) == pytest.approx(0.81, abs=0.01)
    assert token_logs.of_text(tokens, text + "?") is None
