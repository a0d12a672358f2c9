"""The records of a version: data_snapshot.json, model_info.json, results.json, lineage.yaml and run/status.json.

Counts are integers, metrics fractions, hashes `sha256:…`, times ISO 8601 with offset, durations seconds.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from nlp_skills.schema.data_lock import LockedSource
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import OutputFormat

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
    """model_info.json: everything inference needs to ask the model exactly as it was trained.

    `chat_template` is the template's text where it is not the base model's own; `quantization` is that of the base
    model's weights under the adapter.
    """

    version: str
    base_model: str
    base_model_revision: str | None = None
    base_model_hash: str | None = None
    adapter_path: str | None = None
    merged_path: str | None = None
    dtype: str
    quantization: Literal["nf4"] | None = None
    parameters: int
    trainable_parameters: int
    input_template: str
    output_format: OutputFormat
    system_prompt: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    init_from: str | None = None
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


Gate = Literal["met", "not_met", "cannot_tell"]


class Check(Model):
    """One criterion: `value` (with its 95 % interval) must be at least `least`.

    `about` says what was asked for: a threshold, more than a baseline, or a class that lost no more than it may, whose
    `value` is then the difference to `other`. `rows_needed`: test rows that would settle it, where these cannot tell.
    """

    about: Literal["threshold", "baseline", "regression"]
    metric: str
    value: float
    interval: tuple[float, float] | None = None
    least: float
    verdict: Gate
    other: str | None = None
    rows_needed: int | None = None


class Verdict(Model):
    """Whether the success criteria are met: `verdict` is None where none was set, else the worst of its `checks`.

    `untested` names what a criterion compares with and could not: a version before without answers to these rows, or a
    rule file that was not measured.
    Results of the releases up to 0.4 say `met: true`, `false` or nothing instead, by the figure alone.
    """

    primary_metric: str
    value: float | None
    threshold: float | None = None
    baseline: float | None = None
    verdict: Gate | None = None
    checks: list[Check] = Field(default_factory=list)
    untested: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _first_form(cls, value: Any) -> Any:
        if isinstance(value, dict) and "met" in value:
            value = dict(value)
            value["verdict"] = {True: "met", False: "not_met"}.get(value.pop("met"))
        return value


class Sampling(Model):
    """How text was drawn from the model; temperature 0 always takes the likeliest token."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int
    seed: int | None = None


class Asked(Model):
    """How the answers were had: which model behind which backend, and by which way.

    `likelihood`: each label's probability; `constrained`: text that the schema allows; `free`: text as it comes.
    `threshold`: of several labels, those more probable than this were taken.
    """

    way: Literal["likelihood", "constrained", "free"]
    backend: str
    model: str
    sampling: Sampling | None = None
    threshold: float | None = None


class Bin(Model):
    """Answers whose probability was about the same: how sure they were on average, and how often right."""

    confidence: float
    accuracy: float
    rows: int


class Curve(Model):
    """A line to draw: `x` and `y` of each point in order, and the area under it where that means something."""

    x: list[float]
    y: list[float]
    area: float | None = None


class Results(Document):
    """results.json: what a version scored on which test rows, with 95 % intervals and baselines.

    `fingerprint` hashes what was asked of which model: weights, base model, prompt format and test file.
    `kind` is what an answer is: one label, several, spans of the text, fields, or a text of its own.
    `per_class` has classes, types of entities and relations, or properties; `class_intervals` are those of their F1.
    `calibration` are the bins of a reliability plot; `curves` may hold `roc`, `pr` (precision over recall) and
    `abstention` (accuracy over the share answered).
    """

    version: str
    created: dt.datetime
    fingerprint: str | None = None
    kind: Kind = "label"
    asked: Asked | None = None
    test_file: str = "data/test.jsonl"
    test_sha256: str
    test_rows: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    per_class: dict[str, ClassMetrics] = Field(default_factory=dict)
    confusion_matrix: ConfusionMatrix | None = None
    calibration: list[Bin] = Field(default_factory=list)
    curves: dict[str, Curve] = Field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = Field(default_factory=dict)
    class_intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    baseline_intervals: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    success: Verdict
    seconds: float | None = None
    device: str | None = None


class LineageData(Model):
    """The `data:` section. A key that a person added is kept, here as in `run:` and `model:`."""

    model_config = ConfigDict(extra="allow")

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


class LineageLora(Model):
    """`lora:` as far as it is known: what an older lineage left out is not made up."""

    model_config = ConfigDict(extra="allow")

    r: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: str | list[str] | None = None


class LineageConfig(Model):
    """The `config:` section; the flat `lora_r` is read and written as `lora: {r: …}`. Later keys are kept."""

    model_config = ConfigDict(extra="allow")

    base_model: str | None = None
    method: str | None = None
    lora: LineageLora | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat_rank(cls, value: Any) -> Any:
        if isinstance(value, dict) and "lora_r" in value and isinstance(value.get("lora") or {}, dict):
            value = dict(value)
            value["lora"] = {"r": value.pop("lora_r"), **(value.get("lora") or {})}
        return value


