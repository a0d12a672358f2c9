"""Queries on real PostgreSQL, MariaDB and SQLite; SQL Server as far as its driver goes without one."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_sql import PASSWORD, Server, free_port, labelled

from nlp_skills import extras
from nlp_skills.data import sources
from nlp_skills.data.sources import connecting
from nlp_skills.data.sources.sql import Sql
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema.source import Database
from nlp_skills.variables import Variables
from nlp_skills.workspace.folder import TaskFolder

SELECT = "SELECT body AS text, label FROM reviews ORDER BY id"


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def sqlite(folder: TaskFolder) -> Path:
    path = folder.root / "reviews.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE reviews (id integer PRIMARY KEY, body text, label text, day date)")
        connection.executemany("INSERT INTO reviews VALUES (?, ?, ?, ?)", labelled(90))
    return path


def long_form(server: Server, query: str, **changed: Any) -> Database:
    parts = {
        "driver": server.driver,
        "host": "127.0.0.1",
        "port": server.port,
        "user": server.user,
        "password": "${SQL_PASSWORD}",
        "database": server.database,
        "query": query,
    }
    return Database.model_validate({"type": "database", "name": "shop", **parts, **changed})


def rows_of(source: Database, folder: TaskFolder, **how: Any) -> list[dict[str, Any]]:
    return list(sources.fetch(source, sources.Fetching(folder, **how)))


def refusal(source: Database, folder: TaskFolder) -> Problem:
    with pytest.raises(Problem) as caught:
        rows_of(source, folder)
    shown = json.dumps(caught.value.as_dict(), ensure_ascii=False)
    assert caught.value.cause and caught.value.mend
    assert PASSWORD not in shown
    return caught.value


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQL_PASSWORD", PASSWORD)


def written(folder: TaskFolder, source: Database, query_yaml: str) -> Database:
    """The source as it comes from data_source.yaml, so that lines are known."""
    entry = source.model_dump(mode="json", exclude_none=True, exclude={"query", "mapping", "options"})
    lines = [f"    {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items() if key != "type"]
    text = "\n".join(["sources:", "  - type: database", *lines, f"    query: {query_yaml}"])
    folder.sources_path.write_text(text + "\n", encoding="utf-8")
    found = folder.sources().sources[0]
    assert isinstance(found, Database)
    return found


def test_both_forms_give_every_row(server: Server, folder: TaskFolder) -> None:
    expected = [{"text": text, "label": label} for _id, text, label, _day in labelled(90)]
    assert rows_of(long_form(server, SELECT), folder) == expected
    by_url = Database(type="database", name="shop", connection=server.url, query=SELECT + ";")
    assert rows_of(by_url, folder) == expected


def test_a_password_in_the_url_form_may_hold_anything(
    server: Server, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.parse import quote

    url = f"{server.driver}://${{SQL_USER}}:${{SQL_PASSWORD}}@127.0.0.1:${{SQL_PORT}}/{server.database}"
    source = Database(type="database", name="shop", connection=url, query=SELECT)
    monkeypatch.setenv("SQL_USER", server.user)
    monkeypatch.setenv("SQL_PORT", str(server.port))
    assert len(rows_of(source, folder)) == 90
    monkeypatch.setenv("SQL_PASSWORD", quote(PASSWORD, safe=""))
    assert len(rows_of(source, folder)) == 90
    monkeypatch.setenv("SQL_PASSWORD", "an@other/geheim")
    shown = str(refusal(source, folder).as_dict())
    assert "geheim" not in shown
    assert "other" not in shown


def test_values_become_json(postgresql: Server, mariadb: Server, folder: TaskFolder) -> None:
    query = """SELECT 1.50 AS n, DATE '2026-01-02' AS d, ARRAY['甲', '乙'] AS a, '{"k": [1, null]}'::jsonb AS j,
        true AS b, '10.0.0.1'::inet AS i, NULL AS nothing, '\\x e5a5bd'::bytea AS raw, interval '90 minutes' AS t"""
    [row] = rows_of(long_form(postgresql, query), folder)
    assert row == {
        "n": "1.50",
        "d": "2026-01-02",
        "a": ["甲", "乙"],
        "j": {"k": [1, None]},
        "b": True,
        "i": "10.0.0.1",
        "nothing": None,
        "raw": "好",
        "t": "1:30:00",
    }
    query = "SELECT 1.50 AS n, DATE '2026-01-02' AS d, x'e5a5bd' AS raw, '😀\\'' AS s, true AS b"
    assert rows_of(long_form(mariadb, query), folder) == [
        {"n": "1.50", "d": "2026-01-02", "raw": "好", "s": "😀'", "b": 1}
    ]


WRITES = {
    "postgresql": [
        "WITH gone AS (DELETE FROM reviews RETURNING *) SELECT body FROM gone",
        "SELECT wipe()",
        "SELECT nextval('counter')",
    ],
    "mariadb": ["SELECT wipe()", "(SELECT wipe() AS n) ORDER BY n"],
}


def test_a_query_that_writes_is_refused_by_the_server(server: Server, folder: TaskFolder) -> None:
    if server.driver == "postgresql":
        body = "'WITH gone AS (DELETE FROM reviews RETURNING 1) SELECT count(*)::int FROM gone'"
        server.run(
            f"CREATE OR REPLACE FUNCTION wipe() RETURNS int LANGUAGE sql AS {body}",
            "CREATE SEQUENCE IF NOT EXISTS counter",
        )
    else:
        server.run(
            "CREATE OR REPLACE FUNCTION wipe() RETURNS INT MODIFIES SQL DATA BEGIN DELETE FROM reviews; RETURN 1; END"
        )
    for query in WRITES[server.driver]:
        problem = refusal(long_form(server, query), folder)
        assert problem.exit_code == 1
        assert "read" in str(problem.cause).lower() or "data-modifying" in str(problem.cause)
    assert server.run("SELECT count(*) FROM reviews") == [(90,)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DELETE FROM reviews", "DELETE"),
        ("  -- tidy up\n drop table reviews", "DROP"),
        ("SET TRANSACTION READ WRITE", "SET"),
        ("SELECT 1; COMMIT; DELETE FROM reviews", "several statements"),
        ("SELECT ';' AS a; -- done\n DELETE FROM reviews", "several statements"),
    ],
)
def test_what_is_no_query_is_refused_before_it_is_sent(
    postgresql: Server, folder: TaskFolder, query: str, words: str
) -> None:
    assert words in str(refusal(long_form(postgresql, query), folder).cause)
    assert postgresql.run("SELECT count(*) FROM reviews") == [(90,)]


def test_the_snapshot_date_is_bound_and_nothing_else_is(server: Server, folder: TaskFolder, sqlite: Path) -> None:
    query = (
        "SELECT body, CAST(id AS {text}) AS id, ':snapshot_date 100%' AS said, '%s :12:30' AS odd FROM reviews "
        "WHERE day < :snapshot_date AND body LIKE '第1%' AND :snapshot_date > DATE('2026-01-01') ORDER BY reviews.id"
    )
    expected = [
        {"body": text, "id": str(number), "said": ":snapshot_date 100%", "odd": "%s :12:30"}
        for number, text, _label, day in labelled(90)
        if day < "2026-01-12" and text.startswith("第1")
    ]
    assert expected
    as_text = "char" if server.driver == "mariadb" else "text"
    source = long_form(server, query.format(text=as_text), snapshot_date="2026-01-12")
    assert rows_of(source, folder) == expected
    lite = Database(
        type="database",
        name="lite",
        connection="sqlite:///reviews.db",
        query=query.format(text="text"),
        snapshot_date=dt.date(2026, 1, 12),
    )
    fetching = sources.Fetching(folder)
    assert list(sources.fetch(lite, fetching)) == expected
    assert fetching.record == {"database": "sqlite", "snapshot_date": "2026-01-12"}


def test_a_cast_is_no_parameter(postgresql: Server, folder: TaskFolder) -> None:
    query = "SELECT '5'::int + 1 AS n, $q$it's :snapshot_date; $q$ AS t WHERE '2026-01-01'::date < :snapshot_date::date"
    source = long_form(postgresql, query, snapshot_date="2026-02-01")
    assert rows_of(source, folder) == [{"n": 6, "t": "it's :snapshot_date; "}]


def test_a_snapshot_date_that_is_not_set_or_not_used(postgresql: Server, folder: TaskFolder) -> None:
    source = written(folder, long_form(postgresql, "x"), "SELECT 1 AS n WHERE current_date > :snapshot_date")
    problem = refusal_of_unset(source, folder)
    assert (problem.line, problem.exit_code) == (10, 1)
    assert "snapshot_date: YYYY-MM-DD" in str(problem.mend)
    unused = long_form(postgresql, "SELECT ':snapshot_date'", snapshot_date="2026-01-01")
    assert any("does not use :snapshot_date" in text for text in sources.warnings(unused))


def refusal_of_unset(source: Database, folder: TaskFolder) -> Problem:
    with pytest.raises(Invalid, match="snapshot_date") as caught:
        rows_of(source, folder)
    return caught.value


@pytest.mark.parametrize(
    ("query_yaml", "line", "words"),
    [
        ("|\n      SELECT body\n      FROM\n        revews", {"postgresql": 13, "mariadb": 10}, "revews"),
        ("|\n      SELECT body,\n      FROM\n      FROM reviews", {"postgresql": 12, "mariadb": 12}, "FROM"),
        ("SELEC 1", {"postgresql": 10, "mariadb": 10}, "SELEC"),
        ("SELECT body FROM reviews WHERE id < 0", {"postgresql": 10, "mariadb": 10}, "no rows"),
        ("SELECT body, label AS body FROM reviews", {"postgresql": 10, "mariadb": 10}, "twice"),
    ],
)
def test_a_wrong_query_is_named_with_its_line(
    server: Server, folder: TaskFolder, query_yaml: str, line: dict[str, int], words: str
) -> None:
    problem = refusal(written(folder, long_form(server, "x"), query_yaml), folder)
    assert problem.exit_code == 1
    assert words in str(problem.cause)
    assert problem.line == line[server.driver]


def test_each_way_of_not_getting_in_has_its_words(server: Server, folder: TaskFolder, monkeypatch: Any) -> None:
    unreachable = refusal(long_form(server, SELECT, port=free_port()), folder)
    assert "cannot be reached" in unreachable.message
    nowhere = refusal(long_form(server, SELECT, database="nirgends"), folder)
    assert "no database nirgends" in nowhere.message
    monkeypatch.setenv("SQL_PASSWORD", "wrong-secret-word")
    refused = refusal(long_form(server, SELECT), folder)
    assert "refuses this user" in refused.message
    assert "wrong-secret-word" not in str(refused.as_dict())
    assert {problem.exit_code for problem in (unreachable, nowhere, refused)} == {3}


def test_a_host_that_never_answers_is_given_up(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for driver in ("postgresql", "mariadb"):
            started = time.monotonic()
            source = long_form(Server(driver, silent.getsockname()[1], "u", "", "d"), SELECT)
            assert "cannot be reached" in refusal(source, folder).message
            assert time.monotonic() - started < 8


def test_a_query_may_think_longer_than_a_connection_takes(
    server: Server, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1)
    sleep = "pg_sleep(2)::text" if server.driver == "postgresql" else "sleep(2)"
    assert len(rows_of(long_form(server, f"SELECT {sleep} AS slept"), folder)) == 1


BIG = {
    "postgresql": "SELECT n AS id, repeat('好評 ', 60) AS text FROM generate_series(1, {rows}) n",
    "mariadb": "SELECT seq AS id, repeat('好評 ', 60) AS text FROM seq_1_to_{rows}",
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) "
    "SELECT n AS id, substr('好評好評好評好評好評好評好評好評好評好評好評好評好評好評好評好評', 1, 32) AS text FROM c",
}


def test_a_connection_lost_in_the_middle_is_said_to_be_lost(server: Server, folder: TaskFolder) -> None:
    stream = sources.fetch(long_form(server, BIG[server.driver].format(rows=2_000_000)), sources.Fetching(folder))
    with contextlib.closing(stream):
        assert next(stream)["id"] == 1
        kill_others(server)
        with pytest.raises(Unavailable, match="lost") as caught:
            for _row in stream:
                pass
    assert "after " in str(caught.value.cause)


def kill_others(server: Server) -> None:
    if server.driver == "postgresql":
        server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'nlp'"
        )
        return
    mine = "SELECT id FROM information_schema.processlist WHERE user = 'nlp' AND id <> connection_id()"
    for (number,) in server.run(mine):
        with contextlib.suppress(Exception):
            server.run(f"KILL {number}")


def test_a_preview_of_a_huge_result_does_not_wait_for_its_end(
    server: Server, folder: TaskFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    fetching = sources.Fetching(folder, preview=True)
    stream = sources.fetch(long_form(server, BIG[server.driver].format(rows=20_000_000)), fetching)
    with contextlib.closing(stream):
        assert [next(stream)["id"] for _ in range(3)] == [1, 2, 3]
    del stream
    assert time.monotonic() - started < 5
    assert capfd.readouterr().err == ""


PEAK = """
import json, resource, sys
from pathlib import Path
from nlp_skills.data import sources
from nlp_skills.schema.source import Database
from nlp_skills.workspace.folder import TaskFolder
source = Database(type="database", name="big", connection=sys.argv[2], query=sys.argv[3])
count = sum(1 for row in sources.fetch(source, sources.Fetching(TaskFolder.at(Path(sys.argv[1])))))
print(json.dumps([count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@pytest.mark.parametrize("driver", ["sqlite", "postgresql", "mariadb"])
def test_memory_does_not_grow_with_the_rows(
    driver: str, request: pytest.FixtureRequest, folder: TaskFolder, sqlite: Path
) -> None:
    url = "sqlite:///reviews.db" if driver == "sqlite" else request.getfixturevalue(driver).url

    def peak(rows: int) -> float:
        command = [sys.executable, "-c", PEAK, str(folder.root), url, BIG[driver].format(rows=rows)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        count, megabytes = json.loads(done.stdout)
        assert count == rows
        return float(megabytes)

    few, many = peak(20_000), peak(200_000)
    # All 200,000 rows held at once would be 60 MB and more.
    assert many - few < 12, (few, many)


def test_the_file_of_a_sqlite_database_is_an_input(folder: TaskFolder, sqlite: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FILE", "reviews")
    url = Database(type="database", name="d", connection="sqlite:///${FILE}.db", query=SELECT)
    form = Database(type="database", name="d", driver="sqlite", database="reviews.db", query=SELECT)
    before = sources.inputs(url, folder)
    assert list(before) == ["reviews.db"]
    assert before == sources.inputs(form, folder)
    assert len(rows_of(form, folder)) == 90
    with contextlib.closing(sqlite3.connect(sqlite)) as connection, connection:
        connection.execute("DELETE FROM reviews WHERE id = 0")
    assert sources.inputs(url, folder) != before
    sqlite.unlink()
    assert sources.inputs(url, folder) == {}


def test_a_server_has_no_input_files(postgresql: Server, folder: TaskFolder) -> None:
    assert sources.inputs(long_form(postgresql, SELECT), folder) == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT a FROM t", "any order"),
        ("SELECT a FROM t LIMIT 5", "takes other rows"),
        ("SELECT TOP 5 a FROM t", "takes other rows"),
        ("SELECT TOP (5) a FROM t", "takes other rows"),
        ("SELECT * FROM (SELECT a FROM t LIMIT 5) x ORDER BY a", "takes other rows"),
        ("SELECT * FROM (SELECT a FROM t ORDER BY a LIMIT 5) x", "any order"),
        ("SELECT a, row_number() OVER (ORDER BY a) FROM t", "any order"),
        ("SELECT 'order by' FROM t -- ORDER BY a", "any order"),
        ("SELECT a FROM t ORDER BY a LIMIT 5", None),
        ("(SELECT a FROM t ORDER BY a);", None),
        ("SELECT a FROM t UNION SELECT a FROM u ORDER\n BY a", None),
        ("SELECT 1 AS n", None),
    ],
)
def test_an_order_that_is_not_fixed_is_warned_about(query: str, words: str | None) -> None:
    found = sources.warnings(Database(type="database", name="d", connection="sqlite:///x.db", query=query))
    assert [words in text for text in found if words] == ([True] if words else [])
    assert bool(found) == bool(words)


def test_quotes_of_mysql_and_of_the_others() -> None:
    assert not Sql(r"SELECT 'it\'s; DELETE' FROM t", mysql=True).several_statements
    assert not Sql(r"SELECT a FROM t WHERE a LIKE 'x\%' ESCAPE '\' AND b = ';'").several_statements
    assert Sql(r"SELECT a FROM t WHERE a = '\'; DROP TABLE t").several_statements


def test_sql_server_is_sent_what_was_written_and_the_date_apart() -> None:
    from mssql_python.parameter_helper import detect_and_convert_parameters
    from sqlalchemy import create_engine

    parts = {"host": "db.local", "user": "u", "password": "p;w}", "database": "d", "query": "q"}
    source = Database.model_validate({"type": "database", "driver": "sqlserver", **parts})
    engine = create_engine(connecting.url_of(source, TaskFolder(Path("/nowhere")), Variables()))
    (text,), _more = engine.dialect.create_connect_args(engine.url)
    assert text == "Server=db.local;Database=d;UID=u;PWD={p;w}}}"
    query = Sql("SELECT TOP 5 a FROM t WHERE [at] < :snapshot_date AND b LIKE '%:x' OR c > :snapshot_date ORDER BY a")
    day = dt.date(2026, 1, 2)
    sent, values = detect_and_convert_parameters(*connecting.bound(query, day, engine.dialect))
    assert sent == "SELECT TOP 5 a FROM t WHERE [at] < ? AND b LIKE '%:x' OR c > ? ORDER BY a"
    assert tuple(values) == (day, day)


def test_a_sql_server_that_is_not_there(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1)
    started = time.monotonic()
    server = Server("mssql", free_port(), "sa", "", "shop")
    problem = refusal(long_form(server, "SELECT TOP 5 a FROM t ORDER BY a"), folder)
    assert problem.exit_code == 3
    # Without libltdl7 the driver itself does not start, and that is said instead.
    assert "cannot be reached" in problem.message or "libltdl7" in str(problem.mend)
    assert time.monotonic() - started < 12


@pytest.mark.parametrize(
    ("driver", "module", "extra"),
    [("mssql", "mssql_python", "mssql"), ("postgresql", "psycopg", "data"), ("mysql", "pymysql", "data")],
)
def test_a_missing_driver_names_the_extra(
    folder: TaskFolder, monkeypatch: pytest.MonkeyPatch, driver: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    source = Database(type="database", name="d", driver=driver, host="h", database="d", query=SELECT)
    problem = refusal(source, folder)
    assert (problem.exit_code, problem.mend) == (3, extras.install_command(extra))
    assert module in str(problem.cause)
