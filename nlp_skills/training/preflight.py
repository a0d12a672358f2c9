"""What is checked before the first step: is what will be trained what is meant?

Every refusal here stands for a run that ends well and a model that does not work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nlp_skills import extras
from nlp_skills.data import validate
from nlp_skills.data.findings import Finding, passed
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.training import adapters, base_model, lengths, methods, order, pitfalls, processes, selection
from nlp_skills.workspace import lifecycle, mirror
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class Preflight:
    """The answer: findings (any error means no), one example with the loss span marked, token counts per split.

    `lengths[split]` is what `lengths.report` says of its rows, `max_length` how many tokens one may have.
    """

    version: str
    findings: list[Finding]
    example: str | None = None
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    max_length: int | None = None
    encoded: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether training may start."""
        return passed(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; the encoded rows stay out."""
        return {
            "ok": self.ok,
            "version": self.version,
            "findings": [finding.as_dict() for finding in self.findings],
            "example": self.example,
            "lengths": self.lengths,
            "max_length": self.max_length,
        }

    def problem(self) -> Invalid:
        """The refusal, every error in it."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        first, *rest = [Invalid(e.message, file=e.file, line=e.line, cause=e.cause, mend=e.mend) for e in errors]
        first.also.extend(rest)
        return first


def configured(folder: TaskFolder, version: str | None = None) -> VersionFolder:
    """The version to train.

    Raises:
        Invalid: it has no config.yaml yet, or the task is archived.
    """
    lifecycle.refuse_archived(folder, folder.task())
    found = folder.version(version)
    if not folder.version_names():
        raise Invalid(
            _("version {name} has no configuration yet", name=found.name),
            file=found.config_path,
            mend=_("make it with: nlp-skills generate {task}", task=folder.root.name),
        )
    return folder.existing_version(version)


def refuse_unavailable(task: Task, version: VersionFolder) -> None:
    """Refuse what this machine cannot do.

    Raises:
        Unavailable: it should run on another machine than this one, or on GPUs that are not here.
        Invalid: its devices cannot share the rows of a step.
    """
    if not mirror.runs_here(TaskFolder(version.task_root)):
        raise Unavailable(
            _("this task is trained on {where}, not here", where=task.execution.host or task.execution.provider),
            file=version.task_root / "task.yaml",
            mend=_("set execution: {{type: local}}, or use: nlp-skills train {task}", task=version.task_root.name),
        )
    processes.check(task, version.config(), version)


def check(folder: TaskFolder, version: str | None = None) -> Preflight:
    """Check data, rendering, tokens and loss of what `train` would train.

    Raises:
        Invalid: the version has no configuration, or the data files are not there.
        Unavailable: the base model or a package is missing, or the method is not available.
    """
    found = configured(folder, version)
    task, config = folder.task(), found.config()
    refuse_unavailable(task, found)
    family = methods.of(config.method)
    found_so_far = list(validate.validate(folder, with_preferences=False).findings)
    if passed(found_so_far):
        found_so_far += [*family.check(folder, task, config), *order.check(task, config, found.config_path)]
        found_so_far += selection.check(folder, task, config, found.config_path)
    if not passed(found_so_far):
        return Preflight(found.name, found_so_far)
    extras.need("train", "torch", "transformers", "trl")
    tokenizer = base_model.load_tokenizer(config.base_model, root=folder.root, chat_template=config.chat_template)
    if bare := pitfalls.no_template(found, tokenizer):
        return Preflight(found.name, [*found_so_far, *bare])
    base = base_model.locate(config.base_model, root=folder.root)
    if unfit := adapters.check(folder, config, found.config_path):
        return Preflight(found.name, [*found_so_far, *unfit])
    renderer = Renderer.of(task, config)
    splits = {name: family.read(folder, name, renderer, tokenizer, config) for name in family.files(folder)}
    encoded = {name: split.rows for name, split in splits.items()}
    findings = [*found_so_far, *(finding for split in splits.values() for finding in split.findings)]
    if encoded.get("train") or passed(findings):
        findings += pitfalls.check(folder, found, task, config, tokenizer, encoded)
    example = encoded["train"][0].marked(tokenizer) if encoded.get("train") else None
    most = lengths.limit(config, base)
    counts = {split: lengths.report(rows, most) for split, rows in encoded.items() if rows}
    limit = lengths.resolved(config, base, encoded)
    return Preflight(found.name, findings, example, counts, limit, encoded)
