"""Evaluating a version: ask it every test row, score it, set it beside its baselines, and judge it.

Whatever is already known is not asked again: finished results, the rows an interrupted run left, and
the untrained model's answers, which every version on the same base model shares.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.evaluation import baselines, judgement, metrics, model, predict, significance, subject
from nlp_skills.evaluation.predict import Answer, Partial
from nlp_skills.evaluation.subject import Subject
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.version import Results
from nlp_skills.workspace import digest, lifecycle, lineage, lock
from nlp_skills.workspace.folder import TaskFolder


def evaluate(
    folder: TaskFolder, version: str | None = None, *, again: bool = False, base_baseline: bool = True
) -> Results:
    """Evaluate a version on data/test.jsonl and record it: predictions.jsonl, results.json, lineage.

    `again` asks the model anew. `base_baseline` also asks an adapter's base model, untrained.

    Raises:
        Invalid: see `subject.choose`; also another command holding the task.
        Unavailable: an extra or the base model is missing.
    """
    need("quality", "sklearn")
    with lock.writing(folder):
        chosen = subject.choose(folder, version)
        with_base = base_baseline and chosen.info.adapter_path is not None
        if again:
            _partial(chosen).forget()
            _clock(chosen).unlink(missing_ok=True)
        earlier = None if again else _earlier(chosen)
        if earlier is None or (with_base and baselines.BASE not in earlier.baselines):
            results = _measure(chosen, with_base, _finished(chosen) if earlier else None)
        else:
            results = earlier
        _record(chosen, results)
    return results


def _earlier(chosen: Subject) -> Results | None:
    """Finished results of this very model on these very rows, judged by today's criteria."""
    found = chosen.version.results()
    if found is None or found.fingerprint != chosen.fingerprint or not chosen.version.predictions_path.is_file():
        return None
    return found.model_copy(
        update={"success": judgement.verdict(chosen.task.success_criteria, found.metrics, found.intervals)}
    )


def _finished(chosen: Subject) -> list[Answer]:
    """The answers that finished results were made from."""
    rows = significance.load(chosen.version.predictions_path)
    return [Answer(row["predicted"], row["probabilities"], row["valid_answer_probability"]) for row in rows]


def _measure(chosen: Subject, with_base: bool, finished: list[Answer] | None) -> Results:
    with _timed(chosen, _seconds_before(chosen, finished is not None)) as seconds:
        return _measured(chosen, with_base, finished, seconds)


def _measured(chosen: Subject, with_base: bool, finished: list[Answer] | None, seconds: Callable[[], float]) -> Results:
    answers, base, device = _asked(chosen, with_base, finished)
    others = {**_fitted(chosen), **({baselines.BASE: base} if base else {})}
    _write_predictions(chosen, answers, others)
    matrix = metrics.confusion(chosen.gold, [answer.predicted for answer in answers], chosen.labels)
    figures, ranges = metrics.scores(matrix), metrics.intervals(matrix)
    valid = sum(answer.valid for answer in answers) / len(answers)
    return Results(
        version=chosen.version.name,
        created=files.now(),
        fingerprint=chosen.fingerprint,
        test_sha256=chosen.test_hash,
        test_rows=len(answers),
        metrics={**figures, "valid_answer_probability": valid},
        intervals=ranges,
        per_class=metrics.per_class(matrix),
        confusion_matrix=matrix,
        baselines={name: _scores(chosen, given) for name, given in others.items()},
        success=judgement.verdict(chosen.task.success_criteria, figures, ranges),
        seconds=round(seconds(), 1),
        device=device,
    )


@contextlib.contextmanager
def _timed(chosen: Subject, before: float) -> Iterator[Callable[[], float]]:
    """A clock of the seconds that measuring takes, over all stretches: one that is stopped leaves its time behind."""
    path, started = _clock(chosen), time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - started

    try:
        yield seconds
    except BaseException:
        with contextlib.suppress(Problem):
            files.write_json(path, {"fingerprint": chosen.fingerprint, "seconds": round(seconds(), 1)})
        raise
    path.unlink(missing_ok=True)


def _clock(chosen: Subject) -> Path:
    return chosen.version.run / "evaluation.json"


