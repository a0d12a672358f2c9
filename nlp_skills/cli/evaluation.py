"""Evaluate a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame, offers
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from pathlib import Path

    from nlp_skills.schema.version import Results
    from nlp_skills.workspace.folder import TaskFolder

    # A name, its figures and their intervals.
    System = tuple[str, dict[str, float], dict[str, tuple[float, float]]]


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
@offers.yes_option
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
    from nlp_skills.cli import elsewhere

    if elsewhere.is_meant(folder, "evaluate", version_name):
        given = {"--baselines": beside, "--backend": backend, "--model": model_name, "--base-url": base_url}
        flags = {"--again": again, "--no-base-baseline": no_base_baseline, "--gate": gate}
        words = [name for name, wanted in flags.items() if wanted]
        words += [word for name, value in given.items() if value is not None for word in (name, value)]
        return elsewhere.carry_out(folder, version_name, "evaluate", words, as_json=as_json)
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
    elif instead:
        _show_beside(folder, results, evaluation.place(folder, results.version, instead))
    else:
        _show(folder, results)
    return 0 if passed else 1


def _show_beside(folder: TaskFolder, results: Results, place: Path) -> None:
    """Another model's results, with the version's own on the same rows below them."""
    from nlp_skills.evaluation import summary

    own, name = folder.version(results.version).results(), results.asked.model if results.asked else ""
    systems = [(name, results.metrics, results.intervals)]
    if own is not None and own.test_sha256 == results.test_sha256:
        systems.append((own.version, own.metrics, own.intervals))
    frame.say(_("{task}: {rows} test rows", task=folder.task().task_name, rows=results.test_rows))
    _show_systems(summary.columns(results), systems)
    frame.say(_("kept in {path}; the results of {version} stay as they are", path=frame.shown(place),
                version=results.version))  # fmt: skip


def _show(folder: TaskFolder, results: Results) -> None:
    frame.say(_("{task} {version}: {rows} test rows", task=folder.task().task_name, version=results.version,
                rows=results.test_rows))  # fmt: skip
    _show_figures(results)
    _show_classes(results)
    _show_checks(results)
    for line in _conclusion(folder, results):
        frame.say(line)


def _show_figures(results: Results) -> None:
    from nlp_skills.evaluation import summary, words

    names = summary.columns(results)
    systems = [(results.version, results.metrics, results.intervals)]
    for name, given in results.baselines.items():
        systems.append((words.baseline(name), given, results.baseline_intervals.get(name, {})))
    _show_systems(names, systems)


def _show_systems(names: list[str], systems: list[System]) -> None:
    """What each system reached, and its intervals."""
    from nlp_skills.evaluation import summary, words

    lines = []
    for title, figures, ranges in systems:
        lines.append([title, *(words.figure(name, figures.get(name)) for name in names)])
        if ranges:
            lines.append([f"  {_('Interval (95%)')}", *(summary.interval(ranges, name) for name in names)])
    frame.table(["", *map(words.metric, names)], lines, right=range(1, len(names) + 1))


def _show_classes(results: Results) -> None:
    from nlp_skills.evaluation import summary, words

    if not results.per_class:
        return
    title = summary.classes_title(results.kind)
    columns = [title, _("Precision"), _("Recall"), "F1", _("Interval (95%)"), _("Rows")]
    lines = []
    for label, part in results.per_class.items():
        figures = map(words.percent, (part.precision, part.recall, part.f1))
        ends = summary.interval(results.class_intervals, label)
        lines.append([words.plain(label), *figures, ends, str(part.support)])
    frame.table(columns, lines, right=range(1, len(columns)))


def _show_checks(results: Results) -> None:
    from nlp_skills.evaluation import summary

    checks = [summary.check(check) for check in results.success.checks]
    if checks:
        needed = _("Rows needed")
        columns = [_("Criterion"), _("Reached"), _("Interval (95%)"), _("At least"), _("Verdict"), needed]
        frame.table(columns, checks, right=(1, 2, 3, 5))


def _conclusion(folder: TaskFolder, results: Results) -> list[str]:
    """What the figures mean, and what to do next."""
    from nlp_skills.evaluation import baselines, judgement, predictions, summary

    verdict, criteria = judgement.headline(results), ", ".join(judgement.criteria(results))
    lines = [_("{verdict} ({criteria})", verdict=verdict, criteria=criteria) if criteria else verdict]
    lines += [*judgement.warnings(results), *summary.lines(results)]
    version = folder.version(results.version)
    if version.results() == results:
        given = predictions.load(version.predictions_path)
        lines += [text for text in [judgement.beside_baseline(results, given, folder.task().language)] if text]
    if baselines.unfitted(folder, results):
        lines.append(_("no baselines were fitted: data/train.jsonl is not what this version was trained on"))
    command = f"nlp-skills {judgement.next_step(results)} {folder.task().task_name} --version {version.name}"
    lines.append(_("next: {command}", command=command))
    return lines
