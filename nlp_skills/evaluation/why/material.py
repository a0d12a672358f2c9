"""What an analysis reads: a version's predictions, the rows they are of, and the rows it was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.data import rows as lines
from nlp_skills.data import snapshot
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import forms, predictions
from nlp_skills.evaluation.baselines.similar import Known, texts_of, unspaced
from nlp_skills.evaluation.scores import sheet as sheets
from nlp_skills.evaluation.scores.sheet import Sheet
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import PLACEHOLDER, Evaluation, OutputFormat, Task
from nlp_skills.schema.version import Results
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Floats

Row = Mapping[str, Any]

# What a row can earn where an answer may be partly right; elsewhere it is right or not.
_EARNED = ("chrf", "field_f1", "entity_f1", "relation_f1")


@dataclass(frozen=True)
class Material:
    """Everything in memory. `answered` are the lines of predictions.jsonl; the other lists have a row for each.

    `columns` are the rows of data/test.jsonl, empty for one that is not there any more; `numbers` their lines.
    """

    task: Task
    version: VersionFolder
    results: Results
    output: OutputFormat
    fields: list[str]
    answered: list[dict[str, Any]]
    columns: list[Row]
    numbers: list[int]
    train: list[tuple[int, Row]]
    missing: int

    @property
    def kind(self) -> Kind:
        """What an answer is."""
        return self.results.kind

    @property
    def costs(self) -> Mapping[str, Mapping[str, float]]:
        """`evaluation.costs` of task.yaml."""
        return (self.task.evaluation or Evaluation()).costs

    @property
    def gold(self) -> list[Any]:
        """Each row's right answer."""
        return [row["gold"] for row in self.answered]

    @property
    def predicted(self) -> list[Any]:
        """Each row's given answer; None where it could not be read."""
        return [row["predicted"] for row in self.answered]

    @cached_property
    def texts(self) -> list[str]:
        """What the prompt shows of each row."""
        return texts_of([_input(row) for row in self.answered], self.fields)

    @cached_property
    def train_texts(self) -> list[str]:
        """As `texts`, of train."""
        return texts_of([row for _line, row in self.train], self.fields)

    @cached_property
    def train_answers(self) -> list[Any]:
        """The right answers of train, in the form of the kind."""
        return [forms.of(self.kind, self.output, row) for _line, row in self.train]

    @cached_property
    def known(self) -> Known:
        """The texts of train, to be compared with; there is at least one."""
        return Known.of(self.train_texts, characters=self.characters)

    @cached_property
    def characters(self) -> bool:
        """Whether texts are compared by characters, since nothing spaces their words."""
        return unspaced(self.task.language, self.train_texts or self.texts)

    @cached_property
    def sheet(self) -> Sheet:
        """All rows, marked."""
        known = [str(label) for label in self.results.per_class]
        said = {label for answer in self.gold for label in ([answer] if isinstance(answer, str) else answer)}
        labels = known if said <= set(known) else sorted({*known, *said})
        return sheets.of(
            self.kind,
            self.gold,
            self.predicted,
            labels=labels if self.kind in ("label", "labels") else (),
            language=self.task.language,
            texts=[_input(row) for row in self.answered],
        )

    @property
    def metric(self) -> str:
        """The metric the version is judged by."""
        return self.results.success.primary_metric

    @cached_property
    def earned(self) -> Floats:
        """What each row's answer is worth, from 0 to 1."""
        import numpy as np

        right = np.asarray(self.sheet.right, dtype=np.float64)
        name = next((name for name in _EARNED if name in self.sheet.names), None)
        if name is None:
            return right
        # A row without entities that was given none has no F1, and is right.
        earned: Floats = np.maximum(right, self.sheet.of_sums(self.sheet.columns)[name])
        return earned

    def part(self, rows: Any) -> Sheet:
        """The sheet of some rows, by their places; without what needs every row in an order."""
        import numpy as np

        used, cell_of = np.unique(self.sheet.cell_of[rows], return_inverse=True)
        return replace(
            self.sheet,
            cells=self.sheet.cells[used],
            cell_of=cell_of.reshape(-1),
            right=[self.sheet.right[row] for row in rows],
            readable=[self.sheet.readable[row] for row in rows],
            ranked=(),
            alone={},
        )


def read(folder: TaskFolder, version: str | None = None) -> Material:
    """Read what there is to know of a version's answers.

    Raises:
        Invalid: it has no results or predictions, they are broken, or a split cannot be read.
    """
    task, chosen = folder.task(), folder.existing_version(version)
    results, info = chosen.results(), chosen.model_info()
    if results is None:
        raise Invalid(
            _("version {version} has not been evaluated yet", version=chosen.name),
            file=chosen.results_path,
            mend=_("nlp-skills evaluate --version {version}", version=chosen.name),
        )
    answered = predictions.load(chosen.predictions_path, results.kind)
    if not answered:
        raise Invalid(
            _("there are no predictions in the file"),
            file=chosen.predictions_path,
            mend=_("make the predictions anew: nlp-skills evaluate --again"),
        )
    template = info.input_template if info else task.input_template
    fields = list(dict.fromkeys(PLACEHOLDER.findall(template)))
    columns, numbers, missing = _matched(answered, _rows(folder.split("test")), fields)
    return Material(
        task=task,
        version=chosen,
        results=results,
        output=info.output_format if info else task.output_format,
        fields=fields,
        answered=answered,
        columns=columns,
        numbers=numbers,
        train=_trained(_rows(folder.split("train")), fields, info.output_format if info else task.output_format),
        missing=missing,
    )


def _matched(
    answered: Sequence[Row], test: Sequence[tuple[int, Row]], fields: Sequence[str]
) -> tuple[list[Row], list[int], int]:
    """Each answer's row of the test split and its line, by key; one that is gone keeps its place in the predictions."""
    places: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for line, row in reversed(test):
        places[snapshot.row_key(dict(row), list(fields))].append((line, row))
    # Keys of another program may be of another form: then the order decides, if nothing is missing.
    if len(test) == len(answered) and not any(row["key"] in places for row in answered):
        return [row for _line, row in test], [line for line, _row in test], 0
    columns: list[Row] = []
    numbers: list[int] = []
    for place, row in enumerate(answered, 1):
        found = places[row["key"]].pop() if places.get(row["key"]) else (place, {})
        numbers.append(found[0])
        columns.append(found[1])
    return columns, numbers, sum(not row for row in columns)


def _trained(rows: Sequence[tuple[int, Row]], fields: Sequence[str], output: OutputFormat) -> list[tuple[int, Row]]:
    """The training rows that have what they must, whatever became of the file since."""
    wanted = {*fields, *output.schema_}
    return [(line, row) for line, row in rows if wanted <= set(row)]


def _rows(path: Path) -> list[tuple[int, Row]]:
    """Rows and their lines; none where there is no such file."""
    if not path.is_file():
        return []
    found: list[tuple[int, Row]] = []
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.isspace():
                continue
            try:
                row = lines.parser(0)(line)
            except ValueError as error:
                mend = _("see all that is wrong: nlp-skills validate")
                raise Invalid(_("not a JSON object"), file=path, line=number, cause=str(error), mend=mend) from error
            if isinstance(row, dict):
                found.append((number, row))
    return found


def _input(row: Row) -> Row:
    given = row.get("input")
    return given if isinstance(given, Mapping) else {}
