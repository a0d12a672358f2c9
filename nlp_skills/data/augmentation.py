"""An entry under `augmentation:`, written by a command: tried first, then put into data_source.yaml and carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nlp_skills import files, variables
from nlp_skills.data import near
from nlp_skills.data import rows as lines
from nlp_skills.data.augment.paraphrase import wanted
from nlp_skills.data.augment.rooms import Originals, Row
from nlp_skills.data.augment.steps import apply, check
from nlp_skills.data.regenerate import Regenerated, regenerate
from nlp_skills.data.sources import Fetching
from nlp_skills.errors import Invalid, Usage
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import Augmentation, DataSource, Paraphrase
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

_EXAMPLES = 3


@dataclass(frozen=True)
class Planned:
    """What a method would add to the data as it is now.

    `counts`: rows by class (the key is empty for tasks without), exact unless `at_most`: a model is asked for the
    examples only, and what it will say to the others is not known. `examples` are pairs of original and new row.
    """

    method: str
    rows: int
    at_most: bool
    counts: dict[str, int]
    refused: dict[str, int]
    examples: list[tuple[Row, Row]]


def preview(folder: TaskFolder, given: Mapping[str, Any]) -> Planned:
    """What an entry with these settings would do; nothing is written. A paraphrase asks its model for the examples.

    Raises:
        Usage: the settings are wrong, or the method does not fit the task.
        Invalid: there is no data yet.
    """
    task, config = folder.task(), folder.sources()
    entry, _position, _settings = _entry(folder, task, config, given)
    train = folder.split("train")
    for name in ("train", "valid", "test"):
        if not folder.split(name).is_file():
            raise Invalid(_("file not found"), file=folder.split(name), mend="nlp-skills regenerate")
    held_out = {
        near.row_key(row, task.input_fields) for name in ("valid", "test") for row in lines.read(folder.split(name))
    }
    fetching = Fetching(folder, preview=True)
    alone = config.model_copy(update={"augmentation": [entry]})
    originals = Originals(train, task, config.split.seed)
    counts: Counter[str] = Counter()
    made: list[Row] = []
    for row in apply(train, alone, task, folder, held_out, fetching):
        counts.update(_classes(row, task))
        if len(made) < _EXAMPLES:
            made.append(row)
    refused = fetching.record["augmentation"][0]["refused"]
    if isinstance(entry, Paraphrase):
        chosen = wanted(entry, originals.entries)
        counts = Counter(label for one in chosen for label in one.labels or ("",) for _n in range(entry.per_row))
    rows = len(chosen) * entry.per_row if isinstance(entry, Paraphrase) else counts.total()
    return Planned(entry.method, rows, isinstance(entry, Paraphrase), dict(counts), refused, _pairs(made, originals))


def _classes(row: Row, task: Task) -> list[str]:
    return lines.labels_of(row, task.label_field) if task.label_field else [""]


def _pairs(made: list[Row], originals: Originals) -> list[tuple[Row, Row]]:
    keys = {row["_augmented"]["of"] for row in made}
    known = {one.key: row for one, row in originals.read(one for one in originals.entries if one.key in keys)}
    return [(known[row["_augmented"]["of"]], row) for row in made]


def add(folder: TaskFolder, given: Mapping[str, Any]) -> Regenerated:
    """Write the entry, or change the one of the same method, and regenerate; comments in the file stay.

    Where the regeneration fails, data_source.yaml is put back as it was; what a model answered until then is kept.

    Raises:
        Usage: the settings are wrong, or the method does not fit the task.
        Problem: whatever the regeneration meets.
    """
    task, config = folder.task(), folder.sources()
    _checked, position, settings = _entry(folder, task, config, given)
    before = folder.sources_path.read_bytes()
    _write(folder, config, position, settings)
    try:
        return regenerate(folder)
    except BaseException:
        files.write_bytes(folder.sources_path, before)
        raise


def _entry(
    folder: TaskFolder, task: Task, config: DataSource, given: Mapping[str, Any]
) -> tuple[Augmentation, int, dict[str, Any]]:
    """The entry as it will be, its place in the list, and the settings to write."""
    methods = [entry.method for entry in config.augmentation]
    position = methods.index(given["method"]) if given["method"] in methods else len(methods)
    settings = {key: value for key, value in given.items() if value is not None}
    if variables.literal_secrets(settings):
        mend = _("write ${NAME} and set the variable NAME in the shell or in the file .env of the task")
        raise Usage(_("a secret is not written to data_source.yaml"), mend=mend)
    earlier = {}
    if position < len(methods):
        earlier = yaml.read(folder.sources_path).data["augmentation"][position]
    entry = _model({**earlier, **settings})
    refusal = check(entry, task)
    if refusal is not None:
        raise Usage(refusal.message, cause=refusal.cause, mend=refusal.mend)
    return entry, position, settings


def _model(settings: dict[str, Any]) -> Augmentation:
    from pydantic import ValidationError

    try:
        return DataSource.model_validate({"augmentation": [settings]}).augmentation[0]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][-1])
        if first["type"] == "missing":
            cause = _("{method} needs it", method=settings["method"])
            raise Usage(_("the key {name} is missing", name=name), cause=cause, mend=f"--{name} …") from error
        if first["type"] == "extra_forbidden":
            raise Usage(_("{method} has no setting {name}", method=settings["method"], name=name)) from error
        raise Usage(_("wrong value for {name}", name=name), cause=first["msg"]) from error


def _write(folder: TaskFolder, config: DataSource, position: int, settings: dict[str, Any]) -> None:
    changes: dict[tuple[str | int, ...], Any]
    if not config.augmentation:
        changes = {("augmentation",): [settings]}
    elif position == len(config.augmentation):
        changes = {("augmentation", position): settings}
    else:
        changes = {("augmentation", position, key): value for key, value in settings.items()}
    yaml.change(folder.sources_path, changes)
