"""Whatever step comes next puts a broken lineage right before it writes, and keeps the earlier file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Ran

from nlp_skills.schema import yaml
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

torch.set_num_threads(1)
Ready = Callable[..., TaskFolder]
_KEPT: dict[str, Path] = {}


@pytest.fixture
def v1(ready: Ready, project: Path, tmp_path_factory: pytest.TempPathFactory) -> VersionFolder:
    """A version that was really trained, with a person's notes; trained once, copied for each test."""
    from nlp_skills.training.train import train

    if "task" not in _KEPT:
        made = ready(epochs=1)
        lineage.ensure(made.version("v1"), changes=["initial version", "seed 3, as ever"])
        assert train(made, "v1").state == "completed"
        yaml.change(made.version("v1").lineage_path, {("notes",): "Trained on a quiet day.\nKeep."})
        _KEPT["task"] = Path(shutil.copytree(made.root, tmp_path_factory.mktemp("kept") / "sentiment", symlinks=True))
        shutil.rmtree(made.root)
    return TaskFolder.at(Path(shutil.copytree(_KEPT["task"], project / "sentiment", symlinks=True))).version("v1")


def broken(version: VersionFolder) -> bytes:
    """Cut the lineage off inside its run: what came before is there, environment and the rest may not be."""
    whole = version.lineage_path.read_bytes()
    version.lineage_path.write_bytes(whole[: whole.index(b"config_hash") + 30])
    return version.lineage_path.read_bytes()


def backup(version: VersionFolder) -> bytes:
    (found,) = version.root.glob("lineage.yaml.bak-*")
    return found.read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "sentiment", "--no-base-baseline"],
        ["rollback", "sentiment", "v1", "--reason", "because"],
        ["lineage", "sentiment", "v1", "--complete"],
    ],
    ids=lambda command: command[0],
)
def test_the_next_step_mends_it(v1: VersionFolder, cli: Callable[..., Ran], command: list[str]) -> None:
    before = v1.lineage()
    assert before is not None and before.data is not None and before.model is not None
    if command[0] == "rollback":
        made = cli("new-version", "sentiment", "--change", "LoRA rank 8 → 16", "--set", "lora.r=16")
        assert made.code == 0, made.err
    content = broken(v1)
    ran = cli(*command)
    assert ran.code == 0, ran.err + ran.out
    assert backup(v1) == content
    after = v1.lineage()
    assert after is not None and (after.changes, after.config) == (before.changes, before.config)
    assert (after.data, after.model, after.created) == (before.data, before.model, before.created)
    assert "repaired" in [event.event for event in after.events]
    # What only the training knew is in the backup and in no file: it is not made up.
    assert after.run is not None and before.run is not None
    assert (after.run.state, after.run.seed, after.run.steps) == ("completed", before.run.seed, before.run.steps)
    assert after.run.config_hash == before.run.config_hash
    assert after.run.base_model_hash == before.run.base_model_hash


def test_a_task_of_the_first_release_goes_on(v1: VersionFolder, cli: Callable[..., Ran]) -> None:
    """No schema_version, no hashes, LoRA's rank flat: evaluated by today's release, verified as far as it goes."""
    yaml.change(
        v1.lineage_path,
        {
            ("schema_version",): None,
            ("model", "hashes"): None,
            ("config", "lora"): None,
            ("config", "lora_r"): 8,
            **{("run", key): None for key in ("config_hash", "base_model_hash", "threads", "by", "pinned")},
        },
    )
    old = v1.lineage_path.read_bytes()
    assert cli("history", "sentiment", "--json").json["versions"][0]["changes"] == [
        "initial version",
        "seed 3, as ever",
    ]
    assert v1.lineage_path.read_bytes() == old
    ran = cli("evaluate", "sentiment", "--no-base-baseline", "--json")
    assert ran.code == 0, ran.err
    assert backup(v1) == old
    found = v1.lineage()
    assert found is not None and found.schema_version == 2 and found.notes == "Trained on a quiet day.\nKeep."
    assert found.config is not None and found.config.lora is not None and found.config.lora.r == 8
    assert "lora_r" not in v1.lineage_path.read_text(encoding="utf-8")
    (entry,) = cli("lineage", "verify", "sentiment", "--json").json["versions"]
    assert entry["verdict"] == "sound"
    states = {found["what"]: found["state"] for found in entry["findings"]}
    assert states["config.yaml"] == states["models/adapter/v1"] == "not recorded"
