"""Preferences out of a version's own mistakes: the right answer is chosen, the wrong one it gave rejected.

Mistakes alone teach a model away from the answer it gave too often, wherever that stands: a tiny model of macro-F1 0.56
came down to 0.42 by them. With the rows beside them that it answered rightly and was not sure of, it came up to 0.72.

The version is asked every row of train and valid by the likelihood of its labels, as an evaluation asks it those of
test, which are never read here. What was asked before an interruption is not asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import preferences
from nlp_skills.data import rows as lines
from nlp_skills.data.load import load
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import model, subject
from nlp_skills.evaluation.answering import transformers
from nlp_skills.evaluation.answering.ask import ask
from nlp_skills.evaluation.answering.partial import Partial
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.workspace import lock
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]

# A right answer less probable than this is one that learning from mistakes may lose.
MARGIN = 0.9


@dataclass(frozen=True)
class Counts:
    """Of one split: rows asked, answered wrongly, answered rightly but unsure of it, and pairs made."""

    rows: int
    wrong: int
    unsure: int
    pairs: int


@dataclass(frozen=True)
class Made:
    """What was written: `splits` has train and, where there is one, valid; `files` are paths in the task folder."""

    version: str
    margin: float
    splits: dict[str, Counts]
    files: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": True, **asdict(self)}


def make(folder: TaskFolder, version: str | None = None, *, margin: float | None = None, replace: bool = False) -> Made:
    """Ask a version and write data/preferences/: pairs of what it should have said and what it said.

    Args:
        folder: the task.
        version: its name; left out, the current one, or while that is not trained the one it goes on from.
        margin: beside the mistakes, take rows whose right answer has a probability below this, against the likeliest
            wrong one. Left out it is 0.9, and there must be a mistake; 0 takes mistakes alone.
        replace: overwrite files that people wrote or changed.

    Raises:
        Invalid: nothing trained, no classification, bad rows, no mistakes to learn from, or files of people's own.
        Unavailable: an extra, the base model or disk space is missing.
    """
    with lock.writing(folder):
        chosen = _chosen(folder, version)
        if not replace:
            _refuse_peoples_own(folder)
        rows = {split: load(folder, split) for split in preferences.SPLITS if folder.split(split).is_file()}
        if not rows.get("train"):
            raise Invalid(
                _("there is no data to ask the version about"),
                file=folder.split("train"),
                mend=_("make it with: nlp-skills regenerate {task}", task=folder.root.name),
            )
        return _make(chosen, rows, margin)


def _chosen(folder: TaskFolder, version: str | None) -> Subject:
    task = folder.task()
    if task.task_type != "classification" or task.multi_label:
        raise _another_kind(folder)
    current = folder.existing_version(version)
    if version is None and current.model_info() is None:
        version = current.config().init_from
    chosen = subject.asked(folder, version)
    if chosen.listed is None:
        raise _another_kind(folder)
    return chosen


def _another_kind(folder: TaskFolder) -> Invalid:
    return Invalid(
        _("mistakes can be told from right answers where a row has one label; this task is of another kind"),
        file=folder.task_path,
        mend=_("write {path} yourself: a row is {form}",
               path="data/preferences/train.jsonl", form="{prompt, chosen, rejected}"),
    )  # fmt: skip


def _make(chosen: Subject, rows: dict[str, list[Row]], margin: float | None) -> Made:
    answers, taken = _answers(chosen, rows), MARGIN if margin is None else margin
    found = {split: list(_pairs(chosen, rows[split], answers[split], taken)) for split in rows}
    counts = {split: _counted(chosen, rows[split], answers[split], len(found[split])) for split in rows}
    if not found["train"] or (margin is None and not counts["train"].wrong):
        raise _nothing_to_learn(chosen, margin)
    written = _write(chosen, found, counts, taken)
    for split in rows:
        _partial(chosen, split).forget()
    return Made(chosen.version.name, taken, counts, written)


def _answers(chosen: Subject, rows: dict[str, list[Row]]) -> dict[str, list[Answer]]:
    scorer, found = transformers.load(chosen.folder, chosen.version.name), {}
    for split, given in rows.items():
        title = _("ask {version}: {split}", version=chosen.version.name, split=split)
        partial = _partial(chosen, split)
        found[split] = ask(scorer, given, chosen.renderer, chosen.kind, None, partial, title, way="likelihood")
    return found


def _partial(chosen: Subject, split: str) -> Partial:
    asked = [model.fingerprint(chosen.folder.root, chosen.info), files.sha256_file(chosen.folder.split(split))]
    return Partial(chosen.version.run / f"mistakes.{split}.partial", model.digest(asked))


def _pairs(chosen: Subject, rows: Sequence[Row], answers: Sequence[Answer], margin: float) -> Iterator[dict[str, str]]:
    """Prompts as task.yaml renders them today, for that is how the next version will be asked."""
    task, field = chosen.task, chosen.label_field
    renderer = Renderer(task.input_template, task.output_format)
    for row, answer in zip(rows, answers, strict=True):
        rejected = _rejected(row[field], answer, margin)
        if rejected is not None:
            yield {
                "prompt": renderer.messages(row)[-1]["content"],
                "chosen": renderer.answer(row),
                "rejected": renderer.answer({**row, field: rejected}),
            }


def _rejected(right: str, answer: Answer, margin: float) -> str | None:
    """The answer to learn away from: the wrong one it gave, or the one it came near to giving; None for neither."""
    shares = answer.probabilities or {}
    if answer.predicted != right:
        return str(answer.predicted)
    if shares[right] >= margin:
        return None
    return max((label for label in shares if label != right), key=shares.__getitem__)


def _counted(chosen: Subject, rows: Sequence[Row], answers: Sequence[Answer], pairs: int) -> Counts:
    wrong = sum(row[chosen.label_field] != answer.predicted for row, answer in zip(rows, answers, strict=True))
    return Counts(len(rows), wrong, pairs - wrong, pairs)


def _nothing_to_learn(chosen: Subject, margin: float | None) -> Invalid:
    name, by_hand = chosen.version.name, _("write preferences by hand, or go on with method sft and more rows")
    if margin:
        return Invalid(
            _("{version} answers every row of train rightly, and is as sure of each as asked", version=name),
            cause=_("every right answer has a probability of at least {margin:g}", margin=margin),
            mend=by_hand,
        )
    return Invalid(
        _("{version} answers every row of train rightly: there are no mistakes to learn from", version=name),
        mend=_(
            "take the rows it is not sure of: --margin {margin:g}; or {otherwise}", margin=MARGIN, otherwise=by_hand
        ),
    )


def _write(
    chosen: Subject, found: dict[str, list[dict[str, str]]], counts: dict[str, Counts], margin: float
) -> list[str]:
    """The pairs of every split, an empty file where there are none: what an earlier version got wrong must not stay.

    source.json comes first and knows the files before and after, so that a kill leaves none that looks like a
    person's own.
    """
    folder = chosen.folder
    texts = {folder.preferences(split): b"".join(map(lines.dump, pairs)) for split, pairs in found.items()}
    before = {path.name: files.sha256_file(path) for path in texts if path.is_file()}
    source = {
        "version": chosen.version.name,
        "model": model.fingerprint(folder.root, chosen.info),
        "created": files.now().isoformat(),
        "margin": margin,
        "counts": {split: asdict(count) for split, count in counts.items()},
        "files": {path.name: files.sha256_bytes(text) for path, text in texts.items()},
        **({"replaced": before} if before else {}),
    }
    files.write_json(preferences.source_path(folder), source)
    for path, text in texts.items():
        files.write_bytes(path, text)
    return [path.relative_to(folder.root).as_posix() for path in preferences.paths(folder)]


def _refuse_peoples_own(folder: TaskFolder) -> None:
    for path in _data_files(folder):
        if files.sha256_file(path) not in _ours(folder, path):
            raise Invalid(
                _("these preferences were written or changed by a person"),
                file=path,
                mend=_("keep them, or write over them with --replace"),
            )


def _data_files(folder: TaskFolder) -> list[Path]:
    return [path for path in preferences.paths(folder) if path != preferences.source_path(folder)]


def _ours(folder: TaskFolder, path: Path) -> set[str]:
    """The hashes a file has, or had, when this program wrote it."""
    try:
        source = files.read_json(preferences.source_path(folder))
        return {source[part][path.name] for part in ("files", "replaced") if path.name in source.get(part, {})}
    except (Problem, KeyError, TypeError, AttributeError):
        return set()
