"""The package's own code in one hash: the same wherever the same wheel is installed, another after any change."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import nlp_skills
from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

PACKAGE = Path(nlp_skills.__file__).parent


def running() -> str:
    """`sha256:…` of the code that runs."""
    return _hash({path.relative_to(PACKAGE.parent).as_posix(): path.read_bytes() for path in PACKAGE.rglob("*.py")})


def in_wheel(path: Path) -> str:
    """`sha256:…` of the code in a wheel of this package, equal to `running` once it is installed.

    Raises:
        Invalid: the file is not a wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                name for name in archive.namelist() if name.startswith(f"{PACKAGE.name}/") and name.endswith(".py")
            ]
            return _hash({name: archive.read(name) for name in names})
    except (zipfile.BadZipFile, OSError) as error:
        raise Invalid(_("not a wheel"), file=path, cause=str(error)) from error


def _hash(sources: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(sources):
        # Editors and tools keep copies beside the code under names that begin with a dot.
        if not any(part.startswith(".") for part in name.split("/")):
            total.update(f"{name} {files.sha256_bytes(sources[name])}\n".encode())
    return f"sha256:{total.hexdigest()}"
