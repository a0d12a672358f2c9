"""A plugin folder as a client's cache has it, an empty home, and the package caches of the real one."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Ran

_OURS = ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "XDG_DATA_HOME")


@pytest.fixture(scope="session")
def uv() -> dict[str, str]:
    """Where uv and its cache are, asked for while HOME is still the real one: installing from it takes seconds."""
    path = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    cache = subprocess.run([path, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    return {"UV": path, "UV_CACHE_DIR": cache}


@pytest.fixture
def environ(tmp_path: Path, uv: dict[str, str]) -> dict[str, str]:
    """The variables of a user with nothing set up."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS and "NLP_SKILLS" not in name}
    home = tmp_path / "home"
    return {**kept, **uv, "HOME": str(home), "NLP_SKILLS_LANG": "en"}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A copy of what git tracks, under a path with a space and Chinese in it."""
    root = tmp_path / "plugin cache 快取"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture
def launch(plugin: Path, environ: dict[str, str], project: Path) -> Callable[..., Ran]:
    """Run the plugin's `bin/nlp-skills` from a user's folder."""

    def run(*arguments: str, program: Path | None = None, **variables: str) -> Ran:
        done = subprocess.run(
            [str(program or plugin / "bin" / "nlp-skills"), *arguments],
            cwd=project,
            env={**environ, **variables},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
