"""Exports as a person orders them: several at once, each held against the version as it was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nlp_skills.deployment import export, parity
from nlp_skills.deployment.export import records
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import model
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Export, ParityCheck
from nlp_skills.workspace import sections
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Adapter:
    """A version's adapter, which is an export as it lies there."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Exported:
    """What an order came to; `checks` by the export's name, none where parity was left out."""

    version: str
    adapter: Adapter | None = None
    exports: list[Export] = field(default_factory=list)
    checks: dict[str, ParityCheck] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether no check was failed."""
        return all(check.verdict == "met" for check in self.checks.values())

    @property
    def warnings(self) -> list[str]:
        """What should be known of the exports."""
        return [
            _("{name}: {tensors} tensors are in more bits than that, since their rows do not divide by 256",
              name=one.name, tensors=told)
            for one in self.exports
            if (told := one.tools.get("fallback_tensors"))
        ]  # fmt: skip


def exported(
    folder: TaskFolder,
    name: str | None = None,
    *,
    adapter: bool = False,
    merged: bool = False,
    ggufs: Sequence[str] = (),
    again: bool = False,
    check: bool = True,
) -> Exported:
    """Make what is wanted of a version, by default what `deploy.quantization` in task.yaml says, and check it.

    Raises:
        Invalid: no such version or no model of it, or it was not evaluated and is to be checked.
        Usage: no such quantisation.
        Unavailable: an extra, the base model, the converter or a quantiser is missing, or the disk is full.
    """
    version = folder.existing_version(name)
    if not (adapter or merged or ggufs):
        ggufs = (folder.task().deploy.quantization,)
    found = adapter_of(folder, version) if adapter else None
    if check and (merged or ggufs):
        # Before anything is made for which there is no measure.
        parity.measured(folder, version)
    made = [export.merged(folder, version, again=again)] if merged else []
    made += [export.gguf(folder, version, each, again=again) for each in dict.fromkeys(ggufs)]
    checks = {one.name: parity.of_export(folder, version, one, again=again) for one in made} if check else {}
    return Exported(version.name, found, made, checks)


def adapter_of(folder: TaskFolder, version: VersionFolder) -> Adapter:
    """Where a version's adapter is; nothing is made.

    Raises:
        Invalid: every weight of the version was trained, so that it has none.
    """
    info = records.exportable(folder, version)
    if info.adapter_path is None:
        raise Invalid(
            _("version {version} has no adapter: every weight was trained", version=version.name),
            file=folder.root / Path(str(info.merged_path)),
            mend=_("export the whole model: --merged"),
        )
    place = model.weights(folder.root, info)
    size = sum(path.stat().st_size for path in sections.regular_files(place))
    return Adapter(info.adapter_path, records.of_folder(sections.file_hashes(place, folder.root)), size)
