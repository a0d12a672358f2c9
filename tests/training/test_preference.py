"""DPO, KTO and ORPO: the loss is on the answers as they will be asked for, held against what training began with."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Ran, write_rows
from fixtures_training import MOVED

from nlp_skills.data.render import Renderer
from nlp_skills.schema import yaml
from nlp_skills.training import run
from nlp_skills.training import train as training
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Cli = Callable[..., Ran]
Ready = Callable[..., TaskFolder]
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def rows_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pairs(folder: TaskFolder, split: str) -> list[Row]:
    """Of every row of a split the right label against the one the tuned base gives."""
    task, said = folder.task(), {moved: label for label, moved in MOVED.items()}
    renderer = Renderer(task.input_template, task.output_format)
    return [
        {"prompt": renderer.messages(row)[0]["content"], "chosen": row["label"], "rejected": said[row["label"]]}
        for row in rows_of(folder.split(split))
    ]


def with_pairs(folder: TaskFolder) -> TaskFolder:
    for split in ("train", "valid"):
        write_rows(folder.preferences(split), pairs(folder, split))
    return folder


def trained(folder: TaskFolder, name: str = "v1") -> list[Row]:
    """Train a version; the lines of its metrics.jsonl."""
    assert training.train(folder, name).state == "completed"
    return run.metrics(folder.version(name))


def of_valid(lines: list[Row], figure: str) -> list[float]:
    return [line[f"eval_{figure}"] for line in lines if f"eval_{figure}" in line]


def stage_two(folder: TaskFolder, **settings: Any) -> VersionFolder:
    """v2, which goes on from v1 with DPO."""
    config = {**yaml.read(folder.version("v1").config_path).data, "method": "dpo", "init_from": "v1", **settings}
    version = folder.version("v2")
    version.root.mkdir(parents=True)
    version.config_path.write_text(yaml.dumps(config), encoding="utf-8")
    return version


@functools.cache
def base_of(path: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)


def log_probability(folder: TaskFolder, row: Row, answer: str) -> tuple[float, int]:
    """Of an answer, its end included, by the tuned base as it is asked at inference; and how many tokens that is."""
    import torch

    config = folder.version("v1").config()
    tokenizer, model = base_of(config.base_model)
    given, said_before = row["prompt"], config.system_prompt
    system = [{"role": "system", "content": said_before}] if said_before else []
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    asked = tokenizer.apply_chat_template([*system, *turns], tokenize=False, add_generation_prompt=True)
    ids, said = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, f"{answer}<|im_end|>"))
    with torch.no_grad():
        logits = model(torch.tensor([ids + said])).logits[0, len(ids) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(said).unsqueeze(1)).sum()), len(said)


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_the_loss_is_on_exactly_the_answers_after_exactly_the_prompts(ready: Ready, method: str) -> None:
    folder = ready(method=method, epochs=1, system_prompt="Answer with one word.")
    rows = pairs(folder, "train")[:3]
    talk = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Yes?"}]
    rows[1] |= {"rejected": "that cannot be told", "prompt": [*talk, {"role": "user", "content": rows[1]["prompt"]}]}
    write_rows(folder.preferences("train"), rows)
    yaml.change(folder.version("v1").config_path, {("batch_size",): 6 if method == "kto" else 3})
    first = trained(folder)[0]
    chosen, rejected = ([log_probability(folder, row, row[side]) for row in rows] for side in ("chosen", "rejected"))
    if method == "orpo":
        assert first["logp_chosen"] == pytest.approx(sum(p / n for p, n in chosen) / 3, abs=1e-4)
        assert first["logp_rejected"] == pytest.approx(sum(p / n for p, n in rejected) / 3, abs=1e-4)
        likelihood = -sum(p for p, _n in chosen) / sum(n for _p, n in chosen)
        assert first["nll_loss"] == pytest.approx(likelihood, abs=1e-4)
    else:
        assert first["logp_chosen"] == pytest.approx(sum(p for p, _n in chosen) / 3, abs=1e-4)
        assert first["logp_rejected"] == pytest.approx(sum(p for p, _n in rejected) / 3, abs=1e-4)
        assert first["loss"] == pytest.approx(0.5 if method == "kto" else 0.6931472)
    assert not {name for name in first if "/" in name}


def test_a_long_prompt_loses_its_middle_and_no_answer_a_token(ready: Ready) -> None:
    folder = ready(method="dpo", epochs=1, max_length=60, allow_truncation=True, batch_size=4)
    rows = pairs(folder, "train")[:4]
    rows[2]["prompt"] += " And it is good." * 20
    rows[2]["rejected"] = "that cannot be told"
    write_rows(folder.preferences("train"), rows)
    from nlp_skills.training import preflight

    checked = preflight.check(folder, "v1")
    assert checked.ok, checked.findings
    assert {finding.code for finding in checked.findings} >= {"cut"}
    row = checked.encoded["train"][2]
    assert len(row) == 60
    assert len(row.rejected) > len(row.chosen)
    yaml.change(folder.version("v1").config_path, {("allow_truncation",): None})
    assert [f.line for f in preflight.check(folder, "v1").findings if f.code == "too_long"] == [3]


@pytest.mark.parametrize("method", ["dpo", "kto"])
@pytest.mark.parametrize("kind", ["lora", "pissa", "full"])
def test_what_it_is_held_against_is_what_it_began_with(ready: Ready, method: str, kind: str) -> None:
    settings: dict[str, Any] = {"lora": {"r": 8, "alpha": 16, **({"init": "pissa"} if kind == "pissa" else {})}}
    if kind == "full":
        settings = {"adapter": "full", "lora": None, "learning_rate": 2e-4}
    folder = with_pairs(ready(method=method, train=24, epochs=1, warmup_ratio=0.0, **settings))
    lines = trained(folder)
    # What PiSSA begins with is added and subtracted, which rounds; everything else is the same computation twice.
    rounding = 1e-6 if kind == "pissa" else 0.0
    begins = [lines[0][f"reward_{name}"] for name in ("margin", "chosen", "rejected")]
    assert begins == pytest.approx([0.0, 0.0, 0.0], abs=rounding)
    assert of_valid(lines, "reward_margin")[-1] > 0.01


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_second_stage_is_held_against_the_version_it_goes_on_from(ready: Ready, kind: str) -> None:
    settings: dict[str, Any] = {"adapter": "full", "lora": None} if kind == "full" else {}
    folder = with_pairs(ready(train=24, epochs=3, **settings))
    trained(folder)
    before = sorted(path.name for path in folder.version("v1").model.iterdir())  # type: ignore[union-attr]
    stage_two(folder, epochs=1, batch_size=24, learning_rate=1e-4, warmup_ratio=0.0)
    lines = trained(folder, "v2")
    assert [lines[0][f"reward_{name}"] for name in ("margin", "chosen", "rejected")] == [0.0, 0.0, 0.0]
    base = sum(log_probability(folder, row, row["chosen"])[0] for row in pairs(folder, "train")) / 24
    assert lines[0]["logp_chosen"] > base + 1, "v1 has learnt something, and its weights are where v2 begins"
    # The frozen copy it was held against is no part of what is kept.
    assert sorted(path.name for path in folder.version("v2").model.iterdir()) == before  # type: ignore[union-attr]
    one, two = (folder.version(name).model_info() for name in ("v1", "v2"))
    assert one and two
    assert (one.parameters, one.trainable_parameters) == (two.parameters, two.trainable_parameters)


def test_stopped_half_way_a_second_stage_ends_with_the_same_bits(ready: Ready) -> None:
    folder = with_pairs(ready(train=24, epochs=1))
    trained(folder)
    stage_two(folder, epochs=3, batch_size=4, learning_rate=1e-3)
    trained(folder, "v2")
    weights = folder.version("v2").adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    shutil.rmtree(folder.version("v2").adapter)
    shutil.rmtree(folder.version("v2").run)
    stopper = threading.Thread(target=_stop_after, args=(folder.version("v2").metrics_path, 8))
    stopper.start()
    assert training.train(folder, "v2").state == "interrupted"
    stopper.join()
    # What it is held against is read anew: it is v1, not what the stopped run had come to.
    assert training.train(folder, "v2").state == "completed"
    assert weights.read_bytes() == whole


def _stop_after(metrics: Path, steps: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if metrics.exists() and len(metrics.read_bytes().splitlines()) >= steps:
            return os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.005)
    return None


def test_other_preferences_or_another_start_are_another_training(ready: Ready, cli: Cli) -> None:
    folder = with_pairs(ready(train=24, epochs=1))
    trained(folder)
    stage_two(folder, epochs=1)
    yaml.change(folder.task_path, {("version",): "v2"})
    trained(folder, "v2")
    assert cli("train", "--version", "v2").code == 0
    # The data that v2 learnt from comes back from the store.
    kept = folder.preferences("train").read_bytes()
    write_rows(folder.preferences("train"), pairs(folder, "train")[:8])
    ran = cli("train", "--version", "v2")
    assert ran.code == 1
    assert "data/preferences/train.jsonl" in ran.err
    assert cli("data", "restore", "v2").code == 0
    assert folder.preferences("train").read_bytes() == kept
    assert cli("train", "--version", "v2").code == 0
    # v1 trained again with other settings is not what v2 began with; v1 cleaned away is needed no more.
    path = next(folder.version("v1").adapter.glob("*.safetensors"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ran = cli("train", "--version", "v2")
    assert (ran.code, "models/adapter/v1" in ran.err) == (1, True)
    shutil.rmtree(folder.version("v1").adapter)
    assert cli("train", "--version", "v2").code == 0
    ran = cli("train", "--version", "v2", "--again")
    assert ran.code == 1
    assert "v1" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("settings", "code", "severity"),
    [
        ({"method": "kto", "batch_size": 1}, "batch_of_one", "error"),
        ({"method": "kto", "extra": {"precompute_ref_log_probs": True}}, "precomputed_mismatch", "error"),
        ({"method": "dpo", "lora": {"r": 8, "dropout": 0.1}}, "no_dropout", "warning"),
        ({"method": "dpo"}, "no_start", "info"),
        ({"method": "kto", "extra": {"undesirable_weight": 0.5}}, "unbalanced", "warning"),
    ],
)
def test_settings_that_do_not_suit_the_method_are_named(
    ready: Ready, cli: Cli, settings: dict[str, Any], code: str, severity: str
) -> None:
    with_pairs(ready(train=12, **settings))
    told = {finding["code"]: finding for finding in cli("preflight", "--json").json["findings"]}
    assert told[code]["severity"] == severity
    assert told[code]["mend"]


def test_a_second_stage_is_one_way_through(ready: Ready, cli: Cli) -> None:
    folder = ready(train=72, epochs=4)
    test = folder.split("test").read_bytes()
    assert cli("train").code == 0
    before = cli("evaluate", "--no-base-baseline", "--json").json["metrics"]
    folder.split("test").write_text("not one line of it may be read\n")
    asked = cli("data", "preferences", "--json")
    assert asked.code == 0, asked
    folder.split("test").write_bytes(test)
    train = asked.json["splits"]["train"]
    assert 0 < train["wrong"] < 72, "the first stage knows something, and not everything"
    assert train["unsure"] + train["wrong"] == train["pairs"] > train["wrong"]
    written = rows_of(folder.preferences("train"))
    assert len(written) == train["pairs"]
    right = {Renderer.of(folder.task(), folder.version().config()).messages(row)[0]["content"]: row["label"]
             for row in rows_of(folder.split("train"))}  # fmt: skip
    assert all(right[row["prompt"]] == row["chosen"] != row["rejected"] for row in written)
    assert {row["rejected"] for row in written} <= set(LABELS)

    made = cli("new-version", "--method", "dpo", "--init-from", "v1", "--json").json
    assert made["changes"][0] == "method sft → dpo, from v1's weights"
    assert "learning_rate 2e-3 → 1e-4" in made["changes"]
    assert made["next"] == "nlp-skills train sentiment"
    ran = cli("train")
    assert ran.code == 0, ran
    accuracy = of_valid(run.metrics(folder.version("v2")), "reward_accuracy")
    margin = of_valid(run.metrics(folder.version("v2")), "reward_margin")
    assert accuracy[-1] > 0.5
    assert accuracy == sorted(accuracy)
    assert margin == sorted(margin)
    assert margin[-1] > margin[0] > 0
    after = cli("evaluate", "--no-base-baseline", "--json").json["metrics"]
    assert after["macro_f1"] > before["macro_f1"]
    compared = cli("compare", "v1", "v2")
    assert compared.code == 0
    assert "v2 is better than v1" in compared.out


def test_where_there_is_nothing_to_learn_it_says_so_and_people_keep_what_they_wrote(ready: Ready, cli: Cli) -> None:
    folder = ready(train=24, epochs=1)
    for split in ("train", "valid"):
        said = {moved: label for label, moved in MOVED.items()}
        write_rows(folder.split(split), [{**row, "label": said[row["label"]]} for row in rows_of(folder.split(split))])
    assert cli("train").code == 0
    ran = cli("data", "preferences")
    assert ran.code == 1
    assert "no mistakes to learn from" in ran.err
    assert "--margin" in ran.err
    assert not folder.preferences("train").exists()
    assert cli("data", "preferences", "--margin", "0").code == 1
    # With a margin of 1 every row is one it was not sure enough of.
    ran = cli("data", "preferences", "--margin", "1", "--json")
    assert ran.json["splits"]["train"] == {"rows": 24, "wrong": 0, "unsure": 24, "pairs": 24}
    assert cli("data", "preferences", "--margin", "1").code == 0, "its own files are written over"
    with open(folder.preferences("train"), "a", encoding="utf-8") as stream:
        stream.write(json.dumps({"prompt": "a", "chosen": "positive", "rejected": "neutral"}) + "\n")
    mine = folder.preferences("train").read_bytes()
    ran = cli("data", "preferences", "--margin", "1")
    assert (ran.code, "--replace" in ran.err) == (1, True)
    assert folder.preferences("train").read_bytes() == mine
    assert cli("data", "preferences", "--margin", "1", "--replace").code == 0
    assert folder.preferences("train").read_bytes() != mine
    assert cli("data", "preferences", "--margin", "1.5").code == 2
    assert cli("data", "preferences", "--version", "v9").code == 1
