"""What stands before the gateway's application: who may call it, how much at once, and what is written of it."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from conftest import Ran

from nlp_skills.deployment.serving import before, keys
from nlp_skills.deployment.serving.logs import Watched
from nlp_skills.deployment.serving.metrics import Figures
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Usage

PREDICT, ROLLBACK = "/api/v1/predict", "/api/v1/rollback"
Call = Callable[[httpx2.AsyncClient], Awaitable[Any]]


class Behind:
    """An application that answers everything, and knows how many it answers at a time."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.at_once = self.most = 0
        self.hold: asyncio.Event | None = None
        self.pieces = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.seen.append(scope["path"])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.hold is not None:
                await self.hold.wait()
            if body == b"fault":
                raise ValueError(body)
            headers = [(b"content-type", b"text/plain"), (b"x-nlp-skills-version", b"v2")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for _piece in range(self.pieces):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b"secret answer"})
        finally:
            self.at_once -= 1


@pytest.fixture
def behind() -> Behind:
    return Behind()


def asked(
    behind: Behind, calls: Call, *, peer: str = "127.0.0.1", lines: list[str] | None = None, **chosen: Any
) -> Any:
    """What `calls` gives, with a client of the stack around `behind`."""

    async def run() -> Any:
        settings = Settings(**chosen)
        figures = Figures(SimpleNamespace(seats={}, active="v2"))  # type: ignore[arg-type]
        app = before.stacked(behind, settings, keys.Keys(settings), figures)
        watched = app if isinstance(app, Watched) else None
        assert watched is not None, "the log is the outermost"
        if lines is not None:
            watched.write = lines.append
        else:
            watched.write = lambda _line: None
        behind.figures = figures  # type: ignore[attr-defined]
        transport = httpx2.ASGITransport(app=app, client=(peer, 1))
        async with httpx2.AsyncClient(transport=transport, base_url=settings.address) as client:
            return await calls(client)

    return asyncio.run(run())


def status(behind: Behind, path: str, key: str | None = None, **given: Any) -> int:
    """The status of one POST."""
    headers = {**given.pop("headers", {}), **({"authorization": f"Bearer {key}"} if key else {})}
    return int(asked(behind, lambda client: client.post(path, headers=headers, content=b"{}"), **given).status_code)


