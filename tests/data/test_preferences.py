"""Files of preferences: every fault is named with its line before anything learns from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, write_rows

from nlp_skills.data.regenerate import regenerate
from nlp_skills.data.render import Renderer
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
Row = dict[str, Any]


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    """A task with data, whose version learns by DPO, and no preferences yet."""
    folder = TaskFolder.at(make_task())
    regenerate(folder)
    path = folder.version("v1").config_path
    path.parent.mkdir(parents=True)
    path.write_text("base_model: none/none\nmethod: dpo\n", encoding="utf-8")
    return folder


def prompt(number: int) -> str:
    """What a row that is in none of the splits asks, as input_template renders it."""
    return f"Is this review positive, neutral or negative?\nA text of its own, number {number}."


def pair(number: int, chosen: str = "positive", rejected: str = "negative", **more: Any) -> Row:
    return {"prompt": prompt(number), "chosen": chosen, "rejected": rejected, **more}


def single(number: int, label: Any, completion: str = "positive") -> Row:
    return {"prompt": prompt(number), "completion": completion, "label": label}


def found(folder: TaskFolder, cli: Cli, train: list[Row], valid: list[Row] | None = None, **config: Any) -> list[Row]:
    """What `validate` says of these preferences."""
    yaml.change(folder.version("v1").config_path, {(name,): value for name, value in config.items()})
    write_rows(folder.preferences("train"), train)
    if valid is not None:
        write_rows(folder.preferences("valid"), valid)
    answer = cli("validate", "--no-tokens", "--json").json
    here = [finding for finding in answer["findings"] if "preferences" in finding.get("file", "")]
    assert answer["ok"] == all(finding["severity"] != "error" for finding in answer["findings"])
    return here


GOOD = [pair(1), pair(2, "neutral", "positive")]


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto"])
def test_good_pairs_have_nothing_to_be_said_of_them(folder: TaskFolder, cli: Cli, method: str) -> None:
    conversation = [
        {"role": "user", "content": prompt(3)},
        {"role": "assistant", "content": "positive"},
        {"role": "user", "content": prompt(4)},
    ]
    talk = {"prompt": conversation, "chosen": "neutral", "rejected": "positive"}
    assert found(folder, cli, [*GOOD, talk], [pair(9)], method=method) == []


def test_single_answers_are_for_kto(folder: TaskFolder, cli: Cli) -> None:
    rows = [single(1, True), single(2, False)]
    assert found(folder, cli, rows, method="kto") == []
    (told,) = found(folder, cli, rows, method="dpo")
    assert (told["code"], told["line"], told["count"]) == ("judged", 1, 2)
    assert "method: kto" in told["mend"]
    assert (
        found(folder, cli, [*GOOD, *[{**row, "prompt": prompt(7 + at)} for at, row in enumerate(rows)]], method="kto")
        == []
    )


BAD: dict[str, tuple[list[Row], str, str]] = {
    "missing_column": ([*GOOD, {"prompt": prompt(3), "choosen": "positive", "rejected": "negative"}], "3", "chosen"),
    "wrong_type": ([*GOOD, pair(3, chosen={"label": "positive"})], "3", "chosen = object (1)"),  # type: ignore[arg-type]
    "empty_text": ([*GOOD, pair(3, rejected="  ")], "3", "rejected"),
    "bad_messages": (
        [{**pair(1), "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
        "1",
        "user, assistant",
    ),
    "same_answers": ([pair(1, "positive", " positive\n"), *GOOD[1:]], "1", "positive"),
    "contradiction": ([*GOOD, pair(1, "negative", "positive")], "3", "as in line 1"),
    "bad_json": ([*GOOD], "3", "Expecting value"),
    "not_object": ([*GOOD, ["a"]], "3", "array (1)"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_row_is_an_error_with_its_line(folder: TaskFolder, cli: Cli, code: str) -> None:
    rows, line, words = BAD[code]
    if code == "bad_json":
        write_rows(folder.preferences("train"), rows)
        with open(folder.preferences("train"), "a", encoding="utf-8") as stream:
            stream.write('{"prompt": \n')
        ran = cli("validate", "--no-tokens", "--json")
        told = [finding for finding in ran.json["findings"] if finding["code"] == code]
        assert ran.code == 1
    else:
        told = found(folder, cli, rows)
    first = told[0]
    assert (first["severity"], first["code"], str(first["line"])) == ("error", code, line)
    assert words in first["cause"]
    assert first["mend"]


def test_a_misspelt_column_is_recognised(folder: TaskFolder, cli: Cli) -> None:
    (told,) = found(folder, cli, [{"prompt": prompt(1), "chosen": "positive", "reject": "negative"}])
    assert "rejected: reject – did you mean rejected?" in told["cause"]


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("duplicate", [*GOOD, GOOD[0]]),
        ("off_format", [*GOOD, pair(3, "very positive")]),
        ("off_template", [*GOOD, {**pair(3), "prompt": "A text of its own, number 3."}]),
    ],
)
def test_what_may_be_meant_is_a_warning(folder: TaskFolder, cli: Cli, code: str, rows: list[Row]) -> None:
    (told,) = found(folder, cli, rows)
    assert (told["severity"], told["code"], told["line"]) == ("warning", code, 3)


def test_a_rejected_answer_may_be_anything(folder: TaskFolder, cli: Cli) -> None:
    assert found(folder, cli, [pair(1, rejected="I do not know."), pair(2, rejected='{"label": "positive"}')]) == []


def test_no_test_row_is_learnt_and_no_row_of_train_is_valid(folder: TaskFolder, cli: Cli) -> None:
    task = folder.task()
    rows = [json.loads(line) for line in folder.split("test").read_text(encoding="utf-8").splitlines()]
    asked = Renderer(task.input_template, task.output_format).messages(rows[4])[0]["content"]
    (told,) = found(folder, cli, [*GOOD, {**pair(3), "prompt": asked.replace("Order", "  ORDER")}])
    assert (told["code"], told["line"]) == ("leak", 3)
    assert "data/test.jsonl:5" in told["cause"]
    (told,) = found(folder, cli, GOOD, [pair(8), pair(2, "negative", "neutral")])
    assert (told["code"], told["line"]) == ("overlap", 2)
    assert told["file"].endswith("valid.jsonl")
    assert "data/preferences/train.jsonl:2" in told["cause"]


def test_kto_needs_both_kinds(folder: TaskFolder, cli: Cli) -> None:
    (told,) = found(folder, cli, [single(1, True), single(2, True)], method="kto")
    assert (told["code"], told["severity"]) == ("one_kind", "error")
    (told,) = found(folder, cli, [single(1, True), single(1, False)], method="kto")
    assert (told["code"], told["line"]) == ("contradiction", 2)
    (told,) = found(folder, cli, [single(1, "yes"), single(2, False)], method="kto")
    assert "label = 'yes'" in told["cause"]


def test_pairs_that_only_teach_away_from_one_answer_are_called_so(folder: TaskFolder, cli: Cli) -> None:
    away = [pair(number, "neutral", "positive") for number in range(12)]
    (told,) = found(folder, cli, away)
    assert (told["severity"], told["code"], told["count"]) == ("warning", "one_sided", 2)
    assert "positive" in told["cause"]
    assert "rejected 12" in told["cause"]
    back = [pair(20 + number, "positive", "neutral") for number in range(4)]
    assert found(folder, cli, [*away, *back]) == []


def test_nothing_to_learn_from_says_how_to_make_it(folder: TaskFolder, cli: Cli) -> None:
    ran = cli("validate", "--no-tokens")
    assert ran.code == 1
    assert "nlp-skills data preferences" in ran.err
    (told,) = found(folder, cli, [])
    assert told["code"] == "no_rows"


def test_files_that_the_version_does_not_learn_from_stop_nothing(folder: TaskFolder, cli: Cli) -> None:
    told = found(folder, cli, [pair(1, "a", "a")], method="sft")
    assert [(one["code"], one["severity"]) for one in told] == [("same_answers", "warning")]
    folder.preferences("train").unlink()
    assert cli("validate", "--no-tokens").code == 0


def test_texts_are_cut_and_escaped(folder: TaskFolder, cli: Cli) -> None:
    (told,) = found(folder, cli, [*GOOD, pair(3, "\x1b[31m" + "x" * 5000)])
    assert "\x1b" not in told["cause"]
    assert len(told["cause"]) < 300


def test_only_rows_of_a_classification_can_be_asked_for_mistakes(folder: TaskFolder, cli: Cli) -> None:
    yaml.change(folder.task_path, {("task_type",): "generation"})
    ran = cli("data", "preferences")
    assert ran.code == 1
    assert "{prompt, chosen, rejected}" in ran.err
