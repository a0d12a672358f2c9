"""Every message has its Chinese, with the same blanks to fill, and the compiled catalogue is current."""

from __future__ import annotations

import ast
import gettext
import string
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from conftest import ROOT, Ran

from nlp_skills import i18n

PACKAGE = ROOT / "nlp_skills"
PO = i18n.LOCALE_DIR / "zh_TW" / "LC_MESSAGES" / "nlp_skills.po"


def _said_in_code() -> set[str]:
    found = extract_from_dir(PACKAGE, [("**.py", "python"), ("**.j2", "jinja2")], keywords={"_": None, "N_": None})
    return {message for _file, _line, message, _comments, _context in found if isinstance(message, str)}


def _translated() -> dict[str, str]:
    with open(PO, "rb") as stream:
        return {str(entry.id): str(entry.string) for entry in read_po(stream) if entry.id}


def _blanks(text: str) -> set[tuple[str, str]]:
    return {(name, spec or "") for _t, name, spec, _c in string.Formatter().parse(text) if name is not None}


def test_every_message_has_its_chinese() -> None:
    translated = _translated()
    assert sorted(message for message in _said_in_code() if not translated.get(message)) == []


def test_every_message_in_an_f_string_is_collected_too() -> None:
    """The collector does not look into f-strings: what stands only there would stay English."""
    calls = (
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "N_")
    )
    said = {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)}
    assert said
    assert sorted(said - set(_translated())) == []


def test_no_translation_is_left_over() -> None:
    assert sorted(set(_translated()) - _said_in_code()) == []


def test_translations_have_the_same_blanks() -> None:
    def differs(message: str, chinese: str) -> bool:
        try:
            return _blanks(message) != _blanks(chinese)
        except ValueError:
            # Braces that are no placeholder: both must then be shown as they are, without values.
            return message.count("{") != chinese.count("{")

    assert [message for message, chinese in _translated().items() if differs(message, chinese)] == []


def test_the_compiled_catalogue_is_current() -> None:
    compiled = gettext.translation("nlp_skills", i18n.LOCALE_DIR, ["zh_TW"])
    assert {message: compiled.gettext(message) for message in _translated()} == _translated()


def test_messages_are_literals() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "N_":
                wrong += [] if isinstance(node.args[0], ast.Constant) else [f"{path}:{node.lineno}"]
    assert wrong == []


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"NLP_SKILLS_LANG": "zh-TW"}, "zh-TW"),
        ({"NLP_SKILLS_LANG": "zh"}, "zh-TW"),
        ({"NLP_SKILLS_LANG": "en", "LANG": "zh_TW.UTF-8"}, "en"),
        ({"LANG": "zh_TW.UTF-8"}, "zh-TW"),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_TW.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_TW", "LANG": "en_US"}, "zh-TW"),
        ({"LANG": "fr_FR"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_in_force(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], language: str) -> None:
    for name in ("NLP_SKILLS_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    i18n.set_language(None)
    assert i18n.language() == language


def test_lang_wins_and_covers_clicks_own_words(project: Path, cli: object) -> None:
    assert callable(cli)
    chinese: Ran = cli("--lang", "zh-TW", "--help")
    assert "用法" in chinese.out and "選項" in chinese.out and "評估" in chinese.out
    refused: Ran = cli("new-task", "../x", "--labels", "a,b", "--lang", "zh-TW")
    assert refused.code == 2
    assert "錯誤：" in refused.err and "處理：" in refused.err
    assert "Usage" in cli("--help").out
