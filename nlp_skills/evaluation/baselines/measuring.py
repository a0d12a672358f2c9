"""Each baseline's answer to the very rows the model answers, kept so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills import files, progress
from nlp_skills.data.render import Renderer
from nlp_skills.evaluation import model
from nlp_skills.evaluation.baselines import choice, kept, rules, shots
from nlp_skills.evaluation.baselines.fitted import FORM, Fitting
from nlp_skills.evaluation.baselines.rules import Rules
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmSettings
from nlp_skills.schema.task import Evaluation
from nlp_skills.schema.version import Results, Sampling
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from nlp_skills.evaluation.answering.candidates import Candidate
    from nlp_skills.evaluation.answering.scorer import Scorer, Way
    from nlp_skills.evaluation.subject import Subject

# What a chat template puts after an answer.
_END_TOKENS = 8

# Opens a model to be asked, within a block: what is known already opens none.
Opens = Callable[[], AbstractContextManager["Scorer"]]


@dataclass(frozen=True)
class Manner:
    """How the version is asked, which is how its base model is asked too: as `ask.ask` takes it."""

    sampling: Sampling | None = None
    way: Way | None = None
    listed: Sequence[Candidate] | None = None
    backend: str = "transformers"


def check(chosen: Subject, wanted: Sequence[str]) -> None:
    """Refuse, before anything is asked, what a person wrote and cannot be measured.

    Raises:
        Invalid: a bad rule file.
    """
    if choice.RULES in wanted:
        _rules(chosen)


def unfitted(folder: TaskFolder, results: Results) -> bool:
    """Whether baselines could not be fitted, since train is no longer what the version was trained on."""
    from nlp_skills.evaluation.subject import Subject

    task, version = folder.task(), folder.version(results.version)
    wanted, info = choice.fitted(task, results.kind), version.model_info()
    if info is None or not wanted or {*wanted} & {*results.baselines}:
        return False
    return not Subject(folder, version, task, info).unchanged("train")


def measure(
    chosen: Subject,
    wanted: Sequence[str],
    manner: Manner,
    *,
    base: Opens | None = None,
    endpoint: LlmSettings | None = None,
) -> dict[str, list[Any]]:
    """The answers of the `wanted` baselines to `chosen.test`, by name, in the form of the task's kind.

    Args:
        chosen: the version; of it `kind`, `test`, `fields`, `labels`, `info`, `test_hash` and its folder are used.
        wanted: names from `choose`. What cannot be had is left out: a fitted or few-shot one where train is no longer
            what the version was trained on, an untrained model where there is none to open.
        manner: how the version is asked.
        base: opens the version's base model, untrained, with the backend the version is asked with.
        endpoint: the endpoint of the command line; left out, `evaluation.endpoint` of task.yaml.

    Raises:
        Invalid: a bad rule file.
        Unavailable: an extra is missing, an endpoint does not answer; what was measured before is kept.
    """
    return dict(_Measuring(chosen, manner, base, endpoint).answers(wanted))


@dataclass(frozen=True)
class _Measuring:
    chosen: Subject
    manner: Manner
    base: Opens | None
    endpoint: LlmSettings | None

    def answers(self, wanted: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
        """What costs nothing comes first: a rule file that is wrong is told of before any model is asked."""
        measures: dict[str, Callable[[], list[Any] | None]] = {
            choice.RULES: self._rules,
            choice.BASE: self._zero_shot,
            choice.FEW_SHOT: self._few_shot,
            choice.ENDPOINT: self._endpoint,
        }
        rank = {name: place for place, name in enumerate(measures)}
        for name in sorted(wanted, key=lambda name: rank.get(name, 0.5)):
            given = measures[name]() if name in measures else self._fitted(name)
            if given is not None:
                yield name, given

    def _fitted(self, name: str) -> list[Any] | None:
        chosen = self.chosen
        if not self._train:
            return None
        output, language = chosen.info.output_format, chosen.task.language
        whole = Fitting(chosen.kind, output, chosen.fields, self._train, chosen.test, language)
        train_hash = files.sha256_file(chosen.folder.split("train"))
        schema = output.model_dump(mode="json", by_alias=True)
        key = model.digest([FORM, train_hash, chosen.test_hash, chosen.kind, schema, chosen.fields, language])
        return self._remembered(name, key, lambda: whole.answers(name))

    def _rules(self) -> list[Any] | None:
        chosen = self.chosen
        read = _rules(chosen)
        return read.answers(chosen.test, chosen.fields, chosen.kind) if read else None

    def _zero_shot(self) -> list[Any] | None:
        if self.base is None:
            return None
        return self._remembered(choice.BASE, self._base_key, lambda: self._asked_base(choice.BASE, []))

    def _few_shot(self) -> list[Any] | None:
        chosen, renderer = self.chosen, self._renderer
        if self.base is None or not self._train:
            return None
        count = (chosen.task.evaluation or Evaluation()).few_shot
        rows = shots.pick(chosen.kind, renderer, chosen.fields, self._train, count)
        told = [[renderer.messages(row)[-1]["content"], renderer.answer(row)] for row in rows]
        key = model.digest([self._base_key, told])
        return self._remembered(choice.FEW_SHOT, key, lambda: self._asked_base(choice.FEW_SHOT, rows))

    def _endpoint(self) -> list[Any] | None:
        from nlp_skills.evaluation.answering import endpoint

        chosen = self.chosen
        settings = self.endpoint or (chosen.task.evaluation or Evaluation()).endpoint
        if settings is None:
            return None
        with closing(endpoint.open(settings, chosen.folder)) as scorer:
            output = chosen.info.output_format.model_dump(mode="json", by_alias=True)
            parts = [scorer.fingerprint, chosen.info.input_template, output, chosen.info.system_prompt]
            key = model.digest([*parts, *self._question(None)])
            title = _("endpoint: {model}", model=scorer.model)
            # Its answers are as long as its own settings allow; what tokens of ours would be does not say.
            drawn = self.manner.sampling or Sampling(max_new_tokens=settings.max_tokens)

            def asked() -> list[Any]:
                return self._asked(scorer, choice.ENDPOINT, key, title, self._renderer, drawn)

            return self._remembered(choice.ENDPOINT, key, asked)

    def _asked_base(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any] | None:
        assert self.base is not None
        chosen, plain = self.chosen, self._renderer
        with self.base() as scorer:
            told = shots.fitting(scorer, plain, chosen.test, rows, self._longest_answer) if rows else []
            if rows and not told:
                progress.notice(
                    _("no few-shot baseline: the model does not read the longest test row and another beside it")
                )
                return None
            title = _("base model, shown {rows} rows", rows=len(told)) if told else _("base model, untrained")
            key = model.digest([self._base_key, len(told), name])
            return self._asked(scorer, name, key, title, shots.shown(plain, told), self.manner.sampling)

    def _asked(
        self, scorer: Scorer, name: str, key: str, title: str, renderer: Renderer, sampling: Sampling | None
    ) -> list[Any]:
        """What a model says to every row; an interruption leaves what it said so far."""
        from nlp_skills.evaluation.answering.ask import ask
        from nlp_skills.evaluation.answering.partial import Partial

        chosen, manner = self.chosen, self.manner
        way = manner.way if manner.way in scorer.ways else None
        partial = Partial(self._partial(name), key)
        given = ask(scorer, chosen.test, renderer, chosen.kind, sampling, partial, title, way=way, listed=manner.listed)
        return [answer.predicted for answer in given]

    @property
    def _longest_answer(self) -> int:
        """Tokens to leave for the answer; a label is taken to be no longer than its text has characters."""
        if self.manner.sampling is not None:
            return self.manner.sampling.max_new_tokens
        return max(len(self._renderer.answer(row)) for row in self.chosen.test) + _END_TOKENS

    def _partial(self, name: str) -> Path:
        return self.chosen.version.root / f"{name}.partial"

    def _remembered(self, name: str, key: str, ask: Callable[[], list[Any] | None]) -> list[Any] | None:
        """The answers to a question that was asked before, or asked for now and kept."""
        folder = self.chosen.folder
        found = kept.load(folder, name, key, len(self.chosen.test))
        if found is not None:
            return found
        given = ask()
        if given is None:
            return None
        kept.save(folder, name, key, given)
        self._partial(name).unlink(missing_ok=True)
        return given

    @cached_property
    def _base_key(self) -> str:
        return model.digest([model.base_fingerprint(self.chosen.info), *self._question(self.manner.way)])

    def _question(self, way: Way | None) -> list[Any]:
        """What decides an answer beside the model: one label by likelihood is asked as it was in earlier releases."""
        chosen, manner = self.chosen, self.manner
        if chosen.kind == "label" and way == "likelihood" and manner.backend == "transformers":
            return [chosen.test_hash]
        drawn = manner.sampling.model_dump(mode="json") if manner.sampling and way != "likelihood" else None
        return [chosen.test_hash, chosen.kind, way, drawn, manner.backend]

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer.from_model_info(self.chosen.info)

    @cached_property
    def _train(self) -> list[dict[str, Any]]:
        """The rows the version was trained on; none when train has changed since, or is not there."""
        return self.chosen.rows("train") if self.chosen.unchanged("train") else []


def _rules(chosen: Subject) -> Rules | None:
    named = rules.rule_file(chosen.task.success_criteria)
    return rules.read(chosen.folder.root, named, chosen.labels, chosen.fields, chosen.kind) if named else None
