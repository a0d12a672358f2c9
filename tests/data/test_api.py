"""REST and GraphQL sources against real servers: every way of paging, every way to fail, and no secret left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_rest import ARTICLE_COUNT, REVIEW_COUNT, FakeApi, Reply, Seen, Server, review_rows

from nlp_skills.data import sources
from nlp_skills.data.sources import http
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema.source import Api
from nlp_skills.workspace.folder import TaskFolder

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", http.Patience(tries=3, first=0.01, longest=2.0))


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


def source_of(endpoint: str, **settings: Any) -> Api:
    return Api.model_validate({"type": "api", "name": "shop", "endpoint": endpoint, **settings})


def fetched(folder: TaskFolder, endpoint: str, **settings: Any) -> tuple[Rows, sources.Fetching]:
    fetching = sources.Fetching(folder)
    return list(sources.fetch(source_of(endpoint, **settings), fetching)), fetching


def refusal(folder: TaskFolder, endpoint: str, **settings: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        fetched(folder, endpoint, **settings)
    problem = caught.value
    assert problem.mend
    assert problem.file == str(folder.sources_path)
    return problem


def numbers(rows: Rows) -> list[int]:
    return [row["number"] for row in rows]


ALL = list(range(1, REVIEW_COUNT + 1))


# Paging, on servers that others wrote


@pytest.mark.parametrize(
    ("settings", "requests"),
    [
        ({}, 1),
        ({"params": {"_limit": 20, "_page": 1}, "pagination": {"type": "link"}}, 5),
        ({"pagination": {"type": "offset", "offset_param": "_start", "limit_param": "_limit", "limit": 40}}, 3),
        # An exact multiple of the page is only known to be the end by an empty page.
        ({"pagination": {"type": "offset", "offset_param": "_start", "limit_param": "_limit", "limit": 45}}, 3),
        ({"pagination": {"type": "page", "page_param": "_page", "size_param": "_limit", "size": 25}}, 4),
        ({"params": {"_limit": 30}, "pagination": {"type": "page", "page_param": "_page"}}, 4),
    ],
)
def test_json_server(folder: TaskFolder, json_server: Server, settings: dict[str, Any], requests: int) -> None:
    rows, fetching = fetched(folder, f"{json_server.url}/reviews", **settings)
    assert numbers(rows) == ALL
    assert rows[0] == review_rows(1)[0]
    record = fetching.record
    assert (record["requests"], record["retries"]) == (requests, 0)
    assert record["pages"] == requests
    assert record["bytes"] > 5000
    assert record["seconds"] > 0
    assert fetching.warnings == []


def test_several_requests_with_their_own_parameters(folder: TaskFolder, json_server: Server) -> None:
    rows, fetching = fetched(
        folder,
        json_server.url,
        params={"_limit": 20, "_sort": "number"},
        requests=[
            {"path": "reviews", "params": {"label": "positive"}},
            {"path": "/reviews", "params": {"label": "negative", "_limit": 10}},
        ],
        pagination={"type": "page", "page_param": "_page"},
        max_rows=35,
    )
    assert [row["label"] for row in rows] == ["positive"] * 30 + ["negative"] * 5
    assert fetching.record["requests"] == 4


@pytest.mark.parametrize(
    "pagination",
    [
        {"type": "cursor", "cursor": "next", "param": "_next"},
        {"type": "link", "path": "next_url"},
        {"type": "link"},
    ],
)
def test_datasette(folder: TaskFolder, datasette: Server, pagination: dict[str, Any]) -> None:
    rows, fetching = fetched(
        folder,
        f"{datasette.url}/archive/articles.json",
        params={"_size": 500, "_shape": "objects"},
        records="rows",
        pagination=pagination,
    )
    assert [row["id"] for row in rows] == list(range(1, ARTICLE_COUNT + 1))
    assert fetching.record["pages"] == 5


QUERY = """
query ($page: Int, $size: Int) {
  allReviews(page: $page, perPage: $size, sortField: "number", sortOrder: "asc") { number content label }
}
"""
AFTER = """
query ($after: Int = 0) {
  allReviews(page: 0, perPage: 35, sortField: "number", sortOrder: "asc", filter: {number_gt: $after}) { number label }
}
"""


@pytest.mark.parametrize(
    ("query", "pagination", "pages"),
    [
        (
            QUERY,
            {"type": "page", "page_param": "variables.page", "size_param": "variables.size", "start": 0, "size": 40},
            3,
        ),
        (AFTER, {"type": "cursor", "cursor": "data.allReviews[-1].number", "param": "variables.after"}, 4),
    ],
)
def test_graphql(
    folder: TaskFolder, graphql_server: Server, query: str, pagination: dict[str, Any], pages: int
) -> None:
    rows, fetching = fetched(folder, graphql_server.url, query=query, pagination={**pagination, "in": "body"})
    assert numbers(rows) == ALL
    assert set(rows[0]) <= {"number", "content", "label"}
    assert fetching.record["requests"] == pages


def test_graphql_variables_and_requests(folder: TaskFolder, graphql_server: Server) -> None:
    query = """
    query ($label: String, $size: Int) { found: allReviews(page: 0, perPage: $size, filter: {label: $label}) {label} }
    """
    rows, _fetching = fetched(
        folder,
        graphql_server.url,
        query=query,
        variables={"size": 4},
        requests=[{"variables": {"label": "neutral"}}, {"variables": {"label": "negative", "size": 2}}],
    )
    assert [row["label"] for row in rows] == ["neutral"] * 4 + ["negative"] * 2


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("{ allReview { id } }", 'Cannot query field "allReview"'),
        ("{ allReviews { id", "Syntax Error"),
        ("query ($page: Int) { allReviews(page: $page) { id } }", "Int cannot represent non-integer value"),
    ],
)
def test_a_graphql_query_that_is_wrong(folder: TaskFolder, graphql_server: Server, query: str, words: str) -> None:
    problem = refusal(folder, graphql_server.url, query=query, variables={"page": "x"})
    assert isinstance(problem, Invalid)
    assert problem.message == "the GraphQL server reports errors"
    assert words in str(problem.cause)


def test_graphql_data_with_errors_is_not_taken_for_whole(folder: TaskFolder, fake_api: FakeApi) -> None:
    errors = [{"message": "reviews of 2024 are in another archive", "path": ["reviews", 7]}]
    fake_api.replies(Reply({"data": {"reviews": [{"text": "好"}]}, "errors": errors}))
    assert "another archive" in str(refusal(folder, fake_api.url, query="{ reviews { text } }").cause)
    fake_api.replies(Reply({"errors": errors}, status=400))
    assert "another archive" in str(refusal(folder, fake_api.url, query="{ reviews { text } }").cause)
    fake_api.replies(Reply(content=b"Bad Request", status=400))
    assert "400 Bad Request" in refusal(folder, fake_api.url, query="{ reviews { text } }").message
    fake_api.replies(Reply({"items": [{"text": "好"}]}))
    assert "not one of a GraphQL server" in refusal(folder, fake_api.url, query="{ reviews { text } }").message


# Paging, where servers are odd


def sliced(rows: int, most: int) -> Callable[[Seen], Reply]:
    """A server that gives no more than `most` rows at a time, whatever it is asked for."""

    def answer(seen: Seen) -> Reply:
        at, limit = int(seen.query["offset"]), min(int(seen.query["limit"]), most)
        items = [{"number": number} for number in range(at + 1, min(at + limit, rows) + 1)]
        return Reply({"items": items, "facets": [{"name": "label"}] if not items else [], "total": str(rows)})

    return answer


@pytest.mark.parametrize(("total", "requests"), [(None, 4), ("total", 3)])
def test_a_server_that_gives_less_than_is_asked_for(
    folder: TaskFolder, fake_api: FakeApi, total: str | None, requests: int
) -> None:
    fake_api.answer = sliced(60, 20)
    pagination = {"type": "offset", "limit": 100, "total": total}
    rows, fetching = fetched(folder, fake_api.url, records="items", pagination=pagination)
    assert numbers(rows) == list(range(1, 61))
    assert fetching.record["requests"] == requests


def test_the_place_of_the_rows_stays_when_a_last_page_is_empty(folder: TaskFolder, fake_api: FakeApi) -> None:
    fake_api.answer = sliced(40, 20)
    rows, _fetching = fetched(folder, fake_api.url, pagination={"type": "offset", "limit": 20})
    assert numbers(rows) == list(range(1, 41))


def test_null_for_an_empty_last_page(folder: TaskFolder, fake_api: FakeApi) -> None:
    fake_api.answer = lambda seen: Reply({"items": [{"number": 1}] if seen.query["page"] == "1" else None})
    rows, _fetching = fetched(folder, fake_api.url, records="items", pagination={"type": "page"})
    assert numbers(rows) == [1]


def test_no_such_page_is_the_end_but_no_such_first_page_is_not(folder: TaskFolder, fake_api: FakeApi) -> None:
    fake_api.answer = lambda seen: Reply([{"number": 1}]) if seen.query["page"] == "1" else Reply(status=404)
    rows, _fetching = fetched(folder, fake_api.url, pagination={"type": "page"})
    assert numbers(rows) == [1]
    problem = refusal(folder, fake_api.url, pagination={"type": "page", "start": 7})
    assert "there is nothing at" in problem.message


def test_a_cursor_that_says_false_or_repeats_itself_on_an_empty_page(folder: TaskFolder, fake_api: FakeApi) -> None:
    pages = {"": ([1, 2], "a"), "a": ([3], "b"), "b": ([], "b")}

    def answer(seen: Seen) -> Reply:
        found, cursor = pages[seen.query.get("after", "")]
        info = {"more": cursor != "b", "end": cursor}
        return Reply({"items": [{"number": number} for number in found], "info": info})

    fake_api.answer = answer
    for expression, requests in (("info.end", 3), ("info.more && info.end", 2)):
        pagination = {"type": "cursor", "cursor": expression, "param": "after"}
        rows, fetching = fetched(folder, fake_api.url, records="items", pagination=pagination)
        assert numbers(rows) == [1, 2, 3]
        assert fetching.record["requests"] == requests


def test_cursor_in_a_body_of_a_rest_api(folder: TaskFolder, fake_api: FakeApi) -> None:
    def answer(seen: Seen) -> Reply:
        after = seen.body["page"].get("after", 0)
        items = [{"number": after + 1}, {"number": after + 2}] if after < 4 else []
        return Reply({"items": items, "last": items[-1]["number"] if items else None})

    fake_api.answer = answer
    rows, _fetching = fetched(
        folder,
        fake_api.url,
        method="POST",
        body={"page": {"size": 2}},
        pagination={"type": "cursor", "cursor": "last", "param": "page.after", "in": "body"},
    )
    assert numbers(rows) == [1, 2, 3, 4]
    assert [seen.body["page"]["size"] for seen in fake_api.seen] == [2, 2, 2]
    problem = refusal(folder, fake_api.url, method="GET", pagination={"type": "page", "in": "body"})
    assert "a GET request has no body" in problem.message


@pytest.mark.parametrize(
    "pagination",
    [
        {"type": "offset", "limit": 2},
        {"type": "page"},
        {"type": "cursor", "cursor": "more", "param": "after"},
        {"type": "link", "path": "link"},
    ],
)
def test_endless_pages_are_refused(folder: TaskFolder, fake_api: FakeApi, pagination: dict[str, Any]) -> None:
    answer = {"items": [{"text": "同一頁"}, {"text": "again"}], "more": "same", "link": "?page=1"}
    fake_api.replies(Reply(answer))
    problem = refusal(folder, fake_api.url, records="items", pagination=pagination)
    assert problem.message == "endless pagination"
    assert "page 2" in str(problem.cause)
    assert len(fake_api.seen) == 2


@pytest.mark.parametrize(
    "pagination",
    [{"type": "cursor", "cursor": "more", "param": "after"}, {"type": "link", "path": "link"}],
)
def test_a_way_that_leads_back_is_refused_whatever_the_rows(
    folder: TaskFolder, fake_api: FakeApi, pagination: dict[str, Any]
) -> None:
    items = [{"number": 1}, {"number": 2}]
    fake_api.answer = lambda seen: Reply(
        {"items": [{"number": len(fake_api.seen)}, *items], "more": "same", "link": "?page=1"}
    )
    problem = refusal(folder, fake_api.url, records="items", pagination=pagination)
    assert (problem.message, problem.cause) == ("endless pagination", "page 2 leads back to an earlier one")
    assert len(fake_api.seen) == 2


def test_rows_one_at_a_time_may_repeat_but_not_for_ever(folder: TaskFolder, fake_api: FakeApi) -> None:
    words = ["好", "好", "壞"]
    fake_api.answer = lambda seen: Reply(
        [{"text": words[int(seen.query["page"]) - 1]}] if seen.query["page"] < "4" else []
    )
    assert len(fetched(folder, fake_api.url, pagination={"type": "page"})[0]) == 3
    fake_api.replies(Reply([{"text": "好"}]))
    assert refusal(folder, fake_api.url, pagination={"type": "page"}).message == "endless pagination"


def test_a_next_page_elsewhere_is_not_followed(folder: TaskFolder, fake_api: FakeApi) -> None:
    fake_api.replies(Reply({"items": [{"text": "好"}], "next": "https://elsewhere.example/steal?page=2"}))
    auth = {"type": "bearer", "token": "s3cr3t-token-1"}
    problem = refusal(folder, fake_api.url, auth=auth, pagination={"type": "link", "path": "next"})
    assert "another server: elsewhere.example" in problem.message
    assert len(fake_api.seen) == 1


def test_max_pages_is_a_warning_and_max_rows_is_kept(folder: TaskFolder, json_server: Server) -> None:
    pagination = {"type": "page", "page_param": "_page"}
    settings: dict[str, Any] = {"params": {"_limit": 10}, "pagination": pagination}
    rows, fetching = fetched(folder, f"{json_server.url}/reviews", max_pages=3, **settings)
    assert numbers(rows) == ALL[:30]
    assert fetching.warnings == ["source shop: stopped at max_pages: 3, with rows 30; there are more pages"]
    rows, fetching = fetched(folder, f"{json_server.url}/reviews", max_rows=12, **settings)
    assert numbers(rows) == ALL[:12]
    assert (fetching.record["requests"], fetching.warnings) == (2, [])


# Which rows


@pytest.mark.parametrize(
    ("answer", "records", "found"),
    [
        ([{"a": 1}], None, [{"a": 1}]),
        (
            {"ok": True, "data": {"reviews": {"nodes": [{"a": 1, "tags": [{"b": 2}]}]}}},
            None,
            [{"a": 1, "tags": [{"b": 2}]}],
        ),
        ({"my-rows": [{"a": 1}], "errors": []}, None, [{"a": 1}]),
        ({"a": [{"x": 1}], "b": [{"y": 2}]}, "b", [{"y": 2}]),
        ({"texts": ["好", "壞"]}, "texts[].{text: @}", [{"text": "好"}, {"text": "壞"}]),
        ({"hits": [{"_source": {"a": 1}}]}, "hits[]._source", [{"a": 1}]),
    ],
)
def test_where_the_rows_are(
    folder: TaskFolder, fake_api: FakeApi, answer: Any, records: str | None, found: Rows
) -> None:
    fake_api.replies(Reply(answer))
    assert fetched(folder, fake_api.url, records=records)[0] == found


@pytest.mark.parametrize(
    ("answer", "records", "message", "cause"),
    [
        ({"a": [{"x": 1}], "b": {"c": [{"y": 2}]}}, None, "cannot be told", "a, b.c"),
        ({"message": "hello"}, None, "cannot be told", "holds no list of objects"),
        ("hello", None, "cannot be told", "'hello'"),
        ({"rows": [1, 2]}, "rows", "the records are not objects", "the first other one: 1"),
        ({"rows": [{"a": 1}, None]}, "rows", "the records are not objects", "the first other one: None"),
        ({"items": [{"a": 1}], "count": 1}, "rows", "finds no list", "the answer has: items, count"),
        ({"items": [{"a": 1}], "count": 1}, "count", "finds no list", "it finds 1"),
        ({"rows": [{"a": 1}]}, "rows[", "the JMESPath 'rows[' is wrong", "Incomplete expression"),
        ({"rows": [{"a": 1}]}, "length(@.rows[0].a)", "is wrong", "length()"),
        ([], None, "has no rows", "empty list"),
    ],
)
def test_where_the_rows_are_not(
    folder: TaskFolder, fake_api: FakeApi, answer: Any, records: str | None, message: str, cause: str
) -> None:
    fake_api.replies(Reply(answer))
    problem = refusal(folder, fake_api.url, records=records)
    assert message in problem.message
    assert cause in str(problem.cause)


@pytest.mark.parametrize(
    ("pagination", "message"),
    [
        ({"type": "cursor", "cursor": "next[", "param": "after"}, "the JMESPath 'next[' is wrong"),
        ({"type": "cursor", "cursor": "info", "param": "after"}, "cursor: finds no text or number"),
        ({"type": "offset", "limit": 1, "total": "info"}, "total: finds no number"),
        ({"type": "link", "path": "info"}, "path: finds no address"),
    ],
)
def test_a_path_of_the_pagination_that_is_wrong(
    folder: TaskFolder, fake_api: FakeApi, pagination: dict[str, Any], message: str
) -> None:
    fake_api.replies(Reply({"items": [{"text": "好"}], "info": {"more": True}}))
    assert message in refusal(folder, fake_api.url, pagination=pagination).message


def test_a_request_is_not_sent_to_another_address(folder: TaskFolder, fake_api: FakeApi) -> None:
    problem = refusal(folder, fake_api.url, requests=[{"path": "https://elsewhere.example/rows"}])
    assert "is a whole address" in problem.message
    assert fake_api.seen == []


# From the command line: data_source.yaml, its lines, secrets, being killed


def write_source(root: Path, text: str) -> None:
    head = "sources:\n  - name: shop\n    type: api\n"
    lines = "".join(f"    {line}\n" for line in text.strip().splitlines())
    (root / "data_source.yaml").write_text(head + lines + "split: {train: 0.6, valid: 0.2, test: 0.2, seed: 7}\n")


SHOP = """\
endpoint: ${SHOP_API}/reviews
mapping: {text: content}
"""


def test_a_task_regenerates_from_an_api(
    make_task: Callable[..., Path], cli: Callable[..., Ran], json_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_task()
    write_source(root, SHOP)
    monkeypatch.setenv("SHOP_API", json_server.url)
    checked = cli("data-source", "check", "sentiment", "--json")
    assert checked.code == 0, checked.err
    assert not (root / "data" / "raw").exists() or not list((root / "data" / "raw").rglob("*.jsonl"))
    done = cli("regenerate", "sentiment", "--json")
    assert done.code == 0, done.err
    assert sum(split["rows"] for split in done.json["splits"].values()) == REVIEW_COUNT
    raw = [json.loads(line) for line in (root / "data" / "raw" / "shop.jsonl").read_text().splitlines()]
    assert raw == review_rows()
    assert not (root / "data" / "raw" / "recorded" / "shop.jsonl").exists()


@pytest.mark.parametrize(
    ("settings", "line", "code", "message"),
    [
        ("endpoint: ${SHOP_API}/nothing", 4, 1, "there is nothing at"),
        ("endpoint: ${SHOP_API}/reviews\nrecords: 'a['", 5, 1, "JMESPath"),
        ("endpoint: ${SHOP_API}/reviews\nmapping: {text: content}\nrecords: rows", 6, 1, "finds no list"),
        ("endpoint: ${SHOP_API}/reviews\npagination: {type: link, path: 'a['}", 5, 1, "JMESPath"),
        ("endpoint: ${SHOP_API}/reviews\npagination: {type: page}", 5, 1, "endless pagination"),
        ("endpoint: ${NO_SUCH_API}/reviews", 4, 1, "NO_SUCH_API is not set"),
        ("endpoint: ${SHOP_API}/reviews\nauth: {type: bearer, token: '${SHOP_TOKEN}'}", 5, 1, "cannot be sent"),
        ("endpoint: http://127.0.0.1:1/reviews", 4, 3, "no server answers"),
    ],
)
def test_mistakes_are_shown_at_their_line_and_leave_the_data_alone(
    make_task: Callable[..., Path],
    cli: Callable[..., Ran],
    json_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    line: int,
    code: int,
    message: str,
) -> None:
    root = make_task()
    monkeypatch.setenv("SHOP_API", json_server.url)
    monkeypatch.setenv("SHOP_TOKEN", "s3cr3t-token\n")
    write_source(root, SHOP)
    assert cli("regenerate", "sentiment").code == 0
    before = {path.name: path.read_bytes() for path in (root / "data").glob("*.jsonl")}
    write_source(root, settings)
    done = cli("regenerate", "sentiment", "--refresh")
    assert done.code == code, done.err
    assert f"data_source.yaml:{line}" in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert {path.name: path.read_bytes() for path in (root / "data").glob("*.jsonl")} == before


SECRET = 'pl4nted"Sécret-值/42+=='


def everything_written(root: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


@pytest.mark.parametrize("place", ["header", "query"])
def test_a_planted_secret_is_found_nowhere(
    make_task: Callable[..., Path],
    cli: Callable[..., Ran],
    fake_api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    secret = SECRET if place == "query" else "pl4nted-Secret/42+=="
    root = make_task()
    monkeypatch.setenv("SHOP_KEY", secret)
    monkeypatch.setenv("SHOP_PASS", "another-pl4nted-one")

    def answer(seen: Seen) -> Reply:
        page = int(seen.query.get("page", "1"))
        assert (seen.query.get("X-API-Key") or seen.headers.get("x-api-key")) == secret
        assert seen.query["pass"] == "another-pl4nted-one"
        items = [
            {
                "text": f"第 {page} 頁第 {n} 則",
                "label": ("positive", "neutral", "negative")[n % 3],
                "key": f"for {secret}",
            }
            for n in range(30)
        ]
        link = f"{fake_api.url}/rows?page={page + 1}&" + seen.raw_query.replace(f"page={page}&", "")
        return Reply({"items": items, "next": link if page < 3 else None})

    fake_api.answer = answer
    arguments = ["--type", "api", "--name", "shop", "--endpoint", f"{fake_api.url}/rows"]
    write_source(
        root,
        f"endpoint: {fake_api.url}/rows\n"
        "params: {page: 1, pass: '${SHOP_PASS}'}\n"
        f"auth: {{type: api_key, key: '${{SHOP_KEY}}', in: {place}}}\n"
        "records: items\n"
        "pagination: {type: link, path: next}",
    )
    said = [cli("data-source", "check", "sentiment", "--json"), cli("regenerate", "sentiment")]
    assert [one.code for one in said] == [0, 0], said
    assert len(fake_api.seen) >= 4
    assert "repeats the credentials" in said[1].err + said[1].out
    good = fake_api.answer
    # Now it fails in the middle, and tells everybody whose key it was.
    for status in (400, 401, 403, 404, 429, 500):
        fake_api.answer = lambda seen, status=status: (
            good(seen)
            if seen.query.get("page") != "2"
            else Reply({"error": f"bad key {secret}", "asked": seen.query, "headers": seen.headers}, status=status)
        )
        said.append(cli("regenerate", "sentiment", "--refresh"))
        assert said[-1].code in (1, 3), said[-1]
        assert "bad key" in said[-1].err
    fake_api.answer = lambda seen: Reply(content=f"<html><title>{secret}</title>".encode())
    said.append(cli("data-source", "add", "sentiment", *arguments[:-2], "--endpoint", f"{fake_api.url}/${{SHOP_KEY}}"))
    printed = "".join(one.out + one.err for one in said).encode() + everything_written(root)
    assert (root / "data" / "raw" / "recorded" / "shop.jsonl").is_file()
    for part in (secret, "pl4nted", json.dumps(secret)[1:-1], secret[:6], secret[-6:]):
        assert part.encode() not in printed


RUN = "import sys; from nlp_skills.cli.main import main; sys.exit(main())"


def regenerating(root: Path, url: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "SHOP_API": url, "NLP_SKILLS_LANG": "en"}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "regenerate", root.name, "--json"],
        cwd=root.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


PAGED = SHOP + "params: {_limit: 3, _page: 1}\npagination: {type: link}\n"


def test_a_fetch_that_is_killed_goes_on_where_it_stopped(
    make_task: Callable[..., Path], slow_json_server: Server
) -> None:
    root = make_task()
    write_source(root, PAGED)
    kept = root / "data" / "raw" / "recorded" / "shop.jsonl"
    killed = 0
    for pages in (5, 12):
        process = regenerating(root, slow_json_server.url)
        until = time.monotonic() + 60
        while not kept.exists() or kept.read_bytes().count(b"\n") < pages + 1:
            assert process.poll() is None and time.monotonic() < until, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    out, err = regenerating(root, slow_json_server.url).communicate(timeout=60)
    assert sum(split["rows"] for split in json.loads(out)["splits"].values()) == REVIEW_COUNT, err
    raw = [json.loads(line) for line in (root / "data" / "raw" / "shop.jsonl").read_text().splitlines()]
    assert raw == review_rows()
    # At a kill, one page may have been asked for that was not kept yet.
    asked = len(slow_json_server.requests())
    assert REVIEW_COUNT // 3 <= asked <= REVIEW_COUNT // 3 + killed
    assert not kept.exists()


def interrupted(folder: TaskFolder, source: Api, pages: int) -> None:
    rows = sources.fetch(source, sources.Fetching(folder))
    for _row in range(pages * 10):
        next(rows)
    rows.close()


@pytest.mark.parametrize(
    ("change", "requests"),
    [
        ({}, 6),
        ({"refresh": True}, 9),
        ({"preview": True}, 9),
        ({"old": True}, 9),
        ({"params": {"_limit": 10, "x": 1}}, 9),
    ],
)
def test_what_was_kept_is_only_taken_while_it_stands_for_the_same(
    folder: TaskFolder, json_server: Server, change: dict[str, Any], requests: int
) -> None:
    pagination = {"type": "page", "page_param": "_page", "size": 10}
    endpoint = f"{json_server.url}/reviews"
    source = source_of(endpoint, params=change.get("params", {"_limit": 10}), pagination=pagination, max_rows=90)
    interrupted(folder, source_of(endpoint, params={"_limit": 10}, pagination=pagination), pages=3)
    kept = sources.recording_path(folder, source)
    if change.get("old"):
        kept.write_text(kept.read_text().replace('"begun": "20', '"begun": "19'))
        assert '"begun": "19' in kept.read_text()
    fetching = sources.Fetching(folder, refresh=change.get("refresh", False), preview=change.get("preview", False))
    assert numbers(list(sources.fetch(source, fetching))) == ALL
    assert fetching.record["requests"] == requests
    assert kept.exists() == bool(change.get("preview"))


def test_wrong_answers_are_not_kept(folder: TaskFolder, fake_api: FakeApi) -> None:
    for wrong in ([], [1]):
        fake_api.replies(Reply(wrong))
        refusal(folder, fake_api.url)
    fake_api.replies(Reply([{"text": "好"}]))
    assert fetched(folder, fake_api.url)[0] == [{"text": "好"}]


def test_a_server_that_fails_later_is_gone_on_with(folder: TaskFolder, fake_api: FakeApi) -> None:
    down = True

    def answer(seen: Seen) -> Reply:
        page = int(seen.query["page"])
        return Reply(status=503) if down and page == 3 else Reply([{"number": page}] if page < 5 else [])

    fake_api.answer = answer
    settings: dict[str, Any] = {"pagination": {"type": "page"}}
    assert isinstance(refusal(folder, fake_api.url, **settings), Unavailable)
    down = False
    rows, fetching = fetched(folder, fake_api.url, **settings)
    assert numbers(rows) == [1, 2, 3, 4]
    assert (fetching.record["requests"], fetching.record["pages"], fetching.record["pages_kept"]) == (3, 5, 2)


def test_pages_are_kept_without_the_key_in_their_links(
    folder: TaskFolder, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "s3cr3t-key-3")
    monkeypatch.setenv("SHOP_PASS", "s3cr3t-pass-3")

    def answer(seen: Seen) -> Reply:
        assert (seen.query["X-API-Key"], seen.query["pass"]) == ("s3cr3t-key-3", "s3cr3t-pass-3")
        page = int(seen.query.get("page", "1"))
        link = f"?page={page + 1}&X-API-Key=s3cr3t-key-3&pass=s3cr3t-pass-3" if page < 4 else None
        return Reply({"items": [{"number": 10 * page + n} for n in range(10)], "next": link})

    fake_api.answer = answer
    source = source_of(
        f"{fake_api.url}/rows",
        params={"pass": "${SHOP_PASS}"},
        auth={"type": "api_key", "key": "${SHOP_KEY}", "in": "query"},
        pagination={"type": "link", "path": "next"},
    )
    interrupted(folder, source, pages=2)
    assert "s3cr3t" not in sources.recording_path(folder, source).read_text()
    assert numbers(list(sources.fetch(source, sources.Fetching(folder)))) == list(range(10, 50))
    assert len(fake_api.seen) == 4


def test_a_token_in_a_header_of_ones_own(folder: TaskFolder, httpbin: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "s3cr3t-token-2")
    headers = {"Authorization": "Bearer ${SHOP_TOKEN}"}
    rows, fetching = fetched(folder, f"{httpbin.url}/bearer", headers=headers, records="[@]")
    assert rows == [{"authenticated": True, "token": "***"}]
    assert "repeats the credentials" in fetching.warnings[0]
    problem = refusal(folder, f"{httpbin.url}/status/401", headers=headers)
    assert "headers:" in str(problem.mend)


def test_credentials_without_encryption_are_warned_of() -> None:
    auth = {"type": "bearer", "token": "${TOKEN}"}
    assert any("without encryption" in words for words in sources.warnings(source_of("http://shop.tw/rows", auth=auth)))
    assert sources.warnings(source_of("https://shop.tw/rows", auth=auth)) == []
    assert sources.warnings(source_of("http://127.0.0.1:3000/rows", auth=auth)) == []


@pytest.mark.parametrize(("path", "word"), [("/bearer", "credentials (401)"), ("/html", "did not answer with JSON")])
def test_what_a_real_server_refuses(folder: TaskFolder, httpbin: Server, path: str, word: str) -> None:
    problem = refusal(folder, httpbin.url + path)
    assert word in problem.message
    assert isinstance(problem, Unavailable if path == "/bearer" else Invalid)
