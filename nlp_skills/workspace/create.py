"""A new task: task.yaml and data_source.yaml, with a comment over each part a person will edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import NAME, Strategy, Task, TaskType, Versioning
from nlp_skills.workspace import digest, naming
from nlp_skills.workspace.folder import TaskFolder

SCHEMA_LINE = "# yaml-language-server: $schema=.nlp-skills/schemas/{document}.schema.json\n"
DEFAULT_BASE_MODEL = "Qwen/Qwen3-4B"


# As `Task.metric` has it, of the schemas that are written here.
_USUAL_METRIC: dict[TaskType, str] = {"classification": "macro_f1", "extraction": "entity_f1", "generation": "chrf"}


@dataclass(frozen=True)
class Wish:
    """What is known of a task when it is made; the rest has defaults a person can edit.

    `training` holds settings by key, `lora.r` meaning r inside lora. With a `host` the task runs on that server.
    `output`, `execution` and `versioning` are those parts of task.yaml where they are known whole, or more of them.
    """

    name: str
    task_type: TaskType = "classification"
    labels: Sequence[str] = ()
    fields: Sequence[str] = ("text",)
    template: str | None = None
    output_field: str = "label"
    output_type: str = "json"
    language: str | None = None
    domain: str | None = None
    goal: str | None = None
    base_model: str = DEFAULT_BASE_MODEL
    training: dict[str, Any] = field(default_factory=dict)
    primary_metric: str | None = None
    threshold: float | None = None
    baseline: str | None = None
    strategy: Strategy = "semantic"
    host: str | None = None
    workdir: str | None = None
    python: str | None = None
    output: Mapping[str, Any] | None = None
    execution: Mapping[str, Any] | None = None
    versioning: Mapping[str, Any] = field(default_factory=dict)


def new_task(parent: Path, wish: Wish) -> TaskFolder:
    """Make `parent/NAME` with its two documents; nothing that exists is overwritten.

    Raises:
        Usage: a bad name, or a task of that name is there already.
        Invalid: the wish makes no valid task.yaml.
    """
    root = _folder_for(parent, wish.name)
    text = _task_text(wish)
    parsed = yaml.loads(text, root / "task.yaml")
    Task.check(parsed.data, root / "task.yaml", parsed.lines)
    if not (root / "data_source.yaml").exists():
        files.write_text(root / "data_source.yaml", _data_source_text())
    files.write_text(root / "task.yaml", text)
    folder = TaskFolder.at(root)
    digest.write(folder)
    return folder


def _folder_for(parent: Path, name: str) -> Path:
    if not NAME.match(name) or ".." in name:
        raise Usage(
            _("{name} cannot be a task name", name=repr(name)),
            cause=_("a task name is one folder name: letters, digits, '-', '_' and '.', first a letter or digit"),
            mend=_("for example: entity-sentiment"),
        )
    root = parent / name
    if (root / "task.yaml").exists():
        raise Usage(
            _("a task called {name} is there already", name=name),
            file=root / "task.yaml",
            mend=_("choose another name, or go on with it: nlp-skills use {name}", name=name),
        )
    if root.exists() and not root.is_dir():
        raise Usage(_("{path} is a file", path=str(root)), mend=_("choose another name"))
    return root


def _task_text(wish: Wish) -> str:
    time = files.now().isoformat()
    versioning = Versioning.model_validate({"strategy": wish.strategy, **wish.versioning})
    names = {"strategy": wish.strategy, "naming": versioning.template, **wish.versioning}
    about = {"domain": wish.domain, "language": wish.language, "goal": wish.goal}
    parts = [
        (None, {"task_name": wish.name, "version": naming.first_name(versioning), "status": "created"}),
        (_("What the model is for."), {"task_type": wish.task_type, **_present(about)}),
        (_("What it is asked: {field} is filled from each row."), {"input_template": _template(wish)}),
        (_("What it answers. json: one object; text: the bare value."), {"output_format": output_format(wish)}),
        (_("How it is trained; versions/vN/config.yaml starts as a copy of this."), {"training": _training(wish)}),
        (_("When a version is good enough (fractions, 0 to 1)."), {"success_criteria": _criteria(wish)}),
        (_("Where training runs."), {"execution": _execution(wish)}),
        (_("How versions are named and kept."), {"versioning": names}),
        (None, {"created": time, "updated": time}),
    ]
    return SCHEMA_LINE.format(document="task") + "\n".join(
        (f"# {comment}\n" if comment else "") + yaml.dumps(part) for comment, part in parts
    )


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _template(wish: Wish) -> str:
    if wish.template:
        return wish.template if wish.template.endswith("\n") else wish.template + "\n"
    return "\n".join(f"{name}: {{{name}}}" if len(wish.fields) > 1 else f"{{{name}}}" for name in wish.fields) + "\n"


def output_format(wish: Wish) -> dict[str, Any]:
    """The `output_format` of a new task of this kind."""
    if wish.output is not None:
        return dict(wish.output)
    if wish.task_type == "classification":
        return {"type": wish.output_type, "schema": {wish.output_field: {"type": "string", "enum": list(wish.labels)}}}
    if wish.task_type == "extraction":
        kind: dict[str, Any] = {"type": "string", **({"enum": list(wish.labels)} if wish.labels else {})}
        item = {"type": "object", "properties": {"text": {"type": "string"}, "type": kind}}
        return {"type": "json", "schema": {"entities": {"type": "array", "items": item}}}
    return {"type": "text", "schema": {"output": {"type": "string"}}}


def _training(wish: Wish) -> dict[str, Any]:
    training: dict[str, Any] = {"base_model": wish.base_model, "method": "sft", "lora": {"r": 16, "alpha": 32}}
    training |= {"epochs": 3, "learning_rate": 2e-4, "batch_size": 8, "max_length": 1024, "seed": 42}
    if "qwen3" in wish.base_model.lower():
        # The one setting under which Qwen3's training and inference prompts are equal token for token.
        training["chat_template_kwargs"] = {"enable_thinking": False}
    for key, value in wish.training.items():
        *parents, last = key.split(".")
        place = training
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return training


def _execution(wish: Wish) -> dict[str, Any]:
    if wish.execution is not None:
        return dict(wish.execution)
    if wish.host is None:
        return {"type": "local"}
    return {"type": "remote_ssh", "host": wish.host, **_present({"workdir": wish.workdir, "python": wish.python})}


def _criteria(wish: Wish) -> dict[str, Any]:
    return {
        "primary_metric": wish.primary_metric or _USUAL_METRIC[wish.task_type],
        **_present({"threshold": wish.threshold, "baseline": wish.baseline}),
    }


def _data_source_text() -> str:
    defaults = DataSource().dump()
    parts = [
        (_("Where the rows come from; add one with: nlp-skills data-source add"), {"sources": []}),
        (_("Texts this similar (character 3-grams) stay on one side of the split."), {"dedup": defaults["dedup"]}),
        (_("Shares of the three splits."), {"split": defaults["split"]}),
        (None, {"regeneration": defaults["regeneration"]}),
    ]
    return SCHEMA_LINE.format(document="data_source") + "\n".join(
        (f"# {comment}\n" if comment else "") + yaml.dumps(part) for comment, part in parts
    )
