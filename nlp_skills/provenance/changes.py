"""What a version to come differs in from its parent: configuration, data, prompt; each as a line for its lineage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Literal

from nlp_skills.data import lock_file, staleness
from nlp_skills.data import rows as lines
from nlp_skills.data.merge import output_shape
from nlp_skills.data.snapshot import source_hash
from nlp_skills.data.sources.settings import unexpanded
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import DataSource
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import DataSnapshot, ModelInfo, SplitFile
from nlp_skills.workspace import digests, store
from nlp_skills.workspace.compare import flat
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Part = Literal["parameters", "architecture", "data", "prompt"]

_ARCHITECTURE = (
    "base_model", "method", "init_from", "adapter", "lora.target_modules", "system_prompt", "chat_template",
    "chat_template_kwargs",
)  # fmt: skip
_NAMES = {
    "lora.r": "LoRA rank",
    "lora.alpha": "LoRA alpha",
    "lora.dropout": "LoRA dropout",
    "lora.target_modules": "LoRA target modules",
    "lora.rslora": "rsLoRA",
    "lora.dora": "DoRA",
    "lora.init": "LoRA init",
    "lora.plus_ratio": "LoRA+ ratio",
}
_CLASSES = 6


@dataclass(frozen=True)
class Change:
    """One thing that differs, as a sentence, and what it is a part of."""

    part: Part
    sentence: str


def between(folder: TaskFolder, parent: VersionFolder, config: Config) -> list[Change]:
    """All that differs between a version and one that would be made now, with this configuration, from it.

    What is not known of the parent or of today (data that was never recorded, a prompt never trained on) is left out.

    Raises:
        Invalid: the parent's config.yaml or task.yaml is wrong.
    """
    task = folder.task()
    found = list(_configuration(parent.config(), config))
    # Looking for differences is no occasion to complain of documents that the steps check.
    with contextlib.suppress(Problem, OSError):
        if snapshot := parent.snapshot():
            found += [Change("data", sentence) for sentence in _data(folder, task, snapshot)]
    with contextlib.suppress(Problem, OSError):
        if info := parent.model_info():
            found += [Change("prompt", sentence) for sentence in _prompt(task, info)]
    return found


def proposal(found: Sequence[Change]) -> Literal["major", "minor"]:
    """`minor` where nothing but parameters changes, as far as is known."""
    return "minor" if found and all(change.part == "parameters" for change in found) else "major"


def _configuration(before: Config, after: Config) -> Iterator[Change]:
    old, new = dict(flat(before.dump())), dict(flat(after.dump()))
    whole = "full" in (before.adapter, after.adapter) and before.adapter != after.adapter
    if start := _start(before, after):
        yield Change("architecture", start)
        old, new = (
            {key: value for key, value in of.items() if key not in ("method", "init_from")} for of in (old, new)
        )
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) == new.get(name) or (name.startswith("lora.") and whole):
            continue
        deep = any(name == key or name.startswith(f"{key}.") for key in _ARCHITECTURE)
        line = _line(_NAMES.get(name, name), old.get(name), new.get(name))
        yield Change("architecture" if deep else "parameters", line)


def _start(before: Config, after: Config) -> str | None:
    """Another version's weights to go on from, with the method where that is another too; None for neither."""
    if after.init_from is None or after.init_from == before.init_from:
        return None
    if before.method == after.method:
        return _("method {method} goes on from {version}'s weights", method=after.method, version=after.init_from)
    return _(
        "method {before} → {after}, from {version}'s weights",
        before=before.method, after=after.method, version=after.init_from,
    )  # fmt: skip


def _line(name: str, before: Any, after: Any) -> str:
    return f"{name} {_shown(before)} → {_shown(after)}"


def _shown(value: Any) -> str:
    """A value as a person writes it in one line: 5e-6, true, all-linear, "Answer briefly."."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value) or "-"
    text = " ".join(str(value).split())
    return lines.cut(f'"{text}"' if " " in text or not text else text, 60)


def number(value: int | float) -> str:
    """The shortest spelling of a number that reads back as the same: 3, 0.05, 1e-5."""
    plain = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    if not isinstance(value, float) or not Decimal(plain).is_finite() or not value:
        return plain
    _sign, digits, exponent = Decimal(plain).normalize().as_tuple()
    assert isinstance(exponent, int)
    head, tail = digits[0], "".join(map(str, digits[1:]))
    short = f"{'-' if value < 0 else ''}{head}{'.' + tail if tail else ''}e{exponent + len(digits) - 1}"
    return short if len(short) < len(plain) else plain


def _data(folder: TaskFolder, task: Task, then: DataSnapshot) -> Iterator[str]:
    yield from _rows(folder, task, then)
    now = folder.sources()
    if then.source_hash != source_hash(now):
        kept = store.blob(folder, then.config) if then.config else None
        if kept and kept.is_file():
            yield from _settings(DataSource.load(kept), now)
        else:
            yield from _settings_by_hash(then, now)


def _rows(folder: TaskFolder, task: Task, then: DataSnapshot) -> Iterator[str]:
    """Rows of each split and, where all of them are there, of each class.

    Rows that are to be split anew are counted together: which split they come to is not settled yet.
    """
    old: dict[str, SplitFile] = {str(name): split for name, split in then.splits.items()}
    here = digests.of(folder, [folder.split(name) for name in old])
    found = {name: here[folder.split(name)] for name in old if folder.split(name) in here}
    changed = [name for name, digest in found.items() if digest != old[name].sha256]
    if not changed:
        return
    now = {name: _counted(folder, task, name, digest, old[name]) for name, digest in found.items()}
    whole = len(now) == len(old)
    classes = list(_classes(then, now)) if whole else []
    counts = [(name, old[name].rows, now[name][0]) for name in changed]
    if whole and _to_be_split_anew(folder, found["test"]):
        counts = [(_("all"), sum(split.rows for split in old.values()), sum(rows for rows, _of in now.values()))]
    for name, before, after in counts:
        if before != after:
            yield _(
                "{split} rows {before} → {after} ({difference:+d})",
                split=name, before=before, after=after, difference=after - before,
            )  # fmt: skip
        elif not classes:
            yield _("{split} rows changed, as many as before: {rows}", split=name, rows=after)
    yield from classes


def _to_be_split_anew(folder: TaskFolder, test: str) -> bool:
    """Whether the splits are from before a version was tested on its rows: a new version's regeneration pins them."""
    snapshots = [taken for name in folder.version_names() if (taken := folder.version(name).snapshot())]
    if any(taken.splits["test"].sha256 == test for taken in snapshots):
        return False
    lock = lock_file.load(folder)
    keys = {key for taken in snapshots for key in taken.test_keys}
    return lock is not None and lock_file.pinned_hash(keys) != lock.pipeline.pinned_hash


