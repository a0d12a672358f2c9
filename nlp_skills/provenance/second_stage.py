"""Going on from a trained version, or with another method: the settings that would otherwise be wrong, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from nlp_skills.data import preferences
from nlp_skills.evaluation import model
from nlp_skills.i18n import _
from nlp_skills.provenance.changes import number
from nlp_skills.schema.training import PREFERENCE_METHODS, Config, Method
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What weights that were trained are tied to.
_TIED = ("base_model", "adapter", "lora", "system_prompt", "chat_template", "chat_template_kwargs")
# How fast a method learns beside supervised fine-tuning. With LoRA at 2e-4 this is 1e-5 for DPO and KTO and 4e-5 for
# ORPO, with all weights at 2e-5 a tenth of that: where TRL and the papers are.
_PACE: dict[Method, float] = {"sft": 1.0, "orpo": 0.2, "dpo": 0.05, "kto": 0.05}
_BETA = 0.1
_MOST_EPOCHS = 3
_ONLY_SFT = ("class_balance", "packing")


class Setting(NamedTuple):
    """A setting to change (None removes it), and the reason where it is not plain."""

    key: str
    value: Any
    why: str | None = None


def settings(folder: TaskFolder, origin: VersionFolder, method: Method | None, init_from: str | None) -> list[Setting]:
    """What changes in a copy of `origin`'s configuration for another method, or for going on from a version's weights.

    Raises:
        Usage: `init_from` is no version name.
        Invalid: that version does not exist, was not trained, or its weights are gone.
    """
    config, found = origin.config(), list[Setting]()
    if init_from is not None:
        found += _start(config, origin, _trained(folder, init_from))
    if method is not None and method != config.method:
        found += _method(config, method)
    return found


def commands(folder: TaskFolder, version: VersionFolder, parent: str) -> str:
    """What to type next for a new version."""
    config, task = version.config(), folder.root.name
    if config.method not in PREFERENCE_METHODS:
        return "nlp-skills regenerate && nlp-skills train"
    asked, wanted = preferences.asked(folder), config.init_from or parent
    if folder.preferences("train").is_file() and asked in (None, wanted):
        return f"nlp-skills train {task}"
    return f"nlp-skills data preferences {task} --version {wanted} && nlp-skills train {task}"


def _trained(folder: TaskFolder, name: str) -> VersionFolder:
    version = folder.existing_version(name)
    model.info(version)
    return version


def _start(config: Config, origin: VersionFolder, start: VersionFolder) -> Iterator[Setting]:
    yield Setting("init_from", start.name)
    if start.name == origin.name:
        return
    mine, wanted = config.dump(), start.config().dump()
    for key in _TIED:
        if mine.get(key) != wanted.get(key):
            why = _("as {version} was trained: its weights fit nothing else", version=start.name)
            yield Setting(key, wanted.get(key), why)


def _method(config: Config, method: Method) -> Iterator[Setting]:
    yield Setting("method", method)
    pace = _PACE[method] / _PACE[config.method]
    if pace != 1:
        yield Setting("learning_rate", min(0.1, float(f"{config.learning_rate * pace:.2g}")), _why_pace(method, pace))
    if method == "sft":
        yield Setting("beta", None)
        return
    if config.beta is None:
        yield Setting("beta", _BETA, _why_beta(method))
    if config.epochs > _MOST_EPOCHS:
        why = _("pairs are few and soon known by heart; past that the answers fall apart")
        yield Setting("epochs", _MOST_EPOCHS, why)
    if method == "kto" and config.batch_size < 2:
        yield Setting("batch_size", 2, _("kto holds the answers of a batch against each other"))
    for key in _ONLY_SFT:
        if getattr(config, key):
            yield Setting(key, None, _("{key} is for sft", key=key))


def _why_pace(method: Method, pace: float) -> str:
    if pace > 1:
        return _("{method} learns at {times} times the rate", method=method, times=number(round(pace, 2)))
    return _(
        "{method} moves what is there already: {share} of the rate, or the task is unlearnt",
        method=method,
        share=f"1/{number(round(1 / pace, 2))}",
    )


def _why_beta(method: Method) -> str:
    if method == "orpo":
        return _("how much the pairs count beside the likelihood of the right answer")
    return _("how firmly it is held to what it began with; lower lets it go further")
