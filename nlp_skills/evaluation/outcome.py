"""Where the results of one model on the test rows are kept: a version's own, or another backend's beside it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem
from nlp_skills.evaluation import asking, model, predictions
from nlp_skills.evaluation.answering.backends import Backend
from nlp_skills.evaluation.answering.scorer import Answer
from nlp_skills.evaluation.asking import Given
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.version import Results


@dataclass(frozen=True)
class Outcome:
    """The files of one round of questions, in `folder`; `clock` notes the seconds that a stopped one took.

    `fingerprint` hashes what is asked of which model.
    """

    chosen: Subject
    folder: Path
    clock: Path
    fingerprint: str

    @classmethod
    def of_version(cls, chosen: Subject) -> Outcome:
        """The version's own results."""
        return cls(chosen, chosen.version.root, chosen.version.run / "evaluation.json", chosen.fingerprint)

    @classmethod
    def of_backend(cls, chosen: Subject, backend: Backend) -> Outcome:
        """The results of another backend or model, which are no results of the version."""
        # Of an address or a path, what may be the name of a folder.
        named = f"{backend.name}-{backend.label or chosen.version.name}"
        name = re.sub(r"[^\w.-]+", "-", named).strip("-.")[:100]
        folder = files.inside(chosen.folder.root, f"benchmarks/{name}")
        fingerprint = model.digest([chosen.fingerprint, backend.decisive()])
        return cls(chosen, folder, folder / "evaluation.json", fingerprint)

    @property
    def results_path(self) -> Path:
        return self.folder / "results.json"

    @property
    def predictions_path(self) -> Path:
        return self.folder / "predictions.jsonl"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block nobody else asks for this outcome.

        Raises:
            Invalid: another process does.
        """
        from filelock import FileLock, Timeout

        state = self.chosen.folder.state
        lock = FileLock(state / f"evaluate-{self.folder.name}.lock")
        try:
            state.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Invalid(
                _("another command is evaluating {name}", name=self.folder.name),
                file=self.folder,
                mend=_("wait until it ends, then run this command again: it will find the results"),
            ) from error
        except OSError as error:
            raise files.storage_problem(error, state) from error
        try:
            yield
        finally:
            lock.release()

    def results(self) -> Results | None:
        """Finished results of this very question; None where there are none."""
        found = Results.load(self.results_path) if self.results_path.is_file() else None
        if found is None or found.fingerprint != self.fingerprint or not self.predictions_path.is_file():
            return None
        return found

    def given(self, results: Results) -> Given:
        """The answers that finished results were made from."""
        rows = predictions.load(self.predictions_path, results.kind)
        return Given(
            [_answer(row) for row in rows],
            results.asked,
            {place: Answer(**row["unconstrained"]) for place, row in enumerate(rows) if row.get("unconstrained")},
        )

    def write_predictions(self, given: Given, right: Sequence[bool], others: Mapping[str, Sequence[Any]]) -> None:
        """Replace predictions.jsonl; see `predictions` for its form."""
        with files.atomic_writer(self.predictions_path) as stream:
            for number, answer in enumerate(given.answers):
                line = self._line(number, answer, right[number], others)
                if number in given.unconstrained:
                    free = given.unconstrained[number]
                    line["unconstrained"] = {"predicted": free.predicted, "raw": free.raw, **_known(cut=free.cut)}
                stream.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def _line(self, number: int, answer: Answer, right: bool, others: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        chosen = self.chosen
        return {
            "key": chosen.keys[number],
            "gold": chosen.gold[number],
            "predicted": answer.predicted,
            "correct": right,
            **_known(
                raw=answer.raw,
                cut=answer.cut,
                bent=answer.bent,
                probability=answer.probability,
                probabilities=answer.probabilities,
                valid_answer_probability=answer.valid,
                prompt_sha256=answer.prompt_sha256,
                latency_seconds=answer.seconds,
            ),
            "baselines": {name: given[number] for name, given in others.items()},
            "input": {field: chosen.test[number][field] for field in chosen.fields},
        }

    def begun(self) -> bool:
        """Whether a round was stopped after its first answer: it goes on, also where results of another are there."""
        path = self.folder / f"{asking.ANSWERS}.partial"
        return path.is_file() and path.read_bytes().count(b"\n") > 1

    def forget(self) -> None:
        """Remove what an interrupted round left."""
        asking.forget(self.folder)
        self.clock.unlink(missing_ok=True)

    @contextlib.contextmanager
    def timed(self, before: float) -> Iterator[Callable[[], float]]:
        """A clock of the seconds a round takes, over all its stretches: one that is stopped leaves its time behind."""
        before, started = self._stopped() or before, time.monotonic()

        def seconds() -> float:
            return before + time.monotonic() - started

        try:
            yield seconds
        except BaseException:
            if self.begun():
                with contextlib.suppress(Problem):
                    files.write_json(self.clock, {"fingerprint": self.fingerprint, "seconds": round(seconds(), 1)})
            else:
                self._leave()
            raise
        self.clock.unlink(missing_ok=True)

    def _leave(self) -> None:
        """Before the first answer there is nothing to go on with: not even a folder, of a name that was mistyped."""
        with contextlib.suppress(OSError):
            (self.folder / f"{asking.ANSWERS}.partial").unlink(missing_ok=True)
            self.folder.rmdir()

    def _stopped(self) -> float | None:
        """What a stopped stretch of the same question took."""
        with contextlib.suppress(Problem, KeyError, TypeError, ValueError):
            note = files.read_json(self.clock)
            if note["fingerprint"] == self.fingerprint:
                return float(note["seconds"])
        return None


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(
        row["predicted"],
        raw=row.get("raw"),
        probability=row.get("probability"),
        probabilities=row.get("probabilities"),
        valid=row.get("valid_answer_probability"),
        prompt_sha256=row.get("prompt_sha256"),
        seconds=row.get("latency_seconds"),
        cut=row.get("cut"),
        bent=row.get("bent"),
    )
