"""A version's exports, made and checked once by the real converter and quantiser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fixtures_models import USER_CACHE

from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture(scope="session")
def exported_once(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v2 of `two_versions`, merged and as q8_0 and q4_k_m, checked. Copied by the tests, never changed."""
    from nlp_skills.deployment.export import checked

    root = tmp_path_factory.mktemp("exported") / "sentiment"
    shutil.copytree(two_versions, root, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        patch.setenv("XDG_CACHE_HOME", USER_CACHE)
        checked.exported(TaskFolder.at(root), "v2", merged=True, ggufs=["q8_0", "q4_k_m"])
    return root


@pytest.fixture
def exported(exported_once: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    """A copy of that task, in the project's folder."""
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    return TaskFolder.at(Path(shutil.copytree(exported_once, project / "sentiment", symlinks=True)))


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converter and quantiser come from the user's own cache, fetched once."""
    monkeypatch.setenv("XDG_CACHE_HOME", USER_CACHE)
