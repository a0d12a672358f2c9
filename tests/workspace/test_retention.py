"""Which versions are kept and by which rules: each rule alone, and what is never taken whatever the rules say."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import made_versions
import pytest
from conftest import DATA_SOURCE_YAML, TASK_YAML, Ran

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Retention
from nlp_skills.schema.version import RunStatus
from nlp_skills.workspace import lifecycle, lineage, lock, retention, versions
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1 to v5, a day apart; v5 is active; nothing but the newest is kept."""
    root = tmp_path_factory.mktemp("made") / "sentiment"
    root.mkdir()
    (root / "task.yaml").write_text(TASK_YAML.format(name="sentiment", base_model="none/none"), encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    folder = made_versions.first_version(root)
    _trained(folder, "v1", days=5)
    for number in range(2, 6):
        versions.new_version(folder, changes=[f"epochs {number}"], settings={"epochs": number})
        _trained(folder, f"v{number}", days=6 - number)
    rules(folder, "{keep_recent: 1, keep_best: false, keep_deployed: false}")
    return root


@pytest.fixture
def five(made_once: Path, project: Path) -> TaskFolder:
    shutil.copytree(made_once, project / "sentiment", symlinks=True)
    return TaskFolder.at(project / "sentiment")


def _trained(folder: TaskFolder, name: str, *, days: int, right: float = 0.6) -> None:
    made_versions.finish(folder, name, right=right)
    made_versions.aged(folder, name, days)


def rules(folder: TaskFolder, text: str) -> None:
    lines = folder.task_path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("versioning:")]
    folder.task_path.write_text("\n".join([*kept, f"versioning: {{retention: {text}}}"]) + "\n", encoding="utf-8")


def kept(folder: TaskFolder) -> dict[str, list[str]]:
    """The versions that are kept, with their rules."""
    return {d.version: [reason.rule for reason in d.keeps] for d in retention.decide(folder) if d.kept}


def score(folder: TaskFolder, name: str, value: float) -> None:
    path = folder.version(name).results_path
    content = files.read_json(path)
    files.write_json(path, {**content, "metrics": {**content["metrics"], "macro_f1": value}})


def test_the_active_version_and_what_models_current_leads_to_stay(five: TaskFolder) -> None:
    assert kept(five) == {"v5": ["active", "linked", "recent"]}
    versions.new_version(five, changes=["epochs 9"], settings={"epochs": 9})
    assert kept(five) == {"v5": ["linked", "recent"], "v6": ["active", "recent"]}


def test_the_reason_why_the_others_go_is_said(five: TaskFolder) -> None:
    whys = {d.version: d.why for d in retention.decide(five)}
    assert whys == {**dict.fromkeys(("v1", "v2", "v3", "v4"), "not one of the newest 1"), "v5": None}


@pytest.mark.parametrize("text", ["2", "{keep_recent: 2}"])
def test_the_short_form_keeps_so_many_recent_ones(five: TaskFolder, text: str) -> None:
    rules(five, text)
    score(five, "v5", 0.99)
    assert list(kept(five)) == ["v4", "v5"]


def test_recent_is_by_creation_not_by_name(five: TaskFolder) -> None:
    made_versions.aged(five, "v2", 0)
    rules(five, "{keep_recent: 2, keep_best: false}")
    assert list(kept(five)) == ["v2", "v5"]


def test_versions_that_were_never_trained_take_nobodys_place(five: TaskFolder) -> None:
    for epochs in (7, 8, 9):
        versions.new_version(five, changes=[f"epochs {epochs}"], settings={"epochs": epochs})
    (five.root / "models" / "current").unlink()
    assert {name: found for name, found in kept(five).items() if name < "v6"} == {"v5": ["recent"]}


def test_the_best_by_the_primary_metric_stays_the_newest_of_several(five: TaskFolder) -> None:
    rules(five, "{keep_recent: 1}")
    for name, value in {"v1": 0.9, "v2": 0.95, "v3": 0.95, "v4": 0.1, "v5": 0.2}.items():
        score(five, name, value)
    assert kept(five) == {"v3": ["best"], "v5": ["active", "linked", "recent"]}
    words = {d.version: d.keeps[0].words for d in retention.decide(five) if d.keeps}
    assert words["v3"] == "best by macro_f1: 95.0%"


def test_the_best_is_found_in_the_lineage_where_the_results_are_gone(five: TaskFolder) -> None:
    rules(five, "{keep_recent: 1}")
    with lock.writing(five):
        lineage.record(five.version("v2"), results={"macro_f1": 0.97})
    five.version("v2").results_path.unlink()
    assert kept(five)["v2"] == ["best"]


def test_a_best_without_a_model_does_not_stand_for_one(five: TaskFolder) -> None:
    rules(five, "{keep_recent: 1}")
    score(five, "v1", 0.99)
    score(five, "v2", 0.98)
    shutil.rmtree(five.version("v1").adapter)
    assert kept(five)["v2"] == ["best"]


def test_what_is_deployed_stays_whatever_the_rules_say(five: TaskFolder) -> None:
    made_versions.deploy(five, "v2", follows=False)
    assert kept(five)["v2"] == ["deployed"]
    decision = next(d for d in retention.decide(five) if d.version == "v2")
    assert decision.keeps[0].words == "deployed: sentiment@v2 (local)"


