"""Baselines that ask a model, beside a real version: the base model with and without examples, and what is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA_SOURCE_YAML, LABELS, TASK_YAML, Ran, reviews, write_rows
from fixtures_llm import FakeChat, Said, Script

from nlp_skills.data.render import Renderer
from nlp_skills.evaluation import likelihood
from nlp_skills.evaluation.baselines import shots
from nlp_skills.schema import yaml
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace.folder import TaskFolder

torch.set_num_threads(1)

RULES = "rules:\n  - {when: '(?i)superb|lovely', answer: positive}\ndefault: negative\n"


@pytest.fixture(scope="module")
def trained(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task with a version trained for one pass; copied by the tests, never changed."""
    from nlp_skills.schema.training import Config
    from nlp_skills.training.train import train

    root = tmp_path_factory.mktemp("beside") / "sentiment"
    root.mkdir()
    (root / "task.yaml").write_text(TASK_YAML.format(name="sentiment", base_model=tuned_base), encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    folder, rows = TaskFolder.at(root), reviews(72, start=400)
    write_rows(root / "reviews.jsonl", rows)
    for split, part in {"train": rows[:36], "valid": rows[36:48], "test": rows[48:]}.items():
        write_rows(folder.split(split), part)
    training = folder.task().training
    assert training is not None
    Config.model_validate({**training.model_dump(), "epochs": 1}).save(folder.version("v1").config_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        assert train(folder, "v1").state == "completed"
    return root


@pytest.fixture
def folder(trained: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    return TaskFolder.at(Path(shutil.copytree(trained, project / "sentiment")))


def second_version(folder: TaskFolder) -> None:
    """v2, with the same weights: another version on the same base model and the same rows."""
    first, second = folder.version("v1"), folder.version("v2")
    shutil.copytree(first.root, second.root)
    for name in ("results.json", "predictions.jsonl"):
        (second.root / name).unlink(missing_ok=True)
    info = first.model_info()
    assert info is not None and info.adapter_path is not None
    adapter = info.adapter_path.replace("v1", "v2")
    shutil.copytree(folder.root / info.adapter_path, folder.root / adapter)
    info.model_copy(update={"version": "v2", "adapter_path": adapter}).save(second.model_info_path)


def prompts_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length in tokens of every prompt that a model is asked from now on."""
    seen: list[int] = []
    real = likelihood.score

    def counting(network: Any, prompts: Any, answers: Any, **more: Any) -> Any:
        seen.extend(map(len, prompts))
        return real(network, prompts, answers, **more)

    monkeypatch.setattr(likelihood, "score", counting)
    return seen


def test_all_baselines_are_measured_and_a_second_version_asks_only_for_its_own_answers(
    folder: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.root / "rules.yaml").write_text(RULES, encoding="utf-8")
    yaml.change(folder.task_path, {("success_criteria", "baseline"): "rules.yaml", ("evaluation", "few_shot"): 3})
    seen = prompts_asked(monkeypatch)
    first = cli("evaluate", folder.root, "--baselines", "all", "--json")
    assert first.code in (0, 1), first.err
    beside = first.json["baselines"]
    assert set(beside) == {"majority", "tfidf_logreg", "rules", "base_zero_shot", "base_few_shot"}
    zero, few = seen[-48:-24], seen[-24:]
    assert len(seen) == 72 and min(few) > 2 * max(zero), "three rows and their answers stand before each question"
    assert not list(folder.version("v1").root.glob("*.partial"))
    rows = [json.loads(line) for line in folder.version("v1").predictions_path.read_text("utf-8").splitlines()]
    for row in rows:
        wanted = "positive" if "superb" in row["input"]["text"] or "lovely" in row["input"]["text"] else "negative"
        assert row["baselines"]["rules"] == wanted and row["baselines"]["base_few_shot"] in LABELS
    asked_about = [check for check in first.json["success"]["checks"] if check["about"] == "baseline"]
    assert asked_about[0]["least"] == beside["rules"]["macro_f1"]

    second_version(folder)
    seen.clear()
    again = cli("evaluate", folder.root, "--version", "v2", "--baselines", "all", "--json")
    assert again.json["baselines"] == beside and len(seen) == 24

    kept = folder.root / "benchmarks" / "baselines.json"
    kept.write_text('{"base_zero_shot": [broken', encoding="utf-8")
    shutil.copytree(folder.root, folder.root.parent / "broken")
    seen.clear()
    third = cli("evaluate", folder.root.parent / "broken", "--version", "v2", "--again", "--json")
    assert third.json["baselines"]["base_zero_shot"] == beside["base_zero_shot"] and len(seen) == 48


def test_answers_kept_by_an_earlier_release_are_used(
    folder: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nlp_skills import files
    from nlp_skills.evaluation import model

    info = folder.version("v1").model_info()
    assert info is not None
    key = model.digest([model.base_fingerprint(info), files.sha256_file(folder.split("test"))])
    old = {"schema_version": 1, "base_zero_shot": {key: ["neutral"] * 24}}
    files.write_json(folder.root / "benchmarks" / "baselines.json", old)
    seen = prompts_asked(monkeypatch)
    told = cli("evaluate", folder.root, "--json").json
    assert len(seen) == 24 and told["baselines"]["base_zero_shot"]["accuracy"] == pytest.approx(1 / 3)


def test_a_bad_rule_file_stops_before_any_model_is_asked(
    folder: TaskFolder, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.root / "rules.yaml").write_text(RULES.replace("positive", "postive"), encoding="utf-8")
    yaml.change(folder.task_path, {("success_criteria", "baseline"): "rules.yaml"})
    seen = prompts_asked(monkeypatch)
    refused = cli("evaluate", folder.root)
    assert refused.code == 1 and "rules.yaml:2" in refused.err and "did you mean positive?" in refused.err
    assert seen == []
    unknown = cli("evaluate", folder.root, "--baselines", "tfidf")
    assert unknown.code == 2 and "did you mean tfidf_logreg?" in unknown.err and seen == []


def test_an_endpoint_answers_the_same_rows_and_is_not_asked_again(
    folder: TaskFolder, cli: Callable[..., Ran], fake_chat: Callable[[Script], FakeChat]
) -> None:
    chat = fake_chat(lambda _body: Said("neutral"))
    address = ["--base-url", f"{chat.url}/v1", "--model", "big"]
    told = cli("evaluate", folder.root, "--baselines", "endpoint", *address, "--json")
    assert told.code in (0, 1), told.err
    assert told.json["baselines"]["endpoint"]["accuracy"] == pytest.approx(1 / 3) and chat.questions == 24
    again = cli("evaluate", folder.root, "--baselines", "endpoint", "--again", *address, "--json")
    assert again.json["baselines"] == told.json["baselines"] and chat.questions == 24


def renderer(folder: TaskFolder) -> Renderer:
    info = folder.version("v1").model_info()
    assert isinstance(info, ModelInfo)
    return Renderer.from_model_info(info)


def test_the_rows_shown_are_of_every_class_and_the_same_in_any_order(folder: TaskFolder) -> None:
    plain, train = renderer(folder), reviews(36, start=400)
    chosen = shots.pick("label", plain, ["text"], train, 6)
    assert sorted(row["label"] for row in chosen) == sorted([*LABELS, *LABELS])
    assert {row["label"] for row in chosen[:3]} == set(LABELS), "the first few already have each class"
    assert shots.pick("label", plain, ["text"], train[::-1], 6) == chosen
    assert len(shots.pick("label", plain, ["text"], train[:2], 6)) == 2
    turns = shots.shown(plain, chosen[:1]).messages({"text": "new"})
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == chosen[0]["label"] and "new" in turns[2]["content"]


def test_no_more_rows_are_shown_than_the_model_reads(folder: TaskFolder) -> None:
    from nlp_skills.evaluation.answering import transformers

    scorer = transformers.load(folder, "v1")
    plain, rows = renderer(folder), reviews(36, start=400)
    told = shots.fitting(scorer, plain, rows[:3], rows, 8)
    longest = max(
        len(scorer.loaded.tokenizer(plain.prompt_after(scorer.loaded.tokenizer, shots.shown(plain, told).messages(row)))
            ["input_ids"]) for row in rows[:3]
    )  # fmt: skip
    assert 0 < len(told) < 36 and longest + 8 <= 512
    assert shots.fitting(scorer, plain, [{"text": "long " * 400}], rows, 8) == []


ENTITY = {"type": "object", "required": ["text", "type"], "properties": {
    "text": {"type": "string", "maxLength": 6}, "type": {"type": "string", "enum": ["T", "W"]}}}  # fmt: skip
TOPICS = {"type": "string", "enum": ["a", "b"]}
OTHER_KINDS = {
    "spans": ("extraction", "json", {"entities": {"type": "array", "maxItems": 1, "items": ENTITY}}, "entity_f1"),
    "fields": ("extraction", "json", {"mood": {"type": "string", "enum": ["good", "bad"]}}, "field_f1"),
    "text": ("generation", "text", {"reply": {"type": "string"}}, "chrf"),
    "labels": ("classification", "json", {"topics": {"type": "array", "items": TOPICS}}, "macro_f1"),
}
FITTED = {"spans": ["gazetteer"], "fields": ["majority", "nearest"], "text": ["nearest"]}


def of_kind(kind: str, root: Path, base: Path) -> TaskFolder:
    """A task of that kind with a version whose adapter has learnt nothing."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    task_type, form, schema, _metric = OTHER_KINDS[kind]
    root.mkdir()
    output = {"type": form, "schema": schema}
    content = {"task_name": kind, "task_type": task_type, "input_template": "{text}", "output_format": output,
               "evaluation": {"few_shot": 2, "max_new_tokens": 24}}  # fmt: skip
    (root / "task.yaml").write_text(yaml.dumps(content), encoding="utf-8")
    folder = TaskFolder.at(root)
    rows: list[dict[str, Any]] = []
    for row in reviews(26):
        thing, word = row["text"].removesuffix(".").split("this ")[1].split(" is ")
        rows.append({"text": row["text"], "entities": [{"text": thing[:6], "type": "T"}], "reply": f"it is {word}",
                     "mood": "good" if row["label"] == "positive" else "bad", "topics": ["a"]})  # fmt: skip
    for split, part in {"train": rows[:18], "valid": rows[18:20], "test": rows[20:]}.items():
        write_rows(folder.split(split), [{name: row[name] for name in ("text", *schema)} for row in part])
    version = folder.version("v1")
    version.root.mkdir(parents=True)
    version.config_path.write_text(yaml.dumps({"base_model": str(base)}), encoding="utf-8")
    torch.manual_seed(0)
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    adapter.save_pretrained(folder.root / "models" / "adapter" / "v1")
    ModelInfo.model_validate({
        "version": "v1", "base_model": str(base), "adapter_path": "models/adapter/v1", "dtype": "float32",
        "parameters": 1, "trainable_parameters": 1, "input_template": "{text}", "output_format": output,
        "created": "2026-01-01T00:00:00+00:00",
    }).save(version.model_info_path)  # fmt: skip
    return folder


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_every_kind_is_measured_beside_all_its_baselines_and_its_errors_are_told(
    kind: str, project: Path, tuned_base: Path, cli: Callable[..., Ran]
) -> None:
    folder, metric = of_kind(kind, project / kind, tuned_base), OTHER_KINDS[kind][3]
    told = cli("evaluate", folder.root, "--baselines", "all", "--json")
    assert told.code == 0, told.err
    beside = told.json["baselines"]
    assert list(beside) == [*FITTED.get(kind, ["majority", "tfidf_logreg"]), "base_zero_shot", "base_few_shot"]
    assert told.json["success"]["primary_metric"] == metric
    # An adapter that has learnt nothing answers as its base model does.
    assert beside["base_zero_shot"][metric] == pytest.approx(told.json["metrics"][metric])
    rows = [json.loads(line) for line in folder.version("v1").predictions_path.read_text("utf-8").splitlines()]
    assert all(list(row["baselines"]) == list(beside) for row in rows)
    shown = cli("evaluate", folder.root, "--baselines", "all")
    assert "the simpler one is the better choice so far" in shown.out
    found = cli("errors", folder.root, "--json")
    assert found.code == 0 and found.json["wrong"] == sum(not row["correct"] for row in rows) > 0


def test_an_endpoint_that_fails_on_its_way_leaves_what_was_answered(
    folder: TaskFolder,
    cli: Callable[..., Ran],
    fake_chat: Callable[[Script], FakeChat],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nlp_skills.data import llm_providers

    monkeypatch.setattr(llm_providers, "RETRIES", 0)
    chat = fake_chat(lambda _body: Said("neutral"))
    chat.script = lambda _body: Said("neutral") if chat.questions <= 10 else Said(status=400, error="out of order")
    options = ["--baselines", "base_zero_shot,endpoint", "--base-url", f"{chat.url}/v1", "--model", "big"]
    failed = cli("evaluate", folder.root, *options)
    assert failed.code in (1, 3) and "Traceback" not in failed.err
    asked, seen = chat.questions, prompts_asked(monkeypatch)
    chat.script = lambda _body: Said("neutral")
    told = cli("evaluate", folder.root, *options, "--json")
    assert set(told.json["baselines"]) == {"base_zero_shot", "endpoint"}
    assert seen == [] and chat.questions - asked == 24 - 10
