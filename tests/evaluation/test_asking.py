"""Every kind of task, asked by a real model that is small: what comes back, how it was had, and what survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, Ran, reviews, write_rows

from nlp_skills.evaluation import generation, likelihood, subject
from nlp_skills.evaluation.answering import candidates, constrained, threshold
from nlp_skills.evaluation.answering.ask import above
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.evaluation.asking import Asking
from nlp_skills.schema import kinds, yaml
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Asked, Sampling
from nlp_skills.workspace import lock
from nlp_skills.workspace.folder import TaskFolder

torch.set_num_threads(1)

Row = dict[str, Any]
Make = Callable[..., TaskFolder]

TOPICS: Row = {"topics": {"type": "array", "items": {"type": "string", "enum": ["looks", "price", "delivery"]}}}
ENTITIES: Row = {
    "entities": {
        "type": "array",
        "maxItems": 2,
        "items": {
            "type": "object",
            "properties": {"text": {"type": "string", "maxLength": 6}, "type": {"type": "string", "enum": ["W", "T"]}},
            "required": ["text", "type"],
        },
    }
}


@pytest.fixture
def made(project: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A task of any kind with a version whose model is a whole one: nothing was trained, all the rest is as ever."""
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")

    def make(
        model: Path, task_type: str, schema: Row, rows: list[Row], *, form: str = "json", **more: Any
    ) -> TaskFolder:
        root = project / "sample"
        output = {"type": form, "schema": schema}
        task = {
            "task_name": "sample", "task_type": task_type, "language": "en", "status": "training",
            "input_template": "Read this.\n{text}", "output_format": output, **more,
        }  # fmt: skip
        root.mkdir()
        (root / "task.yaml").write_text(yaml.dumps(task), encoding="utf-8")
        folder = TaskFolder.at(root)
        third = len(rows) // 3
        for name, part in (("train", rows[:third]), ("valid", rows[third : 2 * third]), ("test", rows[2 * third :])):
            write_rows(folder.split(name), part)
        version = folder.version("v1")
        version.root.mkdir(parents=True)
        version.config_path.write_text(yaml.dumps({"base_model": str(model)}), encoding="utf-8")
        shutil.copytree(model, folder.root / "models" / "merged" / "v1")
        info = {
            "version": "v1", "base_model": str(model), "merged_path": "models/merged/v1", "dtype": "float32",
            "parameters": 1, "trainable_parameters": 1, "input_template": task["input_template"],
            "output_format": output, "created": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        version.model_info_path.write_text(json.dumps(info), encoding="utf-8")
        return folder

    return make


def predictions(folder: TaskFolder, place: str = "versions/v1") -> list[Row]:
    text = (folder.root / place / "predictions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def named(count: int) -> list[Row]:
    """Reviews with the thing they speak of as an entity."""
    found = []
    for row in reviews(count):
        thing = row["text"].split("this ")[1].split(" is")[0]
        found.append({"text": row["text"], "entities": [{"text": thing, "type": "T"}]})
    return found


@pytest.fixture(scope="module")
def network(tuned_base: Path) -> tuple[Any, Any, list[list[int]]]:
    import tiny
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tuned_base, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(tuned_base)
    texts = [tiny.QUESTION.format(text=row["text"] + " Really." * (at % 4)) for at, row in enumerate(reviews(12, 500))]
    turns = [[{"role": "user", "content": text}] for text in texts]
    return model, words, [words.apply_chat_template(t, add_generation_prompt=True, return_dict=False) for t in turns]


def said(network: Any, sampling: Sampling, **more: Any) -> dict[int, tuple[list[int], float]]:
    model, words, prompts = network
    batches = generation.generate(model, prompts, generation.ends(model, words), sampling, **more)
    return {row: (ids, log) for b in batches for row, ids, log in zip(b.rows, b.ids, b.logs, strict=True)}


@pytest.mark.parametrize("budget", [1, 700, 100_000])
def test_what_is_said_in_batches_is_what_is_said_one_by_one(
    network: Any, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "BUDGET_CPU", budget)
    model, _words, prompts = network
    model.requires_grad_(False)
    assert likelihood.Beginning.read(model, prompts).length > 5  # type: ignore[union-attr]
    found = said(network, Sampling(max_new_tokens=9))
    for row, prompt in enumerate(prompts):
        ids, end = list(prompt), model.config.eos_token_id
        while len(ids) < len(prompt) + 9 and ids[-1] != end:
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        new = ids[len(prompt) :]
        assert found[row][0] == [token for token in new if token != end]
        logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(logs[len(prompt) - 1 + at, token]) for at, token in enumerate(new))
        assert found[row][1] == pytest.approx(expected, abs=1e-3)


def test_a_row_draws_the_same_text_in_any_batch(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Sampling(max_new_tokens=8, temperature=2.0, top_p=0.99, seed=5)
    together = said(network, drawn)
    monkeypatch.setattr(likelihood, "BUDGET_CPU", 1)
    assert {row: ids for row, (ids, _log) in said(network, drawn).items()} == {
        row: ids for row, (ids, _log) in together.items()
    }
    other = said(network, drawn.model_copy(update={"seed": 6}))
    assert any(other[row][0] != together[row][0] for row in together)


def test_what_a_schema_bent_is_known_without_asking_again(network: Any) -> None:
    model, words, _prompts = network
    free = {row: ids for row, (ids, _log) in said(network, Sampling(max_new_tokens=9)).items()}
    for labels, bent in ((LABELS, False), (("zebra", "yak"), True)):
        output = OutputFormat.model_validate({"type": "text", "schema": {"x": {"enum": list(labels)}}})
        batches = generation.generate(
            model, network[2], generation.ends(model, words), Sampling(max_new_tokens=9),
            within=constrained.processors(model, words, output),
        )  # fmt: skip
        for batch in batches:
            assert all(words.decode(ids) in labels for ids in batch.ids)
            assert batch.bent == [bent] * len(batch.rows)
            assert [ids == free[row] for row, ids in zip(batch.rows, batch.ids, strict=True)] == [not bent] * len(
                batch.rows
            )


def test_a_model_that_knows_nothing_stays_within_the_schema(
    made: Make, tiny_base: Path, cli: Callable[..., Ran]
) -> None:
    folder = made(tiny_base, "extraction", ENTITIES, named(36), evaluation={"max_new_tokens": 120})
    ran = cli("evaluate", "sample", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["kind"] == "spans"
    assert found["asked"]["way"] == "constrained" and found["asked"]["sampling"]["max_new_tokens"] == 120
    assert found["metrics"]["parse_rate"] == 1 and found["metrics"]["parse_rate_unconstrained"] == 0
    assert found["metrics"]["entity_f1"] == 0 and found["success"]["primary_metric"] == "entity_f1"
    assert found["intervals"]["parse_rate"][1] == 1 and found["intervals"]["parse_rate"][0] < 1
    for row in predictions(folder):
        assert json.loads(row["raw"]) == row["predicted"] and row["correct"] is False
        assert row["unconstrained"]["predicted"] is None and row["unconstrained"]["raw"] and row["bent"] is True
        assert 0 <= row["probability"] <= 1 and row["prompt_sha256"].startswith("sha256:")
    assert not list(folder.root.rglob("*.partial"))
    assert folder.task().status == "evaluating"


def test_an_answer_may_be_half_as_long_again_as_the_longest_right_one_known(
    made: Make, tiny_base: Path, cli: Callable[..., Ran]
) -> None:
    """Of train and valid; one in test may be longer, and that is not to be known."""
    rows = [{"text": row["text"], "reply": "ok" if at < 20 else "ok " * 40} for at, row in enumerate(reviews(30))]
    folder = made(tiny_base, "generation", {"reply": {"type": "string"}}, rows, form="text")
    found = cli("evaluate", "sample", "--json").json
    assert found["kind"] == "text" and found["asked"]["way"] == "free"
    assert 9 <= found["asked"]["sampling"]["max_new_tokens"] <= 12
    assert found["metrics"]["cut_rate"] > 0 and set(found["metrics"]) >= {"chrf", "bleu", "rougeL", "exact_match"}
    cut = [row for row in predictions(folder) if row.get("cut")]
    assert cut and all(row["predicted"] == row["raw"].strip() for row in cut)


def test_a_schema_that_no_grammar_can_be_made_of_is_said_and_measured_freely(
    made: Make, tiny_base: Path, cli: Callable[..., Ran]
) -> None:
    rows = [{"text": row["text"], "code": "ab"} for row in reviews(12)]
    made(tiny_base, "extraction", {"code": {"type": "string", "pattern": "(?<=a)b"}}, rows)
    ran = cli("evaluate", "sample", "--json")
    assert ran.code == 0 and "no grammar" in ran.err and "Lookbehind" in ran.err and "not one answer" in ran.err
    assert ran.json["asked"]["way"] == "free" and ran.json["metrics"]["parse_rate"] == 0


def test_labels_come_with_probabilities_that_add_up_the_lists_they_stand_in(
    made: Make, tuned_base: Path, cli: Callable[..., Ran]
) -> None:
    sets = [["looks"], ["looks", "price"], ["delivery"], ["price", "looks"]]
    rows = [{"text": row["text"], "topics": sets[at % 4]} for at, row in enumerate(reviews(36))]
    folder = made(tuned_base, "classification", TOPICS, rows)
    # It says such lists hardly ever, as valid shows: without valid nobody knows.
    words_only = cli("evaluate", "sample", "--json")
    assert words_only.json["asked"]["way"] == "constrained" and "it answers in words" in words_only.err
    folder.split("valid").unlink()
    ran = cli("evaluate", "sample", "--json")
    assert ran.code == 0, ran.err
    asked = ran.json["asked"]
    assert ran.json["kind"] == "labels" and asked["way"] == "likelihood" and asked["threshold"] == 0.5
    for row in predictions(folder):
        taken = [label for label, share in row["probabilities"].items() if share >= asked["threshold"]]
        assert row["predicted"] == sorted(taken) and row["gold"] == sorted(row["gold"])
    assert not list(folder.root.rglob("*.partial"))
    # The same by one forward pass a list: each label's share is that of the lists it stands in.
    from nlp_skills.evaluation.answering import transformers

    scorer, row = transformers.load(folder, "v1"), predictions(folder)[0]
    render, model, words = scorer.loaded.renderer, scorer.loaded.model, scorer.loaded.tokenizer
    lists = [[], ["looks"], ["price"], ["delivery"], ["looks", "price"], ["price", "looks"]]
    weights = []
    model.requires_grad_(False)
    for labels in lists:
        prompt, answer = render.ids(words, row["input"], json.dumps({"topics": labels}))
        logs = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        weights.append(sum(float(logs[len(prompt) - 1 + at, token]) for at, token in enumerate(answer)))
    shares = torch.tensor(weights).softmax(0)
    for label, share in row["probabilities"].items():
        expected = sum(float(part) for part, labels in zip(shares, lists, strict=True) if label in labels)
        assert share == pytest.approx(expected, abs=1e-4)
    # Asked as another round was, its threshold decides, whatever valid would say.
    before = Asked(way="likelihood", backend="transformers", model="v1", threshold=0.0)
    given = Asking(subject.choose(folder, "v1"), scorer, folder.state / "again").as_before(before)
    for row, answer in zip(predictions(folder), given, strict=True):
        assert answer.predicted == sorted(label for label, share in row["probabilities"].items() if share >= 0)
    assert any(row["predicted"] != answer.predicted for row, answer in zip(predictions(folder), given, strict=True))


def test_a_snapshot_counts_each_label_of_a_row(made: Make, tiny_base: Path) -> None:
    from nlp_skills.data import snapshot

    rows = [{"text": row["text"], "topics": [["looks", "price"], []][at % 2]} for at, row in enumerate(reviews(12))]
    folder = made(tiny_base, "classification", TOPICS, rows)
    folder.sources_path.write_text("sources: [{type: file_import, name: rows, path: rows.jsonl}]", encoding="utf-8")
    write_rows(folder.root / "rows.jsonl", rows)
    assert snapshot.take(folder).splits["test"].class_distribution == {"looks": 2, "price": 2, "delivery": 0}


def test_many_lists_of_labels_are_said_instead(made: Make, tiny_base: Path, cli: Callable[..., Ran]) -> None:
    names = [f"n{number}" for number in range(200)]
    schema = {"topics": {"type": "array", "maxItems": 1, "items": {"type": "string", "enum": names}}}
    rows = [{"text": row["text"], "topics": [names[at % 5]]} for at, row in enumerate(reviews(15))]
    folder = made(tiny_base, "classification", schema, rows, evaluation={"max_new_tokens": 40})
    found = cli("evaluate", "sample", "--json").json
    assert found["asked"]["way"] == "constrained" and found["asked"].get("threshold") is None
    assert all(set(row["predicted"]) <= set(names) for row in predictions(folder))


def test_a_threshold_is_the_best_one_of_the_rows_it_is_given() -> None:
    shares = [{"a": 0.9, "b": 0.3}, {"a": 0.2, "b": 0.35}, {"a": 0.8, "b": 0.1}]
    answers = [Answer([], probabilities=each) for each in shares]
    best = threshold.best([["a", "b"], ["b"], ["a"]], answers, ["a", "b"], "macro_f1")
    assert best == 0.25
    assert threshold.best([], [], ["a"], "macro_f1") == 0.5
    assert above(answers[1], 0.9).predicted == [] and above(answers[1], 0.9, least=1).predicted == ["b"]


def test_answers_that_can_be_listed() -> None:
    from nlp_skills.data.render import Renderer

    render = Renderer("{text}", OutputFormat.model_validate({"type": "json", "schema": TOPICS}))
    found = candidates.lists(render, [{"topics": ["price", "looks"]}])
    assert found is not None
    assert [one.labels for one in found] == [(), ("looks",), ("price",), ("delivery",), ("price", "looks")]
    assert candidates.alone(render) is None


@pytest.mark.parametrize(
    ("task_type", "schema", "kind"),
    [
        ("classification", {"label": {"enum": ["a", "b"]}, "why": {"type": "string"}}, "label"),
        ("classification", TOPICS, "labels"),
        ("extraction", ENTITIES, "spans"),
        (
            "extraction",
            {"facts": {"type": "array", "items": {"properties": {"head": {}, "tail": {}, "relation": {}}}}},
            "spans",
        ),
        ("extraction", {"city": {"type": "string"}}, "fields"),
        ("generation", {"reply": {"type": "string"}}, "text"),
        ("generation", {"title": {"type": "string"}, "body": {"type": "string"}}, "fields"),
    ],
)
def test_what_a_task_answers(task_type: Any, schema: Row, kind: str) -> None:
    assert kinds.of(task_type, OutputFormat.model_validate({"type": "json", "schema": schema})) == kind


def test_a_label_among_other_properties_is_judged_by_itself(
    made: Make, tiny_base: Path, cli: Callable[..., Ran]
) -> None:
    schema = {"label": {"type": "string", "enum": ["positive", "neutral", "negative"]}, "sure": {"type": "boolean"}}
    folder = made(tiny_base, "classification", schema, [{**row, "sure": True} for row in reviews(18)])
    found = cli("evaluate", "sample", "--json").json
    assert found["asked"]["way"] == "constrained" and found["kind"] == "label" and found["calibration"] == []
    for row in predictions(folder):
        assert row["predicted"] == json.loads(row["raw"])["label"] and isinstance(row["gold"], str)


def _program(folder: TaskFolder) -> subprocess.Popen[bytes]:
    """`evaluate` as a program of its own, slow enough to be met: one row at a time."""
    code = (
        "import sys; from nlp_skills.evaluation import likelihood; likelihood.BUDGET_CPU = 1;"
        "from nlp_skills.cli.main import cli; from nlp_skills.cli import frame;"
        "sys.exit(frame.run(cli, sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, "evaluate", str(folder.root), "--baselines", "none"]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})


def _lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) - 1 if path.is_file() else 0


def test_a_killed_evaluation_goes_on_and_the_task_was_free_meanwhile(
    made: Make, tiny_base: Path, cli: Callable[..., Ran]
) -> None:
    folder = made(tiny_base, "extraction", ENTITIES, named(180), evaluation={"max_new_tokens": 40})
    partial = folder.version("v1").root / "predictions.partial"
    running = _program(folder)
    try:
        until = time.monotonic() + 60
        while _lines(partial) < 3 and time.monotonic() < until:
            assert running.poll() is None
            time.sleep(0.02)
        # Two at once: the second is told, and the task itself is nobody's.
        second = cli("evaluate", "sample")
        assert second.code == 1 and "another command is evaluating v1" in second.err
        with lock.writing(folder, wait_seconds=0):
            pass
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    kept = _lines(partial)
    assert 3 <= kept < 60 and not folder.version("v1").results_path.exists()
    with open(partial, "ab") as stream:
        stream.write(b'[59, {"predicted": {"enti')
    ran = cli("evaluate", "sample", "--baselines", "none")
    assert ran.code == 0, ran.err
    assert "evaluate v1: 0/60" not in ran.err and "evaluate v1: 60/60" in ran.err
    assert len(predictions(folder)) == 60


def test_a_version_that_changes_while_it_is_asked_gets_no_results(
    made: Make, tiny_base: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Ran]
) -> None:
    folder = made(tiny_base, "generation", {"reply": {"type": "string"}}, _replies(), form="text")
    real = generation.generate

    def changing(*args: Any, **more: Any) -> Any:
        os.utime(folder.root / "models" / "merged" / "v1" / "config.json")
        return real(*args, **more)

    monkeypatch.setattr(generation, "generate", changing)
    ran = cli("evaluate", "sample")
    assert ran.code == 1 and "changed while it was being evaluated" in ran.err
    assert not folder.version("v1").results_path.exists()


def _replies() -> list[Row]:
    return [{"text": row["text"], "reply": "fine"} for row in reviews(12)]


def test_rows_that_differ_may_not_share_an_id(made: Make, tiny_base: Path, cli: Callable[..., Ran]) -> None:
    rows = [{**row, "id": at} for at, row in enumerate(_replies())]
    rows[-1]["id"] = rows[-2]["id"]
    folder = made(tiny_base, "generation", {"reply": {"type": "string"}}, rows, form="text")
    ran = cli("evaluate", "sample")
    assert ran.code == 1 and "test.jsonl:4" in ran.err and "same id" in ran.err and "id = 10" in ran.err
    # The very same row twice is nothing to be told of here.
    write_rows(folder.split("test"), [rows[0], rows[0], rows[1]])
    assert cli("evaluate", "sample", "--json").json["test_rows"] == 3


def test_one_class_is_measured_with_a_remark(made: Make, tuned_base: Path, cli: Callable[..., Ran]) -> None:
    rows = [row for row in reviews(90) if row["label"] == "positive"]
    schema = {"label": {"type": "string", "enum": ["positive", "neutral", "negative"]}}
    made(tuned_base, "classification", schema, rows, form="text")
    ran = cli("evaluate", "sample", "--json")
    assert ran.code == 0 and "all test rows are of one class, positive" in ran.err
    assert ran.json["metrics"]["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "llama.cpp"], "needs a GGUF file"),
        (["--backend", "endpoint"], "no endpoint is named"),
        (["--backend", "llama.cpp", "--model", "x.gguf", "--base-url", "http://x"], "--base-url is of an endpoint"),
        (["--base-url", "http://127.0.0.1:1"], "needs the name of a model"),
        (["--baselines", "nearst"], "'nearst'"),
    ],
)
def test_options_that_do_not_fit(
    made: Make, tiny_base: Path, cli: Callable[..., Ran], options: list[str], words: str
) -> None:
    made(tiny_base, "generation", {"reply": {"type": "string"}}, _replies(), form="text")
    ran = cli("evaluate", "sample", *options)
    assert ran.code == 2 and words in ran.err, ran.err
