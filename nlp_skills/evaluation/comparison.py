"""Versions side by side: what differs in how they were made and in what they score, and which of it is real.

Two versions are one test. Of more, each is tested against the first, and all against each other to say which is
best; Holm's correction is over the tests of each of these questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

from nlp_skills.errors import Problem
from nlp_skills.evaluation import marks, metrics, significance, words
from nlp_skills.evaluation import predictions as answers
from nlp_skills.evaluation.scores import classes, intervals
from nlp_skills.evaluation.significance import Key, Row
from nlp_skills.extras import installed
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import Task
from nlp_skills.workspace import compare as differences
from nlp_skills.workspace.compare import Difference, Records
from nlp_skills.workspace.folder import TaskFolder

MOST = 6


@dataclass(frozen=True)
class Pair:
    """Version `b` tested against version `a`; `result` is of `significance.compare_rows`."""

    a: str
    b: str
    result: dict[str, Any]

    @property
    def tested(self) -> bool:
        """Whether they share enough test rows."""
        return bool(self.result["metrics"])

    @property
    def entry(self) -> dict[str, Any]:
        """Both values of the metric that decides, their difference, its interval and p; only of a tested pair."""
        found: dict[str, Any] = self.result["metrics"][self.result["metric"]]
        return found

    @property
    def sentence(self) -> str:
        return significance.sentence(self.result, self.a, self.b)


@dataclass(frozen=True)
class Best:
    """Of three or more versions: which one, or which ones it may be, and each pair's p by Holm over all pairs."""

    version: str | None
    contenders: list[str]
    pairs: list[tuple[str, str, float]]


@dataclass(frozen=True)
class Comparison:
    """Everything that the command line and the page say about some versions of a task.

    `untested` says of each version without usable predictions why nothing can be tested on it.
    """

    folder: TaskFolder
    task: Task
    metric: str
    versions: list[Records]
    predictions: dict[str, list[dict[str, Any]]]
    untested: dict[str, str]
    pairs: list[Pair]
    best: Best | None
    problems: list[Problem] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.versions]

    @property
    def kind(self) -> Kind:
        """What an answer of the task is."""
        return marks.kind(self.task)

    @property
    def change(self) -> str:
        """What the column of changes is called: from which version to which, where there are more than two."""
        return _("Change") if len(self.names) == 2 else f"{self.names[0]} → {self.names[-1]}"

    @cached_property
    def settings(self) -> list[Difference]:
        return differences.settings(self.versions)

    @cached_property
    def figures(self) -> list[Difference]:
        return differences.figures(self.versions, self.task.metric)

    @cached_property
    def intervals(self) -> dict[str, dict[str, metrics.Interval]]:
        """The 95 % interval of each figure, by figure and version, where the results have what it takes."""
        found: dict[str, dict[str, metrics.Interval]] = {}
        for one in self.versions:
            if one.results is None:
                continue
            by_class, matrix = one.results.class_intervals, one.results.confusion_matrix
            # Results of the releases up to 0.4 have none of the classes.
            if not by_class and matrix is not None and installed("numpy"):
                by_class = intervals.of_classes(classes.of_matrix(matrix))
            ranges = one.results.intervals | {f"{label} F1": interval for label, interval in by_class.items()}
            for name, interval in ranges.items():
                found.setdefault(name, {})[one.name] = interval
        return found

    def rows(self, name: str) -> dict[Key, Row]:
        """A version's predictions by test row."""
        return significance.keyed(self.predictions[name])


