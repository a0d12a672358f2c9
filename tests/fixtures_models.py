"""Models that tests share, built once a session: random, and one that has learnt the reviews."""

from __future__ import annotations

from pathlib import Path

import pytest


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
