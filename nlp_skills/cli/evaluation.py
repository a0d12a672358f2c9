"""Evaluate a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.schema.version import Results
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "evaluate",
    help=N_("Measure a version on the test rows, beside its baselines, and judge it by the success criteria."),
    examples=[
        "nlp-skills evaluate",
        "nlp-skills evaluate reviews --version v1 --again",
        "nlp-skills evaluate --baselines majority,tfidf_logreg,base_few_shot",
        "nlp-skills evaluate --backend llama.cpp --model models/reviews-q4.gguf",
        "nlp-skills evaluate --backend endpoint --base-url http://localhost:11434/v1 --model qwen3:4b",
        "nlp-skills evaluate --json",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option("--again", is_flag=True, help=N_("Ask the model anew, though the results are there."))
@frame.option(
    "--baselines",
    "beside",
    metavar="NAMES",
    help=N_("What to measure beside it: all, none, or names with commas between."),
)
@frame.option("--no-base-baseline", is_flag=True, help=N_("Do not measure the untrained base model beside it."))
@frame.option(
    "--backend",
    type=click.Choice(["transformers", "vllm", "llama.cpp", "endpoint"]),
    help=N_("What answers. Other results than those of transformers go to benchmarks/ and are not the version's."),
)
@frame.option(
    "--model",
    "model_name",
    metavar="NAME",
    help=N_("A GGUF file for llama.cpp, or what an endpoint calls its model; without --backend, one more baseline."),
)
@frame.option("--base-url", metavar="URL", help=N_("Where an OpenAI-compatible endpoint is."))
@frame.option(
    "--gate", is_flag=True, help=N_("Exit with 1 unless the success criteria are met: also where the rows cannot tell.")
)
@frame.json_option
def evaluate(
    folder: TaskFolder,
    version_name: str | None,
    again: bool,
    beside: str | None,
    no_base_baseline: bool,
    backend: str | None,
    model_name: str | None,
    base_url: str | None,
    gate: bool,
    as_json: bool,
) -> int:
    from nlp_skills.evaluation import evaluate as evaluation
    from nlp_skills.evaluation.answering import backends

    task = folder.task()
    instead = backends.Backend.of(backend, model_name, base_url, task)
    try:
        results = evaluation.evaluate(
            folder,
            version_name,
            again=again,
            base_baseline=not no_base_baseline,
            beside=beside,
            backend=instead,
            endpoint=None if instead else backends.endpoint(model_name, base_url, task),
        )
    except KeyboardInterrupt:
        frame.note(_("the answers so far are kept; the same command without --again goes on"))
        raise
    passed = not gate or results.success.verdict in ("met", None)
    if as_json:
        frame.emit({"ok": passed, **results.dump()})
    else:
        _show(folder, results)
    return 0 if passed else 1


def _show(folder: TaskFolder, results: Results) -> None:
    from nlp_skills.evaluation import words

    frame.say(_("{task} {version}: {rows} test rows", task=folder.task().task_name, version=results.version,
                rows=results.test_rows))  # fmt: skip
    columns = ["", *(words.metric(name) for name in _columns(results))]
    lines = [[results.version, *_figures(results.metrics, results)], [_("Interval (95%)"), *_intervals(results)]]
    lines += [[words.baseline(name), *_figures(given, results)] for name, given in results.baselines.items()]
    frame.table(columns, lines, right=range(1, len(columns)))
    columns = [_("Class"), _("Precision"), _("Recall"), "F1", _("Rows")]
    classes = [
        [label, *map(words.percent, (part.precision, part.recall, part.f1)), str(part.support)]
        for label, part in results.per_class.items()
    ]
    frame.table(columns, classes, right=range(1, len(columns)))
    for line in _conclusion(folder, results):
        frame.say(line)


def _columns(results: Results) -> list[str]:
    return list(dict.fromkeys([results.success.primary_metric, "macro_f1", "accuracy"]))


def _figures(given: dict[str, float], results: Results) -> list[str]:
    from nlp_skills.evaluation import words

    return [words.figure(name, given.get(name)) for name in _columns(results)]


def _intervals(results: Results) -> list[str]:
    from nlp_skills.evaluation import words

    ranges = {name: results.intervals.get(name) for name in _columns(results)}
    return [" - ".join(words.figure(name, end) for end in ends) if ends else "–" for name, ends in ranges.items()]


def _conclusion(folder: TaskFolder, results: Results) -> list[str]:
    """What the figures mean, and what to do next."""
    from nlp_skills.evaluation import baselines, judgement, predictions

    verdict, criteria = judgement.headline(results), ", ".join(judgement.criteria(results))
    lines = [_("{verdict} ({criteria})", verdict=verdict, criteria=criteria) if criteria else verdict]
    lines += judgement.warnings(results)
    given = predictions.load(folder.version(results.version).predictions_path)
    lines += [text for text in [judgement.beside_baseline(results, given)] if text]
    if baselines.unfitted(folder, results):
        lines.append(_("no baselines were fitted: data/train.jsonl is not what this version was trained on"))
    task, version = folder.task().task_name, results.version
    lines.append(_("next: {command}", command=f"nlp-skills report {task} --version {version}"))
    return lines
