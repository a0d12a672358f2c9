"""From a vague wish to a refused deployment, in the real client: scripted is only what the model and the person say.

Every command runs, and every figure that the model is shown is held against the file it comes from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_code import bash, call, text
from conftest import ROOT
from conversation import Talk
from tongues import CHINESE, ENGLISH, ROWS, TOO_HIGH, Tongue, write_reviews

from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

pytestmark = pytest.mark.client

LONG = 300_000  # milliseconds that the client lets a command take
ANALYST = "nlp-skills:result-analyzer"


@pytest.mark.parametrize("tongue", [ENGLISH, CHINESE], ids=["en", "zh-TW"])
def test_from_a_vague_wish_to_a_gate_that_refuses(
    tongue: Tongue, talk: Callable[..., Talk], project: Path, tuned_base: Path
) -> None:
    write_reviews(project / "reviews.csv", tongue)
    (project / "models").mkdir()
    (project / "models" / "house").symlink_to(tuned_base)
    session = talk(tongue.locale, NLP_SKILLS_DETERMINISTIC="1")
    task = project / "sentiment"

    what_is_wanted(session, tongue)
    proposal(session, tongue, project)
    data_are_made(session, tongue, task)
    measured(session, tongue, task, "v1")
    judged_by_the_analyst(session, tongue, task)
    second_version(session, tongue, task)
    deployment_refused(session, tongue, task)

    seen = session.end()
    assert seen.init.get("plugin_errors", []) == []
    assert {hook["exit_code"] for hook in seen.hooks} == {0}
    spoken = [json.loads(hook["stdout"]) for hook in seen.hooks if hook["stdout"].strip()]
    assert len(spoken) == 5, spoken  # the data, and each training and evaluation: once each, and nothing at the ends
    assert session.told[-1] == tongue.farewell


def what_is_wanted(session: Talk, tongue: Tongue) -> None:
    """The wish is vague: the coach is loaded, looks around, and asks one thing at a time."""
    seen = session.say(tongue.wish)
    assert "nlp-skills:llm-coach" in seen.new
    seen = session.play(call("Skill", skill="nlp-skills:llm-coach"))
    assert (ROOT / "skills" / "llm-coach" / "SKILL.md").read_text(encoding="utf-8").split("---\n")[
        2
    ].strip() in seen.new
    seen = session.play(bash("nlp-skills doctor --json"))
    assert seen.json["ok"]
    seen = session.play(bash("nlp-skills tasks --json"))
    assert seen.json["tasks"] == []
    for question in tongue.questions:
        seen = session.ask(question)
        assert f'"{question.words}"="{question.answer}"' in seen.result
    assert session.asked == [question.asked for question in tongue.questions]


def proposal(session: Talk, tongue: Tongue, project: Path) -> None:
    """What was agreed goes into a file; a command says what is wrong with it, and the person changes their mind."""
    path = project / "task_summary.yaml"
    session.play(call("Write", file_path=str(path), content=yaml.dumps({"task_summary": tongue.summary})))
    advice = session.play(bash("nlp-skills recommend --json")).json
    assert advice["decision"] == "fine-tune"
    assert advice["facts"]["rows"] == ROWS
    assert set(advice["facts"]["data"]["classes"]) == set(tongue.labels)
    (problem,) = advice["problems"]
    assert problem["code"] == "threshold_not_provable"
    planned = advice["test_rows"]
    assert planned["show_at_most"] < TOO_HIGH
    assert str(planned["planned"]) in problem["says"]
    assert str(planned["needed_without_mistake"]) in problem["mend"]
    assert advice["proposal"]["performance"]["basis"] == "cross_validation"

    session.ask(tongue.lower)
    session.play(call("Read", file_path=str(path)))
    session.play(call("Edit", file_path=str(path), old_string=str(TOO_HIGH), new_string=tongue.lower.answer))
    seen = session.ask(tongue.plan)
    assert tongue.plan.answer in seen.result
    advice = session.play(bash("nlp-skills recommend --base models/house --write --json")).json
    assert advice["problems"] == []
    written = TaskFolder.at(project / "sentiment").task()
    assert written.success_criteria.threshold == float(tongue.lower.answer)
    assert written.training.base_model == advice["proposal"]["base_model"] == "models/house"
    assert written.training.lora.r == advice["proposal"]["lora"]["r"]
    assert (written.language, written.output_format.labels) == (tongue.language, list(tongue.labels))
    session.tell(advice["advice"])
    for said in [advice["advice"], problem["says"], problem["mend"], *(reason["says"] for reason in advice["reasons"])]:
        assert tongue.speaks(said), said


def data_are_made(session: Talk, tongue: Tongue, task: Path) -> None:
    """The hook says of each file how many rows it has, once."""
    session.say(tongue.agree)
    add = "nlp-skills data-source add --type file_import --path reviews.csv --name reviews"
    seen = session.play(bash(add))
    assert not seen.failed, seen.result
    seen = session.play(bash("nlp-skills regenerate"))
    (said,) = seen.ours
    rows = {split: rows_of(task / "data" / f"{split}.jsonl") for split in ("train", "valid", "test")}
    assert sum(map(len, rows.values())) == ROWS
    for split, some in rows.items():
        assert tongue.valid.format(split=split, rows=len(some)) in said
    for label, count in Counter(row["label"] for row in rows["train"]).items():
        assert f"{label} {count} (" in said or f"{label} {count}（" in said
    assert session.play(bash("nlp-skills generate")).ours == []
    assert (task / "scripts" / "04_train.py").is_file()


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measured(session: Talk, tongue: Tongue, task: Path, version: str) -> None:
    """After a training and after an evaluation the hook says what the run and the results hold."""
    seen = session.play(bash("nlp-skills train", timeout=LONG))
    (said,) = seen.ours
    status = json.loads((task / "versions" / version / "run" / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "completed"
    assert said.startswith(tongue.trained.format(version=version))
    assert f"{status['loss']:.4g}" in said
    assert tongue.following in said

    seen = session.play(bash("nlp-skills evaluate --no-base-baseline", timeout=LONG))
    (said,) = seen.ours
    results = results_of(task, version)
    assert said.startswith(tongue.measured.format(version=version, rows=len(rows_of(task / "data" / "test.jsonl"))))
    for name in ("macro_f1", "accuracy"):
        assert f"{name} {percent(results['metrics'][name])}" in said
    assert results["success"]["verdict"] == "not_met"
    assert tongue.not_met in said
    assert percent(max(figures["macro_f1"] for figures in results["baselines"].values())) in said


def results_of(task: Path, version: str) -> Any:
    return json.loads((task / "versions" / version / "results.json").read_text(encoding="utf-8"))


def percent(value: float) -> str:
    return f"{value * 100:.1f}%"


def judged_by_the_analyst(session: Talk, tongue: Tongue, task: Path) -> None:
    """The agent is started with its own instructions and without tools that write, and its answer comes back."""
    seen = session.play(call("Agent", subagent_type=ANALYST, description=tongue.judge, prompt=tongue.judge))
    agent = (ROOT / "agents" / "result-analyzer.md").read_text(encoding="utf-8").split("---\n", 2)
    assert agent[2].strip() in seen.system
    assert tongue.judge in seen.new
    assert not {"Write", "Edit", "Agent"} & {tool["name"] for tool in seen.request["tools"]}
    seen = session.play(bash("nlp-skills errors --version v1"))
    seen = session.play(bash("nlp-skills history --json"))
    reached = results_of(task, "v1")["metrics"]["macro_f1"]
    assert str(reached) in seen.result
    verdict = tongue.verdict.format(figure=percent(reached))
    seen = session.play([text(verdict)])
    assert verdict in seen.result
    session.tell(verdict)


def second_version(session: Talk, tongue: Tongue, task: Path) -> None:
    """The next version is made as the analyst said, measured, and held against the first."""
    session.say(tongue.go_on)
    seen = session.play(bash(f"nlp-skills new-version --change '{tongue.change}' --set lora.r=32 --set lora.alpha=64"))
    assert not seen.failed, seen.result
    measured(session, tongue, task, "v2")
    seen = session.play(bash("nlp-skills compare v1 v2"))
    for version in ("v1", "v2"):
        assert percent(results_of(task, version)["metrics"]["macro_f1"]) in seen.result


def deployment_refused(session: Talk, tongue: Tongue, task: Path) -> None:
    """The person wants it out all the same; the gate says no, and why."""
    seen = session.play(bash("nlp-skills deploy --to local"))
    assert seen.failed
    assert seen.result.startswith("Exit code 1")
    assert tongue.refused.format(version="v2") in seen.result
    assert percent(results_of(task, "v2")["metrics"]["macro_f1"]) in seen.result
    assert not (task / "deployments.yaml").exists()
    session.tell(tongue.farewell)
