"""What an error analysis finds, as plain data: the command line, the report and a diagnosis read the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nlp_skills.schema.kinds import Kind

# `confused`: one label for another. `missed` and `spurious`: a label, an entity or a relation that was not given, or
# given where there is none. `boundary` and `type`: an entity whose ends or type are wrong, or both. `field`: a property
# of the answer. `different`: a text that is not the right one. `unread`: an answer that could not be read.
Fault = Literal[
    "confused", "missed", "spurious", "boundary", "type", "boundary_and_type", "field", "different", "unread"
]
Mark = Literal["confident", "near_miss", "doubtful_label", "contradicted"]


@dataclass(frozen=True)
class Confusion:
    """Errors of one sort: `gold` and `predicted` are classes, types, or for a field its values; None for none.

    `count` is how often it happened, `share` of all that went wrong; `cost` is what they cost together. `rows` are rows
    in which it did, by line of data/test.jsonl, a few.
    """

    fault: Fault
    gold: str | None
    predicted: str | None
    count: int
    share: float
    cost: float
    rows: list[int]
    field: str | None = None


@dataclass(frozen=True)
class Slice:
    """The rows that have `value` in `column`, and how the version does on them.

    `column` is a column of data/test.jsonl, or `length` (characters of the input), `script` (what it is written in) or
    `class` (the right answer's). `value` and `interval` are of `metric`; `score` is the mean of what each row earned
    (1 for a right answer; F1 or chrF of an answer that can be partly right), `rest` that of all other rows, for a class
    of those with another. `p` says how odd the two are if they are alike, `p_holm` the same corrected for the number of
    slices; `worse` that the slice earned less and p_holm is below 0.05.
    """

    column: str
    name: str
    rows: int
    wrong: int
    metric: str
    value: float
    interval: tuple[float, float] | None
    score: float
    rest: float
    p: float
    p_holm: float
    worse: bool


@dataclass(frozen=True)
class Small:
    """A slice with too few rows to say anything about it."""

    column: str
    name: str
    rows: int
    wrong: int


@dataclass(frozen=True)
class Neighbour:
    """A training row that says nearly the same: its line in data/train.jsonl, text, right answer and cosine."""

    line: int
    text: str
    answer: Any
    similarity: float


@dataclass(frozen=True)
class Error:
    """A test row answered wrongly, by its line in data/test.jsonl.

    `probability` is that of the given answer, `gold_probability` of the right one, where known. `score` is what the
    answer earned, `cost` what it costs. `marks`: `confident` (sure and wrong), `near_miss` (the right answer came
    second, closely), `doubtful_label` (the label itself looks wrong), `contradicted` (a training row that says nearly
    the same has another answer than this row).
    """

    line: int
    key: str
    text: str
    gold: Any
    predicted: Any
    probability: float | None
    gold_probability: float | None
    score: float
    cost: float
    marks: list[Mark]
    neighbours: list[Neighbour] = field(default_factory=list)


@dataclass(frozen=True)
class Doubt:
    """A test row whose label looks wrong: the version and a linear model over words both say `suggested` instead.

    `doubt` is how sure both are that it is not `gold`: one minus the mean of the probabilities they give it.
    """

    line: int
    key: str
    text: str
    gold: str
    suggested: str
    doubt: float


@dataclass(frozen=True)
class Analysis:
    """Why a version fails. Lists are ranked, what matters most first.

    `errors` are all rows answered wrongly: the confident ones first, then by what they cost. `near_misses` are those
    among them where the right answer came second. `not_sliced` names columns that were not looked at, and why.
    `notes` are what to know before relying on this, in words.
    """

    task: str
    version: str
    kind: Kind
    metric: str
    value: float | None
    rows: int
    wrong: int
    unread: int
    confusions: list[Confusion]
    slices: list[Slice]
    small: list[Small]
    not_sliced: dict[str, str]
    errors: list[Error]
    near_misses: list[Error]
    doubts: list[Doubt]
    notes: list[str]

    @property
    def worse(self) -> list[Slice]:
        """The slices that are significantly worse than the rest, the worst first."""
        return [part for part in self.slices if part.worse]

    def first(self, limit: int | None) -> Analysis:
        """The same with so many of each list that counts rows or sorts of errors; with all where no limit is given."""
        if limit is None:
            return self
        names = ("confusions", "errors", "near_misses", "doubts")
        return replace(self, **{name: getattr(self, name)[:limit] for name in names})

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)
