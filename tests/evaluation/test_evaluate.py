from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA_SOURCE_YAML, LABELS, TASK_YAML, Ran, reviews, write_rows

from nlp_skills import errors
from nlp_skills.evaluation import baselines, evaluate, likelihood, model
from nlp_skills.evaluation.answering import partial as partials
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task with data and one trained version, made by the real steps; copied by the tests, never changed."""
    from nlp_skills.data.regenerate import regenerate
    from nlp_skills.schema.training import Config
    from nlp_skills.training.train import train

    root = tmp_path_factory.mktemp("trained") / "sentiment"
    root.mkdir()
    (root / "task.yaml").write_text(TASK_YAML.format(name="sentiment", base_model=tuned_base), encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    write_rows(root / "reviews.jsonl", reviews(120, start=400))
    folder = TaskFolder.at(root)
    regenerate(folder)
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


def predictions(folder: TaskFolder) -> list[dict[str, Any]]:
    text = folder.version("v1").predictions_path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the model is asked, batch by batch, from now on."""
    seen: list[int] = []
    real = likelihood.score

    def counting(network: Any, prompts: Any, answers: Any, **more: Any) -> Any:
        for batch in real(network, prompts, answers, **more):
            seen.append(len(batch.rows))
            yield batch

    monkeypatch.setattr(likelihood, "score", counting)
    return seen


def test_a_trained_version_is_measured_and_recorded(folder: TaskFolder) -> None:
    results = evaluate.evaluate(folder)
    version, rows = folder.version("v1"), predictions(folder)
    assert version.results() == results
    assert results.test_rows == len(rows) == 36
    assert results.metrics["accuracy"] == sum(row["correct"] for row in rows) / 36
    assert results.metrics["macro_f1"] > 0.8
    assert set(results.baselines) == {baselines.MAJORITY, baselines.TFIDF, baselines.BASE}
    assert results.success.verdict == "met" and results.success.threshold == 0.6
    assert {row["gold"] for row in rows} == set(LABELS)
    for row in rows:
        assert row["predicted"] == max(row["probabilities"], key=row["probabilities"].get)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert set(row["baselines"]) == set(results.baselines) and row["input"]["text"].startswith("Order")
    made = version.lineage()
    assert made is not None and made.results is not None
    assert made.results.model_extra["macro_f1"] == results.metrics["macro_f1"]
    assert set(made.results.per_class) == set(LABELS)
    assert folder.task().status == "evaluating"
    assert json.loads((folder.state / "digest.json").read_text())["status"] == "evaluating"
    assert not list(version.root.glob("*.partial"))


def test_the_keys_are_those_of_the_data_snapshot(folder: TaskFolder) -> None:
    evaluate.evaluate(folder, base_baseline=False)
    taken = folder.version("v1").snapshot()
    assert taken is not None
    assert {row["key"] for row in predictions(folder)} == set(taken.test_keys)


