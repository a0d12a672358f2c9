"""Making a learning curve: train on a quarter, a half and all of the rows, ask each model the valid split, look ahead.

The test split is not asked: whoever decides by a curve whether to label more has then not yet looked at it.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files, progress
from nlp_skills.errors import Invalid, Usage
from nlp_skills.evaluation import asked as asking
from nlp_skills.evaluation import forms, marks, model
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.learning_curve import drawing, outlook, subsets
from nlp_skills.learning_curve.outlook import Asked, Outlook, Trained
from nlp_skills.learning_curve.scratch import Scratch, lines_of
from nlp_skills.progress import Tell
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.training import artefact, base_model, encode, identity, preflight, selection
from nlp_skills.training import train as training
from nlp_skills.workspace import lock
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

PERCENTS = (25, 50, 100)


@dataclass(frozen=True)
class Curve:
    """A curve that was made, and where it is kept. `reused`: the point of all rows is the version's own model."""

    task: str
    version: str
    train_rows: int
    valid_rows: int
    seeds: int
    seconds: float
    reused: bool
    outlook: Outlook
    file: Path
    drawing: Path

    def as_dict(self) -> dict[str, Any]:
        """As learning_curve.json and `--json` have it."""
        found = self.outlook
        return {
            "task": self.task,
            "version": self.version,
            "verdict": found.verdict,
            "metric": found.metric,
            "train_rows": self.train_rows,
            "valid_rows": self.valid_rows,
            "seeds": self.seeds,
            "points": [dataclasses.asdict(point) for point in found.points],
            "rise": {"value": found.rise[0], "interval": found.rise[1]},
            "law": found.law,
            "ahead": [dataclasses.asdict(one) for one in found.ahead],
            "caveats": found.caveats,
            "reused": self.reused,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class _Subject:
    """What the curve is of."""

    folder: TaskFolder
    version: VersionFolder
    task: Task
    config: Config
    lines: Sequence[bytes]
    classes: Sequence[tuple[str, ...]]
    asked: Asked


def make(
    folder: TaskFolder,
    version: str | None = None,
    *,
    percents: Sequence[int] = PERCENTS,
    seeds: int = 1,
    tell: Tell,
    on_stop: Callable[[], None] | None = None,
) -> Curve:
    """The learning curve of a version's configuration; points that an earlier, stopped command made are kept.

    Args:
        folder: the task.
        version: its name; the task's current one when left out.
        percents: the shares of the training rows, at least three; all rows are always among them.
        seeds: trainings for each share, each with another seed and other rows.
        tell: hears of each point before it is made.
        on_stop: called when Ctrl-C has been heard and the training at hand is coming to its end.

    Raises:
        Usage: shares that make no curve.
        Invalid: a version that has none, or data that does not pass the preflight.
        Unavailable: a package, the base model, memory or disk space is missing.
        KeyboardInterrupt: stopped; the same command goes on from there.
    """
    need("train", "torch", "transformers", "trl", "peft", "accelerate", "datasets")
    shares = _shares(percents)
    subject = _subject(folder, version)
    sizes = {share: len(subsets.nested(subject.classes, share, 0)) for share in shares}
    _refuse_too_few(subject, sizes)
    scratch = Scratch(folder, subject.version)
    now = identity.of(folder, subject.task, subject.config)
    started = time.monotonic()
    with scratch.alone(now):
        own = identity.changed(subject.version, now) == [] and _is_trained(subject)
        trained = _trained(subject, scratch, sizes, seeds, own=own, tell=tell, on_stop=on_stop)
        found = outlook.of(trained, subject.asked)
        made = _curve(subject, found, seeds, time.monotonic() - started, reused=own)
        _save(folder, made)
        scratch.remove()
    return made


def _shares(percents: Sequence[int]) -> list[int]:
    strange = [percent for percent in percents if not 0 < percent <= 100]
    shares = sorted({*percents, 100})
    if strange:
        raise Usage(_("{share} is not a share between 1 and 100", share=strange[0]), mend="--fractions 25,50,100")
    if len(shares) < outlook.FEWEST_POINTS:
        text = _("a curve needs at least {fewest} shares of the rows", fewest=outlook.FEWEST_POINTS)
        raise Usage(text, mend="--fractions 25,50,100")
    return shares


def _subject(folder: TaskFolder, name: str | None) -> _Subject:
    version = preflight.configured(folder, name)
    task, config = folder.task(), version.config()
    preflight.refuse_unavailable(task, version)
    if config.method != "sft" or config.init_from:
        setting = "init_from" if config.init_from else "method"
        raise Invalid(
            _("a learning curve is of a version that learns from labelled rows alone"),
            file=version.config_path,
            cause=_("{setting}: {value}", setting=setting, value=config.init_from or config.method),
            mend=_("name a version of method sft without init_from; what it goes on from has seen all rows already"),
        )
    for split in ("train", "valid", "test"):
        path = folder.split(split)
        if not path.is_file() or (split != "test" and not lines_of(path)):
            mend = _("give every split a share of the rows in data_source.yaml, then: nlp-skills regenerate")
            raise Invalid(_("there are no rows in this split, and a learning curve needs them"), file=path, mend=mend)
    metric = marks.selecting(task, folder.root)
    rows = lines_of(folder.split("train"))
    kind = marks.kind(task)
    labelled = kind in ("label", "labels")
    classes = [encode.classes(task.output_format, row) if labelled else () for _line, row in rows]
    valid = [row for _line, row in lines_of(folder.split("valid"))]
    asked = Asked(
        kind,
        task.labels if labelled else [],
        [forms.of(kind, task.output_format, row) for row in valid],
        metric,
        texts=[[str(row[name]) for name in task.input_fields] for row in valid],
        language=task.language,
    )
    return _Subject(folder, version, task, config, [line for line, _row in rows], classes, asked)


def _refuse_too_few(subject: _Subject, sizes: dict[int, int]) -> None:
    if len(set(sizes.values())) < len(sizes):
        raise Invalid(
            _("too few rows for a curve of these shares: {sizes}", sizes=", ".join(map(str, sizes.values()))),
            file=subject.folder.split("train"),
            mend=_("label more rows first, or choose shares further apart with --fractions"),
        )


def _is_trained(subject: _Subject) -> bool:
    status = subject.version.status()
    place = artefact.place(subject.version, subject.config)
    return (
        status is not None
        and status.state == "completed"
        and subject.version.model_info() is not None
        and place.is_dir()
    )


def _trained(
    subject: _Subject,
    scratch: Scratch,
    sizes: dict[int, int],
    seeds: int,
    *,
    own: bool,
    tell: Tell,
    on_stop: Callable[[], None] | None,
) -> list[Trained]:
    """Every point, smallest shares first; those already done are not made again."""
    wanted = [(percent, seed) for percent in sizes for seed in range(seeds)]
    made: list[Trained] = []
    left: list[tuple[int, int]] = []
    for percent, seed in wanted:
        kept = scratch.done(percent, seed, sizes[percent], len(subject.asked.gold))
        made.append(kept) if kept else left.append((percent, seed))
    if made:
        tell(_("points that are made already: {count} of {total}", count=len(made), total=len(wanted)))
    spent = rows = 0.0
    for place, (percent, seed) in enumerate(left):
        begun = time.monotonic()
        free = own and (percent, seed) == (100, 0)
        to_come = sum(sizes[share] for share, number in left[place:] if not (own and (share, number) == (100, 0)))
        tell(_announced(percent, sizes[percent], seed, seeds, spent / rows * to_come if rows else None))
        if free:
            one = Trained(percent, seed, sizes[percent], _asked(subject.folder, subject))
        else:
            one = _point(subject, scratch, percent, seed, on_stop)
            spent, rows = spent + time.monotonic() - begun, rows + sizes[percent]
        scratch.keep(one, time.monotonic() - begun)
        made.append(one)
    return made


def _announced(percent: int, rows: int, seed: int, seeds: int, eta: float | None) -> str:
    about = {"percent": percent, "rows": rows, "seed": seed + 1, "seeds": seeds}
    if eta is None:
        return _("{percent} of 100: rows {rows}, training {seed} of {seeds}", **about)
    return _("{percent} of 100: rows {rows}, training {seed} of {seeds}; about {eta:.0f} s left", eta=eta, **about)


def _point(subject: _Subject, scratch: Scratch, percent: int, seed: int, on_stop: Callable[[], None] | None) -> Trained:
    chosen = subsets.nested(subject.classes, percent, seed)
    task = scratch.task(percent, seed, [subject.lines[row] for row in chosen], subject.config)
    status = training.train(task, subject.version.name, on_stop=on_stop)
    if status.state != "completed":
        raise KeyboardInterrupt
    return Trained(percent, seed, len(chosen), _asked(task, subject))


def _asked(task: TaskFolder, subject: _Subject) -> list[Any]:
    """The answers of a trained version, of this task or of a point's, to every valid row."""
    with base_model.without_bars():
        loaded = model.load(task, subject.version.name)
        config = task.existing_version(subject.version.name).config()
        questions = selection.questions(task, subject.task, config, loaded.tokenizer)
        with progress.bar(_("asking the valid rows"), len(questions.rows)) as bar:
            given, _in_words = asking.ask(loaded.model, questions, loaded.device, bar.advance)
    del loaded
    gc.collect()
    return given


def _curve(subject: _Subject, found: Outlook, seeds: int, seconds: float, *, reused: bool) -> Curve:
    root = subject.version.root
    return Curve(
        task=subject.task.task_name,
        version=subject.version.name,
        train_rows=len(subject.lines),
        valid_rows=len(subject.asked.gold),
        seeds=seeds,
        seconds=seconds,
        reused=reused,
        outlook=found,
        file=root / "learning_curve.json",
        drawing=root / "learning_curve.svg",
    )


def _save(folder: TaskFolder, made: Curve) -> None:
    with lock.writing(folder, wait_seconds=training.LOCK_SECONDS):
        files.write_json(made.file, {"schema_version": 1, "created": files.now().isoformat(), **made.as_dict()})
        files.write_text(made.drawing, drawing.svg(made.task, made.version, made.outlook))