def _seconds_before(chosen: Subject, finished: bool) -> float:
    """What a stopped stretch of the same question took, else what its finished answers did."""
    with contextlib.suppress(Problem, KeyError, TypeError, ValueError):
        note = files.read_json(_clock(chosen))
        if note["fingerprint"] == chosen.fingerprint:
            return float(note["seconds"])
    earlier = chosen.version.results() if finished else None
    return (earlier.seconds if earlier else None) or 0.0


def _scores(chosen: Subject, given: Sequence[str]) -> dict[str, float]:
    return metrics.scores(metrics.confusion(chosen.gold, given, chosen.labels))


def _asked(
    chosen: Subject, with_base: bool, finished: list[Answer] | None
) -> tuple[list[Answer], list[str] | None, str]:
    """The version's answers, its base model's (None when not wanted), and the device's name."""
    loaded = model.load(chosen.folder, chosen.version.name)
    title = _("evaluate {version}", version=chosen.version.name)
    question = (loaded, chosen.test, chosen.labels, chosen.label_field)
    answers = finished or predict.ask(*question, _partial(chosen), title)

    def ask_base() -> list[str]:
        partial = Partial(chosen.version.root / "base.partial", _base_key(chosen))
        with loaded.untrained():
            given = predict.ask(*question, partial, _("base model, untrained"))
        partial.forget()
        return [answer.predicted for answer in given]

    base = _remembered(chosen, ask_base) if with_base else None
    return answers, base, loaded.device.name


def _partial(chosen: Subject) -> Partial:
    return Partial(chosen.version.root / "predictions.partial", chosen.fingerprint)


def _base_key(chosen: Subject) -> str:
    return model.digest([model.base_fingerprint(chosen.info), chosen.test_hash])


def _remembered(chosen: Subject, ask: Callable[[], list[str]]) -> list[str]:
    """The base model's answers from benchmarks/baselines.json, or asked for now and kept there."""
    path = chosen.folder.root / "benchmarks" / "baselines.json"
    kept: dict[str, list[str]] = {}
    # What can be computed anew need not stop anybody when it is broken.
    with contextlib.suppress(Problem):
        content = files.read_json(path)
        kept = content.get(baselines.BASE, {}) if isinstance(content, dict) else {}
    key = _base_key(chosen)
    if len(kept.get(key, [])) != len(chosen.test):
        kept[key] = ask()
        files.write_json(path, {"schema_version": 1, baselines.BASE: kept})
    return kept[key]


def _fitted(chosen: Subject) -> dict[str, list[str]]:
    """The baselines fitted on train; none when train is no longer what the version was trained on."""
    if not chosen.unchanged("train"):
        return {}
    train = chosen.rows("train")
    return baselines.answers(train, chosen.test, chosen.fields, chosen.label_field, chosen.task.language)


def _write_predictions(chosen: Subject, answers: Sequence[Answer], others: Mapping[str, Sequence[str]]) -> None:
    with files.atomic_writer(chosen.version.predictions_path) as stream:
        for number, answer in enumerate(answers):
            gold = chosen.gold[number]
            line = {
                "key": chosen.keys[number],
                "gold": gold,
                "predicted": answer.predicted,
                "correct": gold == answer.predicted,
                "probabilities": answer.probabilities,
                "valid_answer_probability": answer.valid,
                "baselines": {name: given[number] for name, given in others.items()},
                "input": {field: chosen.test[number][field] for field in chosen.fields},
            }
            stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _record(chosen: Subject, results: Results) -> None:
    if results != chosen.version.results():
        results.save(chosen.version.results_path)
    _partial(chosen).forget()
    lineage.record(chosen.version, results=lineage.results_section(results, chosen.version))
    # An older version evaluated again, or one already deployed, does not move the task.
    if chosen.task.version == chosen.version.name and chosen.task.status in ("training", "evaluating"):
        lifecycle.move(chosen.folder, "evaluating", _reason(chosen, results))
    digest.write(chosen.folder)


def _reason(chosen: Subject, results: Results) -> str:
    metric = results.success.primary_metric
    return f"evaluated {chosen.version.name}: {metric} {results.metrics[metric]:.4f}"
