"""The records of a version: data_snapshot.json, model_info.json, results.json, lineage.yaml and run/status.json.

Counts are integers, metrics fractions, hashes `sha256:…`, times ISO 8601 with offset, durations seconds.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from nlp_skills.schema.data_lock import LockedSource
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.training import Lora

SPLITS = ("train", "valid", "test")


class SplitFile(Model):
    """One of data/{train,valid,test}.jsonl as it was."""

    rows: int
    sha256: str
    class_distribution: dict[str, int] = Field(default_factory=dict)


class DataSnapshot(Document):
    """data_snapshot.json: which data a version was made with. `test_keys` pins the test rows for later versions.

    `files` are the files of data/ that the store keeps, by their path in the task folder; `config` is the
    data_source.yaml of that time, also in the store. A snapshot of the first release has neither.
    """

    created: dt.datetime
    source_hash: str
    splits: dict[Literal["train", "valid", "test"], SplitFile]
    test_keys: list[str] = Field(default_factory=list)
    sources: dict[str, LockedSource] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    config: str | None = None


class ModelInfo(Document):
    """model_info.json: everything inference needs to ask the model exactly as it was trained."""

    version: str
    base_model: str
    base_model_revision: str | None = None
    base_model_hash: str | None = None
    adapter_path: str | None = None
    merged_path: str | None = None
    dtype: str
    parameters: int
    trainable_parameters: int
    input_template: str
    output_format: OutputFormat
    system_prompt: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    created: dt.datetime


class ClassMetrics(Model):
    """One class's figures."""

    precision: float
    recall: float
    f1: float
    support: int | None = None


class ConfusionMatrix(Model):
    """`counts[i][j]`: rows of true class `labels[i]` answered as `labels[j]`."""

    labels: list[str]
    counts: list[list[int]]


class Verdict(Model):
    """Whether the primary metric met its threshold; `met` is None when none was set."""

    primary_metric: str
    value: float | None
    threshold: float | None = None
    baseline: float | None = None
    met: bool | None = None


class Results(Document):
    """results.json: what a version scored on which test rows, with 95 % intervals and baselines.

    `fingerprint` hashes what was asked of which model: weights, base model, prompt format and test file.
    """

    version: str
    created: dt.datetime
    fingerprint: str | None = None
    test_file: str = "data/test.jsonl"
    test_sha256: str
    test_rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    per_class: dict[str, ClassMetrics] = Field(default_factory=dict)
    confusion_matrix: ConfusionMatrix | None = None
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict)
    success: Verdict
    seconds: float | None = None
    device: str | None = None


class LineageData(Model):
    """The `data:` section."""

    source_hash: str | None = None
    train_count: int | None = None
    valid_count: int | None = None
    test_count: int | None = None
    class_distribution: dict[str, int] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """The rows of each split that is known: train_count, valid_count, test_count."""
        found = {f"{split}_count": getattr(self, f"{split}_count") for split in SPLITS}
        return {name: count for name, count in found.items() if count is not None}


class LineageConfig(Model):
    """The `config:` section; the flat `lora_r` is read and written as `lora: {r: …}`. Later keys are kept."""

    model_config = ConfigDict(extra="allow")

    base_model: str | None = None
    method: str | None = None
    lora: Lora | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat_rank(cls, value: Any) -> Any:
        if isinstance(value, dict) and "lora_r" in value:
            value = dict(value)
            value["lora"] = {**(value.get("lora") or {}), "r": value.pop("lora_r")}
        return value


class LineageResults(Model):
    """The `results:` section: any metric by name, and the classes."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)

    per_class: dict[str, ClassMetrics] = Field(default_factory=dict)


class LineageModel(Model):
    """The `model:` section: where the artefacts are, relative to the task folder."""

    adapter_path: str | None = None
    merged_path: str | None = None
    gguf_path: str | None = None
    hf_repo: str | None = None


class LineageRun(Model):
    """How the training went."""

    state: str
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    seconds: float | None = None
    steps: int | None = None
    tokens: int | None = None
    peak_memory_gb: float | None = None
    device: str | None = None
    seed: int | None = None
    final_loss: float | None = None


class Lineage(Document):
    """lineage.yaml: what made this version, written section by section by the steps themselves."""

    version: str
    created: dt.datetime
    parent: str | None = None
    data: LineageData | None = None
    config: LineageConfig | None = None
    run: LineageRun | None = None
    results: LineageResults | None = None
    model: LineageModel | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    changes: list[str] = Field(default_factory=list)
    notes: str | None = None

    @field_validator("changes", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value


RunState = Literal["running", "completed", "failed", "interrupted"]


class RunStatus(Document):
    """versions/vN/run/status.json: a run as it is now; rewritten as it goes."""

    task: str
    version: str
    kind: Literal["train", "evaluate"] = "train"
    state: RunState
    pid: int
    started: dt.datetime
    updated: dt.datetime
    ended: dt.datetime | None = None
    step: int = 0
    total_steps: int = 0
    epoch: float | None = None
    loss: float | None = None
    eta_seconds: float | None = None
    message: str | None = None
