"""Rows a language model writes: from a real model, and from fakes that write what models write on bad days."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_llm import Door, FakeChat, Said, Script

from nlp_skills.data import llm_answers, near, review, sources
from nlp_skills.data.repeats import Repeats
from nlp_skills.data.row_form import RowForm
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

Start = Callable[[Script], FakeChat]
LABELS = ["positive", "neutral", "negative"]


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


def write_source(folder: TaskFolder, url: str, **settings: Any) -> Any:
    base = {
        "type": "llm_generated",
        "name": "made",
        "model": "smollm2",
        "base_url": f"{url}/v1",
        "prompt_template": "Write {count} short reviews of a camera.",
        "count": 6,
        "batch_size": 3,
        "max_tokens": 200,
    }
    folder.sources_path.write_text(yaml.dumps({"sources": [{**base, **settings}]}))
    return folder.sources().sources[0]


def fetched(folder: TaskFolder, **how: Any) -> tuple[list[dict[str, Any]], sources.Fetching, list[str]]:
    notes: list[str] = []
    fetching = sources.Fetching(folder, note=notes.append, tell=notes.append, **how)
    return list(sources.fetch(folder.sources().sources[0], fetching)), fetching, notes


def refused(folder: TaskFolder, **how: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        fetched(folder, **how)
    assert caught.value.mend
    return caught.value


def wanted(body: dict[str, Any]) -> int:
    """How many rows a request asks for."""
    return int(body["response_format"]["json_schema"]["schema"]["properties"]["rows"]["maxItems"])


def labels(body: dict[str, Any]) -> list[str]:
    """Which labels it allows."""
    rows = body["response_format"]["json_schema"]["schema"]["properties"]["rows"]
    return list(rows["items"]["properties"]["label"]["enum"])


def texts(seed: int, count: int) -> list[str]:
    """Texts that have nothing in common, the same for the same seed."""
    chance = random.Random(seed)
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=40)).strip() for _each in range(count)]


def good(body: dict[str, Any]) -> Said:
    """What a good model would write: other rows for every other request."""
    seed = hash_of(body)
    rows = [{"text": text, "label": labels(body)[0]} for text in texts(seed, wanted(body))]
    return Said(json.dumps({"rows": rows}))


def hash_of(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps([body["messages"], body.get("seed")]).encode())


# --- the real model


def test_a_real_model_writes_rows_and_the_record_replays_them(folder: TaskFolder, door: Door) -> None:
    write_source(folder, door.url, variations=[{"label": "positive"}, {"label": "negative"}], count=2, temperature=0.9)
    rows, fetching, notes = fetched(folder)
    assert {row["label"] for row in rows} <= {"positive", "negative"}
    assert len(rows) >= 2
    assert all(list(row) == ["text", "label"] and row["text"].strip() for row in rows)
    assert fetching.record["requests"] == door.questions
    assert fetching.record["replayed"] == 0
    assert fetching.record["input_tokens"] > 100
    assert fetching.record["output_tokens"] > 20
    assert fetching.record["cost"] is None
    assert "price unknown" in notes[0]
    assert any(re.match(r"1/2 label=positive: \d/2 rows, \d+ refused", note) for note in notes)
    asked = door.questions
    again, fetching, notes = fetched(folder)
    assert again == rows
    assert door.questions == asked
    assert fetching.record["replayed"] == fetching.record["requests"] == asked
    assert fetching.record["cost"] == 0
    assert not any("estimate" in note for note in notes)
    lines = [json.loads(line) for line in (folder.root / "data/review/made.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == rows
    assert lines[0]["origin"]["model"] == "smollm2"
    assert lines[0]["origin"]["response"].startswith("chatcmpl-")
    params = lines[0]["origin"]["params"]
    assert {**params, "seed": 42} == {"temperature": 0.9, "max_tokens": 200, "seed": 42}
    assert 42 <= params["seed"] < 42 + asked


def test_a_look_writes_nothing(folder: TaskFolder, door: Door) -> None:
    write_source(folder, door.url, count=50, batch_size=25, max_tokens=400)
    rows, _fetching, _notes = fetched(folder, preview=True)
    assert 1 <= len(rows) <= 3
    assert door.questions == 1
    assert not (folder.root / "data").exists()


# --- batches


def test_every_combination_gets_its_rows(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(good)
    write_source(
        folder,
        fake.url,
        prompt_template=['{count} texts on {topic}. Not a key: {"a": 1}, {}', "Say {topic}."],
        variations=[{"topic": "stocks {count}", "label": "negative"}, {"topic": "bonds", "label": "positive"}],
        count=7,
        concurrency=3,
    )
    rows, fetching, notes = fetched(folder)
    assert len(rows) == 28
    assert [row["label"] for row in rows] == (["negative"] * 7 + ["positive"] * 7) * 2
    assert fake.questions == 12
    prompts = [body["messages"][-1]["content"] for _path, _headers, body in fake.requests]
    assert (
        sum(p.startswith('3 texts on stocks {count}. Not a key: {"a": 1}, {}\nlabel: negative\n') for p in prompts) == 2
    )
    assert sum(p.startswith("1 texts on bonds. Not a key") for p in prompts) == 1
    assert '"text"' in prompts[0]
    # The first round of each of the four has nothing to show; the later ones show what differs by turn.
    assert sum("were written before" in prompt for prompt in prompts) == 8
    titles = [one["title"] for one in fetching.record["combinations"]]
    assert titles[0] == "#1 topic=stocks {count} label=negative"
    assert len({one["prompt"] for one in fetching.record["combinations"]}) == 4
    assert notes[-2] == "4/4 #2 topic=bonds label=positive: 7/7 rows, 0 refused"


def test_the_number_of_threads_changes_nothing(folder: TaskFolder, fake_chat: Start) -> None:
    chance = random.Random(3)

    def script(body: dict[str, Any]) -> Said:
        said = good(body)
        said.hang = chance.random() / 20
        return said

    found = []
    for concurrency in (1, 8):
        fake = fake_chat(script)
        variations = [{"topic": str(number)} for number in range(5)]
        write_source(folder, fake.url, prompt_template="{topic}", variations=variations, concurrency=concurrency)
        found.append(fetched(folder, refresh=True)[0])
        assert len(found[-1]) == 30
    assert found[0] == found[1]


def test_earlier_rows_are_shown_and_repeats_refused(folder: TaskFolder, fake_chat: Start) -> None:
    base = "The camera takes sharp pictures in the dark and its battery lasts for days on end"
    answers = iter(
        [
            [base, texts(1, 1)[0], f"  {base.upper()} "],
            [f"{base}!", texts(2, 1)[0], base],
            texts(3, 2),
            texts(4, 2),
        ]
    )
    said = lambda body: Said(json.dumps({"rows": [{"text": t, "label": "neutral"} for t in next(answers)]}))  # noqa: E731
    fake = fake_chat(said)
    write_source(folder, fake.url, count=5, examples=2, concurrency=1)
    rows, fetching, _notes = fetched(folder)
    assert [row["text"] for row in rows] == [base, texts(1, 1)[0], texts(2, 1)[0], *texts(3, 2)]
    assert fetching.record["combinations"][0]["refused"] == {"near_repeat": 1, "repeat": 2}
    shown = fake.requests[-1][2]["messages"][-1]["content"].split("were written before")[1]
    assert shown.count('"text"') == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said("Sure! Here are your reviews: lovely, awful and so on."), "prose"),
        (Said('{"rows": [{"text": "half a', finish="length"), "cut_off"),
        (Said(""), "empty"),
        (Said('{"rows": []}'), "empty"),
        (Said("", finish="content_filter"), "refusal"),
        (Said('{"rows": [{"text": "no label"}, "not a row", {"text": " ", "label": "neutral"}]}'), "wrong_shape"),
        (Said('{"rows": [{"text": "new label", "label": "great"}]}'), "unknown_label"),
        (Said('{"rows": [{"text": NaN, "label": "neutral"}]}'), "prose"),
    ],
)
def test_a_model_that_writes_nothing_usable(folder: TaskFolder, fake_chat: Start, said: Said, reason: str) -> None:
    fake = fake_chat(lambda body: said)
    write_source(folder, fake.url)
    found = refused(folder)
    assert isinstance(found, Invalid)
    assert fake.questions == 3
    assert len({body["seed"] for _path, _headers, body in fake.requests}) == 3
    assert found.file == str(folder.sources_path)
    assert folder.sources_path.read_text().splitlines()[int(found.line or 0) - 1].strip().startswith("prompt_template")
    assert re.search(r": [39]; the last answer: ", str(found.cause))
    assert isinstance(refused(folder), Invalid)
    assert fake.questions == 3
    assert not (folder.root / "data/review").exists()
    assert reason in {"prose", "cut_off", "empty", "refusal", "wrong_shape", "unknown_label"}


def test_a_model_that_keeps_repeating_is_given_up(folder: TaskFolder, fake_chat: Start) -> None:
    row = {"text": "always the same", "label": "neutral"}
    fake = fake_chat(lambda body: Said(json.dumps({"rows": [row, row]})))
    write_source(folder, fake.url, seed=None)
    rows, fetching, _notes = fetched(folder)
    assert rows == [row]
    assert fake.questions == 4
    (warning,) = fetching.warnings
    assert "1 of 6 rows" in warning
    assert "repeated rows: 7" in warning


def test_progress_that_is_too_slow_ends_too(folder: TaskFolder, fake_chat: Start) -> None:
    def script(body: dict[str, Any]) -> Said:
        return Said(json.dumps({"rows": [{"text": texts(body["seed"], 1)[0], "label": "neutral"}]}))

    fake = fake_chat(script)
    write_source(folder, fake.url, count=40, batch_size=10)
    rows, fetching, _notes = fetched(folder)
    assert (len(rows), fake.questions) == (15, 15)
    assert "15 of 40 rows" in fetching.warnings[0]


def test_bad_answers_among_good_ones_are_made_up_for(folder: TaskFolder, fake_chat: Start) -> None:
    row = '{"text": "%s", "label": "neutral"}'
    one, two, three, four, five, six = (row % text for text in texts(9, 6))
    answers = iter(
        [
            Said("I cannot do that."),
            Said(f"Here you are:\n```json\n[{one}, {two}]\n```\nEnjoy!"),
            Said(f'{{"rows": [{three}, {four}, {{"text": "cut o', finish="length"),
            Said(f"<think>[1, 2]</think> The rows: [{five}, {six}] and more words"),
        ]
    )
    fake = fake_chat(lambda body: next(answers))
    write_source(folder, fake.url)
    rows, fetching, _notes = fetched(folder)
    assert [row["text"] for row in rows] == texts(9, 6)
    assert fetching.record["combinations"][0]["refused"] == {"cut_off": 1, "prose": 1}
    assert fetching.warnings == []


def test_rows_in_answers() -> None:
    assert llm_answers.found('{"text": "alone"}', "stop") == ([{"text": "alone"}], None)
    assert llm_answers.found('{"rows": [{"a": [1, "]"]}, {"b"', "length") == ([{"a": [1, "]"]}], "cut_off")
    assert llm_answers.found("<think>never ends [1]", "length") == ([], "cut_off")
    assert llm_answers.found('words [{"a": 1}] words', "stop") == ([{"a": 1}], None)
    assert llm_answers.found("[" * 100_000, "length").rows == []
    assert llm_answers.found("null", "stop").rows == []


def test_a_whole_answer_is_checked_against_the_task() -> None:
    task = Task.model_validate(
        {
            "task_name": "t",
            "task_type": "extraction",
            "input_template": "{title}: {text}",
            "output_format": {
                "type": "json",
                "schema": {
                    "entities": {
                        "type": "array",
                        "items": {"type": "object", "properties": {"text": {"type": "string", "maxLength": 5}}},
                    },
                    "score": {"type": "integer", "minimum": 0},
                },
            },
        }
    )
    form = RowForm(task)
    row = form.clean({"text": " b ", "title": "a", "entities": [{"text": "TSMC"}], "score": 3, "note": "x"})
    assert row == {"title": "a", "text": "b", "entities": [{"text": "TSMC"}], "score": 3}
    assert form.fault(row) is None
    assert form.fault({**row, "entities": [{"text": "too long"}]}) == (
        "wrong_shape",
        "entities.0.text: 'too long' is too long",
    )
    assert form.fault({**row, "score": -1}) is not None
    assert form.fault({**row, "score": True}) is not None
    items = form.list_schema(2)["properties"]["rows"]["items"]
    assert items["additionalProperties"] is False
    assert items["properties"]["entities"]["items"]["required"] == ["text"]


# --- money


def test_cost_before_and_after_and_a_limit(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(good)
    # An answer costs 50 × 20 / 1e6 = 0.001, a request at most 200 × 20 / 1e6 = 0.004.
    settings = {"price": {"input": 0, "output": 20}, "count": 30, "variations": [{"topic": "a"}, {"topic": "b"}]}
    write_source(folder, fake.url, **settings)
    rows, fetching, notes = fetched(folder)
    assert len(rows) == 60
    assert fetching.record["cost"] == pytest.approx(0.020)
    assert fetching.record["estimate"]["requests"] == 20
    assert notes[0].startswith("estimate: 20 requests")
    assert "$" in notes[0]
    assert "$0.0200" in notes[-1]
    (folder.root / "data/raw/recorded/made.jsonl").unlink()
    write_source(folder, fake.url, **settings, max_cost=0.0105)
    few, fetching, _notes = fetched(folder)
    assert fetching.record["cost_in_all"] <= 0.0105
    assert 0 < len(few) < 60
    assert "max_cost" in fetching.warnings[0]
    asked = fake.questions
    assert fetched(folder)[0] == few
    assert fake.questions == asked
    # With more money the same goes on from there.
    write_source(folder, fake.url, **settings, max_cost=1)
    assert len(fetched(folder)[0]) == 60
    assert fake.questions == asked + 20 - fetching.record["requests"]


# --- settings that make no sense


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"prompt_template": "{count} on {topic}"}, "prompt_template", "topic"),
        (
            {"prompt_template": "{topic}", "variations": [{"topic": 1}, {"label": "neutral"}]},
            "prompt_template",
            "topic",
        ),
        ({"variations": [{"count": 3}]}, "variations", "count"),
        ({"variations": [{"label": "great"}]}, "variations", "great"),
        ({"mapping": {"text": "body"}}, "mapping", "mapping"),
        ({"max_cost": 1}, "max_cost", "price"),
    ],
)
def test_wrong_settings_are_named_with_their_line(
    folder: TaskFolder, fake_chat: Start, settings: dict[str, Any], key: str, words: str
) -> None:
    fake = fake_chat(good)
    write_source(folder, fake.url, **settings)
    found = refused(folder)
    assert isinstance(found, Invalid)
    assert words in found.message
    assert folder.sources_path.read_text().splitlines()[int(found.line or 0) - 1].strip().startswith(key)
    assert fake.questions == 0


# --- failures on the way


def test_a_failure_keeps_what_was_paid_for(
    folder: TaskFolder, fake_chat: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_skills.data.llm_providers.RETRIES", 0)
    broken = threading.Event()
    broken.set()
    variations = [{"topic": "stocks"}, {"topic": "bonds"}]

    def script(body: dict[str, Any]) -> Said:
        if broken.is_set() and "were written before" in body["messages"][-1]["content"]:
            return Said(status=503, error="overloaded")
        return good(body)

    fake = fake_chat(script)
    write_source(folder, fake.url, variations=variations)
    assert isinstance(refused(folder), Unavailable)
    assert not (folder.root / "data/review").exists()
    broken.clear()
    asked = fake.questions
    rows, fetching, _notes = fetched(folder)
    assert len(rows) == 12
    assert fetching.record["replayed"] == 2
    assert fake.questions == asked + 2


def test_a_refresh_that_fails_leaves_the_record_and_goes_on_later(
    folder: TaskFolder, fake_chat: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_skills.data.llm_providers.RETRIES", 0)
    says: list[Said] = []
    fake = fake_chat(lambda body: says.pop(0) if says else good(body))
    write_source(folder, fake.url)
    rows, path = fetched(folder)[0], folder.root / "data/raw/recorded/made.jsonl"
    kept = path.read_bytes()
    other = [{"text": text, "label": "neutral"} for text in texts(77, 3)]
    says += [Said(json.dumps({"rows": other})), Said(status=503, error="overloaded")]
    assert isinstance(refused(folder, refresh=True), Unavailable)
    assert path.read_bytes() == kept
    assert fetched(folder)[0] == rows
    asked = fake.questions
    fresh, fetching, _notes = fetched(folder, refresh=True)
    assert fresh[:3] == other
    assert (fetching.record["replayed"], fake.questions) == (1, asked + 1)
    assert fetched(folder)[0] == fresh
    # One that gives nothing at all is not gone on with.
    says += [Said("prose")] * 3
    refused(folder, refresh=True)
    assert fetched(folder)[0] == fresh
    assert len(fetched(folder, refresh=True)[0]) == 6
    assert sorted(one.name for one in path.parent.iterdir()) == ["made.jsonl"]


_FETCH = """
import json, sys
from pathlib import Path
from nlp_skills.data import sources
from nlp_skills.workspace.folder import TaskFolder
folder = TaskFolder.at(Path(sys.argv[1]))
for row in sources.fetch(folder.sources().sources[0], sources.Fetching(folder)):
    print(json.dumps(row))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_pays_for_nothing_twice(folder: TaskFolder, fake_chat: Start, how: signal.Signals) -> None:
    def slow(body: dict[str, Any]) -> Said:
        said = good(body)
        said.hang = 0.1
        return said

    whole = fake_chat(slow)
    settings = {"count": 15, "variations": [{"topic": "a"}, {"topic": "b"}], "concurrency": 2}
    write_source(folder, whole.url, **settings)
    expected = fetched(folder)[0]
    (folder.root / "data/raw/recorded/made.jsonl").unlink()

    fake = fake_chat(slow)
    write_source(folder, fake.url, **settings)
    recorded = folder.root / "data/raw/recorded/made.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", _FETCH, str(folder.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ},
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not recorded.exists() or recorded.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    child.send_signal(how)
    child.communicate(timeout=30)
    kept, asked = recorded.read_bytes().count(b"\n"), fake.questions
    assert 4 <= kept < 10
    # Killed outright, at most the answers under way are lost; interrupted, none is.
    assert asked - kept <= (2 if how == signal.SIGKILL else 0)
    rows, fetching, _notes = fetched(folder)
    assert rows == expected
    assert fetching.record["replayed"] == kept
    assert fake.questions == asked + 10 - kept


