"""What is evaluated: one version of a task and the test rows it is asked; and what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.data import snapshot
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import forms, generation, marks, model, own_metrics
from nlp_skills.evaluation.answering import candidates
from nlp_skills.evaluation.answering.candidates import Candidate
from nlp_skills.evaluation.own_metrics import Own
from nlp_skills.i18n import _
from nlp_skills.schema import kinds
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import PLACEHOLDER, Evaluation, SuccessCriteria, Task
from nlp_skills.schema.version import ModelInfo, Sampling, SplitFile
from nlp_skills.workspace import lifecycle, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Row = dict[str, Any]

# Where no answer is known to measure by.
_UNKNOWN_TOKENS = 256
# Of answers by bytes; the one with the most tokens is among them.
_LONGEST_LOOKED_AT = 1000


@dataclass(frozen=True)
class Subject:
    """A trained version, asked as it was trained: labels and fields are the model's, not today's task's."""

    folder: TaskFolder
    version: VersionFolder
    task: Task
    info: ModelInfo

    @property
    def kind(self) -> Kind:
        """What an answer is."""
        return kinds.of(self.task.task_type, self.info.output_format)

    @property
    def label_field(self) -> str:
        return str(self.info.output_format.label_field)

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the schema; none where answers are no classes."""
        return self.info.output_format.labels if self.kind in ("label", "labels") else []

    @cached_property
    def criteria(self) -> SuccessCriteria:
        """The success criteria, with the metric that decides."""
        return marks.criteria(self.task, self.folder.root)

    @cached_property
    def own_metrics(self) -> list[Own]:
        """The metrics of the task's own."""
        return own_metrics.load(self.folder.root)

    @property
    def fewest_labels(self) -> int:
        """Where a row has several labels: as many as it has at least."""
        return min((len(candidate.labels) for candidate in self.listed or ()), default=0)

    @property
    def fields(self) -> list[str]:
        """The row's fields that the prompt shows."""
        return list(dict.fromkeys(PLACEHOLDER.findall(self.info.input_template)))

    @property
    def settings(self) -> Evaluation:
        """How task.yaml wants versions to be asked."""
        return self.task.evaluation or Evaluation()

    @cached_property
    def renderer(self) -> Renderer:
        """How a row is asked."""
        return Renderer.from_model_info(self.info)

    @cached_property
    def test(self) -> list[Row]:
        return self.rows("test")

    @cached_property
    def gold(self) -> list[Any]:
        """Each test row's right answer, in its kind's form."""
        return [self.right(row) for row in self.test]

    def right(self, row: Row) -> Any:
        """A row's right answer, in its kind's form."""
        return forms.of(self.kind, self.info.output_format, row)

    @cached_property
    def listed(self) -> list[Candidate] | None:
        """All the answers there are, by the schema and the rows of train and valid; None where they are many."""
        if self.kind == "label":
            return candidates.alone(self.renderer)
        return candidates.lists(self.renderer, self.learnt()) if self.kind == "labels" else None

    @cached_property
    def sampling(self) -> Sampling:
        """How text is drawn: as task.yaml says, long enough for half as much again as the longest answer of train and
        valid. Test is never looked at for that.
        """
        asked = self.settings
        return Sampling(
            temperature=asked.temperature,
            top_p=asked.top_p,
            max_new_tokens=asked.max_new_tokens or generation.longest(self._longest()),
            seed=asked.seed if asked.temperature else None,
        )

    def learnt(self) -> Iterator[Row]:
        """The rows of train and valid, as far as they are there and have an answer."""
        wanted = set(self.info.output_format.schema_)
        for split in ("train", "valid"):
            if self.folder.split(split).is_file():
                yield from (row for row in lines.read(self.folder.split(split)) if wanted <= set(row))

    def _longest(self) -> int:
        """Tokens of the longest right answer of train and valid; its bytes, never fewer, where no tokenizer is here."""
        answers = {self.renderer.answer(row) for row in self.learnt()}
        longest = sorted(answers, key=lambda text: -len(text.encode()))[:_LONGEST_LOOKED_AT]
        if not longest:
            return _UNKNOWN_TOKENS
        try:
            tokenizer = model.tokenizer(self.folder, self.info)
        except Problem:
            return len(longest[0].encode())
        return max(map(len, tokenizer(longest, add_special_tokens=False)["input_ids"]))

    @cached_property
    def keys(self) -> list[str]:
        """One key a test row; the same text has the same key in every version."""
        return [snapshot.row_key(row, self.fields) for row in self.test]

    @cached_property
    def test_hash(self) -> str:
        return files.sha256_file(self.folder.split("test"))

    @cached_property
    def fingerprint(self) -> str:
        """One hash of what is asked of which model, and of how it is asked where that decides what it says."""
        asked: list[Any] = [model.fingerprint(self.folder.root, self.info), self.test_hash]
        if self.listed is None or self.kind != "label":
            how = self.settings.model_dump(include={"temperature", "top_p", "max_new_tokens", "seed"})
            asked.append([how, *(self._hash(split) for split in ("train", "valid"))])
        return model.digest(asked)

    def _hash(self, split: str) -> str | None:
        path = self.folder.split(split)
        return files.sha256_file(path) if path.is_file() else None

    def stamp(self) -> list[tuple[str, int, int]]:
        """What tells, without reading them, whether the model or the test rows were replaced meanwhile."""
        trained = model.weights(self.folder.root, self.info)
        paths = [self.version.model_info_path, self.folder.split("test"), *sorted(trained.glob("*"))]
        stats = [(path.name, path.stat()) for path in paths if path.is_file()]
        return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]

    def rows(self, split: str) -> list[Row]:
        return list(lines.read(self.folder.split(split)))

    def unchanged(self, split: str) -> bool:
        """Whether a split is, byte for byte, the one in the version's data snapshot."""
        path, taken = self.folder.split(split), self.version.snapshot()
        recorded: SplitFile | None = {**taken.splits}.get(split) if taken else None  # type: ignore[call-overload]
        return path.is_file() and (recorded is None or files.sha256_file(path) == recorded.sha256)


