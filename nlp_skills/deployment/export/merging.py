"""A version as one model: base and adapter added up, with tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlp_skills import extras, files, progress
from nlp_skills.deployment.export import program, records
from nlp_skills.evaluation import model
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Export
from nlp_skills.schema.version import ModelInfo
from nlp_skills.workspace import sections
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

_PROGRAM = "nlp_skills.deployment.export.merge_program"
# Prompts whose logits are compared.
_PROMPTS = 16
_STEPS = 4


def merged(folder: TaskFolder, version: VersionFolder, *, again: bool = False) -> Export:
    """models/merged/V: the version as a plain transformers model; made unless it is there and of the model as it is.

    Args:
        folder: the task.
        version: of it.
        again: also where it is there.

    Raises:
        Invalid: the version has no model, is being trained, or is being exported already.
        Unavailable: the base model or an extra is missing, or the disk is full.
    """
    info = records.exportable(folder, version)
    known = None if again else records.current(folder, version, "merged")
    if known is not None:
        return known
    with records.alone(folder, version):
        return make(folder, version, info, again=again)


def make(folder: TaskFolder, version: VersionFolder, info: ModelInfo, *, again: bool = False) -> Export:
    """As `merged`, for one who has the version to himself."""
    known = None if again else records.current(folder, version, "merged")
    if known is not None:
        return known
    if info.adapter_path is None:
        return _as_trained(folder, version, info)
    extras.need("train", "torch", "transformers", "peft")
    if info.quantization is not None:
        extras.need("qlora", "bitsandbytes")
    source = model.fingerprint(folder.root, info)
    target = folder.root / "models" / "merged" / version.name
    # Of a base model in four bits two ways are tried, one after the other, and 32 bits where 16 do not do.
    records.refuse_full_disk(target.parent, info.parameters * (8 if info.quantization else 4))
    told = {"root": str(folder.root), "version": version.name, "prompts": _PROMPTS}
    with records.beside(target) as temporary, progress.bar(_("merging {version}", version=version.name), _STEPS) as bar:
        bar.advance(0, _("reading the model"))
        ended = program.run(
            _PROGRAM,
            {**told, "into": str(temporary)},
            what=_("merging"),
            tell=lambda step: bar.advance(1 if bar.done < _STEPS - 1 else 0, _step(step)),
        )
        made = temporary / str(ended.result.pop("folder"))
        export = _export(made, target.relative_to(folder.root), source, ended.result)
        bar.advance(_STEPS - bar.done, "")
        return records.put(folder, version, export, made)


def _step(name: str) -> str:
    return {"merge": _("adding up"), "compare": _("comparing logits")}.get(name, name)


def _export(made: Path, path: Path, source: str, told: dict[str, Any]) -> Export:
    inside = {file.relative_to(made): file for file in sections.regular_files(made)}
    hashes = {(path / name).as_posix(): files.sha256_file(file) for name, file in inside.items()}
    return Export(
        kind="merged",
        path=path.as_posix(),
        sha256=records.of_folder(hashes),
        bytes=sum(file.stat().st_size for file in inside.values()),
        hashes=hashes,
        source=source,
        made=files.now(),
        **told,
    )


def _as_trained(folder: TaskFolder, version: VersionFolder, info: ModelInfo) -> Export:
    """A version whose every weight was trained is a whole model already."""
    place = model.weights(folder.root, info)
    told: dict[str, Any] = {"tools": {"made_by": "training"}}
    source = model.fingerprint(folder.root, info)
    return records.put(folder, version, _export(place, Path(str(info.merged_path)), source, told), None)
