"""Predicting where the task lies: a text, lines, files that are gone on with, and a few lines of Python."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, write_rows

from nlp_skills import load_task
from nlp_skills.deployment import file_predictions, predicting
from nlp_skills.deployment.asker import Asker
from nlp_skills.deployment.predicting import Predictor
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import predictions, subject
from nlp_skills.evaluation.answering.scorer import Likely, Said, Way
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

TEXT = "Order 5: this camera is great."


@pytest.fixture(scope="module")
def loaded(two_versions: Path) -> Iterator[Predictor]:
    """v2 in memory, for all tests that only ask it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        with load_task(two_versions) as predictor:
            yield predictor


@pytest.fixture
def asked_here(loaded: Predictor, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """Commands find that model in memory, in place of loading it again."""

    def opened(chosen: Any, engine: str = "transformers") -> Predictor:
        assert engine == "transformers"
        assert chosen.version.name == "v2"
        return Predictor(Asker(chosen, loaded.asker.scorer))

    monkeypatch.setattr(predicting, "opened", opened)
    return loaded


def test_rows_are_answered_as_the_evaluation_answered_them(loaded: Predictor, two_versions: Path) -> None:
    folder = TaskFolder.at(two_versions)
    evaluated = predictions.load(folder.version("v2").predictions_path)
    # Without what an evaluation knows beside the fields of the prompt.
    rows = [{"text": row["text"]} for row in subject.asked(folder, "v2").test]
    given = loaded.predict(rows)
    assert [one.answer for one in given] == [{"label": row["predicted"]} for row in evaluated]
    for one, row in zip(given, evaluated, strict=True):
        assert one.probabilities == pytest.approx(row["probabilities"], abs=1e-5)
    assert loaded.predict(rows[0]["text"]).answer == given[0].answer
    assert loaded.predict([]) == []


def test_five_lines_of_python_need_the_folder_only(two_versions: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two_versions, tmp_path / "served", symlinks=True)
    shutil.rmtree(folder / "data")
    # Rows that the two versions answer differently.
    v1, v2 = (predictions.load(two_versions / "versions" / name / "predictions.jsonl") for name in ("v1", "v2"))
    row = next(one for one, other in zip(v1, v2, strict=True) if one["predicted"] != other["predicted"])
    text = row["input"]["text"]
    script = (
        "from nlp_skills import load_task\n"
        f"with load_task({str(folder)!r}, version='v1') as task:\n"
        f"    one = task.predict({text!r})\n"
        f"    two = task.predict([{{'text': {text!r}}}, {text!r}])\n"
        "print(one.answer['label'], [each.answer['label'] for each in two], task.version)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == f"{row['predicted']} {[row['predicted']] * 2} v1"


def test_importing_the_package_loads_nothing() -> None:
    script = "import sys, nlp_skills; print(sorted(n for n in sys.modules if n.startswith('nlp_skills.')))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_text_is_answered_for_people_and_as_json(
    released: TaskFolder, asked_here: Predictor, cli: Callable[..., Ran]
) -> None:
    shown = cli("predict", "sentiment", TEXT)
    assert shown.code == 0
    assert shown.out.startswith("positive\n")
    assert "negative" in shown.out
    told = cli("predict", "sentiment", "--field", f"text={TEXT}", "--json").json
    assert told["answer"] == {"label": "positive"}
    assert told["version"] == "v2"
    assert told["probability"] == told["probabilities"]["positive"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--field"),
        ([TEXT, "--file", "x.jsonl"], 2, "--field"),
        (["--file", "x.jsonl"], 2, "--out"),
        ([TEXT, "--again"], 2, "--again"),
        (["--field", "body=x"], 2, "text"),
        ([TEXT, "--engine", "llama.cpp"], 1, "nlp-skills export sentiment v2 --gguf q8_0"),
        ([TEXT, "--version", "v9"], 1, "v9"),
        (["--file", "no.jsonl", "--out", "out.jsonl"], 1, "no.jsonl"),
        (["--file", "rows.xlsx", "--out", "out.jsonl"], 2, ".csv"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_way_out(
    released: TaskFolder, cli: Callable[..., Ran], arguments: list[str], code: int, said: str
) -> None:
    ran = cli("predict", "sentiment", *arguments)
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_text_is_no_row_of_two_fields(released: TaskFolder, cli: Callable[..., Ran]) -> None:
    path = released.version("v2").model_info_path
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "input_template": "{{title}} {{text}}"}))
    ran = cli("predict", "sentiment", TEXT)
    assert ran.code == 2
    assert "title, text" in ran.err
    ran = cli("predict", "sentiment", "--field", "title=x")
    assert ran.code == 1
    assert "text" in ran.err


