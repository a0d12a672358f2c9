"""task.yaml: what the model is for, what counts as success, where it runs and how versions are kept."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from nlp_skills.i18n import _
from nlp_skills.schema import kinds
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.training import Training

Status = Literal["created", "configuring", "training", "evaluating", "deployed", "archived"]
TaskType = Literal["classification", "extraction", "generation"]

NAME = re.compile(r"[^\W_][\w.-]*\Z")
# user@server:port; no part may begin with a dash, which a program would take for an option.
HOST = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\])(?::[1-9]\d{0,4})?\Z")
PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")


class OutputField(Model):
    """One property of the answer, a JSON Schema fragment: keys we do not use are kept for jsonschema.

    `enum` lists the allowed values; where a row may have several of them, they stand in `items` of an array.
    """

    model_config = ConfigDict(extra="allow")

    type: Literal["string", "number", "integer", "boolean", "array", "object"] = "string"
    enum: list[Any] | None = None
    items: dict[str, Any] | None = None

    @field_validator("enum")
    @classmethod
    def _distinct(cls, values: list[Any] | None) -> list[Any] | None:
        if values is not None and len({repr(value) for value in values}) != len(values):
            raise ValueError(_("a label stands twice"))
        if values is not None and not values:
            raise ValueError(_("the list of labels is empty"))
        return values

    @field_validator("items")
    @classmethod
    def _distinct_items(cls, items: dict[str, Any] | None) -> dict[str, Any] | None:
        if items is not None and "enum" in items:
            if not isinstance(items["enum"], list):
                raise ValueError(_("enum is a list of labels"))
            cls._distinct(items["enum"])
        return items

    @property
    def choices(self) -> list[Any]:
        """The values to choose from: one of them for `enum`, any number for an array's `items.enum`."""
        if self.type == "array":
            return list((self.items or {}).get("enum") or [])
        return list(self.enum or [])


class OutputFormat(Model):
    """`json`: the answer is one JSON object with these properties. `text`: the single property's bare value."""

    type: Literal["json", "text"] = "json"
    schema_: dict[str, OutputField] = Field(alias="schema", min_length=1)

    @model_validator(mode="after")
    def _one_bare_value(self) -> OutputFormat:
        if self.type == "text" and len(self.schema_) != 1:
            raise ValueError(_("output_format.type text takes exactly one property in schema"))
        return self

    @property
    def label_field(self) -> str | None:
        """The property that holds the class, or the list of classes: the first one with values to choose from."""
        return next((name for name, field in self.schema_.items() if field.choices), None)

    @property
    def labels(self) -> list[Any]:
        """The values of `label_field`, in the order of the schema; empty when there are none."""
        name = self.label_field
        return self.schema_[name].choices if name else []

    @property
    def multi_label(self) -> bool:
        """Whether a row has a list of labels."""
        name = self.label_field
        return name is not None and self.schema_[name].type == "array"

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema an answer (as an object) must meet; every property is required."""
        properties = {name: field.model_dump(exclude_none=True) for name, field in self.schema_.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}


Fraction = Annotated[float, Field(ge=0, le=1)]


class SuccessCriteria(Model):
    """When a version is good enough. Figures are fractions.

    `metrics` are further metrics with the least each must reach. `baseline` is a number, a name that ends in one
    (`rule_based_0.65`), or the path in the task of a rule file, which is then measured. `max_regression` is how much
    F1 a class may lose against the version before: one figure for all classes, or one by class (`"*"`: the others).
    """

    primary_metric: str = "macro_f1"
    threshold: Fraction | None = None
    metrics: dict[str, Fraction] = Field(default_factory=dict)
    baseline: float | str | None = None
    max_regression: Fraction | dict[str, Fraction] | None = None


class Evaluation(Model):
    """How versions are asked and looked at; what is left out has a default that fits most tasks.

    `temperature`, `top_p`, `max_new_tokens` and `seed` are of generated answers. `few_shot` is how many training rows
    the few-shot baseline shows. `endpoint` is another model to be measured on the same rows; `judge` one that compares
    generated texts, by `judge_question`. `costs` says how bad a confusion is, by true class and then given class;
    every other one costs 1.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int = 42
    few_shot: Annotated[int, Field(ge=1, le=64)] = 4
    endpoint: LlmSettings | None = None
    judge: LlmSettings | None = None
    judge_question: str | None = None
    costs: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(default_factory=dict)


Sharding = Literal["ddp", "fsdp", "zero3"]


