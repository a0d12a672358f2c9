"""The primary metric of the valid split keeps an epoch and ends a run, and measuring it leaves no trace."""

from __future__ import annotations

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
from conftest import LABELS, Ran, reviews, write_rows
from fixtures_training import job_of

from nlp_skills.data.render import Renderer
from nlp_skills.evaluation import asked
from nlp_skills.schema import yaml
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.training import Config, EarlyStopping
from nlp_skills.training import arguments, base_model, device, run, selection, trainer
from nlp_skills.training import train as training
from nlp_skills.training.encode import encode
from nlp_skills.training.methods import sft
from nlp_skills.training.order import LengthGrouped
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
CPU = device.Device("cpu", "cpu", "float32", None)
QUESTION = "Is this review positive, neutral or negative?\n{text}"
ONE_LABEL = {"label": {"type": "string", "enum": list(LABELS)}}


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def known(folder: TaskFolder, *, train: int = 24) -> TaskFolder:
    """The task with labels that the base model gives already: no epoch is better than the first."""
    rows = reviews(120, start=200)
    write_rows(folder.split("train"), rows[:train])
    write_rows(folder.split("valid"), rows[50:62])
    write_rows(folder.split("test"), rows[70:])
    return folder


def lines(folder: TaskFolder, key: str) -> list[tuple[int, float]]:
    return [(line["step"], line[key]) for line in run.metrics(folder.version("v1")) if key in line]


def questions(rows: list[dict[str, Any]], base: Path, *, kind: Any = "label", schema: Any = None) -> asked.Questions:
    renderer = Renderer(QUESTION, OutputFormat.model_validate({"type": "text", "schema": schema or ONE_LABEL}))
    tokenizer = base_model.load_tokenizer(str(base))
    encoded = [encode(tokenizer, renderer, row) for row in rows]
    prompts, completions = [row.prompt for row in encoded], [row.completion for row in encoded]
    return asked.Questions(kind, renderer, tokenizer, rows, prompts, completions, 512)


def test_a_run_ends_when_the_metric_does_not_rise_and_keeps_its_best_epoch(
    ready: Ready, cli: Callable[..., Ran]
) -> None:
    folder = known(ready(train=24, epochs=9, learning_rate=1e-4, early_stopping={"patience": 2}))
    ran = cli("train", folder.root, "--json")
    assert ran.code == 0, ran.err
    metric, loss = lines(folder, "eval_macro_f1"), lines(folder, "eval_loss")
    assert metric == [(3, 1.0), (6, 1.0), (9, 1.0)], "one epoch that is the best, two that are not better"
    assert [step for step, _value in loss] == [3, 6, 9]
    best = min(loss, key=lambda one: one[1])[0]
    assert ran.json["state"] == "completed" and ran.json["metric"]["eval_macro_f1"] == 1.0
    assert "stopped early at step 9" in ran.json["message"] and f"weights of step {best}" in ran.json["message"]
    lineage = folder.version("v1").lineage()
    assert lineage is not None and lineage.run is not None
    assert (lineage.run.steps, lineage.run.best_step) == (9, best), "of equal metrics, the lower loss"
    assert lineage.run.valid["eval_macro_f1"] == 1.0
    log = (folder.version("v1").run / "train.log").read_text()
    assert "compute_metrics" not in log, "TRL says so where it is asked for logits it does not have"


@pytest.mark.parametrize("kind", ["classification", "generation"])
def test_measuring_changes_no_bit_of_the_training(ready: Ready, kind: str) -> None:
    settings = {"epochs": 2, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}, "train": 24}
    figures, weights = [], []
    for stopping in (None, {"patience": 5}):
        folder = known(ready(**settings, **({"early_stopping": stopping} if stopping else {})))
        if kind == "generation":
            schema = {"type": "text", "schema": {"label": {"type": "string"}}}
            yaml.change(folder.task_path, {("task_type",): kind, ("output_format",): schema})
        # No epoch is the better one where the last is both times kept.
        assert training.train(folder).state == "completed"
        kept = ("step", "loss", "grad_norm", "eval_loss", "tokens")
        every = run.metrics(folder.version("v1"))
        figures.append([{key: line[key] for key in kept if key in line} for line in every if "loss" in line])
        figures.append([line["eval_loss"] for line in every if "eval_loss" in line])
        weights.append((folder.version("v1").adapter / "adapter_model.safetensors").read_bytes())
        measured = [key for line in every for key in line if key in ("eval_macro_f1", "eval_chrf")]
        assert len(measured) == (2 if stopping else 0)
        shutil.rmtree(folder.root)
    assert figures[:2] == figures[2:]
    assert weights[0] == weights[1]