def of(folder: TaskFolder, names: Sequence[str]) -> Comparison:
    """Compare versions in the order they are named.

    A file that cannot be read, or a missing package, is in `problems`; what does not need it is there all the same.

    Raises:
        Invalid: there is nothing of a version, or task.yaml cannot be read.
    """
    task = folder.task()
    versions = [differences.records(folder, name) for name in names]
    problems = [problem for one in versions for problem in one.problems]
    kind = marks.kind(task)
    metric = significance.testable(task.metric, kind)
    predictions: dict[str, list[dict[str, Any]]] = {}
    untested: dict[str, str] = {}
    for one in versions:
        try:
            if why := _untested(task, one):
                untested[one.name] = why
            else:
                predictions[one.name] = answers.load(one.version.predictions_path, kind)
        except Problem as problem:
            problems.append(problem)
            untested[one.name] = _("the predictions of {version} cannot be read", version=one.name)
    try:
        tests = _tests(predictions, metric, _labels(versions), task)
    except Problem as problem:
        problems.append(problem)
        tests = []
    pairs, best = _against_first(tests, list(predictions)), _best(tests, list(predictions))
    return Comparison(folder, task, metric, versions, predictions, untested, pairs, best, problems)


def _untested(task: Task, one: Records) -> str | None:
    """Why a version's answers are not there, with the command that makes them."""
    if one.version.predictions_path.is_file():
        return None
    task_name, version = task.task_name, one.name
    evaluate = f"nlp-skills evaluate {task_name} --version {version}"
    if one.results is None and not (one.lineage and one.lineage.results):
        return _("{version} has not been evaluated: {command}", version=version, command=evaluate)
    if one.version.model is not None:
        command = evaluate
    else:
        command = f"nlp-skills train {task_name} --version {version} --again && {evaluate}"
    return _(
        "no difference to {version} can be tested: its predictions are not there. Make them anew: {command}",
        version=version,
        command=command,
    )


def _tests(
    predictions: Mapping[str, list[dict[str, Any]]], metric: str, labels: Sequence[str], task: Task
) -> list[Pair]:
    """Every pair of versions, its classes in the order of `labels`."""
    place = {label: number for number, label in enumerate(labels)}
    found = []
    for a, b in combinations(predictions, 2):
        result = significance.compare_rows(
            predictions[a], predictions[b], metric, kind=marks.kind(task), language=task.language
        )
        classes = sorted(result["classes"].items(), key=lambda item: place.get(item[0], len(place)))
        found.append(Pair(a, b, {**result, "classes": dict(classes)}))
    return found


def _labels(versions: Sequence[Records]) -> list[str]:
    """The classes as the results have them, in which they stand as in task.yaml."""
    return list(dict.fromkeys(label for one in versions if one.results for label in one.results.per_class))


