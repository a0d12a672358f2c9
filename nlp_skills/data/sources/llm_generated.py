"""Rows a language model writes: templates × variations, in batches, checked, without repeats, recorded.

The combinations take turns: in each round every unfinished one asks for a batch, several at a time, and what
came is then taken in the combinations' order. So the questions depend on earlier answers only, and the same
recorded answers give the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from nlp_skills import files
from nlp_skills.data import llm_answers, near, review
from nlp_skills.data import rows as lines
from nlp_skills.data.llm import Answer, Budget, Model, OverBudget, estimated_tokens
from nlp_skills.data.repeats import Repeats
from nlp_skills.data.row_form import Row, RowForm
from nlp_skills.data.sources import Fetching
from nlp_skills.data.sources.llm_combinations import Combination, Question, combinations, examples, told
from nlp_skills.data.sources.recording import Recording
from nlp_skills.data.sources.settings import line_of
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmGenerated
from nlp_skills.schema.task import Task
from nlp_skills.workspace.folder import TaskFolder

VERSION = 1

PREVIEW_ROWS = 3
# A combination is given up after this many answers in a row without one new row …
_BARREN = 3
# … or after this many times the requests it would take if every row were good, and a few.
_PATIENCE, _SPARE = 3, 3
# What a row is taken to be, in tokens, before any is known.
_ROW_TOKENS = 80


def fetch(source: LlmGenerated, fetching: Fetching) -> Generator[dict[str, Any], None, None]:
    """The generated rows; with `require_review`, those that review lets through.

    Raises:
        Invalid: the settings make no sense together, the key or model is refused, or no row came that is usable.
        Unavailable: the server cannot be reached or has no capacity left. Answers so far are kept.
    """
    task = fetching.folder.task()
    run = _Run(source, task, fetching)
    if fetching.preview:
        yield from run.preview()
        return
    entries = run.all_rows()
    review.keep(fetching.folder, source, entries)
    if not source.validation.require_review:
        yield from (entry.row for entry in entries)
        return
    yield from _reviewed(source, fetching)


def inputs(source: LlmGenerated, folder: TaskFolder) -> dict[str, str]:
    """The review's decisions, where rows wait for one: a new decision makes the rows stale."""
    path = review.decisions_path(folder, source)
    if not source.validation.require_review or not path.is_file():
        return {}
    return {str(path.relative_to(folder.root)): files.sha256_file(path)}


def _reviewed(source: LlmGenerated, fetching: Fetching) -> Iterator[Row]:
    found = review.state(fetching.folder, source)
    fetching.record["waiting"] = found.waiting
    if found.waiting:
        name = str(source.name)
        fetching.warnings.append(
            _("source {name}: rows waiting for review: {count}; nlp-skills review", name=name, count=found.waiting)
        )
    rows = found.released()
    if not rows and not found.waiting:
        raise Invalid(
            _("every row of source {name} was rejected", name=str(source.name)),
            file=review.decisions_path(fetching.folder, source),
            mend=_("change prompt_template: so that other rows are written, then: nlp-skills regenerate"),
        )
    yield from rows


