from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import baselines
from nlp_skills.evaluation.baselines import rules
from nlp_skills.schema.task import SuccessCriteria

LABELS = ["positive", "neutral", "negative"]
GOOD = """\
rules:
  - {when: '(?i)\\brefund\\b', answer: negative}
  - when: {contains: [Great, 很好]}
    field: text
    answer: positive
default: neutral
"""


def read(root: Path, text: str, kind: Any = "label") -> rules.Rules:
    (root / "rules.yaml").write_text(text, encoding="utf-8")
    return rules.read(root, "rules.yaml", LABELS, ["title", "text"], kind)


def rows(*texts: str) -> list[dict[str, str]]:
    return [{"title": "great", "text": text} for text in texts]


def test_the_first_rule_that_holds_decides_and_the_default_where_none_does(tmp_path: Path) -> None:
    asked = rows("I want a REFUND, great", "a great one", "這很好", "refunds", "")
    given = read(tmp_path, GOOD).answers(asked, ["title", "text"], "label")
    assert given == ["negative", "positive", "positive", "neutral", "neutral"]


def test_where_a_row_may_have_several_labels_all_that_hold_are_given(tmp_path: Path) -> None:
    read_rules = read(tmp_path, GOOD.replace("default: neutral", "default: []"), "labels")
    given = read_rules.answers(rows("great refund", "nothing"), ["title", "text"], "labels")
    assert given == [["negative", "positive"], []]


@pytest.mark.parametrize(
    ("text", "line", "says", "mend"),
    [
        (GOOD.replace("answer: positive", "answer: postive"), 5, "'postive' is no label", "positive"),
        (GOOD.replace("(?i)\\brefund\\b", "(refund"), 2, "not a regular expression", "single quotes"),
        (GOOD.replace("field: text", "field: body"), 4, "'body' is no field", "title, text"),
        (GOOD.replace("field: text", "feild: text"), 4, "no key 'feild'", "field"),
        (GOOD.replace("default: neutral\n", ""), 1, "no default", "default:"),
        (GOOD.replace("contains: [Great, 很好]", "contains: []"), 3, "when is a regular expression", "contains"),
        ("- just a list\n", 1, "a rule file has a list of rules", "when"),
        ("rules: [{when: x}]\ndefault: neutral\n", 1, "a rule has when and answer", "answer"),
        ("rules: [\n", 2, "not valid YAML", "indentation"),
    ],
)
def test_a_bad_rule_file_is_told_of_by_line_with_a_mend(
    tmp_path: Path, text: str, line: int, says: str, mend: str
) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        read(tmp_path, text)
    assert refused.value.line == line and mend in str(refused.value.mend)


def test_a_missing_file_and_one_outside_the_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="missing"):
        rules.read(tmp_path, "none.yaml", LABELS, ["text"], "label")
    with pytest.raises(Problem, match="leaves the task folder"):
        rules.read(tmp_path, "../rules.yaml", LABELS, ["text"], "label")


@pytest.mark.skipif(os.name != "posix", reason="processor time is limited by the system")
def test_an_expression_that_runs_away_is_stopped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SECONDS", 1)
    runaway = GOOD.replace("(?i)\\brefund\\b", "^(a+)+$")
    with pytest.raises(Invalid, match="a rule takes too long") as refused:
        read(tmp_path, runaway).answers(rows("a" * 60 + "!"), ["title", "text"], "label")
    assert refused.value.line == 2 and "repetition" in str(refused.value.mend)


def test_only_a_path_is_a_rule_file_and_a_number_stays_one() -> None:
    named = {given: baselines.rule_file(SuccessCriteria(baseline=given)) for given in (0.65, "rule_based_0.65", None)}
    assert set(named.values()) == {None}
    assert baselines.rule_file(SuccessCriteria(baseline="rules/ours_0.65.yaml")) == "rules/ours_0.65.yaml"