def _against_first(tests: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """The tests against the first version; the verdict is that of p with Holm's correction over them."""
    pairs = [pair for pair in tests if pair.a == names[0]]
    tested = [pair for pair in pairs if pair.tested]
    corrected = dict(zip([pair.b for pair in tested], significance.holm([_p(pair) for pair in tested]), strict=True))
    return [_corrected(pair, corrected.get(pair.b), len(tested)) for pair in pairs]


def _corrected(pair: Pair, p: float | None, count: int) -> Pair:
    result = {**pair.result, "p_holm": p, "pairs": count}
    if p is not None:
        result["verdict"] = significance.verdict(pair.entry["difference"], p)
    return Pair(pair.a, pair.b, result)


def _best(tests: Sequence[Pair], names: Sequence[str]) -> Best | None:
    """The one version that no other is better than, at 5 % over all pairs; None unless three can all be tested."""
    if len(names) < 3 or not tests or not all(pair.tested for pair in tests):
        return None
    corrected = significance.holm([_p(pair) for pair in tests])
    beaten = set()
    for pair, p in zip(tests, corrected, strict=True):
        code = significance.verdict(pair.entry["difference"], p)
        beaten |= {"better": {pair.a}, "worse": {pair.b}}.get(code, set())
    left = [name for name in names if name not in beaten]
    pairs = [(pair.a, pair.b, p) for pair, p in zip(tests, corrected, strict=True)]
    return Best(left[0] if len(left) == 1 else None, left, pairs)


def _p(pair: Pair) -> float:
    return float(pair.entry["p"])


def conclusion(found: Comparison) -> list[str]:
    """What the comparison comes to: which is best, each against the first, and what could not be tested."""
    texts = [best_sentence(found.best)] if found.best else []
    texts += [pair.sentence for pair in found.pairs]
    texts += list(found.untested.values())
    if len(found.predictions) > 1 and not found.pairs:
        texts.append(_("the difference could not be tested: see the error"))
    primary = found.task.metric
    if found.pairs and found.metric != primary:
        names = {"primary": primary, "metric": words.metric(found.metric)}
        texts.append(_("{primary} cannot be tested row by row; {metric} decides.", **names))
    return texts


def best_sentence(best: Best) -> str:
    """Which version is best, or that it cannot be told."""
    if best.version:
        pairs = len(best.pairs)
        return _(
            "{version} is the best of them (Holm's correction over {pairs} pairs).", version=best.version, pairs=pairs
        )
    names = ", ".join(best.contenders)
    return _("Which is best cannot be told: it may be any of {versions}.", versions=names)


def details(found: Comparison, pair: Pair) -> list[str]:
    """What else there is to know of a pair: which rows, accuracy beside another metric, and classes."""
    result = pair.result
    lines = [] if result["same_rows"] else [different_rows(pair)]
    if not pair.tested:
        command = f"nlp-skills new-version {found.task.task_name} --from {pair.a}"
        return [*lines, _("{a}'s settings with the data of today: {command}", a=pair.a, command=command)]
    if result["metric"] != "accuracy" and "accuracy" in result["metrics"]:
        entry = result["metrics"]["accuracy"]
        change, p = significance.amount("accuracy", entry["difference"]), significance.p_value(entry["p"])
        lines.append(_("Accuracy: {difference}, {p} (McNemar, exact).", difference=change, p=p))
    return [*lines, _class_line(result)] if result["classes"] else lines


def _class_line(result: Mapping[str, Any]) -> str:
    shown = [
        f"{words.plain(label)} {significance.points(entry['difference'])} ({significance.p_value(entry['p_holm'])})"
        for label, entry in result["classes"].items()
        if entry["p_holm"] < significance.LEVEL
    ]
    count = len(result["classes"])
    if not shown:
        return _("F1 by class: no difference is visible (Holm's correction over {count} classes).", count=count)
    text = ", ".join(shown)
    return _("F1 by class, in points: {classes} (Holm's correction over {count} classes).", classes=text, count=count)


def different_rows(pair: Pair) -> str:
    """Which test rows the two versions do not share."""
    result = pair.result
    counts = {name: len(result[name]) for name in ("only_a", "only_b", "relabelled")}
    return _(
        "Test rows in both: {rows}, only in {a}: {only_a}, only in {b}: {only_b}, "
        "in both with another label: {relabelled}. Only rows in both can be compared.",
        a=pair.a,
        b=pair.b,
        rows=result["rows"],
        **counts,
    )


def as_dict(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data: fractions, every key of every row that flipped or is not shared."""
    return {
        "ok": not found.problems,
        "task": found.task.task_name,
        "versions": found.names,
        "primary_metric": found.task.metric,
        "tested_metric": found.metric,
        "settings": [_row(found, row) | {"relative": row.relative} for row in found.settings],
        "figures": [_row(found, row) | {"intervals": found.intervals.get(row.name, {})} for row in found.figures],
        "pairs": [
            {"a": pair.a, "b": pair.b, **pair.result, "sentence": pair.sentence, "details": details(found, pair)}
            for pair in found.pairs
        ],
        "best": _best_dict(found.best) if found.best else None,
        "untested": found.untested,
        "conclusion": conclusion(found),
        "problems": [problem.as_dict() for problem in found.problems],
    }


def _row(found: Comparison, row: Difference) -> dict[str, Any]:
    return {"name": row.name, "values": dict(zip(found.names, row.values, strict=True)), "change": row.absolute}


def _best_dict(best: Best) -> dict[str, Any]:
    pairs = [{"a": a, "b": b, "p_holm": p} for a, b, p in best.pairs]
    return {"version": best.version, "contenders": best.contenders, "pairs": pairs}
