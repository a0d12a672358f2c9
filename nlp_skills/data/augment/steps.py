"""The entries under `augmentation:`, one after the other."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from nlp_skills.data import entities
from nlp_skills.data.augment import entity_swap, oversample, paraphrase
from nlp_skills.data.augment.rooms import Originals, Resembling, Row, Work, held_out_texts
from nlp_skills.data.sources import Fetching
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import Augmentation, DataSource, EntitySwap, Oversample, Paraphrase
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

# A share of refused rows that is worth a warning.
_MUCH = 0.1


def apply(
    train: Path,
    config: DataSource,
    task: Task,
    folder: TaskFolder,
    held_out: Container[str],
    fetching: Fetching,
) -> Iterator[Row]:
    """The extra training rows, method by method, in an order that depends on the rows alone.

    `train` is the split's train.jsonl; valid.jsonl and test.jsonl are looked for beside it, so that nothing comes
    near their rows. `held_out` holds the keys of theirs. Each row has the columns of the row it was made from and
    `_augmented`: `method`, `of` (that row's key) and `number`. What was made and refused goes to the record of
    `fetching` under `augmentation`.

    Raises:
        Invalid: a method does not fit the task, or its settings are wrong (with the line in data_source.yaml).
        Unavailable: the model of a paraphrase cannot be reached.
    """
    for at, entry in enumerate(config.augmentation):
        refusal = check(entry, task)
        if refusal is not None:
            raise _placed(refusal, folder, at)
    work = _work(train, config, task, folder, held_out, fetching)
    done = fetching.record.setdefault("augmentation", [])
    for entry in config.augmentation:
        yield from _step(entry, work, done)


def _step(entry: Augmentation, work: Work, done: list[dict[str, Any]]) -> Iterator[Row]:
    work.refused.clear()
    work.record = {}
    added = 0
    for row in _method(entry, work):
        added += 1
        yield row
    refused = dict(sorted(work.refused.items()))
    done.append({"method": entry.method, "added": added, "refused": refused, **work.record})
    if sum(refused.values()) > _MUCH * (added + sum(refused.values())):
        work.fetching.warnings.append(
            _(
                "{method}: rows made {added}, refused {refused} ({reasons})",
                method=entry.method,
                added=added,
                refused=sum(refused.values()),
                reasons=", ".join(f"{name} {count}" for name, count in refused.items()),
            )
        )


def summary(done: Mapping[str, Any]) -> str:
    """One step of `fetching.record["augmentation"]` in words."""
    words = _(
        "{method}: rows added {added}, refused {refused}",
        method=done["method"],
        added=done["added"],
        refused=sum(done["refused"].values()),
    )
    if "asked" not in done:
        return words
    return words + _(
        "; {requests} requests ({replayed} replayed), {asked} tokens in, {answered} out, paid now: {money}",
        requests=done["asked"],
        replayed=done["replayed"],
        asked=done["input_tokens"],
        answered=done["output_tokens"],
        money=_("price unknown") if done["cost"] is None else f"${done['cost']:.4f}",
    )


def _method(entry: Augmentation, work: Work) -> Iterator[Row]:
    if isinstance(entry, Oversample):
        return oversample.rows(entry, work)
    if isinstance(entry, EntitySwap):
        return entity_swap.rows(entry, work)
    return paraphrase.rows(entry, work)


def _work(
    train: Path, config: DataSource, task: Task, folder: TaskFolder, held_out: Container[str], fetching: Fetching
) -> Work:
    originals = Originals(train, task, config.split.seed)
    # Repeating rows says nothing new: there is nothing to compare then.
    says_anew = any(not isinstance(entry, Oversample) for entry in config.augmentation)
    texts = held_out_texts(train, task) if says_anew else []
    threshold = config.dedup.near
    seen = {entry.key for entry in originals.entries}
    resembling = Resembling(texts, threshold)
    return Work(task, config, folder, originals, held_out, resembling, fetching, seen)


def check(entry: Augmentation, task: Task) -> Invalid | None:
    """Why a method cannot be used for this task; None where it can."""
    if isinstance(entry, Oversample):
        return _check_oversample(task)
    if isinstance(entry, EntitySwap):
        return _check_entity_swap(task)
    return _check_paraphrase(entry, task)


def _check_oversample(task: Task) -> Invalid | None:
    if task.label_field is None:
        cause = _("task.yaml: task_type is {type}", type=task.task_type)
        return Invalid(_("oversample repeats rows of small classes; this task has no classes"), cause=cause)
    if task.multi_label:
        return Invalid(
            _("oversample does not know which rows to repeat where a row has several labels"),
            cause=_("to repeat a row for one of its labels makes the others more frequent too"),
            mend=_("use paraphrase with labels: for the rare ones, or collect more rows of them"),
        )
    return None


def _check_entity_swap(task: Task) -> Invalid | None:
    if entities.entity_field(task) is not None:
        return None
    return Invalid(
        _("entity_swap needs a task whose answers list entities"),
        cause=_("no property of output_format.schema is an array of objects with text"),
        mend=_("use another method for this task, such as paraphrase"),
    )


def _check_paraphrase(entry: Paraphrase, task: Task) -> Invalid | None:
    unknown = [label for label in entry.labels if label not in task.labels]
    if unknown:
        known = ", ".join(task.labels) or _("none")
        return Invalid(_("the task has no class {name}", name=unknown[0]), cause=_("its classes: {names}", names=known))
    wrong = paraphrase.unknown_placeholder(entry, task)
    if wrong is not None:
        return Invalid(
            _("prompt_template names {name}, which no row has", name=f"{{{wrong}}}"),
            mend=_("it may name {names}", names=", ".join(f"{{{name}}}" for name in paraphrase.placeholders(task))),
        )
    return None


def _placed(problem: Invalid, folder: TaskFolder, at: int) -> Invalid:
    """The problem with the place of the entry in data_source.yaml."""
    found = yaml.read(folder.sources_path).lines
    problem.file = str(folder.sources_path)
    problem.line = found.get(("augmentation", at, "method")) or found.get(("augmentation", at))
    return problem
