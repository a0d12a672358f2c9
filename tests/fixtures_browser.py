"""A real browser for pages of ours, installed by apt where the machine lacks one."""

from __future__ import annotations

import packages
import pytest


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    return packages.program(("chromium", "chromium-browser", "google-chrome"), "chromium")
