"""Is version B better than version A, or are there too few test rows to tell?

Both versions answered the same rows, so the test is paired: what counts is the rows on which they
differ. A plain difference of two scores, or an unpaired test, hides most of what the rows can show.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics, words
from nlp_skills.extras import need
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats
    from nlp_skills.workspace.folder import VersionFolder

Row = Mapping[str, Any]
# A row's key, its true label, and which of the rows with both it is: the same text may stand in a test file twice.
Key = tuple[str, str, int]
Code = Literal["better", "worse", "cannot_tell", "not_comparable"]

LEVEL = 0.05
# Fewer common rows than this, when the test sets differ, are not the test either version was judged by.
FEWEST_COMMON = 30
# An exact test needs six rows that went the same way to reach 5 %.
FEWEST_FLIPS = 6
# 1.96 standard errors to be significant, 0.84 more to be so in four cases of five.
_DETECTABLE = 1.96 + 0.84
# Numbers held at once while resampling: 64 MB.
_BLOCK = 8_000_000
_ONLY_RIGHT_OR_WRONG = ("accuracy", "micro_f1", "balanced_accuracy")


def load(path: Path) -> list[dict[str, Any]]:
    """predictions.jsonl as a list of rows with at least `key`, `gold` and `predicted`.

    Raises:
        Invalid: the file is missing, or a line of it is not such a row.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        mend = _("make the predictions: nlp-skills evaluate")
        raise Invalid(_("there are no predictions yet"), file=path, mend=mend) from error
    return [_row(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        row, cause = None, str(error)
    except json.JSONDecodeError as error:
        row, cause = None, error.msg
    else:
        cause = _("a prediction has the keys key, gold and predicted, each of them text")
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("key", "gold", "predicted")):
        mend = _("make the predictions anew: nlp-skills evaluate --again")
        raise Invalid(_("not a prediction"), file=path, line=number, cause=cause, mend=mend)
    return row


def between(a: VersionFolder, b: VersionFolder, metric: str = "macro_f1") -> dict[str, Any]:
    """How version B does against version A, from their predictions; see `compare_rows`.

    A version without predictions makes it `not_comparable`, and is named in `unevaluated`.
    """
    missing = [version.name for version in (a, b) if not version.predictions_path.is_file()]
    if missing:
        return {"metric": metric, "rows": 0, **_apart({}, {}), **_NOTHING, "same_rows": False, "unevaluated": missing}
    return compare_rows(load(a.predictions_path), load(b.predictions_path), metric)


def compare_rows(rows_a: Iterable[Row], rows_b: Iterable[Row], metric: str = "macro_f1") -> dict[str, Any]:
    """How B does against A on the rows both answered, as plain data; differences are B minus A, fractions.

    The verdict comes from `metric` (macro-F1 for one that no test is known for) at 5 %: by the exact McNemar
    test for accuracy, by the paired bootstrap for the others. Accuracy can rise while a rare class is lost, so
    it decides only where it is what versions are chosen by. `classes` holds every class's F1, with Holm's
    correction over the classes. `smallest_visible_difference` is the difference these rows would show in four
    cases of five, given how often the two versions disagree.

    A row counts as common when its key and its true label are the same on both sides. When the test
    sets differ, at least 30 common rows are needed, else the verdict is `not_comparable`.
    """
    need("quality", "numpy")
    metric = testable(metric)
    a, b = keyed(rows_a), keyed(rows_b)
    keys = [key for key in a if key in b]
    overview = {"metric": metric, "rows": len(keys), **_apart(a, b)}
    if not keys or (not overview["same_rows"] and len(keys) < FEWEST_COMMON):
        return {**overview, **_NOTHING}
    table = _Table.of([(key[1], a[key]["predicted"], b[key]["predicted"]) for key in keys])
    fixed = [key[0] for key in keys if right(b[key]) and not right(a[key])]
    broken = [key[0] for key in keys if right(a[key]) and not right(b[key])]
    figures, classes, spread = _tested(table, metric, mcnemar(len(fixed), len(broken)))
    return {
        **overview,
        "verdict": verdict(figures[metric]["difference"], figures[metric]["p"]),
        "metrics": figures,
        "classes": classes,
        "disagree": sum(a[key]["predicted"] != b[key]["predicted"] for key in keys),
        "fixed": fixed,
        "broken": broken,
        "smallest_visible_difference": max(_DETECTABLE * spread, FEWEST_FLIPS / len(keys)),
    }


def testable(metric: str) -> str:
    """The metric itself where a test of it is known, else macro-F1."""
    return metric if metric in metrics.NAMES else "macro_f1"


_NOTHING: dict[str, Any] = {
    "verdict": "not_comparable",
    "metrics": {},
    "classes": {},
    "disagree": None,
    "fixed": [],
    "broken": [],
    "smallest_visible_difference": None,
}


def keyed(rows: Iterable[Row]) -> dict[Key, Row]:
    """Rows by what makes them the same test row in another version's predictions."""
    seen: Counter[tuple[str, str]] = Counter()
    result: dict[Key, Row] = {}
    for row in rows:
        same = row["key"], row["gold"]
        result[*same, seen[same]] = row
        seen[same] += 1
    return result


def _apart(a: Mapping[Key, Row], b: Mapping[Key, Row]) -> dict[str, Any]:
    """The rows that only one side answered, and those that stand on both with another label."""
    left_a, left_b = [key for key in a if key not in b], [key for key in b if key not in a]
    labels = {key[0]: key[1] for key in left_b}
    relabelled = {key[0]: {"key": key[0], "a": key[1], "b": labels[key[0]]} for key in left_a if key[0] in labels}
    return {
        "same_rows": not left_a and not left_b,
        "only_a": [key[0] for key in left_a if key[0] not in relabelled],
        "only_b": [key[0] for key in left_b if key[0] not in relabelled],
        "relabelled": list(relabelled.values()),
    }


def right(row: Row) -> bool:
    """Whether the answer is the true label."""
    return bool(row["gold"] == row["predicted"])


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided exact McNemar p: how odd this split of the flipped rows is if either way is as likely."""
    flips = fixed + broken
    if not flips:
        return 1.0
    ways = tail = 1
    for i in range(min(fixed, broken)):
        ways = ways * (flips - i) // (i + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << flips))


def holm(chances: Sequence[float]) -> list[float]:
    """Holm's correction: p values of one family, each as it counts beside the others."""
    corrected, reached = [1.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=lambda place: chances[place])):
        reached = max(reached, min(1.0, (len(chances) - rank) * chances[place]))
        corrected[place] = reached
    return corrected