def test_lines_are_answered_one_by_one(
    released: TaskFolder, asked_here: Predictor, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    say(f"{TEXT}\n\nOrder 6: this lens is awful.\n".encode())
    ran = cli("predict", "sentiment", "-")
    assert ran.code == 0
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == ["positive", "negative"]
    say(f"{TEXT}\n".encode() + b"\xff\n")
    ran = cli("predict", "sentiment", "-")
    assert ran.code == 1
    assert ran.out.startswith("positive")
    assert "line 2" in ran.err


def test_a_file_is_gone_on_with_where_it_was_cut_off(
    released: TaskFolder,
    asked_here: Predictor,
    cli: Callable[..., Ran],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"text": row["text"], "other": 1} for row in subject.asked(released).test]
    source = write_rows(project / "in.jsonl", rows)
    command = ("predict", "sentiment", "--file", source, "--out", "out.jsonl")
    assert cli(*command).code == 0
    whole = (project / "out.jsonl").read_bytes()
    answered = [json.loads(line) for line in whole.splitlines()]
    evaluated = predictions.load(released.version("v2").predictions_path)
    assert [one["row"] for one in answered] == [*range(1, len(rows) + 1)]
    assert [one["input"] for one in answered] == [{"text": row["text"]} for row in rows]
    assert [one["answer"]["label"] for one in answered] == [row["predicted"] for row in evaluated]

    (project / "out.jsonl").unlink()
    each, asked = Asker.each, []

    def stopped(self: Asker, part: Any, *, first: int = 0) -> Iterator[Any]:
        for number, said in each(self, part, first=first):
            if len(asked) == 40:
                raise KeyboardInterrupt
            asked.append(number)
            yield number, said

    with monkeypatch.context() as patch:
        patch.setattr(Asker, "each", stopped)
        ran = cli(*command)
    assert ran.code == 130
    assert "goes on" in ran.err
    kept = (project / "out.jsonl").read_bytes()
    assert whole.startswith(kept)
    assert 16 <= kept.count(b"\n") <= 40
    # The machine lost its power in the middle of a line.
    (project / "out.jsonl").write_bytes(kept + b'{"row": 99, "ver')
    told = cli(*command, "--json").json
    assert told["asked"] == len(rows) - kept.count(b"\n")
    again = [json.loads(line) for line in (project / "out.jsonl").read_bytes().splitlines()]
    assert [(one["row"], one["answer"]) for one in again] == [(one["row"], one["answer"]) for one in answered]
    assert cli(*command, "--json").json["asked"] == 0


def test_answers_of_others_are_not_gone_on_with(
    released: TaskFolder, asked_here: Predictor, cli: Callable[..., Ran], project: Path
) -> None:
    source = write_rows(project / "in.jsonl", [{"text": TEXT}, {"text": "Order 6: this lens is awful."}])
    command = ("predict", "sentiment", "--file", source, "--out", "out.jsonl")
    assert cli(*command).code == 0
    kept = (project / "out.jsonl").read_bytes()
    write_rows(source, [{"text": TEXT}, {"text": "Another."}])
    ran = cli(*command)
    assert ran.code == 1
    assert "out.jsonl:2" in ran.err
    assert (project / "out.jsonl").read_bytes() == kept
    assert cli(*command, "--again").code == 0
    assert json.loads((project / "out.jsonl").read_bytes().splitlines()[1])["input"] == {"text": "Another."}
    assert cli("predict", "sentiment", "--file", source, "--out", source).code == 2
    assert source.read_text().count("\n") == 2