def _counted(
    folder: TaskFolder, task: Task, name: str, digest: str, before: SplitFile
) -> tuple[int, Mapping[str, int]]:
    """Rows and classes of a split as it is now; read anew only where no record is of this very file."""
    if digest == before.sha256:
        return before.rows, before.class_distribution
    with contextlib.suppress(Problem):
        lock = lock_file.load(folder)
        known = lock.outputs.get(name) if lock else None
        if known and known.sha256 == digest:
            return known.rows, known.class_distribution
    report = lines.check(folder.split(name), task.input_fields, output_shape(task), max_faults=1)
    return report["rows"], report["distribution"]


def _classes(then: DataSnapshot, now: Mapping[str, tuple[int, Mapping[str, int]]]) -> Iterator[str]:
    before = _summed(split.class_distribution for split in then.splits.values())
    after = _summed(distribution for _rows, distribution in now.values())
    names = dict.fromkeys([*before, *after])
    differing = [(name, after.get(name, 0) - before.get(name, 0)) for name in names]
    ordered = sorted((pair for pair in differing if pair[1]), key=lambda pair: -abs(pair[1]))
    for name, difference in ordered[:_CLASSES]:
        yield _("{label}: {difference:+d} rows", label=lines.shown_name(name), difference=difference)
    if ordered[_CLASSES:]:
        yield _("further classes whose rows differ: {count}", count=len(ordered) - _CLASSES)


def _summed(distributions: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for distribution in distributions:
        for name, count in distribution.items():
            total[name] = total.get(name, 0) + count
    return total


def _settings(then: DataSource, now: DataSource) -> Iterator[str]:
    """What data_source.yaml says otherwise. Of a source the keys are named and not the values: they may be secret."""
    old, new = ({str(source.name): unexpanded(source) for source in config.sources} for config in (then, now))
    yield from _sources(old, new)
    for name in old.keys() & new.keys():
        if keys := [key for key in staleness.changed(old[name], new[name]) if key != "name"]:
            yield _("source {name} changed: {keys}", name=_shown(name), keys=", ".join(keys))
    for part in ("split", "dedup"):
        before, after = (dict(flat({part: getattr(config, part).model_dump(mode="json")})) for config in (then, now))
        yield from (_line(key, before[key], after[key]) for key in before if before[key] != after[key])
    yield from _augmentation(then, now)


def _sources(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in new:
        if name not in old:
            yield _("source {name} added", name=_shown(name))
    for name in old:
        if name not in new:
            yield _("source {name} removed", name=_shown(name))


def _augmentation(then: DataSource, now: DataSource) -> Iterator[str]:
    before, after = ([step.method for step in config.augmentation] for config in (then, now))
    if before != after:
        yield _line("augmentation", before, after)
    elif then.augmentation != now.augmentation:
        yield _("augmentation changed: {methods}", methods=", ".join(after))


def _settings_by_hash(then: DataSnapshot, now: DataSource) -> Iterator[str]:
    """As `_settings`, where the data_source.yaml of that time was not kept."""
    new = {str(source.name): lock_file.hashed(lock_file.fetch_settings(source)) for source in now.sources}
    old = {name: source.config_hash for name, source in then.sources.items()}
    found = list(_sources(old, new)) if old else []
    changed = [name for name in old if name in new and old[name] != new[name]]
    found += [_("source {name} changed", name=_shown(name)) for name in changed]
    yield from found or [_("data_source.yaml changed")]


def _prompt(task: Task, then: ModelInfo) -> Iterator[str]:
    if then.input_template != task.input_template:
        pairs = zip_longest(then.input_template.splitlines(), task.input_template.splitlines(), fillvalue="")
        before, after = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
        yield f'input_template "{lines.cut(before, 40)}" → "{lines.cut(after, 40)}"'
    old, new = [str(label) for label in then.output_format.labels], task.labels
    if added := [label for label in new if label not in old]:
        yield _("labels added: {labels}", labels=_shown(added))
    if removed := [label for label in old if label not in new]:
        yield _("labels removed: {labels}", labels=_shown(removed))
    if not added and not removed:
        before_format, after_format = (
            dict(flat({"output_format": form.model_dump(mode="json", by_alias=True, exclude_none=True)}))
            for form in (then.output_format, task.output_format)
        )
        for key in dict.fromkeys([*before_format, *after_format]):
            if before_format.get(key) != after_format.get(key):
                yield _line(key, before_format.get(key), after_format.get(key))
