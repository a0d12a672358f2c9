"""A real browser for pages of ours, installed by apt where the machine lacks one."""

from __future__ import annotations

from collections.abc import Iterator

import packages
import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    return packages.program(("chromium", "chromium-browser", "google-chrome"), "chromium")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """It, started; only for a module, since code of ours that starts one must find none running in its process."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
