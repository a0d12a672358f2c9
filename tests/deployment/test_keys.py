"""API keys: made, shown once, known again, and who is let through with which."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from nlp_skills.deployment.serving import keys
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Usage

LOCAL = ("127.0.0.1", 40000)
ELSEWHERE = ("203.0.113.7", 40000)


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (keys.VARIABLE, keys.ADMIN_VARIABLE):
        monkeypatch.delenv(name, raising=False)


def asked(
    settings: Settings, path: str = "/api/v1/predict", client: Any = LOCAL, **given: str
) -> tuple[int, dict[bytes, bytes]]:
    """The status and headers that a request gets from the guard and an application that always says 200."""
    headers = {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in given.items()}}
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "client": client}
    asyncio.run(keys.Guard(app, settings, keys.Keys(settings))(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def test_only_a_hash_is_kept_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.json"
    told = keys.add(path, "web")
    keys.add(path, "ops", admin=True)
    assert told not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(key.name, key.admin) for key in keys.listed(path)] == [("web", False), ("ops", True)]
    with pytest.raises(Usage):
        keys.add(path, "web")
    with pytest.raises(Usage):
        keys.add(path, "a b")
    keys.remove(path, "web")
    assert [key.name for key in keys.listed(path)] == ["ops"]
    with pytest.raises(Usage):
        keys.remove(path, "web")


@pytest.mark.parametrize("entry", ["1", '{"name": "web", "sha256": "größe"}', '{"name": "web", "sha256": "ABC"}'])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(f'{{"keys": [{entry}]}}', encoding="utf-8")
    with pytest.raises(Invalid, match="not a file of API keys"):
        keys.listed(path)


def test_a_key_is_needed_once_there_is_one(tmp_path: Path) -> None:
    settings = Settings(keys_file=tmp_path / "keys.json")
    assert asked(settings)[0] == 200
    told = keys.add(tmp_path / "keys.json", "web")
    status, headers = asked(settings)
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert asked(settings, authorization=f"Bearer {told}x")[0] == 401
    assert asked(settings, authorization=f"Bearer {told}")[0] == 200
    assert asked(settings, x_api_key=told)[0] == 200
    assert asked(settings, "/healthz")[0] == asked(settings, "/readyz")[0] == 200


@pytest.mark.parametrize("path", ["/api/v1/rollback", "/api/v1/promote"])
def test_administration_needs_a_key_for_it_or_this_machine(tmp_path: Path, path: str) -> None:
    file = tmp_path / "keys.json"
    settings = Settings(keys_file=file)
    assert asked(settings, path)[0] == 200
    assert asked(settings, path, client=ELSEWHERE)[0] == 403
    assert asked(settings, path, x_forwarded_for="203.0.113.7")[0] == 403
    web, ops = keys.add(file, "web"), keys.add(file, "ops", admin=True)
    assert asked(settings, path)[0] == 401
    assert asked(settings, path, x_api_key=web)[0] == 403
    assert asked(settings, path, x_api_key=ops)[0] == 200


def test_keys_of_the_environment_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.VARIABLE, "one, two")
    assert asked(Settings())[0] == 401
    assert asked(Settings(), x_api_key="two")[0] == 200


def test_pages_of_other_sites_reach_nothing() -> None:
    assert asked(Settings(), host="evil.example:8000")[0] == 403
    assert asked(Settings(), origin="https://evil.example")[0] == 403
    assert asked(Settings(), origin="null")[0] == 403
    assert asked(Settings(), origin="http://127.0.0.1:8000")[0] == 200
    assert asked(Settings(cors_origins=("https://app.example",)), origin="https://app.example")[0] == 200


def test_nothing_open_is_served_beyond_this_machine(tmp_path: Path) -> None:
    settings = Settings(host="0.0.0.0", keys_file=tmp_path / "keys.json")
    with pytest.raises(Invalid) as refused:
        keys.refuse_open(settings, keys.Keys(settings))
    assert "serve-key add" in (refused.value.mend or "")
    keys.add(tmp_path / "keys.json", "web")
    keys.refuse_open(settings, keys.Keys(settings))
    with pytest.raises(Invalid):
        anywhere = Settings(keys_file=tmp_path / "keys.json", admin_anywhere=True)
        keys.refuse_open(anywhere, keys.Keys(anywhere))
