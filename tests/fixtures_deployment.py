"""A task with two trained and evaluated versions that answer differently, made once by the real steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import DATA_SOURCE_YAML, TASK_YAML, reviews, write_rows
from fixtures_training import CONFIG, moved_reviews

from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture(scope="session")
def two_versions(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1 was taught labels that had moved on by one and misses its criterion; v2, taught the right ones, meets it.

    v2 is the active one. Copied by the tests, never changed.
    """
    from nlp_skills.evaluation.evaluate import evaluate
    from nlp_skills.training.train import train
    from nlp_skills.workspace import versions

    root = tmp_path_factory.mktemp("deployment") / "sentiment"
    (root / "data").mkdir(parents=True)
    (root / "task.yaml").write_text(TASK_YAML.format(name="sentiment", base_model=tuned_base), encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    yaml.change(root / "task.yaml", {("status",): "configuring"})
    right = reviews(180)
    for split, part in (("train", right[:96]), ("valid", right[96:108]), ("test", right[108:])):
        write_rows(root / "data" / f"{split}.jsonl", part)
    folder = TaskFolder.at(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        for name, settings, taught in (
            ("v1", {"epochs": 2}, moved_reviews(96)),
            ("v2", {"epochs": 1, "learning_rate": 1e-3}, right[:96]),
        ):
            write_rows(folder.split("train"), taught)
            if name == "v1":
                Config.model_validate({"base_model": str(tuned_base), **CONFIG, **settings}).save(
                    folder.version(name).config_path
                )
            else:
                assert (
                    versions.new_version(folder, settings=settings, changes=["labels put right", "epochs 2 → 1"]).name
                    == name
                )
            assert train(folder, name).state == "completed"
            evaluate(folder, name, beside="majority")
    return root


@pytest.fixture
def released(two_versions: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    """A copy of that task, in the project's folder."""
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    return TaskFolder.at(Path(shutil.copytree(two_versions, project / "sentiment", symlinks=True)))
