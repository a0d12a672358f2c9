"""A recommendation as a task: task.yaml, data_source.yaml and versions/v1/config.yaml; or what it changes in one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from nlp_skills.coach.recommendation import Recommendation
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.workspace import create, digest, naming
from nlp_skills.workspace.compare import flat
from nlp_skills.workspace.folder import TaskFolder

Key = str | int


def refuse(found: Recommendation) -> None:
    """Refuse to write what is not advised.

    Raises:
        Invalid: something else comes first.
    """
    if found.ok and found.plan:
        return
    raise Invalid(
        _("no task is made: the advice is something else first"),
        cause=found.advice,
        mend=_("do that first; or make the task all the same: --write --force")
        if found.plan and (found.wish.labels or found.wish.task_type != "classification")
        else _("answer that first, then run it again"),
    )


def write(found: Recommendation, parent: Path, *, force: bool = False) -> tuple[TaskFolder, list[str]]:
    """Make the task, or with `force` bring one up to date that was never trained; the files written.

    Raises:
        Invalid: fine-tuning is not advised and `force` is not set; or there is a task that says something else.
        Usage: the name cannot be a task's.
    """
    if not force or found.plan is None:
        refuse(found)
    root = parent / found.wish.name
    if (root / "task.yaml").exists():
        return _again(found, TaskFolder.at(root), force=force)
    folder = create.new_task(parent, _wish(found))
    return folder, ["task.yaml", "data_source.yaml", _config(folder)]


def next_command(found: Recommendation, folder: TaskFolder) -> str:
    """How the data get in: with the columns as they were found."""
    name, data = shlex.quote(folder.root.name), found.wish.data
    if data is None or not data.files:
        return f"nlp-skills data-source add {name} --help"
    task = folder.task()
    pairs = list(zip(task.input_fields, data.fields, strict=False))
    pairs += [(task.label_field, data.label_field)] if task.label_field and data.label_field else []
    mapping = [f"--mapping {shlex.quote(f'{ours}={theirs}')}" for ours, theirs in pairs]
    path = shlex.quote(str(data.files[0].resolve()))
    return " ".join(["nlp-skills data-source add", name, "--type file_import", "--path", path, *mapping])


def _wish(found: Recommendation) -> create.Wish:
    wish, plan = found.wish, found.plan
    assert plan is not None
    summary = wish.summary
    data = wish.data
    return create.Wish(
        name=wish.name,
        task_type=wish.task_type,
        labels=wish.labels,
        fields=(summary.fields if summary and summary.fields else list(data.fields) if data else []) or ["text"],
        template=summary.input_template if summary else None,
        output_field=(wish.output_format.label_field or "label"),
        output_type=wish.output_format.type,
        language=wish.language,
        domain=summary.domain if summary else None,
        goal=summary.goal if summary else None,
        base_model=plan.config.base_model,
        primary_metric=wish.metric,
        threshold=wish.threshold,
        strategy=found.strategy,
        **_parts(found),
    )


def _parts(found: Recommendation) -> dict[str, Any]:
    """What the proposal and the summary have whole: the training, the answer's form, where it runs and goes."""
    parts: dict[str, Any] = {"training": dict(flat(training(found)))}
    summary = found.wish.summary
    if found.wish.kind == "labels":
        parts["output"] = found.wish.output_format.model_dump(mode="json", by_alias=True, exclude_none=True)
    if summary is None:
        return parts
    versioning = summary.versioning
    named = {"naming": versioning.naming} if versioning.naming else {}
    kept = {"retention": versioning.retention.keep_recent, "deploy_target": versioning.deploy_target}
    parts["versioning"] = {**named, **kept}
    if summary.output_format:
        parts["output"] = summary.output_format.model_dump(mode="json", by_alias=True, exclude_none=True)
    if summary.execution:
        stated = summary.execution.model_dump(mode="json", exclude_defaults=True)
        parts["execution"] = {"type": summary.execution.type, **stated}
    if summary.success_criteria.baseline is not None:
        parts["baseline"] = summary.success_criteria.baseline
    return parts


