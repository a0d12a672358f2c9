"""Is version B better than version A, or are there too few test rows to tell?

Both versions answered the same rows, so the test is paired: what counts is the rows on which they
differ. A plain difference of two scores, or an unpaired test, hides most of what the rows can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from nlp_skills.evaluation import marks, metrics, predictions, words
from nlp_skills.evaluation.scores import resampling, sheet
from nlp_skills.evaluation.scores.sheet import EXACT, PARSED, Sheet
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind

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


def between(
    a: VersionFolder, b: VersionFolder, metric: str = "macro_f1", language: str | None = None
) -> dict[str, Any]:
    """How version B does against version A, from their predictions; see `compare_rows`.

    A version without predictions makes it `not_comparable`, and is named in `unevaluated`; so do answers of two kinds.

    Raises:
        Invalid: predictions that are none.
    """
    missing = [version.name for version in (a, b) if not version.predictions_path.is_file()]
    kinds = {found.kind for found in (a.results(), b.results()) if found is not None}
    if missing or len(kinds) > 1:
        unevaluated = {"unevaluated": missing} if missing else {}
        return {"metric": metric, "rows": 0, **_apart({}, {}), **_NOTHING, "same_rows": False, **unevaluated}
    kind: Kind = next(iter(kinds), "label")
    rows_a, rows_b = (predictions.load(version.predictions_path, kind) for version in (a, b))
    return compare_rows(rows_a, rows_b, metric, kind=kind, language=language)


def compare_rows(
    rows_a: Iterable[Row],
    rows_b: Iterable[Row],
    metric: str = "macro_f1",
    *,
    kind: Kind = "label",
    language: str | None = None,
) -> dict[str, Any]:
    """How B does against A on the rows both answered, as plain data; differences are B minus A, fractions.

    The verdict comes from `metric` (the first of the kind's where no test of it is known) at 5 %: by the exact McNemar
    test for accuracy and whole answers, by the paired bootstrap for the others. Accuracy can rise while a rare class is
    lost, so it decides only where it is what versions are chosen by. `classes` holds every class's F1, with Holm's
    correction over the classes. `smallest_visible_difference` is the difference these rows would show in four cases of
    five, given how often the two versions disagree.

    A row counts as common when its key and its right answer are the same on both sides. When the test
    sets differ, at least 30 common rows are needed, else the verdict is `not_comparable`.
    """
    need("quality", "numpy")
    a, b = keyed(rows_a), keyed(rows_b)
    keys = [key for key in a if key in b]
    overview = {"metric": testable(metric, kind), "rows": len(keys), **_apart(a, b)}
    if not keys or (not overview["same_rows"] and len(keys) < FEWEST_COMMON):
        return {**overview, **_NOTHING}
    table = _Table.of([a[key] for key in keys], [b[key] for key in keys], kind, language)
    fixed = [key[0] for key, (before, after) in zip(keys, table.right, strict=True) if after and not before]
    broken = [key[0] for key, (before, after) in zip(keys, table.right, strict=True) if before and not after]
    figures, classes, drawn = table.tested(mcnemar(len(fixed), len(broken)))
    metric = metric if metric in figures else table.a.names[0]
    return {
        **overview,
        "metric": metric,
        "verdict": verdict(figures[metric]["difference"], figures[metric]["p"]),
        "metrics": figures,
        "classes": classes,
        "disagree": int(table.moved.sum()),
        "fixed": fixed,
        "broken": broken,
        "smallest_visible_difference": max(_DETECTABLE * float(drawn[metric].std()), FEWEST_FLIPS / len(keys)),
    }


def testable(metric: str, kind: Kind = "label") -> str:
    """The metric itself where a test of it is known, else the first of its kind."""
    known = [name for name in marks.NAMES[kind] if kind != "label" or name in metrics.NAMES]
    return metric if metric in known else known[0]


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
        same = row["key"], predictions.gold_key(row)
        result[*same, seen[same]] = row
        seen[same] += 1
    return result


def _apart(a: Mapping[Key, Row], b: Mapping[Key, Row]) -> dict[str, Any]:
    """The rows that only one side answered, and those that stand on both with another label."""
    left_a, left_b = [key for key in a if key not in b], [key for key in b if key not in a]
    labels = {key[0]: b[key]["gold"] for key in left_b}
    relabelled = {
        key[0]: {"key": key[0], "a": a[key]["gold"], "b": labels[key[0]]} for key in left_a if key[0] in labels
    }
    return {
        "same_rows": not left_a and not left_b,
        "only_a": [key[0] for key in left_a if key[0] not in relabelled],
        "only_b": [key[0] for key in left_b if key[0] not in relabelled],
        "relabelled": list(relabelled.values()),
    }


def right(row: Row) -> bool:
    """Whether the answer is right, as the evaluation found; where it does not say, whether it is the true label."""
    found = row.get("correct")
    return found if isinstance(found, bool) else bool(row["gold"] == row["predicted"])


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


@dataclass(frozen=True)
class _Table:
    """Both sides' answers to the same rows, marked.

    `pairs` (pairs, 2): which cells of A and of B go together; `pair_of` (rows,) which of them a row has. `moved`: which
    rows were answered differently.
    """

    a: Sheet
    b: Sheet
    pairs: Counts
    pair_of: Counts
    moved: Any

    @classmethod
    def of(cls, rows_a: Sequence[Row], rows_b: Sequence[Row], kind: Kind, language: str | None) -> _Table:
        import numpy as np

        gold = [row["gold"] for row in rows_a]
        given = [[row["predicted"] for row in rows] for rows in (rows_a, rows_b)]
        about: dict[str, Any] = {"labels": _labels(kind, gold, *given), "language": language}
        if kind == "spans":
            about["texts"] = [row.get("input") for row in rows_a]
        a, b = (sheet.of(kind, gold, side, **about) for side in given)
        pairs, pair_of = np.unique(np.stack([a.cell_of, b.cell_of], axis=1), axis=0, return_inverse=True)
        moved = np.asarray([one != other for one, other in zip(*given, strict=True)])
        return cls(a, b, pairs, pair_of.reshape(-1), moved)

    @property
    def right(self) -> list[tuple[bool, bool]]:
        """Whether each row is right with A and with B."""
        return list(zip(self.a.right, self.b.right, strict=True))

    @cached_property
    def classes(self) -> dict[str, tuple[int, int]]:
        """The classes that have rows, with their places in A and in B."""
        places = {name: place for place, name in enumerate(self.b.classes)}
        found = ((name, place) for place, name in enumerate(self.a.classes) if self.a.present[place])
        return {name: (place, places[name]) for name, place in found}

    def scores(self, times: Any) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Every metric and every class's F1, of A and of B (2, samples), with each pair so often."""
        import numpy as np

        sums = [times @ side.cells[self.pairs[:, place]] for place, side in enumerate((self.a, self.b))]
        figures = [side.of_sums(total) for side, total in zip((self.a, self.b), sums, strict=True)]
        f1 = [side.class_f1_of_sums(total) for side, total in zip((self.a, self.b), sums, strict=True)]
        metrics_of_both = {
            name: np.stack([figures[0][name], figures[1][name]]) for name in figures[0] & figures[1].keys()
        }
        by_class = {name: np.stack([f1[0][:, a], f1[1][:, b]]) for name, (a, b) in self.classes.items()}
        return metrics_of_both, by_class

    def tested(self, p_whole: float) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], dict[str, Floats]]:
        """Every metric and every class with rows, tested; and the differences of each metric in all samples."""
        import numpy as np

        counts = np.bincount(self.pair_of)
        points, class_points = self.scores(counts[None].astype(np.float64))
        blocks = [self.scores(sample) for sample in resampling.of_cells(self.pair_of)]
        drawn, by_class = (
            {name: np.concatenate([np.diff(block[part][name], axis=0)[0] for block in blocks]) for name in names}
            for part, names in enumerate((points, class_points))
        )
        figures = {name: _entry(a[0], b[0], drawn[name], self._moved(name)) for name, (a, b) in points.items()}
        for name in {"accuracy", "micro_f1", EXACT} & self.a.shares & {*figures}:
            figures[name]["p"] = p_whole
        classes = {
            name: _entry(a[0], b[0], by_class[name], self._moved_of_class(name))
            for name, (a, b) in class_points.items()
        }
        for entry, p in zip(classes.values(), holm([entry["p"] for entry in classes.values()]), strict=True):
            entry["p_holm"] = p
        _hits, _answered, support = self.a.margins(self.a.sums())
        for name, (place, _theirs) in self.classes.items():
            classes[name]["rows"] = int(support[place])
        return figures, classes, drawn

    def _moved(self, name: str) -> int:
        """The rows that can have moved a metric: those right on one side alone, where it counts no others."""
        if name in self.a.shares - {PARSED} or (name == "balanced_accuracy" and self.a.kind == "label"):
            return sum(before != after for before, after in self.right)
        return int(self.moved.sum())

    def _moved_of_class(self, name: str) -> int:
        """The rows in which a class was given, or given rightly, by one side more than by the other."""
        a, b = self.classes[name]
        counted = [
            side.cells[self.pairs[:, which]][:, [place, len(side.classes) + place]]
            for which, (side, place) in enumerate(((self.a, a), (self.b, b)))
        ]
        return int((counted[0] != counted[1]).any(axis=1)[self.pair_of].sum())


def _labels(kind: Kind, *sides: Sequence[Any]) -> list[str]:
    """Every label that is true or given anywhere; none where answers are no labels."""
    if kind == "label":
        return sorted({label for side in sides for label in side if label is not None})
    return sorted({label for side in sides for each in side for label in each or ()}) if kind == "labels" else []


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