class LineageResults(Model):
    """The `results:` section: any metric by name, the classes, the hashes of the files they come from, and how long
    the evaluation took on what.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)

    per_class: dict[str, ClassMetrics] = Field(default_factory=dict)
    seconds: float | None = None
    device: str | None = None
    hashes: dict[str, str] = Field(default_factory=dict)


class LineageModel(Model):
    """The `model:` section: where the artefacts are, relative to the task folder.

    `hashes` are of the files that were trained, `exports` of those that were made from them.
    """

    model_config = ConfigDict(extra="allow")

    adapter_path: str | None = None
    merged_path: str | None = None
    gguf_path: str | None = None
    hf_repo: str | None = None
    hashes: dict[str, str] = Field(default_factory=dict)
    exports: dict[str, str] = Field(default_factory=dict)


class LineageRun(Model):
    """How the training went, and what it takes to do it again.

    `by` is user@host; `place` the server or provider it was sent to, left out where it ran on the computer it was
    started on; `gpu_hours` are hours times GPUs, `cost_usd` what they cost where a price is known. `config_hash` is of
    what config.yaml says, not of its comments; `pinned` are the files that make the environment (project file, lock,
    wheel), by their path in the task, in the store.
    """

    model_config = ConfigDict(extra="allow")

    state: str
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    seconds: float | None = None
    steps: int | None = None
    tokens: int | None = None
    peak_memory_gb: float | None = None
    device: str | None = None
    seed: int | None = None
    threads: int | None = None
    processes: int | None = None
    place: str | None = None
    gpu_hours: float | None = None
    cost_usd: float | None = None
    micro_batch: int | None = None
    max_length: int | None = None
    tokens_per_second: float | None = None
    final_loss: float | None = None
    best_step: int | None = None
    valid: dict[str, float] = Field(default_factory=dict)
    reason: str | None = None
    by: str | None = None
    config_hash: str | None = None
    base_model_hash: str | None = None
    base_model_revision: str | None = None
    pinned: dict[str, str] = Field(default_factory=dict)


Event = Literal[
    "promoted", "activated", "deactivated", "deployed", "undeployed", "cleaned", "restored", "reproduced", "repaired"
]


class LineageEvent(Model):
    """What happened to a version after it was made. `other` is the version it was about as well; `by` is user@host."""

    time: dt.datetime
    event: Event
    other: str | None = None
    reason: str | None = None
    by: str | None = None


LINEAGE_SCHEMA = 2


class Lineage(Document):
    """lineage.yaml: what made this version, written section by section by the steps themselves.

    A key that a person added is kept. Files without `schema_version` are of the first form, which is read as it is;
    `changes` is also read where it is one sentence, or where a sentence's colon made a mapping of it.
    """

    model_config = ConfigDict(extra="allow")

    schema_version: int = 1
    version: str
    created: dt.datetime
    parent: str | None = None
    promoted_from: str | None = None
    data: LineageData | None = None
    config: LineageConfig | None = None
    run: LineageRun | None = None
    results: LineageResults | None = None
    model: LineageModel | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    changes: list[str] = Field(default_factory=list)
    events: list[LineageEvent] = Field(default_factory=list)
    notes: str | None = None

    @field_validator("changes", mode="before")
    @classmethod
    def _sentences(cls, value: Any) -> Any:
        entries = [] if value is None else value if isinstance(value, list) else [value]
        return [_sentence(entry) for entry in entries if entry is not None]

    @field_validator("notes", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return "\n".join(str(_sentence(line)) for line in value) if isinstance(value, list) else _sentence(value)

    @field_validator("events", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value

    def dump(self) -> dict[str, Any]:
        """As every document, and without the lists and mappings that hold nothing."""
        return without_empty(super().dump())


def _sentence(value: Any) -> Any:
    """`- LoRA rank: 16 → 32` is a mapping to YAML and a sentence to whoever wrote it; so is a bare number."""
    if isinstance(value, dict) and len(value) == 1:
        key, rest = next(iter(value.items()))
        return f"{key}: {rest}"
    return str(value) if isinstance(value, int | float) else value


def without_empty(value: dict[str, Any]) -> dict[str, Any]:
    kept = {key: without_empty(item) if isinstance(item, dict) else item for key, item in value.items()}
    return {key: item for key, item in kept.items() if item not in ({}, [])}


# `dead`: its process ended without a word, which whoever had started it has recorded.
RunState = Literal["running", "completed", "failed", "interrupted", "dead"]

# Why a run failed, where it is known.
RunReason = Literal["disk_full", "out_of_memory", "nan_loss", "diverged", "stalled", "process_died", "refused"]


class RunStatus(Document):
    """versions/vN/run/status.json: a run as it is now; rewritten as it goes, `updated` every few seconds.

    `host` is the computer that `pid` is a process of, `group` the process group of a run that was started detached.
    `stepped` is when the last step ended (or this stretch began), `step_seconds` how long one takes. `halved` counts
    how often memory ran out and the run went on with smaller batches; `metric` is the last figure on the valid split.
    `place` is the server or cluster a run was sent to, and `cost_usd` what it has cost so far, written by the computer
    that sent it; what the other one writes has neither.
    """

    task: str
    version: str
    kind: Literal["train", "evaluate"] = "train"
    state: RunState
    reason: RunReason | None = None
    pid: int
    group: int | None = None
    host: str | None = None
    place: str | None = None
    started: dt.datetime
    updated: dt.datetime
    ended: dt.datetime | None = None
    exit_code: int | None = None
    step: int = 0
    total_steps: int = 0
    stepped: dt.datetime | None = None
    step_seconds: float | None = None
    epoch: float | None = None
    loss: float | None = None
    metric: dict[str, float] | None = None
    tokens_per_second: float | None = None
    memory_gb: float | None = None
    processes: int | None = None
    halved: int | None = None
    eta_seconds: float | None = None
    cost_usd: float | None = None
    message: str | None = None
