"""The data commands as a person, a script and an agent use them; above all with bad input."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA_SOURCE_YAML, LABELS, Ran, reviews, write_rows

SOURCES = DATA_SOURCE_YAML.format(path="reviews.jsonl")
Cli = Callable[..., Ran]


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    return make_task()


def refused(ran: Ran, code: int, *words: str) -> None:
    """The answer is no: the right exit code, these words, a cause or a mend, no traceback, nothing on stdout."""
    assert ran.code == code, ran
    for word in words:
        assert word in ran.err
    assert "mend:" in ran.err or "cause:" in ran.err
    assert "Traceback" not in ran.err


def source(task: Path, text: str) -> None:
    (task / "data_source.yaml").write_text(text, encoding="utf-8")


def test_the_way_through(task: Path, cli: Cli) -> None:
    ran = cli("regenerate", "--json")
    assert ran.code == 0
    assert ran.json["splits"]["test"] == {"rows": 36, "distribution": dict.fromkeys(LABELS, 12)}
    answer = cli("validate", "--json", "--no-tokens").json
    assert (answer["ok"], answer["findings"], answer["splits"]["test"]["rows"]) == (True, [], 36)
    done = cli("convert", "--json").json
    assert done["rows"] == {"train": 72, "valid": 12, "test": 36}
    first = json.loads((task / done["files"]["train"]).read_text(encoding="utf-8").splitlines()[0])
    assert list(first) == ["prompt", "completion", "chat_template_kwargs"]
    assert first["prompt"][0]["content"].startswith("Is this review positive, neutral or negative?\nOrder")
    assert first["completion"][0]["content"] in LABELS


def test_tables_for_people(task: Path, cli: Cli) -> None:
    ran = cli("regenerate")
    assert "│ test  │   36 │" in ran.out
    assert "reviews" in ran.out
    assert "unchanged" in cli("regenerate").out
    assert cli("validate").out.endswith("valid\n")


def test_sources_are_added_listed_and_shown(task: Path, cli: Cli) -> None:
    (task / "more.csv").write_text("body,label\n\x1b[31mfine,positive\n" + "x" * 900 + ",neutral\n", encoding="utf-8")
    path = task / "data_source.yaml"
    path.write_text("# mine\n" + path.read_text())
    ran = cli(
        "data-source", "add", "--type", "file_import", "--name", "more", "--path", "more.csv", "--mapping", "text=body"
    )
    assert ran.code == 0
    assert "fine" in ran.out
    assert "\x1b" not in ran.out
    assert max(len(line) for line in ran.out.splitlines()) < 120
    assert path.read_text().startswith("# mine\n")
    listed = cli("data-source", "list", "--json").json["sources"]
    assert [(entry["name"], entry["type"], entry["from"]) for entry in listed] == [
        ("reviews", "file_import", "reviews.jsonl"),
        ("more", "file_import", "more.csv"),
    ]
    assert "more.csv" in cli("data-source", "list").out
    checked = cli("data-source", "check", "more", "--rows", "1", "--json").json["sources"][0]
    assert checked["rows"] == [{"text": "\x1b[31mfine", "label": "positive", "_source": "more"}]
    assert checked["columns"] == ["body", "label"]
    assert not (task / "data" / "raw").exists()  # a check writes nothing
    assert cli("data-source", "show", "sentiment", "more").code == 0
    refused(cli("data-source", "show", "sentiment", "none"), 2, "none")
    refused(cli("data-source", "show"), 2, "which source")


def test_a_path_seen_from_here_is_written_from_the_task(task: Path, project: Path, cli: Cli) -> None:
    write_rows(project / "outside.jsonl", reviews(6))
    write_rows(task / "inside.jsonl", reviews(6))
    for name, given in (("a", "outside.jsonl"), ("b", "sentiment/inside.jsonl")):
        assert cli("data-source", "add", "--type", "file_import", "--name", name, "--path", given).code == 0
    places = [entry["from"] for entry in cli("data-source", "list", "--json").json["sources"]]
    assert places == ["reviews.jsonl", str(project / "outside.jsonl"), "inside.jsonl"]


def test_a_first_source_goes_into_an_empty_list(task: Path, cli: Cli) -> None:
    source(task, "# where from\nsources: []  # none\nsplit:\n  seed: 5\n")
    assert cli("data-source", "add", "--type", "file_import", "--path", "reviews.jsonl").code == 0
    text = (task / "data_source.yaml").read_text()
    assert "  - type: file_import\n    name: file_import\n    path: reviews.jsonl\n" in text
    assert text.startswith("# where from\n")
    assert cli("regenerate").code == 0


def test_a_wrong_source_is_not_added(task: Path, cli: Cli) -> None:
    before = (task / "data_source.yaml").read_bytes()

    def add(*more: object, kind: str = "file_import") -> Ran:
        return cli("data-source", "add", "--type", kind, *more)

    refused(add("--name", "reviews", "--path", "reviews.jsonl"), 2, "reviews")
    refused(add("--path", "none.csv"), 1, "not found", "none.csv")
    refused(add("--name", "../x", "--path", "reviews.jsonl"), 1, "source name")
    refused(add("--path", "reviews.jsonl", "--mapping", "txt=body"), 2, "did you mean text")
    refused(add("--path", "reviews.jsonl", "--mapping", "text=body"), 1, "no column body", "text, label")
    refused(add("--connection", "sqlite:///none.db", "--query", "SELECT 1", kind="database"), 3, "none.db")
    assert add().code == add("--connection", "sqlite://", kind="database").code == 2
    assert (task / "data_source.yaml").read_bytes() == before
    assert add("--name", "later", "--path", "none.csv", "--no-check").code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: []\n", ["no data source", "data-source add"]),
        (DATA_SOURCE_YAML.format(path="none.jsonl"), ["not found", "none.jsonl"]),
        (SOURCES + "  sed: 3\n", ["data_source.yaml:10", "unknown key split.sed", "seed"]),
        (SOURCES.replace("0.6", "'lots'"), ["data_source.yaml:6", "split.train"]),
        (SOURCES.replace("0.6", "0.5"), ["0.9", "not 1"]),
        ("sources:\n  - type: databse\n", ["data_source.yaml:2", "databse"]),
        ("sources: [\n", ["data_source.yaml", "YAML"]),
        ("", ["empty"]),
    ],
)
def test_a_wrong_data_source_yaml(task: Path, cli: Cli, text: str, words: list[str]) -> None:
    source(task, text)
    refused(cli("regenerate"), 1, *words)
    answer = cli("regenerate", "--json")
    assert answer.code == 1
    assert answer.json["ok"] is False


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["no rows"]),
        (b"\n\r\n", ["no rows"]),
        (b'{"text": "a", "label": "positive"}\n{"text": "\xff"}\n', ["reviews.jsonl:2", "UTF-8"]),
        (b'{"text": "a", "label": NaN}\n', ["reviews.jsonl:1", "NaN"]),
        (b'{"text": 7, "label": "positive"}\n', ["data/raw/reviews.jsonl:1", "wrong type", "text = 7"]),
        (b'{"text": "a", "label": "great"}\n', ["data/raw/reviews.jsonl:1", "label = 'great'"]),
        (b'{"text": "  ", "label": "positive"}\n', ["data/raw/reviews.jsonl:1", "empty"]),
        (b'{"text": "a"}\n', ["no column label"]),
        (b'{"text": "a"}\n{"text": "' + b"y" * 10_000_000 + b'"}\n', ["reviews.jsonl:2", "too long"]),
        (b'{"text": "a", "label": "positive"}\n', ["positive", "too few"]),
    ],
)
def test_a_wrong_data_file(task: Path, cli: Cli, content: bytes, words: list[str]) -> None:
    (task / "reviews.jsonl").write_bytes(content)
    refused(cli("regenerate"), 1, *words)
    assert not (task / "data" / "train.jsonl").exists()


def test_blank_lines_crlf_and_bom_are_read(task: Path, cli: Cli) -> None:
    body = "\r\n\r\n".join(json.dumps(row) for row in reviews(120))
    (task / "reviews.jsonl").write_bytes(b"\xef\xbb\xbf" + body.encode())
    assert cli("regenerate", "--json").json["sources"][0]["rows"] == 120


@pytest.mark.parametrize("name", ["positive", "neutral"])
def test_a_class_with_one_row(task: Path, cli: Cli, name: str) -> None:
    rows = [row for row in reviews(120) if row["label"] != name]
    write_rows(task / "reviews.jsonl", [*rows, {"text": "the only one of its kind", "label": name}])
    refused(cli("regenerate"), 1, f"class {name}", "1")


@pytest.mark.parametrize(
    ("connection", "query", "code", "words"),
    [
        ("sqlite:///shop.db", "SELECT nowhere FROM reviews", 1, ["data_source.yaml:5", "no such column"]),
        ("sqlite:///shop.db", "SELECT text, label FROM reviews WHERE 0", 1, ["data_source.yaml:5", "no rows"]),
        ("sqlite:///none.db", "SELECT 1", 3, ["none.db", "not there"]),
        ("sqlite:///${NOT_SET_ANYWHERE}.db", "SELECT 1", 1, ["data_source.yaml:4", "NOT_SET_ANYWHERE"]),
        ("not a url", "SELECT 1", 1, ["data_source.yaml:4", "URL"]),
        ("mssql+pyodbc://u:geheim@127.0.0.1:1/d", "SELECT 1", 3, ["pip install"]),
    ],
)
def test_a_wrong_database(task: Path, cli: Cli, connection: str, query: str, code: int, words: list[str]) -> None:
    with sqlite3.connect(task / "shop.db") as shop:
        shop.execute("create table reviews(text text, label text)")
    shop.close()
    source(task, f"sources:\n  - type: database\n    name: shop\n    connection: {connection}\n    query: {query}\n")
    ran = cli("regenerate")
    refused(ran, code, *words)
    assert "geheim" not in ran.err
    assert not (task / "none.db").exists()


def test_validate_says_no_with_exit_code_one(task: Path, cli: Cli) -> None:
    assert cli("regenerate").code == 0
    with open(task / "data" / "train.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"text": "x", "label": "great"}\n')
    ran = cli("validate")
    refused(ran, 1, "sentiment/data/train.jsonl:73", "label the task does not know", "great")
    assert ran.out.endswith("not valid\n")
    answer = cli("validate", "--json", "--no-tokens")
    (found,) = answer.json["findings"]
    assert (answer.code, found["severity"], found["line"]) == (1, "error", 73)


def test_validate_of_documents_answers_in_json_even_when_they_are_broken(task: Path, cli: Cli) -> None:
    (task / "task.yaml").write_text("task_name: x\n  bad\n", encoding="utf-8")
    answer = cli("validate", task, "--documents", "--json")
    assert answer.code == 1
    assert any(Path(found["file"]).name == "task.yaml" for found in answer.json["findings"])


def test_convert_names_the_bad_row(task: Path, cli: Cli) -> None:
    refused(cli("convert"), 1, "train.jsonl", "regenerate")
    assert cli("regenerate").code == 0
    with open(task / "data" / "train.jsonl", "a", encoding="utf-8") as stream:
        stream.write("{\n")
    refused(cli("convert"), 1, "train.jsonl:73")


def test_help_has_examples(cli: Cli) -> None:
    for words in (["regenerate"], ["validate"], ["convert"], ["data-source", "add"], ["data-source", "show"]):
        ran = cli(*words, "--help")
        assert ran.code == 0
        assert f"nlp-skills {' '.join(words)}" in ran.out


def test_chinese_labels_file_names_and_spaces(project: Path, cli: Cli) -> None:
    made: Any = cli("new-task", "情感", "--labels", "正面,負面", "--output-field", "sentiment", "--language", "zh-TW")
    assert made.code == 0
    rows = [
        {"text": f"第{n}則評論:品質{word}", "label": label}
        for n in range(30)
        for word, label in (("好", "正面"), ("差", "負面"))
    ]
    write_rows(project / "情感" / "我的 資料.jsonl", rows)
    assert cli("data-source", "add", "情感", "--type", "file_import", "--path", "我的 資料.jsonl").code == 0
    ran = cli("regenerate", "情感")
    assert ran.code == 0
    assert "正面" in ran.out
    assert cli("validate", "情感").code == 0