def test_no_secret_is_written_anywhere(folder: TaskFolder, fake_chat: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-planted-4711-secret"
    monkeypatch.setenv("LLM_KEY", secret)
    fake = fake_chat(good)
    write_source(folder, fake.url, api_key="${LLM_KEY}")
    _rows, fetching, notes = fetched(folder)
    assert fake.requests[0][1]["authorization"] == f"Bearer {secret}"
    written = b"".join(path.read_bytes() for path in folder.root.rglob("*") if path.is_file())
    assert secret.encode() not in written
    assert secret not in json.dumps([fetching.record, fetching.warnings, notes])


# --- review


def test_rows_wait_for_review(folder: TaskFolder, fake_chat: Start) -> None:
    fake = fake_chat(good)
    source = write_source(folder, fake.url, validation={"require_review": True, "review_sample": 0.5})
    rows, fetching, _notes = fetched(folder)
    assert (rows, fetching.record["waiting"]) == ([], 6)
    assert "nlp-skills review" in fetching.warnings[0]
    assert sources.inputs(source, folder) == {}
    found = review.state(folder, source)
    assert len(found.sampled) == 3
    for entry in found.to_review:
        review.decide(folder, source, entry.key, review.Decision("accept"))
    assert list(sources.inputs(source, folder)) == ["data/review/made.decisions.jsonl"]
    rows, fetching, _notes = fetched(folder)
    assert (len(rows), fetching.record["waiting"], fetching.warnings) == (6, 0, [])
    assert fake.questions == 2
    for entry in found.entries:
        review.decide(folder, source, entry.key, review.Decision("reject"))
    assert "rejected" in refused(folder).message


# --- what is near


def test_repeats_agree_with_comparing_all() -> None:
    chance = random.Random(11)
    base = [
        "".join(chance.choices("財報營收成長衰退公司股價上漲下跌市場預期", k=chance.randint(2, 60)))
        for _each in range(120)
    ]
    said = []
    for text in base:
        said.append(text)
        for _copy in range(2):
            at = chance.randrange(len(text))
            said.append(text[:at] + chance.choice("新好壞") + text[at + 1 :])
    chance.shuffle(said)
    for threshold in (0.5, 0.8, 0.95, 1.0):
        repeats, kept, outcomes = Repeats(threshold), [], []
        for text in said:
            exact = text in kept
            close = threshold < 1 and any(
                near.similarity(near.grams(text), near.grams(other)) >= threshold for other in kept
            )
            expected = "repeat" if exact else "near_repeat" if close else None
            outcomes.append((repeats.refuses(text), expected))
            if expected is None:
                kept.append(text)
        assert [one for one, _other in outcomes] == [other for _one, other in outcomes]
