"""Everything that is on record of a version, read once; what is missing or broken is named, and stops nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data.audit import reading
from nlp_skills.data.audit.reading import Entry
from nlp_skills.data.render import Renderer
from nlp_skills.diagnosis.course import Course
from nlp_skills.diagnosis.finding import Unseen
from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import predictions
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import DataSnapshot, LineageRun, ModelInfo, Results, RunStatus
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Known = TypeVar("Known")
# Answers whose tokens are counted: their mean changes little with more.
_SAMPLED = 500


@dataclass
class Facts:
    """A version as its files tell of it. `unseen` grows with what could not be looked at."""

    folder: TaskFolder
    version: VersionFolder
    task: Task
    config: Config
    unseen: list[Unseen] = field(default_factory=list)

    @cached_property
    def status(self) -> RunStatus | None:
        found = self.read(_("the run's status"), self.version.status)
        return found if found and found.kind == "train" else None

    @property
    def going_on(self) -> bool:
        """Whether the version is being trained now."""
        return runs.alive(self.status)

    @cached_property
    def ran(self) -> LineageRun | None:
        """The run as the lineage has it."""
        lineage = self.read(_("the lineage"), self.version.lineage)
        return lineage.run if lineage else None

    @cached_property
    def course(self) -> Course:
        """The curves of the run; empty where there are none."""
        return self.read(_("the curves"), lambda: Course.of(runs.metrics(self.version))) or Course.of([])

    @cached_property
    def info(self) -> ModelInfo | None:
        return self.read(_("how the model was trained"), self.version.model_info)

    @cached_property
    def snapshot(self) -> DataSnapshot | None:
        return self.read(_("the data snapshot"), self.version.snapshot)

    @cached_property
    def results(self) -> Results | None:
        return self.read(_("the results"), self.version.results)

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        """The rows of predictions.jsonl; none where there is no such file."""
        if self.results is None or not self.version.predictions_path.is_file():
            return []
        kind = self.results.kind
        found = self.read(_("the predictions"), lambda: predictions.load(self.version.predictions_path, kind))
        return found or []

    @cached_property
    def curve(self) -> dict[str, Any] | None:
        """learning_curve.json, where it is of the version's own rows."""
        path = self.version.root / "learning_curve.json"
        if not path.is_file():
            return None
        found = self.read(_("the learning curve"), lambda: files.read_json(path))
        if not isinstance(found, dict) or "verdict" not in found:
            return None
        train = {**self.snapshot.splits}.get("train") if self.snapshot else None
        if train is not None and found.get("train_rows") != train.rows:
            why = _("it was made with other training rows")
            self.unseen.append(Unseen(_("the learning curve"), why, f"nlp-skills learning-curve {self.name}"))
            return None
        return found

    @property
    def name(self) -> str:
        """What the task is called on a command line."""
        return self.folder.root.name

    @property
    def met(self) -> bool:
        """Whether the success criteria are met."""
        return self.results is not None and self.results.success.verdict == "met"

    @cached_property
    def rows(self) -> dict[str, list[Entry]]:
        """The good rows of the splits that are still those the version was made with."""
        found: dict[str, list[Entry]] = {}
        for split in ("train", "test"):
            entries = self.read(_("the {split} split", split=split), lambda split=split: self._split(split))  # type: ignore[misc]
            if entries is not None:
                found[split] = entries
        return found

    def _split(self, split: str) -> list[Entry]:
        path = self.folder.split(split)
        if not path.is_file():
            raise Invalid(_("file not found"), file=path, mend="nlp-skills regenerate")
        recorded = {**self.snapshot.splits}.get(split) if self.snapshot else None  # type: ignore[call-overload]
        if recorded is not None and files.sha256_file(path) != recorded.sha256:
            raise Invalid(
                _("it has changed since the version was made"),
                file=path,
                mend=f"nlp-skills train {self.name} --version {self.version.name} --again",
            )
        return [entry for entry in reading.split_entries(path, split, self.task) if entry is not None]

    @cached_property
    def classes(self) -> Counter[str]:
        """Training rows by class; empty where rows have none."""
        taken = {**self.snapshot.splits}.get("train") if self.snapshot else None
        if taken is not None and taken.class_distribution:
            return Counter(taken.class_distribution)
        field, train = self.task.label_field, self.rows.get("train", [])
        return Counter(label for entry in train for label in lines.labels_of(entry.row, field)) if field else Counter()

    @cached_property
    def base(self) -> Path | None:
        """The base model's folder, where it is on this machine."""
        from nlp_skills.training import base_model

        def locate() -> Path:
            return Path(base_model.locate(self.config.base_model, root=self.folder.root, fetch=False))

        return self.read(_("the base model's tokenizer"), locate)

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's tokenizer without transformers, which would bring torch along; None where there is none."""
        path = self.base / "tokenizer.json" if self.base else None
        if path is None or not path.is_file():
            return None
        try:
            from tokenizers import Tokenizer

            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library's own errors have no class of their own
            self.unseen.append(Unseen(_("the base model's tokenizer"), str(error).split("\n")[0]))
            return None

    def tokens(self, text: str) -> int:
        """How many tokens a text is; 0 where nobody can count."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids) if self.tokenizer else 0

    @property
    def renderer(self) -> Renderer:
        """As the version was trained."""
        return Renderer.from_model_info(self.info) if self.info else Renderer.of(self.task, self.config)

    @cached_property
    def scale(self) -> float | None:
        """The loss of one that knows how often each label comes, and no more; None where answers are no single label.

        Nats per token, as losses are: the entropy of the labels over the tokens of an answer and the one that ends it.
        """
        counts = [count for count in self.classes.values() if count]
        train = self.rows.get("train", ())[:_SAMPLED]
        if self.task.task_type != "classification" or self.task.multi_label or len(counts) < 2 or not train:
            return None
        if self.tokenizer is None or self.config.method != "sft" or len(self.task.output_fields) > 1:
            return None
        entropy = -sum(count / sum(counts) * math.log(count / sum(counts)) for count in counts)
        answers = self.read(_("answers as tokens"), lambda: Counter(self.renderer.answer(one.row) for one in train))
        if answers is None:
            return None
        tokens = sum((self.tokens(answer) + 1) * count for answer, count in answers.items())
        return entropy / (tokens / len(train))

    def open_share(self, loss: float | None) -> float | None:
        """The share of what the labels tell that a loss leaves open; None where there is no scale."""
        return None if loss is None or not self.scale else loss / self.scale

    def shown(self, path: Path) -> str:
        """A path from the task folder."""
        return path.relative_to(self.folder.root).as_posix()

    def read(self, what: str, read: Callable[[], Known]) -> Known | None:
        """What `read` gives; None, and said under `unseen`, where it cannot be read."""
        try:
            return read()
        except Problem as problem:
            self.unseen.append(Unseen.of(what, problem))
        except (OSError, UnicodeDecodeError) as error:
            self.unseen.append(Unseen(what, str(error)))
        return None


def of(folder: TaskFolder, version: str | None = None) -> Facts:
    """What is known of a version, the current one by default.

    Raises:
        Invalid: there is no such version, or task.yaml or its config.yaml cannot be read.
    """
    task, found = folder.task(), folder.existing_version(version)
    facts = Facts(folder, found, task, found.config())
    _name_what_is_missing(facts)
    return facts


def _name_what_is_missing(facts: Facts) -> None:
    task, version = facts.name, facts.version.name
    at = f"{task} --version {version}"
    if facts.status is None and not facts.course.losses:
        mend = f"nlp-skills train {at}"
        facts.unseen.append(Unseen(_("the training"), _("{version} was not trained", version=version), mend))
    elif facts.going_on:
        why = _("the training goes on; what is said is of the steps so far")
        facts.unseen.append(Unseen(_("the rest of the training"), why, f"nlp-skills runs {task}"))
    elif not facts.course.valid:
        why = _("no loss was measured on valid, so that nothing is said of learning by heart")
        facts.unseen.append(Unseen(_("the valid split"), why, _("give it rows: split: in data_source.yaml")))
    if facts.results is None and not facts.going_on:
        mend = f"nlp-skills evaluate {at}"
        facts.unseen.append(Unseen(_("answers"), _("{version} was not evaluated", version=version), mend))
    if facts.results is not None and not (facts.version.root / "learning_curve.json").is_file():
        why, mend = _("no learning curve was made"), f"nlp-skills learning-curve {at}"
        facts.unseen.append(Unseen(_("whether more rows would help"), why, mend))
