"""Files and databases as they come, and what is said when they are wrong."""

from __future__ import annotations

import datetime as dt
import decimal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nlp_skills.data import sources
from nlp_skills.data.snapshot import source_hash
from nlp_skills.data.sources import cells
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.schema.data_source import Database, DataSource, FileImport
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


def rows_of(folder: TaskFolder, content: bytes, name: str, **settings: Any) -> list[dict[str, Any]]:
    (folder.root / name).write_bytes(content)
    return list(
        sources.fetch(FileImport(type="file_import", name="s", path=name, **settings), sources.Fetching(folder))
    )


def refusal(folder: TaskFolder, content: bytes, name: str, **settings: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        rows_of(folder, content, name, **settings)
    assert caught.value.mend or caught.value.cause
    return caught.value


BIG5 = {"encoding": "big5", "delimiter": ";"}
JSONL = '{"text": "好, fine", "label": "yes"}\n{"text": "line\\nbreak", "label": "no"}\n'
TWO = [{"text": "好, fine", "label": "yes"}, {"text": "line\nbreak", "label": "no"}]


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.csv", 'text,label\n"好, fine",yes\n"line\nbreak",no\n'.encode(), {}),
        ("a.csv", '\ufefftext,label\r\n"好, fine",yes\r\n\r\n"line\nbreak",no\r\n'.encode(), {}),
        ("a.csv", 'text;label\n好, fine;yes\n"line\nbreak";no\n'.encode("big5"), BIG5),
        ("a.tsv", 'text\tlabel\n好, fine\tyes\n"line\nbreak"\tno\n'.encode(), {}),
        ("a.json", '[{"text": "好, fine", "label": "yes"}, {"text": "line\\nbreak", "label": "no"}]'.encode(), {}),
        ("a.jsonl", JSONL.encode(), {}),
        ("a.jsonl", ("\ufeff" + JSONL.replace("\n", "\r\n\r\n")).encode(), {}),
        ("a.txt", JSONL.encode("utf-16"), {"format": "jsonl", "encoding": "utf-16"}),
    ],
)
def test_each_format_gives_the_same_rows(folder: TaskFolder, name: str, content: bytes, settings: Any) -> None:
    assert rows_of(folder, content, name, **settings) == TWO


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.csv", b"text,label\nfine,yes\nfine\n", 3, "header"),
        ("a.csv", b'text,label\n"fine,yes\n', 2, "CSV"),
        ("a.csv", b"text,text\nfine,yes\n", 1, "twice"),
        ("a.csv", b"text,label\nfine,yes\n\xff,no\n", 3, "utf-8"),
        ("a.csv", b"", None, "no rows"),
        ("a.json", b'[{"text": 1},\n{]', 2, "JSON"),
        ("a.json", b'{"text": 1}', None, "list"),
        ("a.json", b"[3]", None, "list"),
        ("a.json", b'[{"x": NaN}]', None, "NaN"),
        ("a.jsonl", b'{"text": 1}\n\n{"text": \n', 3, "JSON"),
        ("a.jsonl", b'{"text": 1}\n{"text": NaN}\n', 2, "NaN"),
        ("a.jsonl", b'{"text": 1}\n{"text": "\xff"}\n', 2, "UTF-8"),
        ("a.jsonl", b'{"text": 1}\n[]\n', 2, "object"),
        ("a.jsonl", b'{"text": 1}\n{"text": "' + b"x" * 10_000_000 + b'"}\n', 2, "too long"),
        ("a.jsonl", b"\n\n", None, "no rows"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(
    folder: TaskFolder, name: str, content: bytes, line: int | None, words: str
) -> None:
    problem = refusal(folder, content, name)
    assert (problem.line, problem.exit_code) == (line, 1)
    assert words in problem.message
    assert problem.file is not None and problem.file.endswith(name)


def test_every_wrong_line_is_named_in_one_go(folder: TaskFolder) -> None:
    problem = refusal(folder, b'{"a": 1}\n{\n{"a": 2}\n[]\n', "a.jsonl")
    assert [problem.line, *(other.line for other in problem.also)] == [2, 4]


def test_the_line_after_an_overlong_one_keeps_its_number(folder: TaskFolder) -> None:
    problem = refusal(folder, b"x" * 5_000_000 + b"\n{}\n{\n", "a.jsonl")
    assert [problem.line, *(other.line for other in problem.also)] == [1, 3]


def test_a_missing_file_an_unknown_format_and_an_unknown_encoding(folder: TaskFolder) -> None:
    with pytest.raises(Invalid, match="not found"):
        list(sources.fetch(FileImport(type="file_import", name="s", path="none.csv"), sources.Fetching(folder)))
    with pytest.raises(Usage, match="format"):
        rows_of(folder, b"x", "a.data")
    with pytest.raises(Invalid, match="klingon"):
        rows_of(folder, b"x", "a.csv", encoding="klingon")


@pytest.fixture
def shop(folder: TaskFolder) -> Path:
    path = folder.root / "data" / "shop #1.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("create table r(id integer primary key, text text, label text, at date, raw blob)")
        connection.executemany("insert into r(text, label) values(?, ?)", [(f"t{n}", "yes") for n in range(2500)])
    connection.close()
    return path


def query(folder: TaskFolder, sql: str, connection: str = "sqlite:///data/shop #1.db") -> list[dict[str, Any]]:
    return list(
        sources.fetch(
            Database(type="database", name="shop", connection=connection, query=sql), sources.Fetching(folder)
        )
    )


def test_a_query_is_taken_as_it_stands(folder: TaskFolder, shop: Path) -> None:
    found = query(folder, "SELECT text, ':x 100%' AS label FROM r WHERE text LIKE 't1%' ORDER BY id LIMIT 2")
    assert found == [{"text": "t1", "label": ":x 100%"}, {"text": "t10", "label": ":x 100%"}]
    assert len(query(folder, "SELECT * FROM r")) == 2500


def test_a_database_is_never_written_to_nor_made(folder: TaskFolder, shop: Path) -> None:
    before = shop.read_bytes()
    for sql in ("DELETE FROM r", "DROP TABLE r", "INSERT INTO r(text) VALUES ('x')"):
        with pytest.raises(Invalid, match="query"):
            query(folder, sql)
    assert shop.read_bytes() == before
    with pytest.raises(Unavailable, match="not there") as caught:
        query(folder, "SELECT 1", "sqlite:///data/none.db")
    assert caught.value.exit_code == 3
    assert not (folder.root / "data" / "none.db").exists()


@pytest.mark.parametrize(
    ("sql", "cause"),
    [
        ("SELECT nowhere FROM r", "no such column"),
        ("SELEC 1", "syntax"),
        ("SELECT text FROM r WHERE 0", "no rows"),
        ("SELECT text, label AS text FROM r", "twice"),
        ("SELECT x'ff' AS text", "binary"),
        ("SELECT 9e999 AS text", "inf"),
    ],
)
def test_a_failing_query_says_why_and_where(folder: TaskFolder, shop: Path, sql: str, cause: str) -> None:
    folder.sources_path.write_text(
        "sources:\n  - type: database\n    name: shop\n    connection: 'sqlite:///data/shop #1.db'\n"
        f"    query: {sql!r}\n"
    )
    with pytest.raises(Invalid) as caught:
        list(sources.fetch(folder.sources().sources[0], sources.Fetching(folder)))
    assert cause in str(caught.value.cause)
    assert caught.value.line == 5


def test_a_file_that_is_no_database(folder: TaskFolder) -> None:
    (folder.root / "x.db").write_bytes(b"not a database at all, but long enough to be looked at" * 10)
    with pytest.raises(Problem, match="query"):
        query(folder, "SELECT 1 FROM x", "sqlite:///x.db")


def test_variables_come_from_the_environment(folder: TaskFolder, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP", "shop #1")
    assert query(folder, "SELECT 1 AS n", "sqlite:///${FOLDER:-data}/${SHOP}.db") == [{"n": 1}]
    monkeypatch.delenv("SHOP")
    with pytest.raises(Invalid, match="SHOP"):
        query(folder, "SELECT 1", "sqlite:///data/${SHOP}.db")


def test_a_server_that_does_not_answer_and_a_driver_that_is_not_there(folder: TaskFolder) -> None:
    with pytest.raises(Unavailable) as caught:
        query(folder, "SELECT 1", "oracle+nothing://u:p@127.0.0.1:1/d")
    assert caught.value.exit_code == 3
    with pytest.raises(Unavailable) as caught:
        query(folder, "SELECT 1", "mssql+pyodbc://u:p@127.0.0.1:1/d")
    assert "pip install" in str(caught.value.mend)


def test_no_secret_is_shown_recorded_or_hashed(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "geheim")
    urls = ["postgresql://me:geheim@127.0.0.1:1/d", "postgresql://me:${DB_PASSWORD}@127.0.0.1:1/d"]
    for url in urls:
        source = Database(type="database", name="d", connection=url, query="SELECT 1")
        assert "geheim" not in str(unexpanded(source))
        with pytest.raises(Problem) as caught:
            query(folder, "SELECT 1", url)
        assert "geheim" not in str(caught.value.as_dict())
    one, other = (
        DataSource(sources=[Database(type="database", connection=f"mysql://me:{word}@h/d", query="q")])
        for word in ("one", "other")
    )
    assert source_hash(one) == source_hash(other)
    assert "${DB_PASSWORD}" in unexpanded(DataSource(sources=[source]).sources[0])["connection"]


def test_a_literal_password_and_a_limit_without_order_are_warned_about() -> None:
    def warned(sql: str, connection: str = "sqlite:///x.db") -> int:
        return len(sources.warnings(Database(type="database", name="d", connection=connection, query=sql)))

    assert warned("SELECT 1 LIMIT 5") == 1
    assert warned("select 1 fetch first 5 rows only") == 1
    assert warned("SELECT 1 ORDER BY id LIMIT 5") == 0
    assert warned("SELECT 'LIMIT' FROM t ORDER BY 1 -- limit 3") == 0
    assert warned("SELECT 1", "mysql://u:p@h/d") == 1
    assert warned("SELECT 1", "mysql://u:${P}@h/d") == 0


def test_cells_become_json() -> None:
    zone = dt.timezone(dt.timedelta(hours=8))
    values = [b"text", decimal.Decimal("1.10"), decimal.Decimal("3.0"), dt.datetime(2026, 1, 2, 3, tzinfo=zone), None]
    assert [cells.plain(value) for value in values] == ["text", "1.10", 3, "2026-01-02T03:00:00+08:00", None]
    assert cells.plain({"a": (1, dt.date(2026, 1, 2))}) == {"a": [1, "2026-01-02"]}
    for wrong in (float("nan"), decimal.Decimal("NaN"), b"\xff", object()):
        with pytest.raises(ValueError):
            cells.plain(wrong)


@pytest.mark.parametrize(
    ("connection", "recorded"),
    [
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:${PW}@h/db?sslpassword=abc&x=1", "postgresql://u:${PW}@h/db?sslpassword=***&x=1"),
        ("mysql://u:${PW:-hunter}@h/db", "mysql://u:${PW}@h/db"),
        ("sqlite:///x.db?API_KEY=${K}&token=t", "sqlite:///x.db?API_KEY=${K}&token=***"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_a_secret_is_hidden_wherever_it_stands_in_a_url(connection: str, recorded: str) -> None:
    source = Database(type="database", name="s", connection=connection, query="SELECT 1")
    assert unexpanded(source)["connection"] == recorded
