"""A real browser for pages of ours, installed by apt where the machine lacks one."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if found := next(filter(None, map(shutil.which, names)), None):
        return found
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.fail("this test looks at a page in Chromium: install it, such as with: sudo apt-get install chromium")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    found = shutil.which("chromium")
    if found is None:
        pytest.fail(f"Chromium could not be installed by apt: {done.stderr.strip()[-500:]}")
    return found
