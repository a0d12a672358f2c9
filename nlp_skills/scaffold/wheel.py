"""The nlp-skills that is running, as a wheel: no network, no build tools, the same bytes for the same code."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import nlp_skills
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _

PACKAGE = Path(nlp_skills.__file__).parent
_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip file can say
_WHEEL = b"Wheel-Version: 1.0\nGenerator: nlp-skills\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Wheel(NamedTuple):
    """A wheel's file name and its bytes."""

    name: str
    content: bytes


def build() -> Wheel:
    """The running package and its metadata as a wheel.

    The name carries a hash of the code as its build tag: uv trusts a lock by file name, and two states of
    the code may have one version number.

    Raises:
        Unavailable: the code that runs is not the distribution that is installed.
    """
    described = _distribution()
    info = f"nlp_skills-{nlp_skills.__version__}.dist-info"
    entries = {path.relative_to(PACKAGE.parent).as_posix(): path.read_bytes() for path in _sources()}
    entries[f"{info}/METADATA"] = (described.read_text("METADATA") or "").encode()
    entries[f"{info}/WHEEL"] = _WHEEL
    entries[f"{info}/entry_points.txt"] = (described.read_text("entry_points.txt") or "").encode()
    licence = described.read_text("licenses/LICENSE")
    if licence:
        entries[f"{info}/licenses/LICENSE"] = licence.encode()
    entries[f"{info}/RECORD"] = _record(entries, f"{info}/RECORD")
    content = _zip(entries)
    tag = f"1x{hashlib.sha256(content).hexdigest()[:10]}"
    return Wheel(f"nlp_skills-{nlp_skills.__version__}-{tag}-py3-none-any.whl", content)


def _distribution() -> metadata.Distribution:
    try:
        found = metadata.distribution("nlp-skills")
    except metadata.PackageNotFoundError as error:
        raise _not_installed(_("it runs from {path} without being installed", path=str(PACKAGE))) from error
    if found.version != nlp_skills.__version__:
        cause = _("{installed} is installed, {running} runs", installed=found.version, running=nlp_skills.__version__)
        raise _not_installed(cause)
    return found


def _not_installed(cause: str) -> Unavailable:
    return Unavailable(
        _("nlp-skills cannot pack itself for the task folder"),
        cause=cause,
        mend=_("install it into this interpreter (pip install PATH), or run it through: nlp-skills setup"),
    )


def _sources() -> list[Path]:
    found = (path for path in PACKAGE.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts and not path.name.startswith("."))


def _record(entries: dict[str, bytes], itself: str) -> bytes:
    lines = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in sorted(entries.items())]
    return ("\n".join([*lines, f"{itself},,"]) + "\n").encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _zip(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, content in sorted(entries.items()):
            entry = zipfile.ZipInfo(path, _TIME)
            entry.external_attr = 0o644 << 16
            # Stored, not compressed: zlib's bytes differ between its versions.
            archive.writestr(entry, content, zipfile.ZIP_STORED)
    return stream.getvalue()