def test_a_model_in_training_is_found_as_it_was(tuned_base: Path) -> None:
    import torch

    model = base_model.load_model(str(tuned_base), CPU).train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    settings, state = (model.config.to_dict(), model.generation_config.to_dict()), torch.random.get_rng_state()
    free = {"label": {"type": "string"}}
    for kind, schema in (("label", ONE_LABEL), ("text", free)):
        about = questions(reviews(6), tuned_base, kind=kind, schema=schema)
        given, in_words = asked.ask(model, about, CPU)
        assert in_words == (kind == "text") and given == about.gold()
    assert [module.training for module in model.modules()] == before
    assert (model.config.to_dict(), model.generation_config.to_dict()) == settings
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    ids = torch.tensor([[5, 6, 7]])
    model(input_ids=ids, labels=ids).loss.backward()


def test_likelihood_and_own_words_agree_and_are_those_of_one_row_at_a_time(tuned_base: Path) -> None:
    import torch

    rows = [{**row, "text": row["text"] * (1 + number % 3)} for number, row in enumerate(reviews(18))]
    model = base_model.load_model(str(tuned_base), CPU)
    by_label, _no = asked.ask(model, questions(rows, tuned_base), CPU)
    spoken = questions(rows, tuned_base, kind="fields", schema=ONE_LABEL)
    by_words, in_words = asked.ask(model, spoken, CPU)
    assert in_words and [{"label": one} for one in by_label] == by_words
    said = []
    for prompt in spoken.prompts:
        out = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
        said.append({"label": spoken.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)})
    assert by_words == said


def test_an_answer_beyond_a_label_is_read_by_its_label(tuned_base: Path) -> None:
    schema = {**ONE_LABEL, "why": {"type": "string"}}
    renderer = Renderer(QUESTION, OutputFormat.model_validate({"type": "json", "schema": schema}))
    row = {"text": "x", "label": "neutral", "why": "as it says"}
    several = asked.Questions("label", renderer, None, [row], [[1]], [[2]], 512)
    assert several.label_ids() is None
    assert several.gold() == ["neutral"] == [several.read('{"label": "neutral", "why": "otherwise"}')]
    assert several.read('{"label": "positive", "why": "as it says"}') == "positive"
    assert several.read('{"label": "neutral"}') is None


@pytest.mark.parametrize(
    ("labels", "said", "right"), [(["a", "b"], '["b", "a"]', True), (["a"], '["a", "b"]', False), ([], "[]", True)]
)
def test_several_labels_are_a_set(labels: list[str], said: str, right: bool) -> None:
    schema = {"label": {"type": "array", "items": {"enum": ["a", "b"]}}}
    renderer = Renderer(QUESTION, OutputFormat.model_validate({"type": "text", "schema": schema}))
    row = {"text": "x", "label": labels}
    several = asked.Questions("labels", renderer, None, [row], [[1]], [[2]], 512)
    given = several.read(said)
    assert given == sorted(json.loads(said)) and (given == several.gold()[0]) == right


def test_an_answer_is_right_when_all_of_it_is() -> None:
    schema = {"who": {"type": "string"}, "age": {"type": "integer"}}
    renderer = Renderer(QUESTION, OutputFormat.model_validate({"type": "json", "schema": schema}))
    row = {"text": "x", "who": "Ann", "age": 3}
    whole = asked.Questions("fields", renderer, None, [row], [[1]], [[2]], 512)
    assert whole.read('{"age": 3, "who": "Ann"}') == whole.gold()[0]
    assert whole.read('{"age": 4, "who": "Ann"}') == {"who": "Ann", "age": 4}
    assert whole.read('{"age": "3", "who": "Ann"}') is None


def chosen(patience: int = 2, min_delta: float = 0.0) -> selection.Selection:
    stopping = EarlyStopping(patience=patience, min_delta=min_delta)
    return selection.Selection("eval_macro_f1", stopping, None, CPU)  # type: ignore[arg-type]


def history(*values: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for epoch, value in enumerate(values, 1):
        found += [{"step": epoch * 3, "loss": 0.5}, {"step": epoch * 3, "eval_loss": 1 / epoch}]
        found.append({"step": epoch * 3, "eval_macro_f1": value})
    return found


@pytest.mark.parametrize(
    ("values", "min_delta", "ends"),
    [
        ([], 0.0, False),
        ([0.0, 0.0], 0.0, False),
        ([0.0, 0.0, 0.0], 0.0, True),
        ([0.5, 0.4, 0.6, 0.6], 0.0, False),
        ([0.5, 0.4, 0.6, 0.6, 0.5], 0.0, True),
        ([0.50, 0.51, 0.52], 0.05, True),
        ([0.50, 0.53, 0.56], 0.05, False),
    ],
)
def test_patience_counts_epochs_without_a_rise(values: list[float], min_delta: float, ends: bool) -> None:
    assert chosen(min_delta=min_delta).exhausted(history(*values)) == ends


def test_of_two_equal_epochs_the_lower_loss_is_kept() -> None:
    log = history(0.5, 0.6, 0.6)
    assert chosen().better_of_two(log, 6, 9)
    assert not chosen().better_of_two(log, 3, 9)
    assert not chosen().better_of_two(log, None, 3)


def test_a_stopped_run_goes_on_and_ends_as_one_that_was_not(ready: Ready) -> None:
    settings = {"epochs": 8, "learning_rate": 1e-4, "lora": {"r": 8, "alpha": 16, "dropout": 0.1}}
    folder = known(ready(train=24, early_stopping={"patience": 3}, **settings))
    straight = TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / "straight"))
    assert training.train(straight).step == 12

    def interrupt() -> None:
        until = time.monotonic() + 60
        while len(lines(folder, "eval_macro_f1")) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status = training.train(folder)
    thread.join()
    assert status.state == "interrupted" and 6 <= status.step < 12
    again = training.train(folder)
    assert (again.state, again.step) == ("completed", 12)
    same = [(one.version("v1").adapter / "adapter_model.safetensors").read_bytes() for one in (folder, straight)]
    assert same[0] == same[1]
    for key in ("loss", "eval_loss", "eval_macro_f1"):
        assert lines(folder, key) == lines(straight, key)