def test_a_csv_file_is_answered(
    released: TaskFolder, asked_here: Predictor, cli: Callable[..., Ran], project: Path
) -> None:
    content = '\ufefftext,id\n"Order 5: this camera\nis great, really.",7\nOrder 6: this lens is awful.,8\n'
    (project / "in.csv").write_text(content, encoding="utf-8")
    assert cli("predict", "sentiment", "--file", "in.csv", "--out", "out.jsonl").code == 0
    answered = [json.loads(line) for line in (project / "out.jsonl").read_text().splitlines()]
    assert answered[0]["input"] == {"text": "Order 5: this camera\nis great, really."}
    assert answered[1]["answer"] == {"label": "negative"}


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("in.jsonl", b'{"text": "a"}\n{"body": "b"}\n', 2),
        ("in.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', 3),
        ("in.jsonl", b'{"text": "a"}\n[1]\n', 2),
        ("in.jsonl", b'{"text": "\xff"}\n', 1),
        ("in.csv", b"text,id\na,1\nb,2,3\n", 3),
        ("in.csv", b"body\na\n", 2),
    ],
)
def test_a_broken_row_is_named_before_any_is_asked(
    released: TaskFolder, project: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, line: int
) -> None:
    def refuse(*_arguments: Any) -> Predictor:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(predicting, "opened", refuse)
    (project / name).write_bytes(content)
    with pytest.raises(Invalid) as refused:
        file_predictions.predict(subject.asked(released), project / name, project / "out.jsonl")
    assert refused.value.line == line
    assert not (project / "out.jsonl").exists()


def test_a_row_that_is_too_long_or_no_text_is_refused(loaded: Predictor) -> None:
    for row in ({"text": "x" * 9000}, {"text": "\ud800"}, {"body": "x"}, {"text": {1, 2}}):
        with pytest.raises(Invalid):
            loaded.predict(row)
    assert loaded.predict(TEXT).answer == {"label": "positive"}


def test_an_archived_task_is_not_asked(released: TaskFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(released.task_path, {("status",): "archived"})
    assert cli("predict", "sentiment", TEXT).code == 1


class Told:
    """A fake of a scorer, which says of each answer what it was told to."""

    backend = model = fingerprint = "told"
    ways: tuple[Way, ...] = ("likelihood", "constrained", "free")

    def __init__(self, shares: dict[str, float], text: str = "") -> None:
        self.shares, self.text = shares, text
        self.drawn: list[Any] = []

    def likelihood(self, questions: Any, answers: Any) -> Iterator[Likely]:
        for one in questions:
            yield Likely(one.row, [math.log(self.shares.get(text, 1e-9)) for text in answers], "", 0.0)

    def generate(self, questions: Any, sampling: Any, output: Any) -> Iterator[Said]:
        self.drawn.append(sampling)
        for one in questions:
            yield Said(one.row, self.text, "", 0.0, probability=0.5)

    def close(self) -> None:
        pass


@pytest.fixture
def several_labels(released: TaskFolder) -> TaskFolder:
    """The task, as if v2 had learnt to give a list of labels, and was best at a threshold of 0.3."""
    items = {"type": "string", "enum": ["a", "b", "c"]}
    form = {"type": "json", "schema": {"labels": {"type": "array", "items": items}}}
    yaml.change(released.task_path, {("output_format",): form})
    version = released.version("v2")
    info = json.loads(version.model_info_path.read_text())
    version.model_info_path.write_text(json.dumps({**info, "output_format": form}))
    results = json.loads(version.results_path.read_text())
    results["asked"] = {"way": "likelihood", "backend": "transformers", "model": "v2", "threshold": 0.3}
    version.results_path.write_text(json.dumps({**results, "kind": "labels"}))
    return released


def test_of_several_labels_those_above_the_versions_threshold_are_given(several_labels: TaskFolder) -> None:
    told = Told({'{"labels": ["a"]}': 0.5, '{"labels": ["b"]}': 0.35, '{"labels": ["c"]}': 0.1})
    (said,) = Asker(subject.asked(several_labels), told).answers([{"text": "x"}])
    assert said.answer == {"labels": ["a", "b"]}
    assert said.probabilities is not None
    assert said.probabilities["c"] < 0.3


def test_without_the_rows_that_list_its_answers_a_version_says_them(several_labels: TaskFolder) -> None:
    shutil.rmtree(several_labels.root / "data")
    results = json.loads(several_labels.version("v2").results_path.read_text())
    results["asked"]["sampling"] = {"max_new_tokens": 77}
    several_labels.version("v2").results_path.write_text(json.dumps(results))
    told = Told({}, '{"labels": ["c", "a"]}')
    (said,) = Asker(subject.asked(several_labels), told).answers([{"text": "x"}])
    assert said.answer == {"labels": ["c", "a"]}
    assert [one.max_new_tokens for one in told.drawn] == [77]
    (unread,) = Asker(subject.asked(several_labels), Told({}, "nonsense")).answers([{"text": "x"}])
    assert (unread.answer, unread.raw) == (None, "nonsense")