class _Run:
    """One generation: the combinations, and the model they ask."""

    def __init__(self, source: LlmGenerated, task: Task, fetching: Fetching) -> None:
        self.source, self.task, self.fetching = source, task, fetching
        self.model = Model.of(source, fetching.folder)
        self.settings = cast("LlmGenerated", self.model.settings)
        self.kept: Recording = fetching.recording(source)
        self.recording = self.kept
        if fetching.refresh and not fetching.preview:
            # What was paid for goes only when its successor is whole; a refresh that was stopped goes on here.
            self.recording = Recording(self.kept.path.with_name(f".{self.kept.path.name}.refresh"))
        self.seen = Repeats(source.near)
        self.budget = Budget(self.settings.max_cost)
        self.answers: Counter[str] = Counter()
        self.last = ""
        self.cost: float | None = 0.0
        self.worth: float | None = 0.0
        self.combinations = list(combinations(source, self.settings, task, fetching.folder))

    def preview(self) -> list[Row]:
        """The first recorded batch; where nothing is recorded a small one is asked for, and not kept."""
        for combination in self.combinations:
            question = self._question(combination)
            if self._recorded(question):
                self._take(question, self._ask(question))
            if combination.rows:
                return combination.rows
        first = self.combinations[0]
        question = self._question(first, min(PREVIEW_ROWS, self.settings.count))
        self._take(question, self._ask(question))
        if not first.rows:
            raise self._nothing()
        return first.rows

    def all_rows(self) -> list[review.Entry]:
        """Rounds until every combination has its rows, is given up, or the money ends."""
        self._announce()
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            while questions := self._round():
                futures = [pool.submit(self._ask, question) for question, _most in questions]
                try:
                    answers = [future.result() for future in futures]
                except BaseException:
                    # What is being asked now is paid for: it is waited for and recorded.
                    for future in futures:
                        future.cancel()
                    raise
                for (question, most), answer in zip(questions, answers, strict=True):
                    self.budget.settle(most, answer.worth)
                    self._take(question, answer)
                    self.fetching.note(self._progress(question.of))
        self._record()
        entries = [entry for combination in self.combinations for entry in combination.entries]
        if not entries:
            raise self._nothing()
        if self.recording is not self.kept:
            self.recording.path.replace(self.kept.path)
        return entries

    def _round(self) -> list[tuple[Question, float | None]]:
        """The questions of the next round with what each may cost at most, as far as the money goes."""
        found = []
        left = [one for one in self.combinations if not one.given_up and len(one.entries) < self.settings.count]
        for combination in left:
            question = self._question(combination)
            most = self.model.most(question.messages)
            try:
                self.budget.reserve(most)
            except OverBudget:
                continue
            found.append((question, most))
        if left and not found:
            self._warn(_("stopped before max_cost: was passed"))
        return found

    def _question(self, combination: Combination, rows: int | None = None) -> Question:
        settings = self.settings
        wanted = rows or min(settings.batch_size, settings.count - len(combination.entries))
        shown = examples(combination, settings.examples)
        text = told(combination.prompt(count=wanted), wanted, combination.form, shown)
        seed = None if settings.seed is None else settings.seed + combination.requests
        return Question(combination, wanted, [{"role": "user", "content": text}], seed)

    def _ask(self, question: Question) -> Answer:
        combination = question.of
        return self.model.ask(
            question.messages,
            schema=combination.form.list_schema(question.rows),
            seed=question.seed,
            turn=combination.requests,
            recording=self.recording,
            budget=Budget(None),
        )

    def _recorded(self, question: Question) -> bool:
        schema = question.of.form.list_schema(question.rows)
        turn = question.of.requests
        return self.model.recorded(question.messages, self.recording, schema=schema, seed=question.seed, turn=turn)

    def _take(self, question: Question, answer: Answer) -> None:
        """Keep the rows of an answer that are of the right form and new, and count the others by reason."""
        combination = question.of
        self._count(answer)
        self.last = answer.text
        before = len(combination.entries)
        found = llm_answers.found(answer.text, answer.finish)
        if found.fault:
            combination.refused[found.fault] += 1
        for raw in found.rows[: self.settings.count - before]:
            row, fault = self._checked(raw, combination.form)
            if fault:
                combination.refused[fault] += 1
            else:
                combination.entries.append(review.Entry(row, self._origin(question, answer)))
        combination.requests += 1
        combination.barren = 0 if len(combination.entries) > before else combination.barren + 1
        self._give_up(combination)

    def _checked(self, raw: Any, form: RowForm) -> tuple[Row, str | None]:
        if not isinstance(raw, dict):
            return {}, "wrong_shape"
        row = form.clean(raw)
        fault = form.fault(row)
        if fault:
            return {}, fault[0]
        return row, self.seen.refuses(near.normalised(row, form.inputs))

    def _give_up(self, combination: Combination) -> None:
        settings = self.settings
        most = _PATIENCE * -(-settings.count // settings.batch_size) + _SPARE
        missing = settings.count - len(combination.entries)
        if missing > 0 and (combination.barren >= _BARREN or combination.requests >= most):
            combination.given_up = True
            words = _(
                "{title}: gave up after {requests} requests, {rows} of {count} rows ({reasons})",
                title=combination.title,
                requests=combination.requests,
                rows=len(combination.entries),
                count=settings.count,
                reasons=_reasons(combination.refused),
            )
            self._warn(words)

    def _origin(self, question: Question, answer: Answer) -> dict[str, Any]:
        return {
            "provider": self.settings.provider,
            "model": answer.model or self.model.shown,
            "prompt": question.of.prompt_hash,
            "params": self.model.params(question.seed),
            "response": answer.id,
        }

    def _count(self, answer: Answer) -> None:
        self.answers["requests"] += 1
        self.answers["replayed"] += answer.replayed
        self.answers["input_tokens"] += answer.input_tokens
        self.answers["output_tokens"] += answer.output_tokens
        self.cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost
        self.worth = None if self.worth is None or answer.worth is None else self.worth + answer.worth

    def _announce(self) -> None:
        """The estimate, noted and recorded before anything is asked."""
        settings = self.settings
        batches = -(-settings.count // settings.batch_size)
        requests = batches * len(self.combinations)
        asked = 0
        for combination in self.combinations:
            text = self._question(combination).messages[0]["content"] + (settings.system_prompt or "")
            asked += batches * estimated_tokens(text)
            asked += (batches - 1) * settings.examples * _ROW_TOKENS
        answered = settings.count * len(self.combinations) * _ROW_TOKENS
        cost = self.model.price(asked, answered)
        estimate = {"requests": requests, "input_tokens": asked, "output_tokens": answered, "cost": cost}
        self.fetching.record["estimate"] = estimate
        if len(self.recording):
            return
        money = _("price unknown") if cost is None else f"${cost:.4f}"
        self.fetching.tell(
            _(
                "estimate: {requests} requests, about {asked} tokens in and {answered} out, {money}",
                requests=requests,
                asked=asked,
                answered=answered,
                money=money,
            )
        )

    def _record(self) -> None:
        self.fetching.record.update(
            provider=self.settings.provider,
            model=self.model.shown,
            params=self.model.params(self.settings.seed),
            **{name: self.answers[name] for name in ("requests", "replayed", "input_tokens", "output_tokens")},
            cost=self.cost,
            cost_in_all=self.worth,
            combinations=[
                {
                    "title": one.title,
                    "prompt": one.prompt_hash,
                    "requests": one.requests,
                    "rows": len(one.entries),
                    "refused": dict(sorted(one.refused.items())),
                }
                for one in self.combinations
            ],
        )
        money = _("price unknown") if self.cost is None else f"${self.cost:.4f}"
        self.fetching.tell(
            _(
                "{requests} requests ({replayed} replayed), {asked} tokens in, {answered} out, paid now: {money}",
                requests=self.answers["requests"],
                replayed=self.answers["replayed"],
                asked=self.answers["input_tokens"],
                answered=self.answers["output_tokens"],
                money=money,
            )
        )

    def _progress(self, combination: Combination) -> str:
        return _(
            "{number}/{total} {title}: {rows}/{count} rows, {refused} refused",
            number=combination.number,
            total=len(self.combinations),
            title=combination.title,
            rows=len(combination.entries),
            count=self.settings.count,
            refused=combination.refused.total(),
        )

    def _warn(self, words: str) -> None:
        self.fetching.warnings.append(_("source {name}: {words}", name=str(self.source.name), words=words))

    def _nothing(self) -> Invalid:
        refused = sum((one.refused for one in self.combinations), Counter[str]())
        if self.recording is not self.kept:
            self.recording.clear()
        return Invalid(
            _("the model wrote no usable row for source {name}", name=str(self.source.name)),
            file=self.fetching.folder.sources_path,
            line=line_of(self.source, self.fetching.folder, "prompt_template"),
            cause=_("{reasons}; the last answer: {text}", reasons=_reasons(refused), text=lines.shown(self.last)),
            mend=_(
                "change prompt_template:, max_tokens: or model:; to ask the same anew: nlp-skills regenerate --refresh"
            ),
        )


def _reasons(refused: Counter[str]) -> str:
    words = {
        "prose": _("answers without JSON"),
        "cut_off": _("answers cut off at max_tokens"),
        "empty": _("empty answers"),
        "refusal": _("answers the model declined to give"),
        "wrong_shape": _("rows of another form"),
        "unknown_label": _("rows with an unknown label"),
        "repeat": _("repeated rows"),
        "near_repeat": _("rows nearly like another one"),
    }
    return ", ".join(f"{words[code]}: {count}" for code, count in sorted(refused.items()))
