"""From a vague wish to a refused deployment, in the real client: scripted is only what the model and the person say.

Every command runs, and every figure that the model is shown is held against the file it comes from.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claude_code import bash, call, text
from conftest import ROOT
from conversation import Talk
from tables import tables
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
    assert body(ROOT / "skills" / "llm-coach" / "SKILL.md") in seen.new
    assert session.play(bash("nlp-skills tasks --json")).json["tasks"] == []
    assert session.play(bash("nlp-skills doctor --json")).json["ok"]
    for question in tongue.questions:
        seen = session.ask(question)
        assert f'"{question.words}"="{question.answer}"' in seen.result
    assert session.asked == [question.asked for question in tongue.questions]


def body(path: Path) -> str:
    """A skill or an agent without its front matter."""
    return path.read_text(encoding="utf-8").split("---\n", 2)[2].strip()


def proposal(session: Talk, tongue: Tongue, project: Path) -> None:
    """What was agreed goes into a file; a command says what is wrong with it, and the person changes their mind."""
    path = project / "task_summary.yaml"
    form = session.play(call("Read", file_path=str(ROOT / "skills" / "llm-coach" / "references" / "task-summary.md")))
    assert all(f"{key}:" in form.result for key in tongue.summary)
    session.play(call("Write", file_path=str(path), content=yaml.dumps({"task_summary": tongue.summary})))
    advice = session.play(bash("nlp-skills recommend --json")).json
    problem = too_high(advice, tongue)

    session.ask(tongue.lower)
    session.play(call("Edit", file_path=str(path), old_string=str(TOO_HIGH), new_string=tongue.lower.answer))
    assert tongue.plan.answer in session.ask(tongue.plan).result
    seen = session.play(bash("nlp-skills recommend --base models/house --write"))
    assert not seen.failed
    assert problem not in seen.result
    written = TaskFolder.at(project / "sentiment").task()
    assert written.success_criteria.threshold == float(tongue.lower.answer)
    assert written.training is not None
    assert Path(written.training.base_model).samefile(project / "models" / "house")
    assert f"LoRA r={written.training.lora.r}" in seen.result
    assert (written.language, written.output_format.labels) == (tongue.language, list(tongue.labels))
    # The proposal ends with what comes next, and that is what the model does.
    following = re.search(r"nlp-skills data-source add .*", seen.result)
    assert following
    seen = session.play(bash(following[0]))
    assert not seen.failed, seen.result
    session.tell(advice["advice"])


def too_high(advice: Any, tongue: Tongue) -> str:
    """The recommendation for the first summary: fine-tune, but so few test rows cannot show what is asked for."""
    assert advice["decision"] == "fine-tune"
    assert advice["facts"]["rows"] == ROWS
    assert set(advice["facts"]["data"]["classes"]) == set(tongue.labels)
    assert advice["proposal"]["performance"]["basis"] == "cross_validation"
    (problem,) = advice["problems"]
    assert problem["code"] == "threshold_not_provable"
    planned = advice["test_rows"]
    assert planned["show_at_most"] < TOO_HIGH
    assert str(planned["planned"]) in problem["says"]
    assert str(planned["needed_without_mistake"]) in problem["mend"]
    reasons = [reason["says"] for reason in advice["reasons"]]
    for words in (advice["advice"], problem["says"], problem["mend"], *reasons):
        assert tongue.speaks(words), words
    return str(problem["says"])


def data_are_made(session: Talk, tongue: Tongue, task: Path) -> None:
    """The hook says of each file how many rows it has, and of each class."""
    session.say(tongue.agree)
    seen = session.play(bash("nlp-skills regenerate"))
    (said,) = seen.ours
    rows = {split: rows_of(task / "data" / f"{split}.jsonl") for split in ("train", "valid", "test")}
    assert sum(map(len, rows.values())) == ROWS
    for split, some in rows.items():
        assert tongue.valid.format(split=split, rows=len(some)) in said
    for label, count in Counter(row["label"] for row in rows["train"]).items():
        assert tongue.share.format(label=label, count=count) in said
    assert session.play(bash("nlp-skills generate")).ours == []
    assert (task / "scripts" / "04_train.py").is_file()
    # A first look needs no three passes.
    config = task / "versions" / "v1" / "config.yaml"
    session.play(call("Read", file_path=str(config)))
    seen = session.play(call("Edit", file_path=str(config), old_string="epochs: 3.0", new_string="epochs: 1"))
    assert not seen.failed, seen.result


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
    assert "nlp-skills:problem-diagnoser" in said  # what a missed criterion is handed to


def results_of(task: Path, version: str) -> Any:
    return json.loads((task / "versions" / version / "results.json").read_text(encoding="utf-8"))


def percent(value: float) -> str:
    return f"{value * 100:.1f}%"


def judged_by_the_analyst(session: Talk, tongue: Tongue, task: Path) -> None:
    """The agent is started with its own instructions and nothing to write with, looks, and its answer comes back."""
    seen = session.play(call("Agent", subagent_type=ANALYST, description=tongue.judge, prompt=tongue.judge))
    assert body(ROOT / "agents" / "result-analyzer.md") in seen.system
    assert tongue.judge in seen.new
    assert not {"Write", "Edit", "Agent"} & {tool["name"] for tool in seen.request["tools"]}
    results = results_of(task, "v1")
    found = session.play(bash("nlp-skills errors --version v1 --limit 30 --json")).json
    predictions = rows_of(task / "versions" / "v1" / "predictions.jsonl")
    assert found["rows"] == results["test_rows"] == len(predictions)
    assert found["value"] == results["metrics"]["macro_f1"]
    verdict = tongue.verdict.format(figure=percent(found["value"]), wrong=found["wrong"], rows=found["rows"])
    assert verdict in session.play([text(verdict)]).result
    session.tell(verdict)


def second_version(session: Talk, tongue: Tongue, task: Path) -> None:
    """The next version is made as the analyst said, measured, and held against the first."""
    session.say(tongue.go_on)
    seen = session.play(bash(f"nlp-skills new-version --change '{tongue.change}' --set learning_rate=0.002"))
    assert not seen.failed, seen.result
    measured(session, tongue, task, "v2")
    seen = session.play(bash("nlp-skills compare v1 v2"))
    assert ["2e-4", "2e-3"] in [row[1:3] for row in tables(seen.result)[0]]
    for version in ("v1", "v2"):
        assert percent(results_of(task, version)["metrics"]["macro_f1"]) in seen.result


def deployment_refused(session: Talk, tongue: Tongue, task: Path) -> None:
    """The person wants it out all the same; the gate says no, with the figure, and nothing is put anywhere."""
    seen = session.play(bash("nlp-skills deploy --to local"))
    assert seen.failed
    assert seen.result.startswith("Exit code 1")
    assert tongue.refused.format(version="v2") in seen.result
    assert percent(results_of(task, "v2")["metrics"]["macro_f1"]) in seen.result
    assert f"{float(tongue.lower.answer):.1%}" in seen.result
    assert TaskFolder.at(task).task().status == "evaluating"
    session.tell(tongue.farewell)


def test_what_cannot_be_done_is_told_with_what_to_do(talk: Callable[..., Talk], project: Path) -> None:
    """Three rows, and a graphics card that nobody has heard of: the model is shown what is wrong, and the mend."""
    write_reviews(project / "reviews.csv", CHINESE, rows=3)
    session = talk(CHINESE.locale)
    session.say(CHINESE.wish)
    command = "nlp-skills recommend --data reviews.csv --gpu"
    unknown = session.play(bash(f"{command} 'RTX 9999'")).result
    assert unknown.startswith("Exit code 2")
    offered = re.search(r"RTX \d+(?!\d)", unknown.split("RTX 9999", 1)[1])
    assert offered, unknown
    few = session.play(bash(f"{command} '{offered[0]}' --json")).result
    code, _line, answer = few.partition("\n")
    assert code == "Exit code 1"
    advice = json.loads(answer)
    assert advice["decision"] == "collect"
    assert "3" in advice["advice"]
    for words in (advice["advice"], *(problem[part] for problem in advice["problems"] for part in ("says", "mend"))):
        assert CHINESE.speaks(words), words
    refused = session.play(bash(f"{command} '{offered[0]}' --write"))
    assert refused.result.startswith("Exit code 1")
    assert advice["advice"] in refused.result
    session.tell(advice["advice"])
    session.end()
    assert [path.name for path in project.iterdir()] == ["reviews.csv"]
