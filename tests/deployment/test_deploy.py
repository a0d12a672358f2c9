"""Deploying: what may go out, what is recorded of it, and what follows the active version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Ran, write_rows

from nlp_skills.schema import yaml
from nlp_skills.workspace import deployments
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


def events(folder: TaskFolder, version: str) -> list[tuple[str, str | None]]:
    lineage = folder.version(version).lineage()
    assert lineage is not None
    return [(entry.event, entry.reason) for entry in lineage.events if "deployed" in entry.event]


def names(folder: TaskFolder) -> dict[str, str]:
    return {entry.name: entry.version for entry in deployments.load(folder)}


def test_a_version_that_meets_its_criteria_goes_out_and_everything_knows(released: TaskFolder, cli: Cli) -> None:
    ran = cli("deploy", "sentiment", "--to", "local")
    assert ran.code == 0, ran.err
    assert "local: models/deployed answers with v2" in ran.out
    place = released.root / "models" / "deployed"
    assert place.resolve() == released.version("v2").adapter.resolve()
    assert released.task().status == "deployed"
    assert events(released, "v2") == [("deployed", "local: models/deployed")]
    shown = cli("deployments", "sentiment", "--json").json["deployments"]
    assert [(one["target"], one["version"], one["state"], one["behind"]) for one in shown] == [
        ("local", "v2", "up", False)
    ]


def test_again_it_changes_nothing(released: TaskFolder, cli: Cli) -> None:
    cli("deploy", "sentiment", "--to", "local")
    before = released.deployments_path.read_bytes(), released.version("v2").lineage_path.read_bytes()
    assert cli("deploy", "sentiment", "--to", "local").code == 0
    assert (released.deployments_path.read_bytes(), released.version("v2").lineage_path.read_bytes()) == before


def test_one_that_misses_its_criteria_is_refused_with_the_figures(released: TaskFolder, cli: Cli) -> None:
    ran = cli("deploy", "sentiment", "v1", "--to", "local")
    assert ran.code == 1
    assert "v1 does not meet its success criteria" in ran.err and "16.7%" in ran.err and "60.0%" in ran.err
    assert "nlp-skills diagnose sentiment --version v1" in ran.err and "--force" in ran.err
    assert not released.deployments_path.exists() and not events(released, "v1")


def test_forced_it_goes_out_and_its_lineage_says_what_was_overruled(released: TaskFolder, cli: Cli) -> None:
    ran = cli("deploy", "sentiment", "v1", "--to", "local", "--force")
    assert ran.code == 0
    assert "overruled: v1 does not meet its success criteria" in ran.err
    ((event, reason),) = events(released, "v1")
    assert event == "deployed" and reason and "forced: v1 does not meet its success criteria" in reason
    (entry,) = deployments.load(released)
    assert entry.forced and not entry.follows
    # v2 is the active one: names that follow stay, and what to do is said.
    assert "names that follow the active version stay with v2" in ran.out
    assert "nlp-skills rollback sentiment v1" in ran.out
    assert released.task().status == "evaluating"


def test_forcing_what_would_have_passed_is_not_called_forced(released: TaskFolder, cli: Cli) -> None:
    assert cli("deploy", "sentiment", "--to", "local", "--force").code == 0
    assert [entry.forced for entry in deployments.load(released)] == [False]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: folder.version("v2").results_path.unlink(), "it has not been evaluated"),
        (lambda folder: write_rows(folder.split("test"), [{"text": "new", "label": "neutral"}]), "test split"),
        (lambda folder: folder.split("test").unlink(), "the test split is missing"),
        (
            lambda folder: yaml.change(folder.task_path, {("success_criteria", "threshold"): 0.99}),
            "Whether v2 meets its success criteria cannot be told",
        ),
    ],
    ids=["never evaluated", "other test rows", "no test rows", "criteria raised since"],
)
def test_what_was_not_measured_as_it_is_now_is_refused(
    released: TaskFolder, cli: Cli, spoil: Callable[[TaskFolder], Any], said: str
) -> None:
    spoil(released)
    ran = cli("deploy", "sentiment", "--to", "local", "--json")
    assert ran.code == 1
    assert said in ran.json["error"]["message"]
    assert "--force" in ran.json["error"]["mend"]
    assert cli("deploy", "sentiment", "--to", "local", "--force").code == 0


def test_no_force_deploys_what_is_not_there(released: TaskFolder, cli: Cli) -> None:
    weights = released.version("v2").adapter / "adapter_model.safetensors"
    weights.unlink()
    ran = cli("deploy", "sentiment", "--to", "local", "--force")
    assert ran.code == 1 and "the weights of version v2 are gone" in ran.err
    assert cli("deploy", "sentiment", "v9", "--to", "local", "--force").code == 1
    path_trick = cli("deploy", "sentiment", "../../etc", "--to", "local", "--force")
    assert path_trick.code == 2 and "is not a version name" in path_trick.err


def test_rollback_moves_what_follows_and_says_what_it_cannot_reach(released: TaskFolder, cli: Cli) -> None:
    cli("deploy", "sentiment", "--to", "local")
    assert cli("rollback", "sentiment", "v1", "--json").json["moved"] == [
        {"target": "local", "name": "models/deployed"}
    ]
    assert (released.root / "models" / "deployed").resolve() == released.version("v1").adapter.resolve()
    assert names(released) == {"models/deployed": "v1"}


def test_undeploy_takes_it_away_and_the_task_is_evaluating_again(released: TaskFolder, cli: Cli) -> None:
    cli("deploy", "sentiment", "--to", "local")
    ran = cli("undeploy", "sentiment", "local")
    assert ran.code == 0 and "models/deployed no longer answers with v2" in ran.out
    assert not (released.root / "models" / "deployed").is_symlink() and not names(released)
    assert released.version("v2").model is not None
    assert released.task().status == "evaluating"
    assert [event for event, _reason in events(released, "v2")] == ["deployed", "undeployed"]
    again = cli("undeploy", "sentiment", "local")
    assert again.code == 2 and "nothing is deployed as local" in again.err


def test_a_version_that_is_deployed_is_kept_by_cleanup(released: TaskFolder, cli: Cli) -> None:
    yaml.change(released.task_path, {("versioning",): {"retention": {"keep_recent": 1, "keep_best": False}}})
    assert "v1" in cli("cleanup", "sentiment", "--dry-run").out
    cli("deploy", "sentiment", "v1", "--to", "local", "--force")
    assert cli("cleanup", "sentiment", "--yes").code == 0
    assert released.version("v1").model is not None


def test_an_option_of_another_target_is_refused(released: TaskFolder, cli: Cli) -> None:
    ran = cli("deploy", "sentiment", "--to", "local", "--push")
    assert ran.code == 2 and "--push is not an option of local" in ran.err


def test_whoever_serves_without_asking_the_gate_is_told_what_it_would_say(released: TaskFolder) -> None:
    from nlp_skills.deployment import gate

    assert gate.doubts(released, "v1") == ["v1 does not meet its success criteria"]
    assert gate.doubts(released, "v2") == []
    released.split("test").unlink()
    assert gate.doubts(released, "v1") == []


def test_a_file_in_the_way_is_not_replaced(released: TaskFolder, cli: Cli) -> None:
    place = released.root / "models" / "deployed"
    place.write_text("mine", encoding="utf-8")
    ran = cli("deploy", "sentiment", "--to", "local")
    assert ran.code == 1 and "not a link" in ran.err
    assert place.read_text(encoding="utf-8") == "mine" and not names(released)
