"""The trigger sets: enough of them, in both languages, and none says the contrary of another."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

NAMES = {path.parent.name: "skill" for path in ROOT.glob("skills/*/SKILL.md")}
NAMES |= {path.stem: "agent" for path in ROOT.glob("agents/*.md")}
SETS = sorted(ROOT.glob("evals/triggers/*.json"))
_HAN = re.compile(r"[\u4e00-\u9fff]")
# Words of the mainland where Taiwan has its own.
_ELSEWHERE = re.compile("数据|信息|默認|默认|視頻|软件|軟件|代碼|质量|質量|程序|接口|文件夾|模块|用戶")


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


every = pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)


def test_every_skill_and_agent_has_a_set() -> None:
    assert {path.stem for path in SETS} == set(NAMES)


@every
def test_a_set_is_large_enough_in_both_languages(path: Path) -> None:
    one = read(path)
    assert set(one) == {"name", "kind", "should", "near_miss"}
    assert one["name"] == path.stem and one["kind"] == NAMES[path.stem]
    for side in ("should", "near_miss"):
        spoken = Counter(item["lang"] for item in one[side])
        assert set(spoken) == {"en", "zh-TW"} and min(spoken.values()) >= 5 and spoken.total() >= 12


@every
def test_a_query_is_in_its_language_and_stands_once(path: Path) -> None:
    one = read(path)
    items = one["should"] + one["near_miss"]
    assert [text for text, count in Counter(item["query"] for item in items).items() if count > 1] == []
    for item in items:
        assert bool(_HAN.search(item["query"])) == (item["lang"] == "zh-TW"), item
        assert 4 <= len(item["query"]) <= 300 and not _ELSEWHERE.search(item["query"]), item
        # Whoever names what they want called is not asking whether it triggers.
        assert one["name"] not in item["query"], item


@every
def test_neighbours_are_ours_and_a_near_miss_says_why(path: Path) -> None:
    one = read(path)
    others = set(NAMES) - {one["name"]}
    for item in one["should"]:
        assert set(item) <= {"query", "lang", "or"} and set(item.get("or", [])) <= others, item
    for item in one["near_miss"]:
        assert set(item) == {"query", "lang", "instead", "why"} and item["why"], item
        assert item["instead"] is None or item["instead"] in others, item
    led = [item["instead"] for item in one["near_miss"]]
    assert led.count(None) >= 4 and len(led) - led.count(None) >= 3


def test_no_set_says_the_contrary_of_another() -> None:
    should: dict[str, dict[str, set[str]]] = {}
    instead: dict[str, str | None] = {}
    for path in SETS:
        one = read(path)
        for item in one["should"]:
            should.setdefault(item["query"], {})[one["name"]] = set(item.get("or", []))
        for item in one["near_miss"]:
            assert instead.setdefault(item["query"], item["instead"]) == item["instead"], item
    for query, wanted in should.items():
        for name, also in wanted.items():
            assert set(wanted) - {name} <= also, f"{query}: {sorted(wanted)}"
        assert query not in instead or instead[query] in wanted, query