def training(found: Recommendation) -> dict[str, Any]:
    """The `training:` part of task.yaml: the first version's settings, without those left at their defaults."""
    assert found.first is not None
    config = found.first
    said = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    said = {"base_model": config.base_model, "method": config.method, "adapter": config.adapter, **said}
    if config.lora:
        said["lora"] = {"r": config.lora.r, "alpha": _plain(config.lora.alpha)}
    for name in ("epochs", "learning_rate", "batch_size", "gradient_accumulation", "seed"):
        said[name] = _plain(getattr(config, name))
    return said


def _plain(value: float) -> float:
    """3 rather than 3.0, as a person would write it."""
    return int(value) if value == int(value) else value


def _config(folder: TaskFolder) -> str:
    """versions/v1/config.yaml, which starts as a copy of `training:`."""
    task = folder.task()
    assert task.training is not None
    version = folder.version(naming.first_name(task.versioning))
    Config.model_validate(task.training.model_dump()).save(version.config_path)
    return version.config_path.relative_to(folder.root).as_posix()


def _again(found: Recommendation, folder: TaskFolder, *, force: bool) -> tuple[TaskFolder, list[str]]:
    """A task that is there: what differs is told, or changed where nothing was trained by it yet."""
    changes = {at: value for at, value in _wanted(found).items() if _differs(folder, at, value)}
    if not changes:
        return folder, []
    shown = "; ".join(_difference(folder, at, value) for at, value in changes.items())
    if any(folder.version(name).model for name in folder.version_names()):
        raise Invalid(
            _("the task {name} has trained versions, which are never changed", name=folder.root.name),
            file=folder.task_path,
            cause=_("the proposal differs: {changes}", changes=shown),
            mend=_("make a version of it: {command}", command=_new_version(found, folder)),
        )
    if not force:
        raise Invalid(
            _("a task called {name} is there already", name=folder.root.name),
            file=folder.task_path,
            cause=_("the proposal differs: {changes}", changes=shown),
            mend=_("change it so: --write --force; nothing was trained by it yet"),
        )
    yaml.change(folder.task_path, changes)
    digest.write(folder)
    return folder, ["task.yaml", _config(folder)]


def _wanted(found: Recommendation) -> dict[tuple[Key, ...], Any]:
    """What the proposal, and a mind that changed, say of a task that is there."""
    wish, parts = found.wish, _parts(found)
    changes: dict[tuple[Key, ...], Any] = {
        ("language",): wish.language,
        ("success_criteria", "primary_metric"): wish.metric,
        ("success_criteria", "threshold"): wish.threshold,
        ("success_criteria", "baseline"): parts.get("baseline"),
        ("output_format",): parts.get("output"),
        ("execution",): parts.get("execution"),
    }
    changes |= {("versioning", name): value for name, value in parts.get("versioning", {}).items()}
    changes |= {("training", *key.split(".")): value for key, value in parts["training"].items()}
    if wish.given_labels and wish.task_type == "classification" and "output" not in parts:
        field = wish.output_format.label_field or "label"
        changes[("output_format", "schema", field, "enum")] = list(wish.labels)
    return {at: value for at, value in changes.items() if value is not None}


def _differs(folder: TaskFolder, at: tuple[Key, ...], value: Any) -> bool:
    return bool(_at(folder, at) != value)


def _at(folder: TaskFolder, at: tuple[Key, ...]) -> Any:
    found, _lines = yaml.read(folder.task_path)
    for key in at:
        found = found.get(key) if isinstance(found, dict) else None
    if at == ("versioning", "retention") and isinstance(found, dict):
        return found.get("keep_recent")
    return found


def _difference(folder: TaskFolder, at: tuple[Key, ...], value: Any) -> str:
    return f"{'.'.join(map(str, at))}: {_at(folder, at)} → {value}"


def _new_version(found: Recommendation, folder: TaskFolder) -> str:
    """The command that makes a version with the settings that differ."""
    there = dict(flat(_at(folder, ("training",)) or {}))
    changed = [(key, value) for key, value in flat(training(found)) if there.get(key) != value]
    settings = [f"--set {key}={shlex.quote(str(value))}" for key, value in changed]
    return " ".join(["nlp-skills new-version", shlex.quote(folder.root.name), *settings])