def choose(folder: TaskFolder, version: str | None = None) -> Subject:
    """The version to evaluate, once everything it needs is known to be there.

    Raises:
        Invalid: an archived task, a metric we do not compute, nothing trained, a training of it that goes on, or a
            test split that is missing, empty, broken or not the version's.
    """
    subject = asked(folder, version)
    status = subject.version.status()
    if status is not None and runs.alive(status):
        raise runs.busy(subject.version, status)
    # For what may be wrong with them: it is said before a model is asked.
    marks.criteria(subject.task, folder.root)
    own_metrics.load(folder.root)
    _check_test(subject)
    return subject


def asked(folder: TaskFolder, version: str | None = None) -> Subject:
    """A version that can be asked; nothing is said of the test rows, and they are not looked at.

    Raises:
        Invalid: an archived task, a metric we do not compute, or nothing trained.
    """
    task, chosen = folder.task(), folder.existing_version(version)
    lifecycle.refuse_archived(folder, task)
    subject = Subject(folder, chosen, task, model.info(chosen))
    _check_answer(subject)
    return subject


def _check_answer(subject: Subject) -> None:
    """The version's answers must be what the task's are today, or they could not be judged by its criteria."""
    today = kinds.of(subject.task.task_type, subject.task.output_format)
    if today == subject.kind and (subject.kind not in ("label", "labels") or subject.info.output_format.labels):
        return
    raise Invalid(
        _("version {version} was trained to give other answers than the task now wants", version=subject.version.name),
        file=subject.version.model_info_path,
        cause=_("it gives {given}, and the task wants {wanted}", given=subject.kind, wanted=today),
        mend=_("train again, as task.yaml now says: nlp-skills new-version"),
    )


def _check_test(subject: Subject) -> None:
    path = subject.folder.split("test")
    report = _looked_at(subject)
    if not report["rows"]:
        raise Invalid(
            _("the test split is empty"), file=path, mend=_("fill it from its sources: nlp-skills regenerate")
        )
    if report["bad"]:
        fault = next(fault for fault in report["faults"] if fault["code"] not in lines.REMARKS)
        raise Invalid(
            _("test rows that cannot be evaluated: {count}", count=report["bad"]),
            file=path,
            line=fault["line"],
            cause=f"{fault['code']}: {fault['detail']}",
            mend=_("see them all: nlp-skills validate"),
        )
    if not subject.unchanged("test"):
        name = subject.version.name
        raise Invalid(
            _("the test split is not the one version {version} was made with", version=name),
            file=path,
            cause=_("it has changed since the version's data snapshot"),
            mend=_("bring the file back, or: nlp-skills train --version {version} --again", version=name),
        )
    _check_ids(subject)


def _check_ids(subject: Subject) -> None:
    """Rows that are the same may share an `id`; two that differ may not, or nobody could tell which was meant."""
    seen: dict[bytes, Row] = {}
    for line, row in enumerate(subject.test, 1):
        if row.get("id") is None:
            continue
        if seen.setdefault(lines.canonical(row["id"]), row) != row:
            raise Invalid(
                _("two test rows that differ have the same id"),
                file=subject.folder.split("test"),
                line=line,
                cause=f"id = {lines.brief(row['id'])}",
                mend=_("give each row an id of its own at its source, then: nlp-skills regenerate"),
            )


def _looked_at(subject: Subject) -> dict[str, Any]:
    path = subject.folder.split("test")
    output = {name: part.model_dump(exclude_none=True) for name, part in subject.info.output_format.schema_.items()}
    try:
        return lines.check(path, subject.fields, output, max_faults=1)
    except FileNotFoundError as error:
        mend = _("make it from its sources: nlp-skills regenerate")
        raise Invalid(_("the test split is missing"), file=path, mend=mend) from error