def test_a_run_killed_after_its_last_epoch_does_no_further_step(tuned_base: Path, tmp_path: Path) -> None:
    config = Config.model_validate(
        {"base_model": str(tuned_base), "adapter": "full", "epochs": 9, "learning_rate": 1e-5, "batch_size": 4}
    )
    asked_for = questions(reviews(12), tuned_base)
    rows = [encode(asked_for.tokenizer, asked_for.renderer, row) for row in reviews(12, start=30)]
    job = job_of(config, tmp_path)
    choice = selection.Selection("eval_accuracy", EarlyStopping(patience=1), asked_for, CPU)

    def made() -> Any:
        parts = trainer.Parts(LengthGrouped([5] * 12, 4, 0), lambda _model, _settings: None, choice)
        return trainer.with_parts(sft.trainer_class(config), parts)(
            model=base_model.load_model(str(tuned_base), CPU),
            args=arguments.made(job, CPU, log_every=1, validate=True, checkpointing=False, best_by=choice.key),
            train_dataset=sft.dataset(rows, config),
            eval_dataset=sft.dataset(rows, config),
            processing_class=asked_for.tokenizer,
        )

    first, second = made(), made()
    first.train()
    assert first.state.global_step == 6
    last = job.version.checkpoints / "checkpoint-6"
    second.train(resume_from_checkpoint=str(last))
    assert (second.state.global_step, second.state.best_global_step) == (6, first.state.best_global_step)
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_only_so_many_valid_rows_are_asked_and_always_the_same(ready: Ready) -> None:
    folder = ready(early_stopping={"rows": 5})
    task, config = folder.task(), folder.version("v1").config()
    tokenizer = base_model.load_tokenizer(config.base_model)
    some = selection.questions(folder, task, config, tokenizer, most_rows=5)
    every = selection.questions(folder, task, config, tokenizer)
    assert len(some.rows) == 5 and len(every.rows) == 12
    assert [every.rows.index(row) for row in some.rows] == sorted(every.rows.index(row) for row in some.rows)
    assert some.rows == selection.questions(folder, task, config, tokenizer, most_rows=5).rows


def test_prompts_are_cut_where_training_cuts_them(ready: Ready) -> None:
    folder = ready(max_length=30, allow_truncation=True)
    task, config = folder.task(), folder.version("v1").config()
    asked_for = selection.questions(folder, task, config, base_model.load_tokenizer(config.base_model))
    lengths = [len(one) + len(two) for one, two in zip(asked_for.prompts, asked_for.completions, strict=True)]
    assert set(lengths) == {30}


def test_without_valid_rows_there_is_nothing_to_stop_by(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(early_stopping={"patience": 1})
    folder.split("valid").write_text("")
    yaml.change(folder.sources_path, {("split", "valid"): 0.0, ("split", "train"): 0.7})
    ran = cli("preflight", folder.root)
    assert ran.code == 1
    assert "data/valid.jsonl: early_stopping measures the valid split" in ran.err and "regenerate" in ran.err


def test_a_metric_that_we_do_not_compute_is_refused_before_the_run(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(early_stopping={"patience": 1})
    yaml.change(folder.task_path, {("success_criteria", "primary_metric"): "macro_f_1"})
    ran = cli("preflight", folder.root)
    assert ran.code == 1
    assert "the metric macro_f_1 is not one we compute" in ran.err and "to macro_f1 perhaps" in ran.err


def test_a_second_stage_needs_valid_preferences_too(ready: Ready) -> None:
    folder = ready(early_stopping={"patience": 1})
    config = folder.version("v1").config().model_copy(update={"method": "dpo"})
    (missing,) = selection.check(folder, folder.task(), config, folder.version("v1").config_path)
    assert missing.file == str(folder.preferences("valid"))
