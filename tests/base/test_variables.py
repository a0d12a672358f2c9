"""`${VAR}`: filled in, and out of sight everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlp_skills import variables
from nlp_skills.variables import Missing, Variables


def test_the_environment_wins_over_env_files_and_the_first_folder_over_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for folder, text in ((near, 'ONE=near\nTWO="near two"\n'), (far, "# a comment\nTWO=far\nexport THREE=far=3\n")):
        folder.mkdir()
        (folder / ".env").write_text(text, encoding="utf-8")
    monkeypatch.setenv("ONE", "shell")
    found = Variables((near, far))
    assert found.fill("${ONE} ${TWO} ${THREE} ${FOUR:-default} ${FIVE:-}") == "shell near two far=3 default "
    assert found.fill_all({"a": ["${ONE}", 1], "b": True}) == {"a": ["shell", 1], "b": True}
    with pytest.raises(Missing) as missing:
        found.fill("x${SIX}")
    assert missing.value.name == "SIX"


def test_an_empty_variable_counts_as_unset_and_dollars_of_other_kinds_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    assert Variables().fill("${EMPTY:-used} $HOME $$x$$ {y} ${not closed") == "used $HOME $$x$$ {y} ${not closed"


def test_what_was_filled_in_is_hidden_in_every_spelling_a_url_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "p@ss/wörd 1")
    found = Variables()
    found.fill("${DB_PASSWORD}")
    text = "p@ss/wörd 1 | p%40ss%2Fw%C3%B6rd%201 | p%40ss%2Fw%C3%B6rd+1"
    assert found.hide(text) == "${DB_PASSWORD} | ${DB_PASSWORD} | ${DB_PASSWORD}"


def test_a_short_value_is_hidden_only_where_its_name_says_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGES", "12")
    monkeypatch.setenv("API_KEY", "k1")
    found = Variables()
    found.fill("${PAGES} ${API_KEY}")
    assert found.hide("12 pages with k1") == "12 pages with ${API_KEY}"
    found.conceal("a literal")
    assert found.hide("a literal, twice: a literal") == "***, twice: ***"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("key", "api_key", "apiKey", "X-API-Key", "Authorization", "token", "access_token")),
        *((name, True) for name in ("accessToken", "DB_PASSWORD", "passwd", "client_secret", "Set-Cookie", "jwt")),
        *((name, False) for name in ("keyword", "author", "max_tokens", "tokens", "monkey", "compass", "sessions")),
    ],
)
def test_which_names_hold_secrets(name: str, secret: bool) -> None:
    assert variables.is_confidential(name) is secret


def test_settings_are_masked_by_key_and_inside_urls() -> None:
    settings = {
        "headers": {"Authorization": "Bearer ${TOKEN}", "X-Api-Key": "abc", "Accept": "json"},
        "params": {"keyword": "股票", "api_key": "${KEY:-abc}", "page": 2},
        "endpoint": "https://u:geheim@h/x?token=abc&page=1",
        "urls": ["https://h/?sid=1"],
    }
    assert variables.masked(settings) == {
        "headers": {"Authorization": "Bearer ${TOKEN}", "X-Api-Key": "***", "Accept": "json"},
        "params": {"keyword": "股票", "api_key": "${KEY}", "page": 2},
        "endpoint": "https://u:***@h/x?token=***&page=1",
        "urls": ["https://h/?sid=***"],
    }
    assert variables.literal_secrets(settings)
    assert not variables.literal_secrets({"auth": {"token": "${T}"}, "endpoint": "https://u:${P}@h/?key=${K}"})