def verdict(difference: float, p: float) -> Code:
    """What a difference and its p value say."""
    if p >= LEVEL or not difference:
        return "cannot_tell"
    return "better" if difference > 0 else "worse"


class _Table(NamedTuple):
    """The distinct (true, A's, B's) labels as numbers, shape (cells, 3), and how many rows each stands for."""

    labels: list[str]
    cells: Any
    counts: Counts

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, str]]) -> _Table:
        import numpy as np

        triples = Counter(rows)
        labels = sorted({label for triple in triples for label in triple})
        place = {label: index for index, label in enumerate(labels)}
        # In their order, so that the same rows in another order draw the same samples.
        ordered = sorted(triples)
        cells = np.asarray([[place[label] for label in triple] for triple in ordered])
        return cls(labels, cells, np.asarray([triples[triple] for triple in ordered], dtype=np.int64))

    def moved(self, label: int | None, *, flips_only: bool = False) -> int:
        """Rows answered differently (of one label: given by one of the two), or only those right on one side."""
        true, a, b = self.cells.T
        counted = (a == true) != (b == true) if flips_only else a != b
        if label is not None:
            counted &= (a == label) | (b == label)
        return int(self.counts[counted].sum())

    def resamples(self) -> Iterator[Counts]:
        """Bootstrap samples of the rows as counts of the cells, (resamples, cells), a block at a time."""
        import numpy as np

        generator = np.random.default_rng(metrics.SEED)
        total, size = int(self.counts.sum()), max(1, _BLOCK // len(self.counts))
        for start in range(0, metrics.RESAMPLES, size):
            yield generator.multinomial(total, self.counts / total, size=min(size, metrics.RESAMPLES - start))

    def scores(self, weights: Counts) -> tuple[dict[str, Floats], Floats]:
        """Each metric of A and of B (2, samples), and each class's F1 (2, samples, classes), under these counts."""
        import numpy as np

        # Floats: they hold such counts exactly, and their products are many times as fast.
        weights, one = weights.astype(np.float64), np.eye(len(self.labels))
        true, *answers = (one[self.cells[:, column]] for column in range(3))
        support, present = weights @ true, true.any(axis=0)
        margins = [(weights @ (true * answer), weights @ answer, support) for answer in answers]
        pairs = [metrics.figures_from_margins(*side, present) for side in margins]
        figures = {name: np.stack([pair[name] for pair in pairs]) for name in metrics.NAMES}
        return figures, np.stack([metrics.class_f1(*side) for side in margins])


def _tested(
    table: _Table, metric: str, p_accuracy: float
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], float]:
    """Every metric and every class with test rows, tested; and the standard error of the metric's difference."""
    import numpy as np

    points, points_by_class = table.scores(table.counts[None])
    blocks = [table.scores(weights) for weights in table.resamples()]
    drawn = {name: np.concatenate([np.diff(figures[name], axis=0)[0] for figures, _f1 in blocks]) for name in points}
    by_class = np.concatenate([np.diff(f1, axis=0)[0] for _figures, f1 in blocks])
    figures = {}
    for name, (a, b) in points.items():
        moved = table.moved(None, flips_only=name in _ONLY_RIGHT_OR_WRONG)
        figures[name] = _entry(a[0], b[0], drawn[name], moved)
    for name in ("accuracy", "micro_f1"):
        figures[name]["p"] = p_accuracy
    classes = {}
    for place in sorted(set(table.cells[:, 0].tolist())):
        a, b = points_by_class[:, 0, place]
        classes[table.labels[place]] = _entry(a, b, by_class[:, place], table.moved(place))
    for entry, p in zip(classes.values(), holm([entry["p"] for entry in classes.values()]), strict=True):
        entry["p_holm"] = p
    return figures, classes, float(drawn[metric].std())


