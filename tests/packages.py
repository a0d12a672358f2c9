"""Programs that tests talk to, installed by apt where the machine lacks them."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def program(names: tuple[str, ...], *packages: str) -> str:
    """The path of the first of these programs that is there, after installing `packages` where none is.

    Fails the test where it can neither be found nor installed.
    """
    if found := next(filter(None, map(shutil.which, names)), None):
        return found
    command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.fail(f"this test needs {names[0]}: install it, such as with: sudo {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for one in (["apt-get", "update", "-q"], command):
        done = subprocess.run(one, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if found := next(filter(None, map(shutil.which, names)), None):
        return found
    return pytest.fail(f"{names[0]} could not be installed by apt: {done.stderr.strip()[-500:]}")
