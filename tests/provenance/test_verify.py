"""Each kind of damage to a version that was really trained is found, named, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DATA_SOURCE_YAML, TASK_YAML, Ran, reviews, write_rows

from nlp_skills import files
from nlp_skills.schema import yaml
from nlp_skills.workspace import lineage, store
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version trained and evaluated by the real steps, its base model in the task; tests work on copies."""
    from nlp_skills.data.regenerate import regenerate
    from nlp_skills.evaluation import evaluate
    from nlp_skills.schema.training import Config
    from nlp_skills.training.train import train

    root = tmp_path_factory.mktemp("trained") / "sentiment"
    root.mkdir()
    shutil.copytree(tuned_base, root / "base")
    (root / "task.yaml").write_text(TASK_YAML.format(name="sentiment", base_model="base"), encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    (root / "pyproject.toml").write_text('[project]\nname = "sentiment"\nversion = "1"\n', encoding="utf-8")
    write_rows(root / "reviews.jsonl", reviews(120, start=400))
    folder = TaskFolder.at(root)
    regenerate(folder)
    training = folder.task().training
    assert training is not None
    v1 = folder.version("v1")
    Config.model_validate({**training.model_dump(), "epochs": 1}).save(v1.config_path)
    lineage.ensure(v1, changes=["initial version"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        assert train(folder, "v1").state == "completed"
        evaluate.evaluate(folder, "v1", base_baseline=False)
    return root


@pytest.fixture
def folder(trained: Path, project: Path) -> TaskFolder:
    return TaskFolder.at(Path(shutil.copytree(trained, project / "sentiment", symlinks=True)))


@pytest.fixture
def v1(folder: TaskFolder) -> VersionFolder:
    return folder.version("v1")


def looked(cli: Callable[..., Ran], *words: str) -> dict[str, Any]:
    """The first version's entry; the command itself must have done what the verdict says."""
    ran = cli("lineage", "verify", *words, "--json")
    (entry,) = ran.json["versions"]
    assert (ran.code, ran.json["ok"]) == ((1, False) if entry["verdict"] == "mismatch" else (0, True))
    return entry


def named(entry: dict[str, Any], *states: str) -> dict[str, dict[str, Any]]:
    return {found["what"]: found for found in entry["findings"] if not states or found["state"] in states}


def test_a_version_as_it_was_made_is_sound(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    entry = looked(cli)
    assert entry["verdict"] == "sound" and entry["findings"] == []
    # config, base model, pyproject, results, predictions, the adapter's files, and what data/ held
    assert entry["checked"] >= 12
    said = cli("lineage", "verify", "sentiment", "v1")
    assert said.code == 0 and said.out == f"v1: sound; hashes checked: {entry['checked']}\n"


def test_nothing_is_written(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.root.rglob("*")}

    before = state()
    assert looked(cli)["verdict"] == "sound"
    assert state() == before


def _flip(path: Path) -> None:
    """One bit of a file, as a disk loses it; also of one that is read-only and linked elsewhere."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    mode = path.stat().st_mode
    path.chmod(mode | stat.S_IWUSR)
    path.write_bytes(content)
    path.chmod(mode)


def _blob(folder: TaskFolder, name: str) -> Path:
    snapshot = folder.version("v1").snapshot()
    assert snapshot is not None
    return store.blob(folder, snapshot.files[name])


def _adapter(folder: TaskFolder) -> Path:
    return folder.root / "models" / "adapter" / "v1" / "adapter_model.safetensors"


def _pinned(folder: TaskFolder) -> Path:
    lineage = folder.version("v1").lineage()
    assert lineage is not None and lineage.run is not None
    return store.blob(folder, lineage.run.pinned["pyproject.toml"])


def _edit(name: str, **values: Any) -> Callable[[TaskFolder], None]:
    def edit(folder: TaskFolder) -> None:
        changes = {tuple(key.split("__")): value for key, value in values.items()}
        yaml.change(folder.version("v1").root / name, changes)

    return edit


def _rewrite(name: str, **values: Any) -> Callable[[TaskFolder], None]:
    def rewrite(folder: TaskFolder) -> None:
        path = folder.version("v1").root / name
        content = json.loads(path.read_text(encoding="utf-8"))
        for key, value in values.items():
            *parents, last = key.split("__")
            holder = content
            for step in parents:
                holder = holder[step]
            holder[last] = value
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")

    return rewrite


WEIGHTS = "models/adapter/v1/adapter_model.safetensors"
LINEAGE = "lineage.yaml "
DAMAGES: dict[str, tuple[Callable[[TaskFolder], Any], dict[str, str], str]] = {
    "weights changed": (lambda f: _flip(_adapter(f)), {WEIGHTS: "changed"}, "nlp-skills train sentiment --version v1"),
    "weights gone": (lambda f: _adapter(f).unlink(), {WEIGHTS: "missing"}, "nlp-skills train sentiment"),
    "a file too many": (
        lambda f: (_adapter(f).parent / "adapter_model.bin").write_bytes(b"x"),
        {"models/adapter/v1/adapter_model.bin": "extra"},
        "remove it",
    ),
    "weights behind a link": (
        lambda f: (_adapter(f).rename(f.root / "moved"), _adapter(f).symlink_to(f.root / "moved")),
        {WEIGHTS: "changed"},
        "nlp-skills train sentiment",
    ),
    "configuration changed": (
        _edit("config.yaml", epochs=7),
        {"config.yaml": "changed", LINEAGE + "config.epochs": "differs"},
        "bring config.yaml back",
    ),
    "configuration otherwise in the lineage": (
        _edit("lineage.yaml", config__epochs=7),
        {LINEAGE + "config.epochs": "differs"},
        "nlp-skills lineage sentiment v1 --complete",
    ),
    "training rows gone from the store": (
        lambda f: _blob(f, "data/train.jsonl").unlink(),
        {"data/train.jsonl": "missing"},
        "nlp-skills regenerate sentiment --all",
    ),
    "test rows damaged in the store": (
        lambda f: _flip(_blob(f, "data/test.jsonl")),
        {"data/test.jsonl": "damaged"},
        "remove .nlp-skills/store/sha256/",
    ),
    "rows counted otherwise": (
        _edit("lineage.yaml", data__train_count=700),
        {LINEAGE + "data.train_count": "differs"},
        "nlp-skills lineage sentiment v1 --complete",
    ),
    "another snapshot": (
        _rewrite("data_snapshot.json", splits__train__sha256="sha256:" + "0" * 64),
        {LINEAGE + "data.hashes.train": "differs", "data_snapshot.json data/train.jsonl": "differs"},
        "nlp-skills train sentiment",
    ),
    "snapshot gone": (
        lambda f: f.version("v1").snapshot_path.unlink(),
        {"data_snapshot.json": "missing"},
        "version control",
    ),
    "results made better": (
        _rewrite("results.json", metrics__macro_f1=0.999),
        {"results.json": "changed", LINEAGE + "results.macro_f1": "differs"},
        "nlp-skills evaluate sentiment --version v1 --again",
    ),
    "results gone": (
        lambda f: f.version("v1").results_path.unlink(),
        {"results.json": "missing"},
        "nlp-skills evaluate sentiment",
    ),
    "results broken": (
        lambda f: f.version("v1").results_path.write_text("{", encoding="utf-8"),
        {"results.json": "changed"},
        "nlp-skills evaluate sentiment",
    ),
    "answers changed": (
        lambda f: _flip(f.version("v1").predictions_path),
        {"predictions.jsonl": "changed"},
        "nlp-skills evaluate sentiment",
    ),
    "tested on other rows": (
        _rewrite("results.json", test_sha256="sha256:" + "1" * 64),
        {"results.json": "changed", "results.json test_sha256": "differs"},
        "nlp-skills evaluate sentiment",
    ),
    "environment gone": (
        lambda f: _pinned(f).unlink(),
        {"pyproject.toml of the environment": "missing"},
        "train again",
    ),
    "base model changed": (
        lambda f: _flip(next((f.root / "base").glob("*.safetensors"))),
        {"base model base": "changed"},
        "put the base model back",
    ),
    "no such parent": (_edit("lineage.yaml", parent="v7"), {"parent": "missing"}, "correct parent"),
    "another version's lineage": (
        _edit("lineage.yaml", version="v2"),
        {LINEAGE + "version": "differs"},
        "version: v1",
    ),
    "a model elsewhere": (
        lambda f: yaml.change(f.version("v1").lineage_path, {("model", "adapter_path"): "models/adapter/v9"}),
        {LINEAGE + "model.adapter_path": "differs"},
        "nlp-skills lineage sentiment v1 --complete",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_its_mend(folder: TaskFolder, cli: Callable[..., Ran], damage: str) -> None:
    plant, expected, mend = DAMAGES[damage]
    plant(folder)
    entry = looked(cli)
    assert entry["verdict"] == "mismatch"
    found = named(entry)
    assert {what: found[what]["state"] for what in expected} == expected
    assert {what for what in found if found[what]["state"] != "unreadable"} == set(expected)
    assert any(mend in found[what]["mend"] for what in expected)
    shown = cli("lineage", "verify", "sentiment", "v1")
    assert shown.code == 1 and all(what in shown.out for what in expected)


def test_a_difference_says_both_sides(folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(v1.lineage_path, {("data", "train_count"): 700})
    found = named(looked(cli))["lineage.yaml data.train_count"]
    assert (found["expected"], found["found"]) == ("700", "72 (data_snapshot.json)")
    mended = cli("lineage", "sentiment", "v1", "--complete", "--json")
    assert mended.json["mended"] == ["data"] and looked(cli)["verdict"] == "sound"


def test_weights_that_were_cleaned_away_are_explained(
    folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]
) -> None:
    shutil.rmtree(v1.adapter)
    lineage.note(v1, "cleaned", reason="keep_recent")
    entry = looked(cli)
    assert entry["verdict"] == "sound" and set(named(entry, "cleaned")) >= {WEIGHTS}
    assert "as far as it can be told" in cli("lineage", "verify").out
    lineage.note(v1, "restored")
    assert named(looked(cli), "missing").keys() >= {WEIGHTS}


def test_a_base_model_that_is_not_here_is_no_mismatch(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    shutil.rmtree(folder.root / "base")
    entry = looked(cli)
    assert entry["verdict"] == "sound"
    assert named(entry) == named(entry, "unknown") and "base model base" in named(entry)


def test_what_was_never_recorded_is_never_called_sound(
    folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]
) -> None:
    """As the first releases left it: figures and paths, no hashes, no bytes in the store."""
    removed = [("schema_version",), ("model", "hashes"), ("results", "hashes")]
    removed += [("run", key) for key in ("config_hash", "base_model_hash", "pinned", "by", "threads")]
    yaml.change(v1.lineage_path, dict.fromkeys(removed))
    for path, keys in ((v1.snapshot_path, ("files", "config", "sources")), (v1.model_info_path, ("base_model_hash",))):
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({key: value for key, value in content.items() if key not in keys}), encoding="utf-8")
    entry = looked(cli)
    assert (entry["verdict"], entry["checked"]) == ("unknown", 0)
    unsaid = named(entry, "not recorded")
    assert {"config.yaml", "models/adapter/v1", "results.json", "predictions.jsonl", "base model base"} <= set(unsaid)
    assert named(entry, "note").keys() == {"lineage.yaml schema_version"}
    assert "cannot tell" in cli("lineage", "verify", "sentiment").out
    assert cli("lineage", "sentiment", "v1", "--complete").code == 0
    after = looked(cli)
    assert after["verdict"] == "sound" and "lineage.yaml schema_version" not in named(after)


def test_a_version_that_was_only_configured(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    made = cli("new-version", "sentiment", "--change", "LoRA rank 8 → 16", "--set", "lora.r=16", "--json")
    assert made.code == 0, made.err
    yaml.change(folder.version("v2").config_path, {("epochs",): 3})
    ran = cli("lineage", "verify", "sentiment", "--json")
    assert [(entry["version"], entry["verdict"]) for entry in ran.json["versions"]] == [
        ("v1", "sound"),
        ("v2", "unknown"),
    ]
    assert ran.code == 0
    folder.version("v2").lineage_path.unlink()
    assert named(looked(cli, "v2")).keys() == {"lineage.yaml"}


def test_a_parent_that_was_purged_is_known_from_the_task(
    folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]
) -> None:
    yaml.change(v1.lineage_path, {("parent",): "v0"})
    history = yaml.read(folder.task_path).data.get("history", [])
    entry = {
        "time": "2026-01-05T10:00:00+08:00",
        "from": "created",
        "to": "configuring",
        "version": "v0",
        "reason": "x",
    }
    yaml.change(folder.task_path, {("history",): [entry, *history]})
    found = looked(cli)
    assert found["verdict"] == "sound" and named(found)["parent"]["state"] == "note"


def test_keys_nobody_knows_come_with_the_nearest(
    folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]
) -> None:
    yaml.change(v1.lineage_path, {("data", "train_cuont"): 72, ("enviroment",): {"a": "b"}, ("weather",): "fine"})
    found = named(looked(cli), "note")
    assert "train_count" in found["lineage.yaml data.train_cuont"]["mend"]
    assert "environment" in found["lineage.yaml enviroment"]["mend"] and "mend" not in found["lineage.yaml weather"]


def test_a_lineage_that_cannot_be_read_is_said_with_its_line(
    folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]
) -> None:
    whole = v1.lineage_path.read_bytes()
    v1.lineage_path.write_bytes(whole[: len(whole) * 2 // 3])
    entry = looked(cli)
    (found,) = [found for found in entry["findings"] if found["state"] == "unreadable"]
    assert found["what"].startswith("lineage.yaml:") and "--complete" in found["mend"]
    v1.lineage_path.write_text(whole.decode().replace("schema_version: 2", "schema_version: 9"), encoding="utf-8")
    entry = looked(cli)
    assert entry["verdict"] != "mismatch" and named(entry, "unknown")["lineage.yaml"]["mend"] == "update nlp-skills"


def test_paths_and_hashes_that_somebody_wrote_lead_nowhere(
    folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]
) -> None:
    yaml.change(v1.lineage_path, {("model", "hashes", "../../../etc/passwd"): "sha256:" + "0" * 64})
    yaml.change(v1.lineage_path, {("run", "pinned", "uv.lock"): "sha256:../../../../task.yaml"})
    yaml.change(v1.lineage_path, {("run", "pinned", "\x1b[31mred"): "sha256:" + "2" * 64})
    found = named(looked(cli))
    assert found["../../../etc/passwd"]["state"] == "unknown"
    assert found["uv.lock of the environment"]["found"] == "not a hash"
    assert "\x1b" not in cli("lineage", "verify").out


def test_a_version_in_training_is_left_alone(folder: TaskFolder, v1: VersionFolder, cli: Callable[..., Ran]) -> None:
    _adapter(folder).unlink()
    status = json.loads(v1.status_path.read_text(encoding="utf-8"))
    now = files.now().isoformat()
    status |= {"state": "running", "pid": os.getpid(), "started": now, "updated": "2099-01-01T00:00:00+00:00"}
    v1.status_path.write_text(json.dumps(status), encoding="utf-8")
    entry = looked(cli)
    assert entry["verdict"] == "unknown" and named(entry).keys() == {"run"}


def test_the_version_has_to_be_there(folder: TaskFolder, cli: Callable[..., Ran]) -> None:
    ran = cli("lineage", "verify", "sentiment", "v9")
    assert ran.code == 1 and "v9 does not exist" in ran.err
