"""Asking models: three providers through their own packages, a real server, and everything that goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_llm import Door, FakeChat, LlamaServer, Said, Script

from nlp_skills.data import llm, llm_providers
from nlp_skills.data.llm import Budget, Model, OverBudget
from nlp_skills.data.sources.recording import Recording
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema.source import LlmSettings
from nlp_skills.workspace.folder import TaskFolder

KEY = "sk-planted-7f3a91"
HELLO = [{"role": "user", "content": "Say hello."}]
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["word"],
    "additionalProperties": False,
}
Start = Callable[[Script], FakeChat]


@pytest.fixture
def folder(make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "LLM_KEY"):
        monkeypatch.delenv(name, raising=False)
    return TaskFolder.at(make_task())


def model_of(folder: TaskFolder, fake: FakeChat | str, provider: str = "openai", **settings: Any) -> Model:
    url = fake if isinstance(fake, str) else fake.url
    base = {"model": "fake-small", "provider": provider, "base_url": url + ("/v1" if provider == "openai" else "")}
    return Model.of(LlmSettings.model_validate({**base, **settings}), folder)


def problem(model: Model, **asked: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        model.ask(HELLO, **asked)
    assert caught.value.mend
    assert KEY not in json.dumps(caught.value.as_dict())
    return caught.value


def test_a_real_model_keeps_to_the_schema_and_to_its_seed(folder: TaskFolder, llama: LlamaServer) -> None:
    model = model_of(folder, llama.address, model="smollm2", max_tokens=64)
    first = model.ask(HELLO, schema=SCHEMA, seed=5)
    assert json.loads(first.text)["word"] in ("yes", "no")
    assert (first.finish, first.replayed, first.cost) == ("stop", False, None)
    assert first.input_tokens > 0
    assert first.output_tokens > 0
    assert model.ask(HELLO, schema=SCHEMA, seed=5).text == first.text
    cut = model_of(folder, llama.address, model="smollm2", max_tokens=3).ask([{"role": "user", "content": "Count."}])
    assert cut.finish == "length"


def test_the_same_question_is_asked_once(folder: TaskFolder, door: Door, tmp_path: Path) -> None:
    recording = Recording(tmp_path / "recorded.jsonl")
    model = model_of(folder, door.url, model="smollm2", max_tokens=16)
    first = model.ask(HELLO, recording=recording)
    again = model_of(folder, door.url, model="smollm2", max_tokens=16).ask(
        HELLO, recording=Recording(tmp_path / "recorded.jsonl")
    )
    assert (again.text, again.replayed, again.cost, again.id) == (first.text, True, 0.0, first.id)
    assert door.questions == 1
    model.ask(HELLO, recording=recording, turn=1)
    model.ask(HELLO, recording=recording, seed=43)
    assert door.questions == 3


def test_replaying_needs_no_key_no_server_and_no_package(folder: TaskFolder, fake_chat: Start, tmp_path: Path) -> None:
    fake = fake_chat(lambda body: Said("hello"))
    path = tmp_path / "recorded.jsonl"
    (folder.root / ".env").write_text(f"LLM_KEY={KEY}\n")
    settings = {"api_key": "${LLM_KEY}"}
    model_of(folder, fake, **settings).ask(HELLO, recording=Recording(path))
    assert fake.requests[0][1]["authorization"] == f"Bearer {KEY}"
    assert KEY not in path.read_text()
    (folder.root / ".env").unlink()
    fake.close()
    loaded = "openai" in sys.modules
    assert model_of(folder, fake, **settings).ask(HELLO, recording=Recording(path)).text == "hello"
    assert loaded
    code = (
        "import sys; from pathlib import Path; from nlp_skills.data.llm import Model;"
        "from nlp_skills.data.sources.recording import Recording; from nlp_skills.schema.source import LlmSettings;"
        "from nlp_skills.workspace.folder import TaskFolder;"
        f"m = Model.of(LlmSettings(model='fake-small', base_url='{fake.url}/v1'), TaskFolder(Path('{folder.root}')));"
        f"print(m.ask({HELLO!r}, recording=Recording(Path('{path}'))).text, 'openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["hello", "False"]


def test_what_is_recorded_says_where_it_came_from(folder: TaskFolder, fake_chat: Start, tmp_path: Path) -> None:
    fake = fake_chat(lambda body: Said("bad half \ud83d."))
    recording = Recording(tmp_path / "r.jsonl")
    model = model_of(folder, fake, price={"input": 1, "output": 10}, temperature=0.5, max_tokens=99)
    answer = model.ask(HELLO, recording=recording)
    assert answer.text == "bad half ?."
    assert answer.cost == pytest.approx(0.0006)
    (line,) = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert line["answer"].pop("seconds") == answer.seconds
    assert line["answer"] == {
        "text": "bad half ?.",
        "finish": "stop",
        "input_tokens": 100,
        "output_tokens": 50,
        "cost": answer.cost,
        "id": "chatcmpl-fake",
        "provider": "openai",
        "model": "fake-small",
        "params": {"temperature": 0.5, "max_tokens": 99, "seed": 42},
    }


def test_three_protocols_say_the_same(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(lambda body: Said('{"word": "yes"}'))
    settings = {"system_prompt": "Be brief.", "temperature": 0.3, "max_tokens": 77, "seed": 7, "api_key": KEY}
    for provider in ("openai", "anthropic", "google"):
        answer = model_of(folder, fake, provider, **settings).ask(HELLO, schema=SCHEMA)
        assert (answer.text, answer.input_tokens, answer.output_tokens) == ('{"word": "yes"}', 100, 50)
        assert (answer.finish, answer.id is not None, answer.model is not None) == ("stop", True, True)
    openai, anthropic, google = [body for _path, _headers, body in fake.requests]
    assert openai["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (openai["temperature"], openai["max_tokens"], openai["seed"]) == (0.3, 77, 7)
    assert openai["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (anthropic["system"], anthropic["temperature"], anthropic["max_tokens"]) == ("Be brief.", 0.3, 77)
    assert anthropic["messages"] == HELLO
    assert anthropic["output_config"]["format"]["type"] == "json_schema"
    assert google["systemInstruction"]["parts"][0]["text"] == "Be brief."
    config = google["generationConfig"]
    assert (config["temperature"], config["maxOutputTokens"], config["seed"]) == (0.3, 77, 7)
    assert config["responseJsonSchema"]["properties"]["word"]["enum"] == ["yes", "no"]
    headers = [headers for _path, headers, _body in fake.requests]
    assert [one["authorization"] for one in headers[:2]] == [f"Bearer {KEY}"] * 2
    assert headers[2]["x-goog-api-key"] == KEY


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_a_server_without_schemas_is_told_in_words_and_remembered(
    folder: TaskFolder, fake_chat: Start, provider: str
) -> None:
    def script(body: dict[str, Any]) -> Said:
        with_schema = "response_format" in body or "output_config" in body
        with_schema |= "responseJsonSchema" in body.get("generationConfig", {})
        return Said(status=400, error="json_schema is not available here") if with_schema else Said('{"word": "no"}')

    fake = fake_chat(script)
    model = model_of(folder, fake, provider, api_key=KEY)
    assert model.ask(HELLO, schema=SCHEMA).text == '{"word": "no"}'
    assert fake.questions == 2
    assert "JSON Schema" in json.dumps(fake.requests[-1][2])
    model.ask(HELLO, schema=SCHEMA)
    assert fake.questions == 3


def test_newer_words_for_parameters_are_found_out(folder: TaskFolder, fake_chat: Start) -> None:
    def script(body: dict[str, Any]) -> Said:
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return Said(status=400, error=words)
        if "temperature" in body:
            return Said(status=400, error="Unsupported value: 'temperature' does not support 0.3 with this model.")
        return Said("fine")

    fake = fake_chat(script)
    model = model_of(folder, fake, temperature=0.3, max_tokens=55)
    assert model.ask(HELLO).text == "fine"
    assert fake.requests[-1][2]["max_completion_tokens"] == 55
    assert fake.questions == 3
    model.ask(HELLO)
    assert fake.questions == 4


def test_a_wrong_request_is_not_asked_for_ever(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(lambda body: Said(status=400, error="max_tokens and temperature: unsupported, all of it"))
    found = problem(model_of(folder, fake, temperature=0.3), schema=SCHEMA)
    assert (type(found), "400" in found.message) == (Invalid, True)
    assert fake.questions == 4


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (401, "invalid_api_key", Invalid, "refuses the key"),
        (403, "permission_denied", Invalid, "refuses the key"),
        (404, "model_not_found", Invalid, "fake-small"),
        (429, "insufficient_quota", Unavailable, "credit"),
        (503, "overloaded", Unavailable, "fails (503)"),
    ],
)
def test_refusals_in_plain_words(
    folder: TaskFolder,
    fake_chat: Start,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    status: int,
    code: str,
    kind: type,
    words: str,
) -> None:
    monkeypatch.setattr(llm_providers, "RETRIES", 0)
    monkeypatch.setenv("LLM_KEY", KEY)
    fake = fake_chat(lambda body: Said(status=status, code=code, error=f"no: {KEY} is wrong"))
    found = problem(model_of(folder, fake, provider, api_key="${LLM_KEY}"))
    assert isinstance(found, kind)
    assert words in found.message
    assert str(found.cause).startswith("no: ${LLM_KEY} is wrong")
    if status == 404:
        assert "fake-large" in str(found.mend)
    if status in (401, 403):
        assert "${LLM_KEY}" in str(found.mend)


def test_a_busy_server_is_waited_for(folder: TaskFolder, fake_chat: Start) -> None:
    said = iter(
        [
            Said(status=429, code="rate_limit_exceeded", error="slow down", headers={"retry_after": "1"}),
            Said(status=500, code="server_error", error="oops"),
            Said("at last"),
        ]
    )
    fake = fake_chat(lambda body: next(said))
    assert model_of(folder, fake).ask(HELLO).text == "at last"
    assert fake.questions == 3


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_silence_no_server_and_no_model_server(
    folder: TaskFolder, fake_chat: Start, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setattr(llm_providers, "RETRIES", 0)
    hanging = fake_chat(lambda body: Said("too late", hang=1.5))
    found = problem(model_of(folder, hanging, provider, timeout=0.5, api_key=KEY))
    assert "0.5 s" in found.message
    page = fake_chat(lambda body: Said(raw=b"<html>It works!</html>"))
    assert "not a model's answer" in problem(model_of(folder, page, provider, api_key=KEY)).message
    page.close()
    found = problem(model_of(folder, page, provider, api_key=KEY))
    assert isinstance(found, Unavailable)
    assert "cannot be reached" in found.message


def test_keys_come_from_the_usual_variable_and_go_nowhere_else(
    folder: TaskFolder, fake_chat: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = problem(Model.of(LlmSettings(model="m"), folder))
    assert isinstance(found, Invalid)
    assert "OPENAI_API_KEY" in str(found.cause)
    fake = fake_chat(lambda body: Said("fine"))
    monkeypatch.setitem(llm.ADDRESSES, "openai", f"{fake.url}/v1")
    (folder.root / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    Model.of(LlmSettings(model="m"), folder).ask(HELLO)
    assert fake.requests[-1][1]["authorization"] == f"Bearer {KEY}"
    # OpenAI itself is asked in its newer words at once.
    assert "max_completion_tokens" in fake.requests[-1][2]
    model_of(folder, fake).ask(HELLO)
    assert KEY not in fake.requests[-1][1]["authorization"]
    monkeypatch.setattr(llm_providers, "RETRIES", 0)
    refusing = fake_chat(lambda body: Said(status=401, error="who are you?"))
    assert "api_key: ${NAME}" in str(problem(model_of(folder, refusing)).mend)


def test_a_refusal_to_answer_is_no_text(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(lambda body: Said("", finish="content_filter"))
    assert model_of(folder, fake).ask(HELLO).finish == "refusal"
    fake = fake_chat(lambda body: Said("", finish="refusal"))
    assert model_of(folder, fake, "anthropic", api_key=KEY).ask(HELLO).finish == "refusal"
    fake = fake_chat(lambda body: Said("", finish="SAFETY"))
    assert model_of(folder, fake, "google", api_key=KEY).ask(HELLO).finish == "refusal"


def test_prices(folder: TaskFolder) -> None:
    known = Model.of(LlmSettings(model="gpt-4o-mini"), folder)
    assert known.price(1_000_000, 0) == pytest.approx(0.15)
    own = Model.of(LlmSettings.model_validate({"model": "x", "price": {"input": 2, "output": 4}}), folder)
    assert own.price(500_000, 250_000) == pytest.approx(2.0)
    assert model_of(folder, "http://127.0.0.1:9", model="gpt-4o-mini").price(1, 1) is None
    with pytest.raises(Invalid, match="max_cost"):
        model_of(folder, "http://127.0.0.1:9", max_cost=1)


def test_money_is_not_overspent_and_replays_count_alike(folder: TaskFolder, fake_chat: Start, tmp_path: Path) -> None:
    fake = fake_chat(lambda body: Said("fine"))
    recording = Recording(tmp_path / "r.jsonl")
    # An answer costs 50 × 10 / 1e6 = 0.0005, at most 100 × 10 / 1e6 = 0.001.
    settings: dict[str, Any] = {"price": {"input": 0, "output": 10}, "max_tokens": 100, "max_cost": 0.00175}
    for _time in range(2):
        model = model_of(folder, fake, **settings)
        model.ask(HELLO, recording=recording, turn=0)
        model.ask(HELLO, recording=recording, turn=1)
        with pytest.raises(OverBudget):
            model.ask(HELLO, recording=recording, turn=2)
        assert model.budget.spent == pytest.approx(0.001)
    assert fake.questions == 2
    budget = Budget(1.0)
    budget.reserve(0.9)
    with pytest.raises(OverBudget):
        budget.reserve(0.2)
    budget.settle(0.9, 0.1)
    budget.reserve(0.9)