def test_evaluating_twice_asks_nothing_and_changes_nothing(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate.evaluate(folder)
    before = folder.version("v1").results_path.read_bytes()
    seen = asked(monkeypatch)
    assert evaluate.evaluate(folder) == first
    assert seen == []
    assert folder.version("v1").results_path.read_bytes() == before


def test_again_asks_the_version_but_not_the_base_model_that_versions_share(
    folder: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate.evaluate(folder)
    seen = asked(monkeypatch)
    second = evaluate.evaluate(folder, again=True)
    assert sum(seen) == 36
    assert second.metrics == first.metrics and second.baselines == first.baselines


def test_the_base_model_asked_later_does_not_ask_the_version_again(
    folder: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate.evaluate(folder, base_baseline=False)
    seen = asked(monkeypatch)
    second = evaluate.evaluate(folder)
    assert sum(seen) == 36
    assert second.metrics == pytest.approx(first.metrics) and baselines.BASE in second.baselines


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    answer = Answer("a", probabilities={"a": 1.0}, valid=1.0)
    (tmp_path / "x.partial").symlink_to("/dev/full")
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        # The rewrite would replace the link; what is tested is the appending.
        patch.setattr(partials.files, "write_text", lambda path, text: None)
        with (
            pytest.raises(errors.Unavailable, match="cannot write"),
            Partial(tmp_path / "x.partial", "sha256:one").opened({}) as write,
        ):
            write(0, answer)


def test_other_criteria_are_judged_without_asking_again(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate.evaluate(folder)
    yaml.change(
        folder.task_path, {("success_criteria", "threshold"): 1.0, ("success_criteria", "baseline"): "rules_2.0"}
    )
    seen = asked(monkeypatch)
    assert evaluate.evaluate(folder).success.verdict == "not_met"
    assert seen == []
    kept = folder.version("v1").results()
    assert kept is not None and kept.success.baseline == 2.0


def test_an_interrupted_evaluation_goes_on_where_it_was(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate.evaluate(folder, base_baseline=False)
    expected = predictions(folder)
    monkeypatch.setattr(likelihood, "BUDGET_CPU", 400)
    real = likelihood.score

    def interrupted(*args: Any, **more: Any) -> Any:
        yield next(real(*args, **more))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(folder, again=True, base_baseline=False)
    partial = folder.version("v1").root / "predictions.partial"
    kept = len(partial.read_text(encoding="utf-8").splitlines()) - 1
    assert 0 < kept < 36
    assert predictions(folder) == expected, "finished predictions stay until new ones are whole"
    # The line that was being written when the power went.
    partial.write_text(partial.read_text(encoding="utf-8") + '[35, {"predicted": "pos', encoding="utf-8")
    seen = asked(monkeypatch)
    assert evaluate.evaluate(folder, base_baseline=False).metrics == pytest.approx(whole.metrics, abs=1e-4)
    assert sum(seen) == 36 - kept
    assert [row["predicted"] for row in predictions(folder)] == [row["predicted"] for row in expected]


def test_a_partial_file_of_another_model_is_not_believed(tmp_path: Path) -> None:
    answer = Answer("a", probabilities={"a": 1.0}, valid=1.0)
    path = tmp_path / "x.partial"
    with Partial(path, "sha256:one").opened({3: answer}) as write:
        write(5, answer)
    with open(path, "a", encoding="utf-8") as stream:
        stream.write("not json\n")
    assert Partial(path, "sha256:one").read() == {3: answer, 5: answer}
    assert Partial(path, "sha256:two").read() == {}
    assert Partial(tmp_path / "none", "sha256:one").read() == {}


def test_the_base_model_baseline_is_the_base_model(folder: TaskFolder, tuned_base: Path) -> None:
    """The adapter switched off answers as the base model loaded from its own folder."""
    evaluate.evaluate(folder)
    yaml.change(folder.version("v1").config_path, {("adapter",): "full", ("lora",): None})
    info = json.loads(folder.version("v1").model_info_path.read_text())
    del info["adapter_path"]
    shutil.copytree(tuned_base, folder.root / "models" / "merged" / "v1", dirs_exist_ok=True)
    expected = [row["baselines"][baselines.BASE] for row in predictions(folder)]
    folder.version("v1").model_info_path.write_text(json.dumps({**info, "merged_path": "models/merged/v1"}))
    results = evaluate.evaluate(folder)
    assert [row["predicted"] for row in predictions(folder)] == expected
    assert baselines.BASE not in results.baselines, "a whole model has no base model to switch back to"


def test_a_deployed_task_stays_deployed(folder: TaskFolder) -> None:
    evaluate.evaluate(folder, base_baseline=False)
    yaml.change(folder.task_path, {("status",): "deployed"})
    evaluate.evaluate(folder, again=True, base_baseline=False)
    assert folder.task().status == "deployed"


def test_linear_baselines_are_left_out_when_train_is_no_longer_the_versions(folder: TaskFolder) -> None:
    write_rows(folder.split("train"), reviews(30))
    results = evaluate.evaluate(folder, base_baseline=False)
    assert results.baselines == {} and results.metrics["macro_f1"] > 0.8


Change = Callable[[TaskFolder], object]
SEVERAL = {"type": "array", "items": {"type": "string", "enum": list(LABELS)}}


def _edit(key: tuple[str, ...], value: object) -> Change:
    return lambda folder: yaml.change(folder.task_path, {key: value})


def _test_line(text: str) -> Change:
    def change(folder: TaskFolder) -> None:
        with open(folder.split("test"), "a", encoding="utf-8") as stream:
            stream.write(text)

    return change


@pytest.mark.parametrize(
    ("change", "message", "mend"),
    [
        (lambda f: f.version("v1").model_info_path.unlink(), "no trained model", "train"),
        (lambda f: shutil.rmtree(f.root / "models"), "weights of version v1 are gone", "--again"),
        (lambda f: f.split("test").unlink(), "test split is missing", "regenerate"),
        (lambda f: f.split("test").write_text(""), "test split is empty", "regenerate"),
        (_test_line('{"text": "Fine.", "label": "positive"}\n'), "not the one version v1", "train"),
        (_test_line('{"text": "Fine.", "label": "glad"}\n'), "cannot be evaluated: 1", "validate"),
        (_edit(("success_criteria", "primary_metric"), "acuracy"), "acuracy is not one", "to accuracy"),
        (_edit(("success_criteria", "metrics"), {"bleu": 0.5}), "bleu is not one", "success_criteria.metrics"),
        (_edit(("output_format", "schema", "label"), SEVERAL), "other answers than the task now wants", "new-version"),
        (lambda f: shutil.rmtree(f.root / "versions"), "v1 does not exist", "new-version"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_way_out(
    folder: TaskFolder, change: Change, message: str, mend: str
) -> None:
    change(folder)
    with pytest.raises(errors.Invalid, match=message) as caught:
        evaluate.evaluate(folder)
    assert mend in str(caught.value.mend)
    assert not folder.version("v1").predictions_path.exists()


def test_a_wrong_label_is_named_with_its_line(folder: TaskFolder) -> None:
    _test_line('{"text": "Fine.", "label": "glad"}\n')(folder)
    with pytest.raises(errors.Invalid) as caught:
        evaluate.evaluate(folder)
    assert caught.value.line == 37 and "glad" in str(caught.value.cause)


def test_a_changed_base_model_is_noticed(folder: TaskFolder, tuned_base: Path, project: Path) -> None:
    other = Path(shutil.copytree(tuned_base, project / "base"))
    path = folder.version("v1").model_info_path
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model": str(other)}))
    assert model.load(folder).model is not None
    (other / "tokenizer_config.json").write_text((other / "tokenizer_config.json").read_text() + "\n")
    with pytest.raises(errors.Invalid, match="not the one version v1 was trained on"):
        model.load(folder)


def test_the_command_prints_figures_baselines_verdict_and_the_next_step(
    folder: TaskFolder, cli: Callable[..., Ran]
) -> None:
    ran = cli("evaluate", "sentiment")
    assert ran.code == 0, ran.err
    for words in (
        "36 test rows",
        "Interval (95%)",
        "TF-IDF",
        "commonest",
        "untrained",
        "positive",
        "meets its success",
        "cannot be told",
    ):
        assert words in ran.out
    assert "nlp-skills report sentiment --version v1" in ran.out
    assert "36/36" in ran.err and "Warning" not in ran.err
    answer = cli("evaluate", "sentiment", "--json")
    assert answer.json["metrics"]["macro_f1"] > 0.8 and answer.json["ok"] is True


def test_the_gate_says_no_by_its_exit_code(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(folder.task_path, {("success_criteria", "baseline"): 2.0})
    assert cli("evaluate", "sentiment", "--no-base-baseline").code == 0
    ran = cli("evaluate", "sentiment", "--no-base-baseline", "--gate", "--json")
    assert ran.code == 1 and ran.json["ok"] is False


def test_a_metric_of_the_tasks_own_decides_and_its_faults_are_named(
    folder: TaskFolder, cli: Callable[..., Ran]
) -> None:
    path = folder.root / "metrics" / "hits.py"
    path.parent.mkdir()
    path.write_text("def hits(gold, predicted, rows):\n    return [a == b for a, b in zip(gold, predicted)]\n")
    yaml.change(folder.task_path, {("success_criteria", "primary_metric"): "hits"})
    yaml.change(folder.task_path, {("success_criteria", "threshold"): 0.1})
    ran = cli("evaluate", "--baselines", "majority", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["success"]["primary_metric"] == "hits" and ran.json["success"]["verdict"] == "met"
    assert ran.json["metrics"]["hits"] == ran.json["metrics"]["accuracy"] and len(ran.json["intervals"]["hits"]) == 2
    assert ran.json["baselines"]["majority"]["hits"] == ran.json["baselines"]["majority"]["accuracy"]
    path.write_text("def hits(gold, predicted, rows):\n    return rows[0]['colour']\n")
    broken = cli("evaluate", "--baselines", "majority,tfidf_logreg", "--json")
    assert broken.code == 1 and broken.json["error"]["line"] == 2 and "colour" in broken.json["error"]["cause"]
    yaml.change(folder.task_path, {("success_criteria", "primary_metric"): "hit"})
    refused = cli("evaluate")
    assert refused.code == 1 and "hit is not one we compute" in refused.err and "hits perhaps" in refused.err
