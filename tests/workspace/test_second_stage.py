"""`new-version --method --init-from`: the settings a second stage needs come along, with their reasons."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import made_versions
import pytest
from conftest import Ran, write_rows

from nlp_skills import files
from nlp_skills.data import preferences
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
PAIR = {"prompt": "Is this review positive, neutral or negative?\nA.", "chosen": "neutral", "rejected": "positive"}


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    """v1, trained with supervised fine-tuning."""
    folder = made_versions.first_version(make_task())
    yaml.change(folder.version("v1").config_path, {("learning_rate",): 2e-4, ("epochs",): 8, ("packing",): True})
    made_versions.finish(folder, "v1")
    return folder


def written(folder: TaskFolder, by: str | None) -> None:
    """Preferences that a version was asked for, or that a person wrote."""
    write_rows(folder.preferences("train"), [PAIR])
    if by:
        files.write_json(preferences.source_path(folder), {"version": by})


@pytest.mark.parametrize(("method", "rate", "epochs"), [("dpo", 1e-5, 3), ("kto", 1e-5, 3), ("orpo", 4e-5, 3)])
def test_a_method_brings_its_settings_and_says_why(
    folder: TaskFolder, cli: Cli, method: str, rate: float, epochs: int
) -> None:
    made = cli("new-version", "--method", method, "--init-from", "v1", "--json").json
    config = folder.version("v2").config()
    assert (config.method, config.init_from, config.beta, config.packing) == (method, "v1", 0.1, None)
    assert (config.learning_rate, config.epochs) == (rate, epochs)
    assert made["parent"] == "v1"
    assert made["changes"][0] == f"method sft → {method}, from v1's weights"
    assert {"beta - → 0.1", "packing true → -", "epochs 8 → 3"} < set(made["changes"])
    assert {reason.split(":")[0] for reason in made["reasons"]} == {"learning_rate", "beta", "epochs", "packing"}
    assert made["next"] == "nlp-skills data preferences sentiment --version v1 && nlp-skills train sentiment"
    # And back: the rate it came from, and no beta.
    cli("new-version", "--method", "sft", "--json")
    back = folder.version("v3").config()
    assert (back.method, back.beta, back.learning_rate) == ("sft", None, 2e-4)


def test_what_a_person_sets_is_set(folder: TaskFolder, cli: Cli) -> None:
    ran = cli("new-version", "--method", "dpo", "--init-from", "v1", "--set", "learning_rate=5e-6", "--set", "beta=0.3")
    assert ran.code == 0, ran
    config = folder.version("v2").config()
    assert (config.learning_rate, config.beta) == (5e-6, 0.3)
    assert "why: learning_rate" not in ran.out
    assert "why: epochs" in ran.out


def test_without_a_method_supervised_training_goes_on(folder: TaskFolder, cli: Cli) -> None:
    made = cli("new-version", "--init-from", "v1", "--json").json
    assert made["changes"][0] == "method sft goes on from v1's weights"
    assert folder.version("v2").config().init_from == "v1"
    assert made["proposal"] == "major"
    assert made["next"] == "nlp-skills regenerate && nlp-skills train"


def test_the_weights_decide_what_fits_them(folder: TaskFolder, cli: Cli) -> None:
    cli("new-version", "--set", "lora.r=64", "--set", "base_model=other/base", "--set", "epochs=5")
    ran = cli("new-version", "--from", "v2", "--init-from", "v1", "--json")
    config = folder.version("v3").config()
    assert config.lora
    assert (config.lora.r, config.base_model, config.epochs) == (8, "none/none", 5)
    assert any("v1 was trained" in reason for reason in ran.json["reasons"])


def test_without_from_it_begins_with_the_version_whose_weights_it_takes(folder: TaskFolder, cli: Cli) -> None:
    cli("new-version", "--set", "epochs=5")
    assert cli("new-version", "--method", "orpo", "--init-from", "v1", "--json").json["parent"] == "v1"


@pytest.mark.parametrize(("by", "ready"), [("v1", True), (None, True), ("v0", False)])
def test_the_next_command_depends_on_whose_preferences_there_are(
    folder: TaskFolder, cli: Cli, by: str | None, ready: bool
) -> None:
    written(folder, by)
    ran = cli("new-version", "--method", "dpo", "--init-from", "v1")
    assert ("next: nlp-skills train sentiment" in ran.out) == ready
    assert ("next: nlp-skills data preferences sentiment --version v1 && " in ran.out) != ready


def test_there_must_be_weights_to_go_on_from(folder: TaskFolder, cli: Cli) -> None:
    for name, code, words in (("v9", 1, "v9 does not exist"), ("nine", 2, "not a version name")):
        ran = cli("new-version", "--init-from", name)
        assert (ran.code, words in ran.err) == (code, True), ran
    cli("new-version", "--set", "epochs=5")
    ran = cli("new-version", "--init-from", "v2")
    assert (ran.code, "has no trained model yet" in ran.err) == (1, True)
    shutil.rmtree(folder.version("v1").adapter)
    ran = cli("new-version", "--init-from", "v1", "--json")
    assert ran.code == 1
    assert "are gone" in json.loads(ran.out)["error"]["message"]
    assert folder.version_names() == ["v1", "v2"]
    assert cli("new-version", "--method", "ppo").code == 2
    ran = cli("new-version", "--method", "sft")
    assert (ran.code, "nothing says what changes" in ran.err) == (2, True)
