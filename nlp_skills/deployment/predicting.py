"""Predicting: a task's version loaded here, asked a text, rows, or a whole file, without a server.

In: a task folder with versions/ and models/. Out: predictions, or a file with one JSON object a line, in the order of
the rows; what is in it already is not asked again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args, overload

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.deployment import asker
from nlp_skills.deployment.asker import Asker, Prediction, Row
from nlp_skills.errors import Invalid, Usage
from nlp_skills.evaluation import subject
from nlp_skills.evaluation.answering.scorer import Scorer
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.workspace import locate

Engine = Literal["transformers", "llama.cpp"]
ENGINES: tuple[str, ...] = get_args(Engine)


@dataclass
class Predictor:
    """A version in memory, ready to be asked; several threads may share it, and are answered one after the other."""

    asker: Asker
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @overload
    def predict(self, asked: str | Row) -> Prediction: ...

    @overload
    def predict(self, asked: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...

    def predict(self, asked: str | Row | list[Any] | tuple[Any, ...]) -> Prediction | list[Prediction]:
        """The answer to a text or a row, or the answers to a list of them, in their order.

        A text stands for a row where the prompt has one field only; a row is a dictionary with the prompt's fields.

        Raises:
            Usage: a text, and the prompt has several fields.
            Invalid: a row lacks a field, or is longer than the model reads.
            Unavailable: what answers is gone.
        """
        if isinstance(asked, str | Mapping):
            return self._answers([self.row(asked)])[0]
        return self._answers([self.row(one) for one in asked])

    def row(self, asked: str | Row) -> Row:
        """A text as a row; a row as it is.

        Raises:
            Usage: a text, and the prompt has several fields.
        """
        if not isinstance(asked, str):
            return asked
        return {single_field(self.asker.chosen): asked}

    @property
    def version(self) -> str:
        """The version that answers."""
        return self.asker.chosen.version.name

    @property
    def fields(self) -> list[str]:
        """The fields that a row needs."""
        return self.asker.fields

    def close(self) -> None:
        """Give memory and processes back."""
        self.asker.scorer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self, rows: Sequence[Row]) -> list[Prediction]:
        if not rows:
            return []
        with self._one_at_a_time:
            return self.asker.answers(rows)


def load_task(path: str | Path, version: str | None = None, engine: Engine = "transformers") -> Predictor:
    """Load a task's version to ask it; nothing else than its folder is needed, and no network.

    Args:
        path: the task's folder, or its name where tasks of the working directory are meant.
        version: another one than the active version.
        engine: `transformers`, or `llama.cpp` where the version was exported as GGUF.

    Raises:
        Usage: no such task or engine.
        Invalid: no such version, it was not trained, or there is no GGUF file of it as it is now.
        Unavailable: an extra is missing, or the base model.
    """
    folder = locate.task(str(path))
    return opened(subject.asked(folder, version), engine)


def opened(chosen: Subject, engine: str = "transformers") -> Predictor:
    """A version, loaded by an engine.

    Raises:
        Usage, Invalid, Unavailable: as `load_task`.
    """
    scorer = _scorer(chosen, engine)
    try:
        return Predictor(Asker(chosen, scorer))
    except BaseException:
        scorer.close()
        raise


def single_field(chosen: Subject) -> str:
    """The one field that a text alone stands for.

    Raises:
        Usage: the prompt has several fields, or none.
    """
    fields = chosen.fields
    if len(fields) != 1:
        raise Usage(
            _("a text alone cannot be asked: the prompt shows the fields {fields}", fields=", ".join(fields)),
            mend=_("give each: --field NAME=TEXT, or rows with these fields"),
        )
    return fields[0]


def _scorer(chosen: Subject, engine: str) -> Scorer:
    from nlp_skills.evaluation.answering import llamacpp, transformers

    folder, info = chosen.folder, chosen.info
    if engine == "transformers":
        return transformers.load(folder, chosen.version.name)
    if engine == "llama.cpp":
        return llamacpp.open(gguf(chosen), chat_template_kwargs=info.chat_template_kwargs)
    raise Usage(_("no engine is called {name}", name=engine), mend=_("choose of {known}", known=", ".join(ENGINES)))


def gguf(chosen: Subject) -> Path:
    """The version's GGUF file: that of `deploy.quantization` if there is one, else the newest.

    Raises:
        Invalid: there is none of the model as it is now.
    """
    from nlp_skills.deployment import export

    folder, version = chosen.folder, chosen.version
    made = [one for one in version.exports() if one.kind == "gguf"]
    wanted = chosen.task.deploy.quantization
    for one in sorted(made, key=lambda each: (each.name == wanted, each.made), reverse=True):
        found = export.current(folder, version, one.name)
        if found is not None:
            return files.inside(folder.root, found.path)
    names = {"task": folder.root.name, "version": version.name, "quantization": wanted}
    raise Invalid(
        _("there is no GGUF file of version {version} as it is now", version=version.name),
        file=version.exports_path,
        mend="nlp-skills export {task} {version} --gguf {quantization}".format(**names),
    )


def row_of(chosen: Subject, pairs: Sequence[str]) -> Row:
    """`NAME=TEXT` pairs as a row.

    Raises:
        Usage: a pair that is none, or a name that the prompt does not show or that comes twice.
    """
    row: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in chosen.fields or name in row:
            raise Usage(
                _("{pair} is no field of the prompt, with its text", pair=lines.brief(pair)),
                mend=_("give each once, as NAME=TEXT: {fields}", fields=", ".join(chosen.fields)),
            )
        row[name] = value
    return row


def refuse(chosen: Subject, row: Row) -> None:
    """Refuse a row that cannot be asked, before anything is loaded.

    Raises:
        Invalid: it lacks a field of the prompt.
    """
    asker.refuse(row, chosen.fields)


def of_lines(predictor: Predictor, given: Iterable[bytes]) -> Iterator[Prediction]:
    """The answer to each line as it comes: a text where the prompt has one field, else a JSON object.

    Blank lines are passed over.

    Raises:
        Invalid: a line is no row; the lines before it were answered.
    """
    alone = len(predictor.fields) == 1
    for number, line in enumerate(given):
        if not line.strip():
            continue
        try:
            row = {predictor.fields[0]: line.decode().rstrip("\r\n")} if alone else lines.parse(line)
        except (ValueError, RecursionError) as error:
            raise Invalid(
                _("line {line} cannot be read", line=number + 1),
                cause=": ".join(lines.parse_fault(error)),
                mend=_("give an object with the fields {fields}", fields=", ".join(predictor.fields)),
            ) from error
        asker.refuse(row, predictor.fields, number)
        yield predictor.predict(row)