def test_what_was_deployed_once_stays_with_keep_deployed(five: TaskFolder) -> None:
    with lock.writing(five):
        lineage.note(five.version("v1"), "deployed", reason="live")
        lineage.note(five.version("v1"), "undeployed", reason="live")
        lifecycle.move(five, "deployed", "deployed v5")
        lifecycle.move(five, "configuring", "next")
        yaml.change(five.task_path, {("history", len(five.task().history) - 2, "version"): "v3"})
    assert list(kept(five)) == ["v5"]
    rules(five, "{keep_recent: 1, keep_best: false}")
    assert {name: found for name, found in kept(five).items() if name != "v5"} == {
        "v1": ["was_deployed"],
        "v3": ["was_deployed"],
    }


def test_a_running_version_stays_and_a_killed_run_does_not_count(five: TaskFolder) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = five.version("v1").status_path
    status = RunStatus.load(path)
    status.model_copy(update={"state": "running", "pid": child.pid, "updated": files.now()}).save(path)
    assert kept(five)["v1"] == ["running"]
    child.kill()
    child.wait()
    assert "v1" not in kept(five)


def test_any_link_beside_the_models_keeps_what_it_leads_to(five: TaskFolder) -> None:
    (five.root / "models" / "for-the-demo").symlink_to("adapter/v3")
    assert kept(five)["v3"] == ["linked"]
    assert any("models/for-the-demo leads to it" in r.words for d in retention.decide(five) for r in d.keeps)


@pytest.mark.parametrize("base", ["models/adapter/v3", "./models/adapter/../adapter/v3/", "ABSOLUTE"])
def test_what_a_kept_version_was_trained_on_stays_and_what_that_was_trained_on(five: TaskFolder, base: str) -> None:
    place = str(five.version("v3").adapter) if base == "ABSOLUTE" else base
    yaml.change(five.version("v5").config_path, {("base_model",): place})
    yaml.change(five.version("v3").config_path, {("base_model",): "models/adapter/v1"})
    assert kept(five) == {"v1": ["needed"], "v3": ["needed"], "v5": ["active", "linked", "recent"]}


def test_a_key_of_a_later_release_names_a_parent_too(five: TaskFolder) -> None:
    path = five.version("v5").config_path
    path.write_text(path.read_text(encoding="utf-8") + "grown_from: models/adapter/v2\n", encoding="utf-8")
    assert kept(five)["v2"] == ["needed"]
    assert "unreadable" in kept(five)["v5"]


def test_weights_to_go_on_from_stay_until_the_version_that_needs_them_is_trained(five: TaskFolder) -> None:
    versions.new_version(five, changes=["from v2"], settings={"init_from": "v2"})
    assert kept(five)["v2"] == ["needed"]
    assert any("v6 is to go on from it" in r.words for d in retention.decide(five) for r in d.keeps)
    made_versions.finish(five, "v6", right=0.6)
    assert "v2" not in kept(five)


def test_what_goes_needs_nothing(five: TaskFolder) -> None:
    yaml.change(five.version("v2").config_path, {("base_model",): "models/adapter/v1"})
    assert list(kept(five)) == ["v5"]


def test_what_another_task_is_trained_on_stays(five: TaskFolder, make_task: Callable[..., Path]) -> None:
    other = made_versions.first_version(make_task("tone"))
    yaml.change(other.version("v1").config_path, {("base_model",): "../sentiment/models/adapter/v2"})
    assert kept(five)["v2"] == ["needed"]
    words = {d.version: [r.words for r in d.keeps] for d in retention.decide(five)}
    assert words["v2"] == ["the task tone trains on it"]
    assert "needed" not in str(kept(other))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("lineage.yaml", "version: [\n"),
        ("results.json", "{}"),
        ("config.yaml", "epochs: many\n"),
        ("run/status.json", "not json"),
        ("model_info.json", "[]"),
    ],
)
def test_what_cannot_be_read_is_kept_with_that_as_the_reason(five: TaskFolder, file: str, content: str) -> None:
    (five.version("v2").root / file).write_text(content, encoding="utf-8")
    decision = next(d for d in retention.decide(five) if d.version == "v2")
    assert [reason.rule for reason in decision.keeps] == ["unreadable"]
    assert Path(file).name in decision.keeps[0].words
    assert decision.goes == []


def test_a_version_that_cannot_be_read_still_keeps_what_it_names(five: TaskFolder) -> None:
    path = five.version("v4").config_path
    path.write_text('base_model: "models/adapter/v1"\nepochs: [\n', encoding="utf-8")
    assert kept(five)["v1"] == ["needed"]


def test_nothing_is_decided_where_nobody_knows_what_is_deployed(five: TaskFolder, cli: Cli) -> None:
    five.deployments_path.write_text("{", encoding="utf-8")
    with pytest.raises(Invalid):
        retention.decide(five)
    ran = cli("cleanup", "--yes")
    assert ran.code == 1 and "deployments.json" in ran.err
    assert five.version("v1").adapter.is_dir()


