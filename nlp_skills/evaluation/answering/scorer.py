"""What a backend can do: say how likely given answers are, or answer in words, freely or within a schema.

The shape is that of the language-model class of EleutherAI's evaluation harness: few methods, one backend a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from nlp_skills.data.render import Message
from nlp_skills.schema.task import OutputFormat
from nlp_skills.schema.version import Sampling

Way = Literal["likelihood", "constrained", "free"]


@dataclass(frozen=True)
class Question:
    """A row as it is asked: `row` is its place among all rows, `messages` the prompt's side of the conversation."""

    row: int
    messages: list[Message]


@dataclass(frozen=True)
class Likely:
    """How likely each given answer is after a row's prompt: log-probabilities, the end of the turn included.

    `prompt_sha256` is of the prompt as the model read it, `seconds` the row's share of its batch's time.
    """

    row: int
    logs: list[float]
    prompt_sha256: str
    seconds: float


@dataclass(frozen=True)
class Said:
    """What a model said to a row. `probability`: of the whole text, where the backend tells; `cut`: at the limit.

    `bent`: whether it would have said something else had all been allowed; None where nobody can tell.
    """

    row: int
    text: str
    prompt_sha256: str
    seconds: float
    probability: float | None = None
    cut: bool = False
    bent: bool | None = None


class Scorer(Protocol):
    """A model that can be asked. `fingerprint` hashes everything that decides its answers."""

    @property
    def backend(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def ways(self) -> tuple[Way, ...]: ...

    def likelihood(self, questions: Sequence[Question], answers: Sequence[str]) -> Iterator[Likely]:
        """Of each answer's text after each question; rows come in any order, as soon as they are known."""
        ...

    def generate(
        self, questions: Sequence[Question], sampling: Sampling, output: OutputFormat | None
    ) -> Iterator[Said]:
        """An answer in words to each question, within `output`'s schema where one is given; in any order."""
        ...

    def close(self) -> None:
        """Give back memory, processes and connections."""
        ...


@dataclass(frozen=True)
class Answer:
    """A row's answer as it is kept.

    `predicted` is of the kind's form (see `predictions`), None where the text could not be read. `probability` is that
    of `predicted`; `probabilities` of every label; `valid` how likely the model is to say any label at all; `cut` is
    True where the answer came to the limit before it came to its end, `bent` as in `Said`.
    """

    predicted: Any
    raw: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    valid: float | None = None
    prompt_sha256: str | None = None
    seconds: float | None = None
    cut: bool | None = None
    bent: bool | None = None