class Execution(Model):
    """Where a step runs: on this machine, on a server over SSH, or on a machine rented for it by SkyPilot.

    `gpus` trains on so many at once; `sharding` says how, and is chosen when left out. `host` is user@server, with
    :port where it needs one, or a name of ~/.ssh/config; `workdir` where our files are there, `python` an interpreter
    there that has all that is needed (left out, an environment is made). `provider` is what SkyPilot calls infra: aws,
    gcp/us-central1, runpod, kubernetes, slurm, ssh/pool; `gpu` its accelerator, such as A100:1; `bucket` where
    checkpoints outlive the machine. `budget_usd` and `max_hours` end the run, whatever it has reached.
    """

    type: Literal["local", "remote_ssh", "cloud"] = "local"
    host: str | None = None
    workdir: Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")] | None = None
    python: Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")] | None = None
    cuda_devices: str | None = None
    gpus: Annotated[int, Field(ge=1, le=1024)] | None = None
    sharding: Sharding | None = None
    provider: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]*$")] | None = None
    gpu: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*(:[1-9]\d{0,2})?$")] | None = None
    spot: bool = False
    nodes: Annotated[int, Field(ge=1, le=256)] = 1
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.:/_-]*$")] | None = None
    budget_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_hours: Annotated[float, Field(gt=0, le=24 * 365)] | None = None

    @field_validator("host")
    @classmethod
    def _a_host(cls, host: str | None) -> str | None:
        if host is None or HOST.match(host):
            return host
        if ":" in host.rpartition("@")[0]:
            raise ValueError(_("a password does not belong in a file; use a key (ssh-copy-id) or an SSH agent"))
        raise ValueError(_("a host is user@server, server, user@server:port, or a name of ~/.ssh/config"))

    @property
    def devices(self) -> int:
        """On how many GPUs of one machine a training goes on: `gpus`, else as many as are rented, else one."""
        rented = int((self.gpu or "").partition(":")[2] or 1) if self.type == "cloud" else 1
        return self.gpus or rented

    @model_validator(mode="after")
    def _whole(self) -> Execution:
        if self.type == "remote_ssh" and self.host is None:
            raise ValueError(_("remote_ssh needs the server: host: user@server"))
        if self.type == "cloud" and self.provider is None:
            raise ValueError(_("cloud needs who rents the machine: provider: aws, gcp, runpod, kubernetes, slurm, ..."))
        return self


# More hours than any calendar has are as many as these.
_A_LIFETIME = 24 * 365 * 100


class Retention(Model):
    """Which versions are kept; `retention: 3` is read as `keep_recent: 3`.

    `keep_recent` counts versions that have a model and are no experiments. An experiment goes when nobody touched it
    for `cleanup_exp_after` (hours, days, weeks: 36h, 7d, 2w).
    """

    keep_recent: Annotated[int, Field(ge=1)] = 3
    keep_deployed: bool = True
    keep_best: bool = True
    cleanup_exp_after: Annotated[str, Field(pattern=r"^\d+[dhw]$")] = "7d"

    @property
    def exp_lifetime(self) -> dt.timedelta:
        """`cleanup_exp_after` as a duration."""
        hours = {"h": 1, "d": 24, "w": 24 * 7}[self.cleanup_exp_after[-1]]
        return dt.timedelta(hours=min(int(self.cleanup_exp_after[:-1]) * hours, _A_LIFETIME))


Strategy = Literal["semantic", "date", "hybrid"]

# What `naming` may name, by strategy, and which of these tell one version from another.
NAMING_PLACES: dict[Strategy, tuple[str, ...]] = {
    "semantic": ("version", "n", "task"),
    "date": ("version", "date", "yyyymmdd", "task"),
    "hybrid": ("version", "n", "timestamp", "yyyymmdd", "task"),
}
_DEFAULT_NAMING: dict[Strategy, str] = {
    "semantic": "{task}-v{n}",
    "date": "{task}-{date}",
    "hybrid": "{task}-{version}",
}
_NAMING_TEXT = re.compile(r"[\w.-]*\Z")