@pytest.fixture
def tried_out(five: TaskFolder) -> TaskFolder:
    """The same with an experiment on v5 that is not active any more."""
    versions.new_version(five, changes=["epochs 40"], settings={"epochs": 40}, kind="exp")
    _trained(five, "v5-exp", days=0)
    with lock.writing(five):
        lifecycle.move(five, "evaluating", "back", version="v5")
    (five.root / "models" / "current").unlink()
    return five


def test_an_experiment_stays_for_its_days_and_is_none_of_the_recent(tried_out: TaskFolder) -> None:
    assert kept(tried_out) == {"v5": ["active", "recent"], "v5-exp": ["experiment"]}
    made_versions.aged(tried_out, "v5-exp", 6)
    assert kept(tried_out)["v5-exp"] == ["experiment"]
    made_versions.aged(tried_out, "v5-exp", 8)
    assert "v5-exp" not in kept(tried_out)
    whys = {d.version: d.why for d in retention.decide(tried_out)}
    assert whys["v5-exp"] == "an experiment that nobody touched for 7d"


def test_an_experiment_that_was_evaluated_again_is_young(tried_out: TaskFolder) -> None:
    made_versions.aged(tried_out, "v5-exp", 30)
    path = tried_out.version("v5-exp").results_path
    files.write_json(path, {**files.read_json(path), "created": files.now().isoformat()})
    assert kept(tried_out)["v5-exp"] == ["experiment"]


def test_an_experiment_may_be_the_best(tried_out: TaskFolder) -> None:
    made_versions.aged(tried_out, "v5-exp", 30)
    score(tried_out, "v5-exp", 0.999)
    rules(tried_out, "{keep_recent: 1}")
    assert kept(tried_out)["v5-exp"] == ["best"]


@pytest.mark.parametrize(
    ("text", "hours"), [("7d", 168), ("36h", 36), ("2w", 336), ("99999999999999w", 24 * 365 * 100)]
)
def test_how_long_an_experiment_lives(text: str, hours: int) -> None:
    assert Retention(cleanup_exp_after=text).exp_lifetime == dt.timedelta(hours=hours)


@pytest.mark.parametrize(
    ("text", "part"),
    [("0", "it must be >= 1"), ("{keep: 2}", "did you mean keep_"), ("{cleanup_exp_after: soon}", "cleanup_exp_after")],
)
def test_wrong_settings_are_answered_with_their_line(five: TaskFolder, cli: Cli, text: str, part: str) -> None:
    rules(five, text)
    ran = cli("cleanup", "--dry-run")
    assert ran.code == 1 and part in ran.err and "task.yaml:" in ran.err


def test_a_time_written_by_hand_without_its_offset_is_local(five: TaskFolder) -> None:
    path = five.version("v2").lineage_path
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = ["created: '2031-01-06T10:30:00'" if line.startswith("created:") else line for line in lines]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert "recent" in kept(five)["v2"]


def test_a_version_without_any_lineage_counts_by_its_configuration(five: TaskFolder) -> None:
    place = five.version("v1")
    place.lineage_path.unlink()
    later = dt.datetime.now().timestamp() + 60
    os.utime(place.config_path, (later, later))
    assert kept(five)["v1"] == ["recent"]


def test_checkpoints_of_a_finished_training_go_those_of_a_stopped_one_stay(five: TaskFolder) -> None:
    for name in ("v5", "v4"):
        place = five.version(name).checkpoints / "checkpoint-8"
        place.mkdir(parents=True)
        (place / "adapter_model.safetensors").write_bytes(b"x" * 500)
    rules(five, "{keep_recent: 2, keep_best: false}")
    path = five.version("v4").status_path
    status = RunStatus.load(path)
    status.model_copy(update={"state": "interrupted"}).save(path)
    goes = {d.version: [a.kind for a in d.goes] for d in retention.decide(five) if d.kept}
    assert goes == {"v4": [], "v5": ["checkpoints"]}


def test_a_checkpoint_that_a_kept_version_was_trained_on_stays(five: TaskFolder) -> None:
    place = five.version("v5").checkpoints / "checkpoint-8"
    place.mkdir(parents=True)
    (place / "adapter_model.safetensors").write_bytes(b"x" * 500)
    rules(five, "{keep_recent: 2, keep_best: false}")
    yaml.change(five.version("v4").config_path, {("base_model",): "models/checkpoints/v5/checkpoint-8"})
    assert [d.goes for d in retention.decide(five) if d.kept] == [[], []]


def test_a_name_that_begins_another_is_not_taken_with_it(five: TaskFolder) -> None:
    gguf = five.root / "models" / "gguf"
    gguf.mkdir()
    for name in ("sentiment-v1-q8_0.gguf", "sentiment-v1.1-q8_0.gguf", "v1-f16.gguf", "notes.gguf"):
        (gguf / name).write_bytes(b"GGUF")
    goes = next(d.goes for d in retention.decide(five) if d.version == "v1")
    assert sorted(a.path.name for a in goes if a.kind == "gguf") == ["sentiment-v1-q8_0.gguf", "v1-f16.gguf"]
