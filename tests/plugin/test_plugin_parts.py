"""What a skill, an agent or a command says is so: its names exist, its commands run, its parts are where it says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from mentioned import commands, option_names, problems, spans

from nlp_skills.schema.summary import TaskSummary

SKILLS = sorted(path.parent for path in ROOT.glob("skills/*/SKILL.md"))
AGENTS = sorted(ROOT.glob("agents/*.md"))
COMMANDS = sorted(ROOT.glob("commands/*.md"))
EVERY = sorted([*ROOT.glob("skills/**/*.md"), *AGENTS, *COMMANDS])

_HAN = re.compile(r"[\u4e00-\u9fff]")
_LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
# "the agent **X**", "the skills **X** and **Y**", "send the agent `nlp-skills:X`".
_BOLD = re.compile(r"\*\*([a-z]+(?:-[a-z]+)+)\*\*")
_NAMED = re.compile(r"nlp-skills:([a-z-]+)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parts(path: Path) -> tuple[dict[str, Any], str]:
    """Front matter and body."""
    found = re.match(r"---\n(.*?)\n---\n(.*)", path.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{path} has no front matter"
    head = yaml.safe_load(found[1])
    assert isinstance(head, dict)
    return head, found[2]


def every(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=name_of)


@every([folder / "SKILL.md" for folder in SKILLS])
def test_a_skill_is_short_and_says_when_in_both_languages(path: Path) -> None:
    head, _ = parts(path)
    said = head["description"]
    assert set(head) == {"name", "description"} and head["name"] == path.parent.name
    assert said.startswith("Use ") and _HAN.search(said)
    assert len(said) <= 400 and not set("<>") & set(said)
    assert len(path.read_text(encoding="utf-8").splitlines()) < 200


@every(SKILLS)
def test_references_are_one_level_deep_and_all_of_them_are_named(path: Path) -> None:
    there = {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()} - {"SKILL.md"}
    assert all(re.fullmatch(r"references/[\w.-]+\.md", each) for each in there)
    said = (path / "SKILL.md").read_text(encoding="utf-8")
    assert {each for each in there if each not in said} == set()
    for each in there:
        links = _LINK.findall((path / each).read_text(encoding="utf-8"))
        assert [link for link in links if not link.startswith("https://")] == []


@every(AGENTS)
def test_an_agent_only_looks(path: Path) -> None:
    head, body = parts(path)
    assert set(head) == {"name", "description", "tools"} and head["name"] == path.stem
    assert {tool.strip() for tool in head["tools"].split(",")} == {"Bash", "Read", "Grep", "Glob"}
    assert _HAN.search(head["description"]) and len(head["description"]) <= 400
    assert "Use " in head["description"] and "Change no file" in body


@every(COMMANDS)
def test_a_command_is_started_by_people_only_and_takes_what_it_hints_at(path: Path) -> None:
    head, body = parts(path)
    assert set(head) == {"description", "argument-hint", "disable-model-invocation"}
    assert head["disable-model-invocation"] is True
    assert head["argument-hint"] and "$ARGUMENTS" in body
    assert _HAN.search(head["description"]) and len(head["description"]) <= 80


def test_what_the_model_is_offered_in_every_session_stays_small() -> None:
    """By a careful count: a token for each Chinese character, one for four others. Commands are not offered."""
    offered = " ".join(
        f"nlp-skills:{head['name']} {head['description']}"
        for head, _ in map(parts, [*(folder / "SKILL.md" for folder in SKILLS), *AGENTS])
    )
    chinese = len(re.findall(r"[\u3000-\u9fff\uff00-\uffef]", offered))
    tokens = chinese + (len(offered) - chinese) / 4
    assert tokens <= 650, f"{tokens:.0f} tokens"


@every(EVERY)
def test_what_a_text_runs_the_command_line_has(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = {line: list(problems(line)) for line in commands(text)}
    assert {line: found for line, found in wrong.items() if found} == {}


@every(EVERY)
def test_an_option_that_is_named_alone_belongs_to_a_command_of_the_same_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    known = option_names()
    said = " ".join(commands(text)) + " " + " ".join(spans(text))
    here = {option for name, options in known.items() if name.strip() in said for option in options}
    alone = {span.split()[0].split("=")[0] for span in spans(text) if span.startswith("--")}
    assert alone - here == set()


@every(EVERY)
def test_what_a_text_sends_people_to_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    names = {folder.name for folder in SKILLS} | {agent.stem for agent in AGENTS}
    assert set(_BOLD.findall(text)) - names == set()
    assert set(_NAMED.findall(text)) - names - {command.stem for command in COMMANDS} == set()
    for link in _LINK.findall(text):
        assert link.startswith("https://") or (path.parent / link).is_file(), link


def test_the_summary_that_the_coach_shows_is_one() -> None:
    text = (ROOT / "skills/llm-coach/references/task-summary.md").read_text(encoding="utf-8")
    shown, more, other = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    first = TaskSummary.model_validate(yaml.safe_load(shown + more)).task_summary
    assert (first.name, first.labels, first.data) == ("entity-sentiment", ["正面", "負面", "中立"], "labelled/news.csv")
    second = TaskSummary.model_validate(yaml.safe_load(shown + other)).task_summary
    assert second.output_format is not None and list(second.output_format.schema_) == ["company", "amount"]


def test_the_draft_of_the_goal_clarifier_is_a_summary() -> None:
    text = (ROOT / "agents/goal-clarifier.md").read_text(encoding="utf-8")
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert TaskSummary.model_validate(yaml.safe_load(found[1])).task_summary.type == "classification"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nlp-skills retrain reviews", "no command 'retrain'"),
        ("nlp-skills plan begin", "no command 'begin'"),
        ("nlp-skills train --detatch", "no option '--detatch'"),
        ("nlp-skills deploy --to heroku", "--to does not know 'heroku'"),
        ("nlp-skills deploy --to local|heroku", "--to does not know 'heroku'"),
        ("nlp-skills new-version --set", "--set without a value"),
        ("nlp-skills use a b", "too many arguments"),
    ],
)
def test_a_wrong_command_would_be_found(line: str, problem: str) -> None:
    assert list(problems(line)) == [problem]