class Versioning(Model):
    """How versions are named and where they go.

    `naming` is the name a version's model carries outside the task: `{task}-v{n}` makes entity-sentiment-v2.
    Left out, it follows the strategy. `{yyyymmdd}` (date) and `{timestamp}` (hybrid) also choose the strategy's
    second form: 20250107 for 2025-01-07, v2_1736236800 for v2-20250107.
    """

    strategy: Strategy = "semantic"
    naming: str | None = None
    retention: Retention = Field(default_factory=Retention)
    deploy_target: Literal["huggingface", "ollama", "api", "local"] = "local"

    @field_validator("retention", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"keep_recent": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("naming")
    @classmethod
    def _naming_fits(cls, naming: str | None, info: ValidationInfo) -> str | None:
        strategy: Strategy | None = info.data.get("strategy")
        if not naming or strategy is None:
            return naming
        places, allowed = PLACEHOLDER.findall(naming), NAMING_PLACES[strategy]
        wanted = ", ".join(f"{{{place}}}" for place in allowed)
        strange = [place for place in places if place not in allowed]
        if strange:
            name = f"{{{strange[0]}}}"
            raise ValueError(
                _("{place} is not known by strategy {strategy}; it has {places}",
                  place=name, strategy=strategy, places=wanted)
            )  # fmt: skip
        if not _NAMING_TEXT.match(PLACEHOLDER.sub("", naming)):
            raise ValueError(_("naming is made of letters, digits, '-', '_', '.' and {places}", places=wanted))
        if set(places) <= ({"task", "yyyymmdd"} if strategy == "hybrid" else {"task"}):
            raise ValueError(_("naming gives every version the same name; add {place}", place=f"{{{allowed[0]}}}"))
        return naming

    @property
    def template(self) -> str:
        """`naming`, or what the strategy uses where it is left out."""
        return self.naming or _DEFAULT_NAMING[self.strategy]


# What a GGUF file may hold: as trained, or in fewer bits.
Quantization = Literal[
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k", "q5_0", "q4_0"
]  # fmt: skip


class Deploy(Model):
    """Where and in which form versions go out, and how much they may lose on the way.

    `max_drop` is how much of the primary metric may be lost between the version as it was evaluated and what is
    deployed (merged, quantised, served); `prompts` how many test prompts an engine must render alike. `repo` is
    owner/name on the Hub, `model` the name at an Ollama server (owner/name to push it); the task's own where left out.
    """

    max_drop: Fraction = 0.02
    prompts: Annotated[int, Field(ge=1, le=10_000)] = 32
    quantization: Quantization = "q8_0"
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")] | None = None
    private: bool = True
    model: Annotated[str, Field(pattern=r"^[a-z0-9][\w.-]*(/[a-z0-9][\w.-]*)?$")] | None = None


class Transition(Model):
    """One move of the life cycle; `from` and `to` are the same where only the version changed."""

    time: dt.datetime
    from_: Status = Field(alias="from")
    to: Status
    version: str | None = None
    reason: str


class Task(Document):
    """task.yaml."""

    task_name: str
    version: str = "v1"
    status: Status = "created"
    task_type: TaskType
    domain: str | None = None
    language: str | None = None
    goal: str | None = None
    input_template: str
    output_format: OutputFormat
    training: Training | None = None
    success_criteria: SuccessCriteria = Field(default_factory=SuccessCriteria)
    evaluation: Evaluation | None = None
    execution: Execution = Field(default_factory=Execution)
    versioning: Versioning = Field(default_factory=Versioning)
    deploy: Deploy = Field(default_factory=Deploy)
    created: dt.datetime | None = None
    updated: dt.datetime | None = None
    history: list[Transition] = Field(default_factory=list)

    @field_validator("version", mode="before")
    @classmethod
    def _compact_date(cls, version: Any) -> Any:
        """20250107 without quotes is a number to YAML and a name to whoever wrote it."""
        return str(version) if isinstance(version, int) and not isinstance(version, bool) else version

    @field_validator("task_name")
    @classmethod
    def _safe_name(cls, name: str) -> str:
        if not NAME.match(name) or ".." in name:
            raise ValueError(_("a task name is letters, digits, '-', '_' and '.', starting with a letter or digit"))
        return name

    @field_validator("input_template")
    @classmethod
    def _has_a_field(cls, template: str) -> str:
        if not PLACEHOLDER.search(template):
            raise ValueError(_("input_template names no field; write the row's field in braces, such as {text}"))
        return template

    @model_validator(mode="after")
    def _labels(self) -> Task:
        if self.task_type != "classification":
            return self
        if any(field.type == "array" and field.enum for field in self.output_format.schema_.values()):
            raise ValueError(_("where a row has several labels, the enum stands under items: items: {enum: [...]}"))
        if self.label_field is None:
            raise ValueError(_("a classification task needs a property with an enum in output_format.schema"))
        wrong = [label for label in self.labels if not isinstance(label, str)]
        if wrong:
            raise ValueError(_("labels are text; write {label} in quotes", label=repr(wrong[0])))
        if len(self.labels) < 2:
            raise ValueError(_("a classification task needs at least two labels"))
        clash = set(self.input_fields) & set(self.output_format.schema_)
        if clash:
            raise ValueError(_("{name} is both an input field and an output property", name=min(clash)))
        return self

    @property
    def metric(self) -> str:
        """The metric that decides: the primary one, or the kind's own where nobody chose one.

        Tasks of the releases up to 0.4 say `macro_f1` whatever their kind; fields and texts have no classes to average.
        """
        chosen, kind = self.success_criteria.primary_metric, kinds.of(self.task_type, self.output_format)
        usual = kinds.usual_metric(self.task_type, self.output_format)
        # Types of entities are classes too, but nobody's first thought.
        typed = usual == "entity_f1" and "primary_metric" in self.success_criteria.model_fields_set
        return chosen if chosen != "macro_f1" or kind in ("label", "labels") or typed else usual

    @property
    def input_fields(self) -> list[str]:
        """The fields `input_template` takes from a row, in order of first use."""
        return list(dict.fromkeys(PLACEHOLDER.findall(self.input_template)))

    @property
    def output_fields(self) -> list[str]:
        """The properties of an answer."""
        return list(self.output_format.schema_)

    @property
    def label_field(self) -> str | None:
        """The property that holds the class: the first one with an enum, its own or its items'."""
        return self.output_format.label_field

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the schema; empty when there are none."""
        return self.output_format.labels

    @property
    def multi_label(self) -> bool:
        """Whether each row has a list of classes instead of one."""
        return self.output_format.multi_label
