"""The HTTP client against real servers: what it sends, what it tries again, and what it says when it must give up."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import itertools
import json
import logging
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fixtures_rest import FakeApi, Reply, Server, free_port

from nlp_skills.data.sources.http import Client, Patience, Response, same_server
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema.source import ApiKeyAuth, BasicAuth, BearerAuth
from nlp_skills.variables import Variables

TOKEN = "s3cr3t-Token/值=42"
ASCII_TOKEN = "s3cr3t-Token/42=="
HURRY = Patience(first=0.01, longest=2.0, total=20.0)


def client(variables: Variables | None = None, **settings: Any) -> Client:
    return Client(variables or Variables(), **{"timeout": 5, "patience": HURRY, **settings})


def ask(url: str, method: str = "GET", *, variables: Variables | None = None, **settings: Any) -> Response:
    with client(variables, **settings) as http:
        return http.request(method, url)


def refusal(url: str, **settings: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        ask(url, **settings)
    assert caught.value.mend
    return caught.value


def api_key(place: str, key: str = ASCII_TOKEN) -> ApiKeyAuth:
    return ApiKeyAuth.model_validate({"type": "api_key", "name": "X-Shop-Key", "key": key, "in": place})


def test_a_real_server_accepts_each_kind_of_credentials(httpbin: Server) -> None:
    def parsed(response: Response) -> Any:
        return json.loads(response.content)

    bearer = BearerAuth(type="bearer", token=ASCII_TOKEN)
    assert parsed(ask(f"{httpbin.url}/bearer", auth=bearer)) == {"authenticated": True, "token": ASCII_TOKEN}
    basic = BasicAuth(type="basic", user="林", password="密碼:42")
    assert parsed(ask(f"{httpbin.url}/basic-auth/林/密碼:42", auth=basic))["authenticated"] is True
    assert parsed(ask(f"{httpbin.url}/headers", auth=api_key("header")))["headers"]["X-Shop-Key"] == ASCII_TOKEN
    found = parsed(ask(f"{httpbin.url}/get?page=2", auth=api_key("query", TOKEN)))
    assert found["args"] == {"page": "2", "X-Shop-Key": TOKEN}


def test_parameters_join_those_of_the_address_and_a_body_is_json(httpbin: Server) -> None:
    with client() as http:
        found = http.json(
            http.request("POST", f"{httpbin.url}/anything?a=1", params={"b": ["x", "y"], "c": True}, json={"文": 1})
        )
    assert found["args"] == {"a": "1", "b": ["x", "y"], "c": "true"}
    assert found["json"] == {"文": 1}


@pytest.mark.parametrize(
    ("status", "kind", "word", "tries"),
    [
        (401, Unavailable, "credentials (401)", 1),
        (403, Unavailable, "(403)", 1),
        (404, Invalid, "there is nothing at", 1),
        (418, Invalid, "418 I'm a Teapot", 1),
        (500, Unavailable, "500 Internal Server Error", 5),
        (429, Unavailable, "429 Too Many Requests", 5),
    ],
)
def test_a_status_that_says_no(httpbin: Server, status: int, kind: type[Problem], word: str, tries: int) -> None:
    noted: list[str] = []
    with client(note=noted.append) as http, pytest.raises(kind) as caught:
        http.request("GET", f"{httpbin.url}/status/{status}")
    assert word in caught.value.message
    assert caught.value.mend
    assert (http.requests, http.retries, len(noted)) == (tries, tries - 1, tries - 1)
    if noted:
        assert f"{tries - 1} of {tries} tries" in noted[-1]


def test_an_accepted_status_is_an_answer(httpbin: Server) -> None:
    with client() as http:
        assert http.request("GET", f"{httpbin.url}/status/404", accept={404}).status == 404


def test_a_server_that_is_slow(httpbin: Server) -> None:
    problem = refusal(f"{httpbin.url}/delay/3", timeout=0.3, patience=Patience(tries=2, first=0.01))
    assert isinstance(problem, Unavailable)
    assert "did not answer in 0.3 s" in problem.message
    assert "timeout:" in str(problem.mend)


def test_a_server_that_drips_is_given_up(httpbin: Server) -> None:
    started = time.monotonic()
    url = f"{httpbin.url}/drip?duration=30&numbytes=100&delay=0"
    problem = refusal(url, timeout=0.4, patience=Patience(tries=1))
    assert "did not answer" in problem.message
    assert time.monotonic() - started < 10


def test_nobody_listens() -> None:
    problem = refusal(f"http://127.0.0.1:{free_port()}/rows", patience=Patience(tries=2, first=0.01))
    assert isinstance(problem, Unavailable)
    assert "no server answers at" in problem.message
    assert "Connection refused" in str(problem.cause)


def test_no_such_host_is_not_tried_again() -> None:
    with client() as http, pytest.raises(Unavailable, match="no host has the name in http://shop"):
        http.request("GET", "http://shop.invalid/rows")
    assert http.requests == 1


@pytest.mark.parametrize(
    "url", ["", "reviews.json", "ftp://shop/rows", "file:///etc/passwd", "http://", "http://[::1/"]
)
def test_what_is_no_address(url: str) -> None:
    assert "is not a web address" in refusal(url).message


def test_a_certificate_nobody_signed(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
         "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with client() as http, pytest.raises(Unavailable, match="is not secure") as caught:
            http.request("GET", f"https://127.0.0.1:{server.server_port}/rows")
    finally:
        server.shutdown()
        server.server_close()
    assert http.requests == 1
    assert "certificate" in str(caught.value.cause)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_pause_the_server_asks_for_is_kept(fake_api: FakeApi, form: str) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    after = "1" if form == "seconds" else format_datetime(later, usegmt=True)
    fake_api.replies(Reply(status=429, headers={"Retry-After": after}), Reply([{"text": "好"}]))
    noted: list[str] = []
    with client(note=noted.append) as http:
        assert http.json(http.request("GET", fake_api.url)) == [{"text": "好"}]
    pause = fake_api.seen[1].at - fake_api.seen[0].at
    assert pause >= (0.95 if form == "seconds" else 0.5)
    assert "429 Too Many Requests; trying again in" in noted[0]


def test_a_pause_nobody_wants_is_told_instead(fake_api: FakeApi) -> None:
    fake_api.replies(Reply(status=503, headers={"Retry-After": "3600"}))
    problem = refusal(fake_api.url)
    assert "in 3600 s" in str(problem.mend)
    assert len(fake_api.seen) == 1


def test_pauses_never_add_up_to_more_than_the_whole_time(fake_api: FakeApi) -> None:
    fake_api.replies(Reply(status=429, headers={"Retry-After": "1"}))
    refusal(fake_api.url, patience=Patience(tries=50, longest=1, total=2.5))
    assert len(fake_api.seen) == 3


@pytest.mark.parametrize("keep", [0, 7])
def test_a_connection_that_breaks_off_is_made_again(fake_api: FakeApi, keep: int) -> None:
    fake_api.replies(Reply([{"text": "好"}], broken=True, keep=keep), Reply([{"text": "好"}]))
    with client() as http:
        assert http.json(http.request("GET", fake_api.url)) == [{"text": "好"}]
    assert (http.requests, http.retries) == (2, 1)
    fake_api.replies(Reply([{"text": "好"}], broken=True, keep=keep))
    assert "broke off" in refusal(fake_api.url, patience=Patience(tries=2, first=0.01)).message


def test_requests_keep_their_distance(fake_api: FakeApi) -> None:
    with client(rate_limit=10) as http:
        for _number in range(4):
            http.request("GET", fake_api.url)
    times = [seen.at for seen in fake_api.seen]
    assert min(after - before for before, after in itertools.pairwise(times)) > 0.08


@pytest.mark.parametrize(
    ("content", "kind", "cause"),
    [
        ("<!doctype html><title>請先\n 登入</title>".encode(), "text/html", "請先 登入"),
        (b"<html><body>Gone fishing</body></html>", "application/json", "Gone fishing"),
        (b'{"rows": [{"score": NaN}]}', "application/json", "NaN and infinity are not JSON"),
        (b'{"rows": [{"text": "\xe5\xa5"}]}', "application/json", "not UTF-8 text"),
        (b'[{"text": "cut o', "application/json", "not valid JSON"),
        (b"", "application/json", "the answer is empty"),
        (b"[" * 100_000, "application/json", "not valid JSON"),
    ],
)
def test_what_is_not_json(fake_api: FakeApi, content: bytes, kind: str, cause: str) -> None:
    fake_api.replies(Reply(content=content, headers={"content-type": kind}))
    with client() as http, pytest.raises(Invalid, match="did not answer with JSON") as caught:
        http.json(http.request("GET", fake_api.url))
    assert cause in str(caught.value.cause)
    assert len(str(caught.value.cause)) < 400


def test_a_byte_order_mark_and_compression_do_no_harm(fake_api: FakeApi, httpbin: Server) -> None:
    packed = gzip.compress("\ufeff[1]".encode())
    fake_api.replies(Reply(content=packed, headers={"content-encoding": "gzip"}))
    with client() as http:
        assert http.json(http.request("GET", fake_api.url)) == [1]
        assert http.json(http.request("GET", f"{httpbin.url}/gzip"))["gzipped"] is True


def test_more_than_is_wanted_is_not_read(fake_api: FakeApi) -> None:
    fake_api.replies(Reply(content=gzip.compress(b" " * (4 << 20)), headers={"content-encoding": "gzip"}))
    problem = refusal(fake_api.url, max_bytes=1 << 20)
    assert "larger than 1 MiB" in problem.message
    assert len(fake_api.seen) == 1


@pytest.fixture
def other_api() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.server.shutdown()
    api.server.server_close()


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": api_key("header")},
        {"auth": api_key("query")},
        {"auth": BearerAuth(type="bearer", token=ASCII_TOKEN)},
        {"headers": {"X-Tenant": "shop"}},
    ],
)
def test_credentials_stay_on_their_server(fake_api: FakeApi, other_api: FakeApi, settings: dict[str, Any]) -> None:
    fake_api.replies(Reply(status=302, headers={"Location": f"{other_api.url}/rows"}))
    problem = refusal(fake_api.url, **settings)
    assert "sends us to another one" in problem.message
    assert other_api.seen == []


def test_a_body_stays_on_its_server(fake_api: FakeApi, other_api: FakeApi) -> None:
    fake_api.replies(Reply(status=307, headers={"Location": f"{other_api.url}/rows"}))
    with client() as http, pytest.raises(Invalid, match="another one"):
        http.request("POST", fake_api.url, json={"key": "value"})
    assert other_api.seen == []


def test_redirects_within_a_server_keep_the_credentials(fake_api: FakeApi) -> None:
    fake_api.answer = lambda seen: (
        Reply([]) if seen.path == "/new" else Reply(status=301, headers={"Location": "/new?page=1"})
    )
    ask(f"{fake_api.url}/old", auth=api_key("query"))
    assert fake_api.seen[1].query == {"page": "1", "X-Shop-Key": ASCII_TOKEN}
    ask(f"{fake_api.url}/old", auth=api_key("header"))
    assert fake_api.seen[3].headers["x-shop-key"] == ASCII_TOKEN


def test_who_tells_nothing_may_go_anywhere(fake_api: FakeApi, other_api: FakeApi, httpbin: Server) -> None:
    fake_api.replies(Reply(status=302, headers={"Location": f"{other_api.url}/rows"}))
    assert ask(fake_api.url, headers={"User-Agent": "test"}).url == f"{other_api.url}/rows"
    with client() as http:
        left = http.request("GET", fake_api.url, redirects=False)
    assert (left.status, left.location) == (302, f"{other_api.url}/rows")
    assert json.loads(ask(f"{httpbin.url}/redirect/3").content)["url"].endswith("/get")
    assert "redirects more than 10 times" in refusal(f"{httpbin.url}/redirect/12").message


@pytest.mark.parametrize("value", ["line\nbreak", "trailing ", "權杖", "nul\0"])
def test_a_header_that_cannot_be_sent_is_not_shown(value: str) -> None:
    problem = refusal("http://127.0.0.1:1/", auth=BearerAuth(type="bearer", token=f"s3cr3t{value}"))
    assert "the header Authorization cannot be sent" in problem.message
    assert "s3cr3t" not in json.dumps(problem.as_dict())


def test_no_secret_is_in_a_message_or_a_log_line(
    fake_api: FakeApi, httpbin: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = base64.b64encode(f"lin:{TOKEN}".encode()).decode()

    def echo(seen: Any) -> Reply:
        words = {"message": f"{'x' * 150} no such key {TOKEN} {ASCII_TOKEN} {encoded} in {seen.query}"}
        return Reply(words, status=400)

    fake_api.answer = echo
    said = []
    for settings in (
        {"auth": api_key("header")},
        {"auth": api_key("query")},
        {"auth": BasicAuth(type="basic", user="lin", password=TOKEN)},
        {"auth": BearerAuth(type="bearer", token=ASCII_TOKEN)},
    ):
        variables = Variables()
        # As they are when they were filled in from the environment.
        variables.conceal(TOKEN)
        variables.conceal(ASCII_TOKEN)
        said.append(json.dumps(refusal(fake_api.url, variables=variables, **settings).as_dict()))
        assert "no such key ***" in said[-1]
    refusal(f"http://lin:{ASCII_TOKEN}@127.0.0.1:{free_port()}/", patience=Patience(tries=1))
    ask(f"{httpbin.url}/get", auth=api_key("query"))
    assert any("HTTP Request" in record.getMessage() for record in caplog.records)
    for part in (TOKEN, ASCII_TOKEN, encoded, "s3cr3t"):
        assert part not in "".join(said)
        assert part not in caplog.text


def test_what_is_the_same_server() -> None:
    assert same_server("http://shop.tw/a", "http://shop.tw:80/b")
    assert same_server("http://shop.tw/a", "https://shop.tw/b")
    assert not same_server("https://shop.tw/a", "http://shop.tw/b")
    assert not same_server("https://shop.tw/", "https://shop.tw.evil.example/")
    assert not same_server("https://shop.tw/", "https://shop.tw@evil.example/")
    assert not same_server("http://shop.tw:8080/", "http://shop.tw:8081/")