def _entry(a: float, b: float, differences: Floats, moved: int) -> dict[str, Any]:
    """Both values, their difference with its interval, and p.

    Of few rows that moved, resampling understates the doubt; k of them cannot make a p below 2 / 2^k.
    """
    resamples = len(differences)
    side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    # Never 0: ten thousand samples are not for ever.
    p = min(1.0, max(2 * (side + 1) / (resamples + 1), 2.0 ** (1 - moved)))
    interval = list(metrics.percentile_interval(differences))
    return {"a": float(a), "b": float(b), "difference": float(b - a), "interval": interval, "p": p}


def sentence(result: Mapping[str, Any], a: str, b: str) -> str:
    """The verdict as one sentence for a person; `a` and `b` are what the two sides are called."""
    if result.get("unevaluated"):
        version = result["unevaluated"][0]
        return _("{version} has not been evaluated: nlp-skills evaluate --version {version}", version=version)
    if result["verdict"] == "not_comparable":
        return _(
            "{a} and {b} are not comparable: different test rows. They share {rows}, and at least {fewest} are needed.",
            a=a,
            b=b,
            rows=result["rows"],
            fewest=FEWEST_COMMON,
        )
    if not result["disagree"]:
        rows = result["rows"]
        return _(
            "Whether {b} is better than {a} cannot be told: they answer all {rows} test rows alike.",
            a=a,
            b=b,
            rows=rows,
        )
    metric = result["metric"]
    entry = result["metrics"][metric]
    values = {"a": a, "b": b, "metric": words.metric(metric), "difference": amount(metric, entry["difference"])}
    values |= {"low": bare(metric, entry["interval"][0]), "high": bare(metric, entry["interval"][1])}
    values["p"] = chance(result)
    if result["verdict"] == "better":
        return _("{b} is better than {a}: {metric} {difference} (interval at 95%: {low} to {high}), {p}.", **values)
    if result["verdict"] == "worse":
        return _("{b} is worse than {a}: {metric} {difference} (interval at 95%: {low} to {high}), {p}.", **values)
    return _(
        "Whether {b} is better than {a} cannot be told: {metric} {difference} (interval at 95%: {low} to {high}), {p}; "
        "with {rows} test rows a difference under {visible} is not visible.",
        rows=result["rows"],
        visible=amount(metric, result["smallest_visible_difference"], signed=False),
        **values,
    )


def chance(result: Mapping[str, Any]) -> str:
    """The p value that the verdict comes from, and what it was corrected for."""
    p = result["metrics"][result["metric"]]["p"]
    pairs = result.get("pairs", 1)
    if pairs < 2:
        return p_value(p)
    return _("{p} by Holm's correction over {pairs} pairs", p=p_value(result["p_holm"]), pairs=pairs)


def p_value(p: float) -> str:
    """How a p value is written: p = 0.012, p < 0.001."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def bare(metric: str, fraction: float) -> str:
    """A difference, signed: percentage points, but of a correlation itself."""
    if metric != "mcc":
        return points(fraction)
    text = f"{fraction:+.3f}"
    return "0.000" if text in ("+0.000", "-0.000") else text


def amount(metric: str, fraction: float, *, signed: bool = True) -> str:
    """A difference with its unit, where it has one."""
    text = bare(metric, fraction)
    text = text if signed else text.lstrip("+")
    return text if metric == "mcc" else _("{points} points", points=text)


def points(fraction: float) -> str:
    """A difference in percentage points, signed; what rounds to nothing has no sign."""
    text = f"{fraction * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
