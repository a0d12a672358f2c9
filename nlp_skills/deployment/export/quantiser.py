"""What makes a GGUF file smaller: `llama-quantize` where it is installed, else llama.cpp's library from npm."""

from __future__ import annotations

import base64
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files, package_index
from nlp_skills.data import rows as lines
from nlp_skills.deployment.export import program
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _

_PROGRAM = "nlp_skills.deployment.export.quantise_program"
# Takes a GGUF file in all its bits, the file to make and the quantisation; gives what is to be recorded.
Quantise = Callable[[Path, Path, str], dict[str, str]]


@dataclass(frozen=True)
class _Packaged:
    """A package with llama.cpp's library for one kind of machine, and npm's hash of it."""

    name: str
    version: str
    integrity: str

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


_PACKAGES = {
    ("linux", "x86_64"): _Packaged(
        "@node-llama-cpp/linux-x64",
        "3.22.1",
        "sha512-5uCCDNqWCNfaAm8aR/Uzxbo4HBpKgNF91kCHPepKhgMgV2OAmatoefbOlMihsqCiH2Od35E/eUHQCFbfRBJuOg==",
    ),
    ("linux", "aarch64"): _Packaged(
        "@node-llama-cpp/linux-arm64",
        "3.22.1",
        "sha512-W+7naKCXX9/eEjjFmRS8vvx91QyLXDbeFxexZc3bh/PtQABZgmRL3C0AtYYXn4YGTj/3Qor4lWZn2tpjZFPLdQ==",
    ),
    ("darwin", "arm64"): _Packaged(
        "@node-llama-cpp/mac-arm64-metal",
        "3.21.1",
        "sha512-6MIDAZV7DXD9R1+jEXWJkFuolni3GATGE6mmuyFYc6ZmtOh9djAy15df0T0AXK3sCmVKL+fQcOAWZezxx4MvQQ==",
    ),
}


def find() -> tuple[Quantise, str]:
    """A quantiser, fetched first if need be, and what it is called.

    Raises:
        Unavailable: there is none, or it cannot be fetched.
    """
    own = shutil.which("llama-quantize")
    if own is not None:
        return _by_program(own), "llama-quantize"
    package = _PACKAGES.get((sys.platform, platform.machine()))
    npm = shutil.which("npm")
    if package is None or npm is None:
        raise _none(_("there is neither llama-quantize nor npm"))
    return _by_library(_library(package, npm)), package.title


def _none(cause: str) -> Unavailable:
    return Unavailable(
        _("there is nothing to quantise with"),
        cause=cause,
        mend=_("install llama.cpp, so that llama-quantize is on PATH, or npm (Node.js), from which its library is "
               "fetched; or take q8_0, which needs neither"),
    )  # fmt: skip


def _by_program(own: str) -> Quantise:
    def quantise(whole: Path, made: Path, quantization: str) -> dict[str, str]:
        command = [own, str(whole), str(made), quantization.upper()]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if ended.returncode != 0:
            raise _failed(ended.returncode, ended.stdout + ended.stderr)
        return _fallen_back(ended.stdout + ended.stderr)

    return quantise


def _by_library(library: Path) -> Quantise:
    def quantise(whole: Path, made: Path, quantization: str) -> dict[str, str]:
        told = {"library": str(library), "whole": str(whole), "made": str(made), "quantization": quantization}
        ended = program.run(_PROGRAM, told, what=_("quantising"), tell=lambda _step: None)
        if ended.result["code"] != 0:
            raise _failed(ended.result["code"], ended.log)
        return _fallen_back(ended.log)

    return quantise


def _failed(code: int, log: str) -> Unavailable:
    said = [line for line in log.splitlines() if "fail" in line.lower() or "error" in line.lower()]
    return Unavailable(
        _("llama.cpp could not quantise the model"),
        cause=lines.cut((said or [str(code)])[-1].strip(), 300),
        mend=_("check free memory and disk, then run the command again; q8_0 needs no quantiser"),
    )


def _fallen_back(log: str) -> dict[str, str]:
    """How many tensors were kept in more bits than asked for: those whose rows are no multiple of 256 long."""
    found = re.search(r"(\d+) of +(\d+) tensor\(s\) required fallback", log)
    return {"fallback_tensors": f"{found[1]} of {found[2]}"} if found else {}


def _library(package: _Packaged, npm: str) -> Path:
    """llama.cpp's library with what it needs beside it; fetched, checked and unpacked once."""
    digest = hashlib.sha256(package.integrity.encode()).hexdigest()[:16]
    target = package_index.cache() / "quantiser" / digest
    if not target.is_dir():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as temporary:
                _unpack(_fetch(package, npm, Path(temporary)), Path(temporary) / "made")
                try:
                    (Path(temporary) / "made").rename(target)
                except OSError:
                    # Another process finished first; its files came out of the same package.
                    shutil.rmtree(Path(temporary) / "made", ignore_errors=True)
        except OSError as error:
            raise files.storage_problem(error, target) from error
    found = next(target.glob("package/bins/*/libllama.*"), None)
    if found is None:
        mend = _("remove this folder and run the command again; it is fetched anew")
        raise Unavailable(_("llama.cpp's library is not in its package"), file=target, mend=mend)
    return found


def _fetch(package: _Packaged, npm: str, into: Path) -> Path:
    # From the registry that npm's own settings name; nothing of the package is run.
    command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--silent"]
    ended = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    fetched = next(into.glob("*.tgz"), None)
    if ended.returncode != 0 or fetched is None:
        said = [line for line in (ended.stderr + ended.stdout).splitlines() if line.strip()]
        raise _none(
            _("{package} could not be fetched with npm: {reason}",
              package=package.title, reason=lines.cut((said or [str(ended.returncode)])[0].strip(), 200))
        )  # fmt: skip
    with fetched.open("rb") as stream:
        digest = base64.b64encode(hashlib.file_digest(stream, "sha512").digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise _none(_("{package} has another hash than the one that was checked", package=package.title))
    return fetched


def _unpack(fetched: Path, into: Path) -> None:
    with tarfile.open(fetched) as archive:
        archive.extractall(into, filter="data")
