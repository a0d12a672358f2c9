"""Which of a run's epochs is kept, and when there is no point in going on: by the primary metric of the valid split.

What answers are worth is the evaluation's to say (`asked`, `marks`), which calls nothing of the training; it is
imported where it is used, so that nothing else of this room needs it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills.data.findings import Finding
from nlp_skills.data.render import Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config, EarlyStopping
from nlp_skills.training import base_model, lengths
from nlp_skills.training.device import Device
from nlp_skills.training.encode import encode, read_rows
from nlp_skills.training.job import Job
from nlp_skills.workspace.folder import TaskFolder

if TYPE_CHECKING:
    from nlp_skills.evaluation.asked import Questions

Log = list[dict[str, Any]]


@dataclass(frozen=True)
class Selection:
    """Measures the model on the valid split; `key` is the figure that decides, as the trainer's log names it.

    Where several processes train together, `agreed` makes the figures of one of them everyone's.
    """

    key: str
    stopping: EarlyStopping
    questions: Questions
    device: Device
    agreed: Callable[[dict[str, float]], dict[str, float]] = dict
    language: str | None = None

    def measure(self, model: Any, moved: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The valid split's figures by their names in the log (`eval_macro_f1`), the model left as it was.

        Where the model answers in its own words, the share of answers that could be read is among them. `moved` is
        called after every batch of answers.
        """
        from nlp_skills.evaluation import asked, marks
        from nlp_skills.evaluation.scores import sheet

        given, in_words = asked.ask(model, self.questions, self.device, lambda _rows: moved())
        marked = sheet.of(
            self.questions.kind,
            self.questions.gold(),
            given,
            labels=self.questions.labels,
            language=self.language,
            texts=self.questions.inputs(),
        )
        name = self.key.removeprefix("eval_")
        # A schema may list relations, and no row of the split have one.
        found = {self.key: float(marked.figures().get(name, 0.0))}
        parsed = sum(marked.readable) / max(1, len(marked.readable))
        return self.agreed(found | {f"eval_{marks.PARSED}": parsed} if in_words else found)

    def exhausted(self, log: Log) -> bool:
        """Whether the metric has not risen for so long that the run ends; `log` is the trainer's own history."""
        best, waited = float("-inf"), 0
        for _step, value in self._measured(log):
            rises = value > best + (self.stopping.min_delta if best > float("-inf") else 0.0)
            best, waited = (value, 0) if rises else (best, waited + 1)
        return waited >= self.stopping.patience

    def better_of_two(self, log: Log, kept: int | None, step: int) -> bool:
        """Whether, of two steps that reached the same metric, the later has the lower loss."""
        metric, loss = dict(self._measured(log)), dict(_figures(log, "eval_loss"))
        if kept is None or kept == step or metric.get(kept) != metric.get(step):
            return False
        return kept in loss and step in loss and loss[step] < loss[kept]

    def _measured(self, log: Log) -> list[tuple[int, float]]:
        return _figures(log, self.key)


def _figures(log: Log, key: str) -> list[tuple[int, float]]:
    return [(int(line["step"]), float(line[key])) for line in log if key in line]


def choosing(base: type[Any], selection: Selection) -> type[Any]:
    """A trainer that measures as `selection` does after each epoch's loss, keeps the best epoch and stops in time.

    All it decides follows from the trainer's own log, so that a run that goes on decides as one that never stopped.
    """

    class Choosing(base):  # type: ignore[misc]
        control: Any

        def evaluate(self, *arguments: Any, **settings: Any) -> dict[str, float]:
            measured: dict[str, float] = super().evaluate(*arguments, **settings)
            figures = selection.measure(self.model, self._sign)
            self.log(figures)
            if selection.exhausted(self.state.log_history):
                self.control.should_training_stop = True
            return {**measured, **figures}

        def _sign(self) -> None:
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

        def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
            kept, step = self.state.best_global_step, self.state.global_step
            if super()._determine_best_metric(metrics, trial):
                return True
            better = selection.better_of_two(self.state.log_history, kept, step)
            if better:
                self.state.best_global_step = step
            return better

        def _run_epoch(self, *arguments: Any, **settings: Any) -> None:
            # A run that was killed after its last checkpoint goes on here, and was over already.
            if selection.exhausted(self.state.log_history):
                self.control.should_training_stop = True
            else:
                super()._run_epoch(*arguments, **settings)

    return Choosing


def of(job: Job, tokenizer: Any, device: Device) -> Selection | None:
    """None where config.yaml asks for no early stopping: the epoch with the lowest loss is then kept."""
    stopping = job.config.early_stopping
    if stopping is None:
        return None
    from nlp_skills.evaluation import marks

    asked = questions(job.folder, job.task, job.config, tokenizer, most_rows=stopping.rows)
    name = marks.selecting(job.task, job.folder.root)
    return Selection(f"eval_{name}", stopping, asked, device, language=job.task.language)


def questions(
    folder: TaskFolder, task: Task, config: Config, tokenizer: Any, *, most_rows: int | None = None
) -> Questions:
    """The valid split as it is asked, prompts cut where training cuts them.

    `most_rows`: at most so many, drawn by the configuration's seed, the same ones every time.
    """
    from nlp_skills.evaluation import asked, marks

    base = base_model.locate(config.base_model, root=folder.root)
    found = list(read_rows(folder.split("valid")))
    if most_rows is not None and most_rows < len(found):
        places = random.Random(f"{config.seed}/valid").sample(range(len(found)), most_rows)
        found = [found[place] for place in sorted(places)]
    renderer, limit = Renderer.of(task, config), lengths.limit(config, base)
    encoded = [encode(tokenizer, renderer, row, line).shortened(limit) for line, row in found]
    return asked.Questions(
        kind=marks.kind(task),
        renderer=renderer,
        tokenizer=tokenizer,
        rows=[row for _line, row in found],
        prompts=[row.prompt for row in encoded],
        completions=[row.completion for row in encoded],
        most=lengths.context(base),
    )


def check(folder: TaskFolder, task: Task, config: Config, path: Path) -> list[Finding]:
    """What stands in the way of `early_stopping`; `path` is the file it stands in."""
    if config.early_stopping is None:
        return []
    from nlp_skills.evaluation import marks

    found = []
    learnt_from = folder.split if config.method == "sft" else folder.preferences
    for file in dict.fromkeys([folder.split("valid"), learnt_from("valid")]):
        if not file.is_file() or next(read_rows(file), None) is None:
            text = _("early_stopping measures the valid split, and there are no rows in it")
            mend = _("give it rows (split: in data_source.yaml, then nlp-skills regenerate), or remove early_stopping")
            found.append(Finding("error", "no_valid_rows", text, file=str(file), mend=mend))
    try:
        marks.selecting(task, folder.root)
    except Invalid as error:
        where = str(folder.task_path)
        found.append(Finding("error", "unknown_metric", error.message, file=where, mend=error.mend, cause=error.cause))
    return found