def test_a_key_is_shown_once_and_kept_as_a_hash_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    key = keys.add(path, "web")
    text = path.read_text(encoding="utf-8")
    assert key not in text and key.removeprefix("nlps_") not in text and len(key) > 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys.add(path, "ops", admin=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "also once it was replaced"
    assert [(one.name, one.admin) for one in keys.listed(path)] == [("web", False), ("ops", True)]
    with pytest.raises(Usage, match="already"):
        keys.add(path, "web")
    with pytest.raises(Usage):
        keys.add(path, "../x")
    keys.remove(path, "web")
    with pytest.raises(Usage, match="no key called web"):
        keys.remove(path, "web")


@pytest.mark.parametrize("entry", ["1", '{"name": "web", "sha256": "größe"}', '{"name": "web", "sha256": "ABC"}'])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(f'{{"keys": [{entry}]}}', encoding="utf-8")
    with pytest.raises(Invalid, match="not a file of API keys"):
        keys.listed(path)


def test_keys_are_made_listed_and_removed_by_commands(make_task: Any, cli: Callable[..., Ran]) -> None:
    make_task("sentiment")
    made = cli("serve-key", "add", "sentiment", "web", "--json").json
    assert made["key"].startswith("nlps_") and not made["admin"]
    assert (
        "web" in cli("serve-key", "list", "sentiment").out
        and made["key"] not in cli("serve-key", "list", "sentiment").out
    )
    assert cli("serve-key", "add", "sentiment", "web").code == 2
    assert cli("serve-key", "remove", "sentiment", "web").code == 0
    assert cli("serve-key", "list", "sentiment", "--json").json == {"keys": []}


def test_without_keys_this_machine_may_call_and_switch(behind: Behind) -> None:
    assert (status(behind, PREDICT), status(behind, ROLLBACK)) == (200, 200)
    assert status(behind, ROLLBACK, peer="10.0.0.9", host="0.0.0.0") == 403
    assert status(behind, ROLLBACK, headers={"x-forwarded-for": "10.0.0.9"}) == 403, "a proxy here speaks for others"


def test_with_keys_each_call_needs_one_and_switching_an_administrator_s(behind: Behind, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    web, ops = keys.add(path, "web"), keys.add(path, "ops", admin=True)
    given: dict[str, Any] = {"keys_file": path}
    assert status(behind, PREDICT, **given) == 401
    assert status(behind, PREDICT, "nlps_wrong", **given) == 401
    assert status(behind, PREDICT, web, **given) == 200
    assert status(behind, PREDICT, headers={"x-api-key": web}, **given) == 200
    assert (status(behind, ROLLBACK, **given), status(behind, ROLLBACK, web, **given)) == (401, 403)
    assert status(behind, "/api/v1/promote", web, **given) == 403
    assert status(behind, ROLLBACK, ops, **given) == 200
    assert status(behind, ROLLBACK, ops, peer="10.0.0.9", **given) == 403
    assert status(behind, ROLLBACK, ops, peer="10.0.0.9", admin_anywhere=True, **given) == 200
    assert behind.seen.count(PREDICT) == 2, "who is refused reaches nothing"
    assert asked(behind, lambda client: client.get("/healthz"), **given).status_code == 200


def test_a_key_that_is_added_or_removed_counts_at_once(behind: Behind, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys.add(path, "first")

    async def calls(client: httpx2.AsyncClient) -> list[int]:
        found = []
        web = keys.add(path, "web")
        for _time in range(2):
            found.append((await client.post(PREDICT, headers={"authorization": f"Bearer {web}"})).status_code)
            if _time == 0:
                keys.remove(path, "web")
        return found

    assert asked(behind, calls, keys_file=path) == [200, 401]


def test_keys_of_the_environment_hold_too(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.VARIABLE, "alpha-key, beta-key")
    monkeypatch.setenv(keys.ADMIN_VARIABLE, "root-key")
    assert [status(behind, PREDICT, key) for key in (None, "alpha-key", "beta-key", "root-key")] == [401, 200, 200, 200]
    assert [status(behind, ROLLBACK, key) for key in ("alpha-key", "root-key")] == [403, 200]


def test_it_is_not_opened_to_others_without_a_key(tmp_path: Path) -> None:
    elsewhere = Settings(host="0.0.0.0", keys_file=tmp_path / "keys.json")
    with pytest.raises(Invalid, match="open to everyone") as caught:
        keys.refuse_open(elsewhere, keys.Keys(elsewhere))
    assert "serve-key add" in str(caught.value.mend)
    keys.add(tmp_path / "keys.json", "web")
    keys.refuse_open(elsewhere, keys.Keys(elsewhere))
    everywhere = Settings(admin_anywhere=True, keys_file=tmp_path / "keys.json")
    with pytest.raises(Invalid, match="administration"):
        keys.refuse_open(everywhere, keys.Keys(everywhere))


def test_a_page_that_a_browser_here_has_open_reaches_nothing(behind: Behind) -> None:
    assert status(behind, PREDICT, headers={"origin": "https://elsewhere.example"}) == 403
    assert status(behind, PREDICT, headers={"origin": "null"}) == 403
    assert status(behind, PREDICT, headers={"host": "rebound.example:8000"}) == 403
    assert not behind.seen
    assert status(behind, PREDICT, headers={"origin": Settings().address}) == 200, "a page of its own may"
    allowed = {"cors_origins": ("https://app.example",)}
    found = asked(behind, lambda client: client.post(PREDICT, headers={"origin": "https://app.example"}), **allowed)
    assert found.status_code == 200
    assert found.headers["access-control-allow-origin"] == "https://app.example"
    before_it = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert asked(behind, lambda client: client.options(PREDICT, headers=before_it), **allowed).status_code == 200
    assert status(behind, PREDICT, headers={"origin": "https://elsewhere.example"}, **allowed) == 403


def test_a_body_that_is_too_long_is_sent_away_however_it_comes(behind: Behind) -> None:
    async def piecewise() -> Any:
        for _piece in range(20):
            yield b"x" * 100

    told = asked(behind, lambda client: client.post(PREDICT, content=b"x" * 2000), max_body_bytes=1000)
    streamed = asked(behind, lambda client: client.post(PREDICT, content=piecewise()), max_body_bytes=1000)
    assert (told.status_code, streamed.status_code) == (413, 413)
    assert told.json()["error"]["code"] == "too_long" and not behind.seen
    openai = asked(behind, lambda client: client.post("/v1/chat/completions", content=b"x" * 2000), max_body_bytes=1000)
    assert openai.json()["error"]["type"] == "invalid_request_error"


def test_more_than_can_wait_are_sent_away_at_once(behind: Behind) -> None:
    async def calls(client: httpx2.AsyncClient) -> tuple[list[int], dict[str, str], int]:
        behind.hold = asyncio.Event()
        under_way = [asyncio.ensure_future(client.post(PREDICT)) for _number in range(5)]
        while behind.at_once < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        refused = await client.post(PREDICT)
        behind.hold.set()
        return (
            [found.status_code for found in await asyncio.gather(*under_way)],
            dict(refused.headers),
            refused.status_code,
        )

    statuses, headers, refused = asked(behind, calls, max_concurrency=2, queue=3)
    assert statuses == [200] * 5 and behind.most == 2
    assert refused == 429 and int(headers["retry-after"]) >= 1


def test_what_takes_too_long_is_told_so(behind: Behind) -> None:
    async def calls(client: httpx2.AsyncClient) -> httpx2.Response:
        behind.hold = asyncio.Event()
        return await client.post(PREDICT)

    found = asked(behind, calls, timeout_s=0.05)
    assert found.status_code == 504 and found.json()["error"]["code"] == "timeout"
    assert behind.at_once == 0, "its place is free again"


def test_a_stream_may_take_longer_as_long_as_it_goes_on(behind: Behind) -> None:
    behind.pieces = 6
    found = asked(behind, lambda client: client.post(PREDICT), timeout_s=0.4)
    assert found.status_code == 200 and found.content == b"xxxxxxsecret answer"


def test_a_body_as_long_as_allowed_arrives_whole(behind: Behind) -> None:
    assert (
        asked(behind, lambda client: client.post(PREDICT, content=b"x" * 1000), max_body_bytes=1000).status_code == 200
    )


def test_the_log_has_a_line_a_request_and_nothing_that_users_wrote(behind: Behind, tmp_path: Path) -> None:
    path, lines = tmp_path / "keys.json", []
    web = keys.add(path, "web")
    headers = {"authorization": f"Bearer {web}", "x-request-id": "abc-1"}
    found = asked(
        behind,
        lambda client: client.post(f"{PREDICT}?version=private", headers=headers, content=b"private text"),
        lines=lines,
        keys_file=path,
    )
    assert found.headers["x-request-id"] == "abc-1"
    (line,) = lines
    told = json.loads(line)
    assert told["route"] == PREDICT and told["status"] == 200 and told["version"] == "v2" and told["key"] == "web"
    assert told["id"] == "abc-1" and told["bytes_in"] == 12 and told["bytes_out"] == 13 and told["ms"] >= 0
    assert "private" not in line and "secret answer" not in line and web not in line
    asked(behind, lambda client: client.post("/what/users/wrote", headers={"x-request-id": "a b\tc"}), lines=lines)
    assert "what" not in lines[-1] and "a b" not in lines[-1]


def test_texts_are_logged_where_that_is_asked_for(behind: Behind) -> None:
    lines: list[str] = []
    asked(behind, lambda client: client.post(PREDICT, content=b"a text"), lines=lines, log_texts=True)
    assert json.loads(lines[0])["texts"] == ["a text", "secret answer"]


def test_a_fault_of_ours_is_a_500_in_our_form_and_says_nothing_of_the_text(
    behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    found = asked(behind, lambda client: client.post(PREDICT, content=b"fault"))
    assert found.status_code == 500 and found.json()["error"]["code"] == "internal"
    assert "ValueError" in caplog.text and "fault'" not in caplog.text


def test_figures_count_routes_versions_and_refusals_and_no_path_that_users_make_up(behind: Behind) -> None:
    async def calls(client: httpx2.AsyncClient) -> str:
        for path in (PREDICT, PREDICT, "/made/up/1", "/made/up/2"):
            await client.post(path)
        await client.post(PREDICT, content=b"x" * 2000)
        text = behind.figures.text().decode()  # type: ignore[attr-defined]
        return str(text)

    text = asked(behind, calls, max_body_bytes=1000)
    assert f'nlp_skills_requests_total{{method="POST",route="{PREDICT}",status="200",version="v2"}} 2.0' in text
    assert 'nlp_skills_requests_rejected_total{reason="too_long"} 1.0' in text
    assert 'route="other"' in text and "made" not in text
    assert "nlp_skills_requests_in_progress 0.0" in text
