"""The task folder: one place that knows where everything in it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.deployment import Export, Exports, Parity, ParityCheck
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import DataSnapshot, Lineage, ModelInfo, Results, RunStatus
from nlp_skills.workspace import naming


@dataclass(frozen=True)
class VersionFolder:
    """versions/vN and the artefacts that follow its name."""

    task_root: Path
    name: str

    @property
    def root(self) -> Path:
        return self.task_root / "versions" / self.name

    @property
    def config_path(self) -> Path:
        return self.root / "config.yaml"

    @property
    def snapshot_path(self) -> Path:
        return self.root / "data_snapshot.json"

    @property
    def results_path(self) -> Path:
        return self.root / "results.json"

    @property
    def model_info_path(self) -> Path:
        return self.root / "model_info.json"

    @property
    def lineage_path(self) -> Path:
        return self.root / "lineage.yaml"

    @property
    def predictions_path(self) -> Path:
        return self.root / "predictions.jsonl"

    @property
    def report_path(self) -> Path:
        return self.root / "report.html"

    @property
    def markdown_path(self) -> Path:
        """The report as Markdown."""
        return self.root / "report.md"

    @property
    def run(self) -> Path:
        """The run folder: status.json, metrics.jsonl, train.log, and what a detached run said (output.log)."""
        return self.root / "run"

    @property
    def status_path(self) -> Path:
        return self.run / "status.json"

    @property
    def metrics_path(self) -> Path:
        return self.run / "metrics.jsonl"

    @property
    def output_path(self) -> Path:
        """What a detached run writes to its terminal, which it has not."""
        return self.run / "output.log"

    @property
    def curve_path(self) -> Path:
        """The run's curves, drawn."""
        return self.run / "loss.svg"

    @property
    def checkpoints(self) -> Path:
        return self.task_root / "models" / "checkpoints" / self.name

    @property
    def adapter(self) -> Path:
        return self.task_root / "models" / "adapter" / self.name

    @property
    def merged(self) -> Path:
        """A whole model: merged, or fully fine-tuned."""
        return self.task_root / "models" / "merged" / self.name

    @property
    def model(self) -> Path | None:
        """The model folder that was trained: the adapter, else the whole model; None while there is neither."""
        return next((path for path in (self.adapter, self.merged) if path.is_dir()), None)

    def config(self) -> Config:
        return Config.load(self.config_path)

    def snapshot(self) -> DataSnapshot | None:
        return DataSnapshot.load(self.snapshot_path) if self.snapshot_path.exists() else None

    def results(self) -> Results | None:
        return Results.load(self.results_path) if self.results_path.exists() else None

    def model_info(self) -> ModelInfo | None:
        return ModelInfo.load(self.model_info_path) if self.model_info_path.exists() else None

    def lineage(self) -> Lineage | None:
        return Lineage.load(self.lineage_path) if self.lineage_path.exists() else None

    @property
    def exports_path(self) -> Path:
        """What was exported of this version."""
        return self.root / "exports.json"

    @property
    def parity_path(self) -> Path:
        """What was held against the version as it was evaluated."""
        return self.root / "parity.json"

    def exports(self) -> list[Export]:
        return Exports.load(self.exports_path).exports if self.exports_path.exists() else []

    def parity(self) -> list[ParityCheck]:
        return Parity.load(self.parity_path).checks if self.parity_path.exists() else []

    def status(self) -> RunStatus | None:
        return RunStatus.load(self.status_path) if self.status_path.exists() else None


@dataclass(frozen=True)
class TaskFolder:
    """A task's folder; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> TaskFolder:
        """The task in `root`.

        Raises:
            Usage: there is no task.yaml.
        """
        if not (root / "task.yaml").is_file():
            raise Usage(
                _("no task here: {path} has no task.yaml", path=str(root)),
                mend=_("name a task, or make one: nlp-skills new-task NAME"),
            )
        return cls(root.resolve())

    @property
    def task_path(self) -> Path:
        return self.root / "task.yaml"

    @property
    def sources_path(self) -> Path:
        return self.root / "data_source.yaml"

    @property
    def raw(self) -> Path:
        return self.root / "data" / "raw"

    @property
    def state(self) -> Path:
        """Machine-owned notes: the hook's digest of the task, fingerprints, the lock."""
        return self.root / ".nlp-skills"

    def split(self, name: str) -> Path:
        """data/train.jsonl, data/valid.jsonl or data/test.jsonl."""
        return self.root / "data" / f"{name}.jsonl"

    def preferences(self, name: str) -> Path:
        """data/preferences/train.jsonl or valid.jsonl: what dpo, orpo and kto learn from."""
        return self.root / "data" / "preferences" / f"{name}.jsonl"

    def task(self) -> Task:
        return Task.load(self.task_path)

    def sources(self) -> DataSource:
        return DataSource.load(self.sources_path)

    @property
    def deployments_path(self) -> Path:
        """What runs where; see `workspace.deployments`."""
        return self.root / "versions" / "deployments.json"

    def version_names(self) -> list[str]:
        """Versions in their order, oldest first."""
        folder = self.root / "versions"
        names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return sorted((name for name in names if naming.is_version(name)), key=naming.sort_key)

    def version(self, name: str | None = None) -> VersionFolder:
        """A version by name, or the task's current one. It need not exist yet.

        Raises:
            Usage: the name is not a version name.
        """
        name = name or self.task().version
        if not naming.is_version(name):
            raise Usage(
                _("{name} is not a version name", name=name),
                mend=_("version names look like v2, v2.1, v3-exp, 2025-01-07 or v2-20250107"),
            )
        return VersionFolder(self.root, name)

    def existing_version(self, name: str | None = None) -> VersionFolder:
        """As `version`, refusing one that was never configured.

        Raises:
            Invalid: versions/NAME/config.yaml is missing.
        """
        version = self.version(name)
        if not version.config_path.is_file():
            known = ", ".join(self.version_names()) or _("none")
            raise Invalid(
                _("version {name} does not exist", name=version.name),
                file=version.config_path,
                cause=_("versions here: {known}", known=known),
                mend=_("nlp-skills generate makes the first version, nlp-skills new-version the next"),
            )
        return version
