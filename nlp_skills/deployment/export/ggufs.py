"""A version as a GGUF file: what llama.cpp, Ollama and many others run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from nlp_skills import extras, files, progress
from nlp_skills.deployment.export import converter, merging, quantiser, records
from nlp_skills.errors import Unavailable, Usage
from nlp_skills.evaluation import model
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Export
from nlp_skills.schema.task import Quantization
from nlp_skills.workspace import naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)


def gguf(folder: TaskFolder, version: VersionFolder, quantization: str, *, again: bool = False) -> Export:
    """models/gguf/NAME-QUANTIZATION.gguf; made from the merged model unless it is there and of the model as it is.

    Args:
        folder: the task.
        version: of it.
        quantization: as llama.cpp calls it, in small letters.
        again: also where it is there.

    Raises:
        Usage: no such quantisation.
        Invalid: the version has no model, is being trained, or is being exported already; llama.cpp's converter does
            not know the model's architecture or tokenizer.
        Unavailable: the converter or a quantiser cannot be had, an extra is missing, or the disk is full.
    """
    if quantization not in QUANTIZATIONS:
        raise Usage(
            _("no quantisation is called {name}", name=quantization),
            mend=_("choose of {known}", known=", ".join(QUANTIZATIONS)),
        )
    info = records.exportable(folder, version)
    known = None if again else records.current(folder, version, quantization)
    if known is not None:
        return known
    extras.need("gguf", "torch", "transformers")
    with records.alone(folder, version):
        return _made(folder, version, quantization, merging.make(folder, version, info))


def _made(folder: TaskFolder, version: VersionFolder, quantization: str, merged: Export) -> Export:
    task = folder.task()
    path = naming.artefacts(task, version.name, quantisation=quantization).gguf_path
    target = files.inside(folder.root, path)
    # What is quantised is made from a file in all its bits, which lies beside meanwhile.
    records.refuse_full_disk(target.parent, 2 * merged.bytes)
    label = _("{version} as {quantization}", version=version.name, quantization=quantization)
    with records.beside(target) as temporary, progress.bar(label, 2) as bar:
        work = _Work(folder.root / merged.path, temporary, naming.model_name(task, version.name), quantization, bar)
        made = work.file(merged.tools.get("dtype"))
        bar.advance(bar.total - bar.done, "")
        export = Export(
            kind="gguf",
            quantization=quantization,
            path=path,
            sha256=files.sha256_file(made),
            bytes=made.stat().st_size,
            source=model.fingerprint(folder.root, model.info(version)),
            made=files.now(),
            tools=work.tools,
        )
        return records.put(folder, version, export, made)


@dataclass
class _Work:
    """One GGUF file in the making; `tools` says what it was made with."""

    merged: Path
    temporary: Path
    title: str
    quantization: str
    bar: progress.Bar
    tools: dict[str, str] = field(default_factory=dict)

    def file(self, dtype: str | None) -> Path:
        if self.quantization in converter.DIRECT:
            self.bar.advance(1, _("converting"))
            return self._converted(self.quantization)
        quantise, found = quantiser.find()
        self.bar.advance(0, _("converting"))
        whole = self._converted({"float16": "f16", "bfloat16": "bf16"}.get(dtype or "", "f32"))
        self.bar.advance(1, _("quantising"))
        made = self.temporary / f"{self.quantization}.gguf"
        self.tools |= {"quantiser": found, **quantise(whole, made, self.quantization)}
        return _whole(made)

    def _converted(self, outtype: str) -> Path:
        made = self.temporary / f"converted-{outtype}.gguf"
        self.tools |= converter.convert(self.merged, made, outtype, self.title)
        return _whole(made)


def _whole(made: Path) -> Path:
    """A file that begins as GGUF does, and has something in it."""
    if made.is_file() and made.stat().st_size > 64:
        with made.open("rb") as stream:
            if stream.read(4) == b"GGUF":
                return made
    raise Unavailable(
        _("what was made is not a GGUF file"), file=made, mend=_("check the disk, then run the command again")
    )
