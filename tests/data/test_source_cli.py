"""data-source add, edit, check, list and show, by flags and by questions in a real terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from nlp_skills.schema import yaml

Cli = Callable[..., Any]


@pytest.fixture
def task(make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_task(rows=30)
    (root / "more.csv").write_text("body,verdict\nfine,positive\nplain,neutral\n", encoding="utf-8")
    monkeypatch.chdir(root)
    return root


def written(task: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.read(task / "data_source.yaml").data["sources"]
    return found


ADDED = {
    "api": (
        ["--endpoint", "https://api.example.com/x", "--param", "limit=10", "--bearer", "${TOKEN}", "--records", "data"],
        {
            "endpoint": "https://api.example.com/x",
            "params": {"limit": "10"},
            "auth": {"type": "bearer", "token": "${TOKEN}"},
            "records": "data",
        },
    ),
    "web_scrape": (
        ["--url", "https://e.com/1", "--url", "https://e.com/2", "--row", ".r", "--select", "text=.b[data-x=y]"],
        {"urls": ["https://e.com/1", "https://e.com/2"], "row": ".r", "selectors": {"text": ".b[data-x=y]"}},
    ),
    "llm_generated": (
        [
            "--prompt",
            "@prompt.txt",
            "--model",
            "m",
            "--count",
            "5",
            "--review",
            "--set",
            "validation.review_sample=0.2",
        ],
        {
            "prompt_template": "生成 {count} 筆\n好嗎",
            "model": "m",
            "count": 5,
            "validation": {"require_review": True, "review_sample": 0.2},
        },
    ),
    "huggingface": (["--dataset", "o/n"], {"dataset": "o/n", "revision": "main"}),
    "database": (
        ["--set", "driver=postgresql", "--set", "host=h", "--query", "SELECT 1 ORDER BY 1"],
        {"driver": "postgresql", "host": "h", "query": "SELECT 1 ORDER BY 1"},
    ),
}


@pytest.mark.parametrize("kind", sorted(ADDED))
def test_each_type_is_added_by_its_own_options(task: Path, cli: Cli, kind: str) -> None:
    (task / "prompt.txt").write_text("生成 {count} 筆\n好嗎\n", encoding="utf-8")
    options, expected = ADDED[kind]
    assert cli("data-source", "add", "--type", kind, "--no-check", *options).code == 0
    assert written(task)[1] == {"type": kind, "name": kind, **expected}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--path", "x.csv"], "--type"),
        (["--type", "api"], "--endpoint"),
        (["--type", "api", "--endpoint", "http://h", "--path", "x"], "--path"),
        (["--type", "api", "--endpoint", "http://h", "--param", "x"], "KEY=VALUE"),
        (["--type", "database", "--connection", "sqlite://", "--query", "@none.sql"], "none.sql"),
        (["--type", "api", "--endpoint", "http://h", "--set", "auth=x", "--bearer", "${T}"], "auth"),
    ],
)
def test_wrong_options_are_answered_with_exit_code_2(task: Path, cli: Cli, words: list[str], said: str) -> None:
    before = (task / "data_source.yaml").read_bytes()
    ran = cli("data-source", "add", *words)
    assert ran.code == 2
    assert said in ran.err
    assert (task / "data_source.yaml").read_bytes() == before


def test_a_misspelt_setting_is_answered_with_the_nearest_one(task: Path, cli: Cli) -> None:
    ran = cli("data-source", "add", "--type", "api", "--endpoint", "http://h", "--set", "max_page=3", "--no-check")
    assert ran.code == 1
    assert "max_pages" in ran.err
    assert len(written(task)) == 1


def test_edit_keeps_comments_and_writes_nothing_that_fails(task: Path, cli: Cli) -> None:
    path = task / "data_source.yaml"
    path.write_text(
        "# top\nsources:\n  - type: file_import\n    name: reviews  # mine\n    config:\n      path: reviews.jsonl\n"
    )
    before = path.read_text()
    ran = cli("data-source", "edit", "reviews", "--path", "none.csv")
    assert ran.code == 1
    assert path.read_text() == before
    ran = cli(
        "data-source", "edit", "reviews", "--path", "more.csv", "--mapping", "text=body", "--mapping", "label=verdict"
    )
    assert ran.code == 0, ran.err
    assert "fine" in ran.out
    after = path.read_text()
    assert "# top" in after
    assert "# mine" in after
    assert yaml.read(path).data["sources"][0]["config"] == {
        "path": "more.csv",
        "mapping": {"text": "body", "label": "verdict"},
    }
    assert cli("data-source", "edit", "reviews", "--unset", "mapping", "--path", "reviews.jsonl", "--json").json["ok"]
    assert "mapping" not in yaml.read(path).data["sources"][0]["config"]
    assert cli("data-source", "edit", "reviews").code == 2  # nothing to change, and nobody to ask
    assert "did you mean reviews" in cli("data-source", "edit", "sentiment", "review", "--no-check").err


def test_check_tries_every_source_and_says_which_would_fail(task: Path, cli: Cli) -> None:
    mapped = ["--mapping", "text=body", "--mapping", "label=verdict"]
    assert cli("data-source", "add", "--type", "file_import", "--path", "more.csv", *mapped).code == 0
    assert cli("data-source", "check").code == 0
    (task / "more.csv").write_text("text2,verdict\nx,positive\n", encoding="utf-8")
    ran = cli("data-source", "check", "--json")
    assert ran.code == 1
    good, bad = ran.json["sources"]
    assert good["ok"]
    assert len(good["rows"]) == 3
    assert not bad["ok"]
    assert bad["columns"] == ["text2", "verdict"]
    assert "body" in bad["error"]["message"]
    (task / "more.csv").write_text("body,verdict\nx,wonderful\n", encoding="utf-8")
    assert any(
        "wonderful" in text
        for text in cli("data-source", "check", "file_import", "--json").json["sources"][0]["warnings"]
    )


def test_show_tells_settings_and_what_was_fetched(task: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "reviews.jsonl")
    cli("data-source", "edit", "reviews", "--path", "${WHERE}")
    ran = cli("data-source", "show")
    assert "${WHERE}" in ran.out
    assert "data-source check reviews" in ran.out
    assert cli("regenerate").code == 0
    shown = cli("data-source", "show", "--rows", "2", "--json").json
    assert shown["record"]["rows"] == 30
    assert len(shown["rows"]) == 2


class Person:
    """Somebody at a terminal."""

    def __init__(self, *words: str) -> None:
        environment = {**os.environ, "NLP_SKILLS_LANG": "en", "TERM": "xterm", "COLUMNS": "200"}
        command = ["-m", "nlp_skills.cli.main", "data-source", *words]
        self.child = pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8", timeout=30)

    def answers(self, question: str, answer: str) -> None:
        self.child.expect_exact(question)
        self.child.expect_exact(":")
        self.child.sendline(answer)

    def leaves(self) -> int:
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)


def test_a_person_is_asked_and_may_correct_an_answer(task: Path) -> None:
    person = Person("add")
    person.answers("Where do the rows come from?", "1")
    person.answers("the file or glob", "mroe.csv")
    person.answers("What to call it", "extra")
    person.answers("Change the answers?", "y")
    person.answers("the file or glob", "more.csv")
    person.answers("What to call it", "")
    person.answers("Column (or JMESPath) of the field text", "body")
    person.answers("Column (or JMESPath) of the field label", "verdict")
    assert person.leaves() == 0
    assert written(task)[1] == {
        "type": "file_import",
        "name": "extra",
        "path": "more.csv",
        "mapping": {"text": "body", "label": "verdict"},
    }


def test_editing_asks_with_the_present_values_and_ctrl_c_changes_nothing(task: Path) -> None:
    before = (task / "data_source.yaml").read_bytes()
    person = Person("edit", "reviews")
    person.child.expect_exact("[reviews.jsonl]")
    person.child.sendintr()
    assert person.leaves() == 130
    assert (task / "data_source.yaml").read_bytes() == before
