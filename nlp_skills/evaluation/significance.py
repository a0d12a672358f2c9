"""Is version B better than version A, or are there too few test rows to tell?

Both versions answered the same rows, so the test is paired: what counts is the rows on which they
differ. A plain difference of two scores, or an unpaired test, hides most of what the rows can show.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics
from nlp_skills.extras import need
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.evaluation.metrics import Counts, Floats
    from nlp_skills.workspace.folder import VersionFolder

Row = Mapping[str, Any]
Code = Literal["better", "worse", "cannot_tell", "not_comparable"]

LEVEL = 0.05
# Fewer common rows than this, when the test sets differ, are not the test either version was judged by.
FEWEST_COMMON = 30
# An exact sign test needs six flips the same way to reach 5 %; resampling fewer understates the doubt.
FEWEST_FLIPS = 6
# 1.96 standard errors to be significant, 0.84 more to be so in four cases of five.
_DETECTABLE = 1.96 + 0.84


def load(path: Path) -> list[dict[str, Any]]:
    """predictions.jsonl as a list of rows with at least `key`, `gold` and `predicted`.

    Raises:
        Invalid: the file is missing, or a line of it is not such a row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        mend = _("make the predictions: nlp-skills evaluate")
        raise Invalid(_("there are no predictions yet"), file=path, mend=mend) from error
    return [_row(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        row, cause = None, error.msg
    else:
        cause = _("a prediction has the keys key, gold and predicted")
    if not isinstance(row, dict) or not {"key", "gold", "predicted"} <= row.keys():
        mend = _("make the predictions anew: nlp-skills evaluate --again")
        raise Invalid(_("not a prediction"), file=path, line=number, cause=cause, mend=mend)
    return row


def between(a: VersionFolder, b: VersionFolder) -> dict[str, Any]:
    """How version B does against version A, from their predictions.

    A version without predictions makes it `not_comparable`, and is named in `unevaluated`.
    """
    missing = [version.name for version in (a, b) if not version.predictions_path.is_file()]
    if missing:
        return {"rows": 0, "only_a": 0, "only_b": 0, "same_rows": False, **_nothing(), "unevaluated": missing}
    return compare_rows(load(a.predictions_path), load(b.predictions_path))


def compare_rows(rows_a: Iterable[Row], rows_b: Iterable[Row]) -> dict[str, Any]:
    """How B does against A on the rows both answered, as plain data; differences are B minus A, fractions.

    The verdict comes from the paired bootstrap of macro-F1 at 5 %, because macro-F1 is what versions
    are chosen by: accuracy can rise while a rare class is lost, and McNemar's test would applaud.
    Fewer than six flipped rows never make a verdict. `smallest_visible_difference` is the difference
    these rows would show in four cases of five, given how often the two versions disagree.

    A row counts as common when its key and its true label are the same on both sides. When the test
    sets differ, at least 30 common rows are needed, else the verdict is `not_comparable`.
    """
    need("quality", "numpy")
    a, b = _by_key(rows_a), _by_key(rows_b)
    keys = [key for key, row in a.items() if key in b and b[key]["gold"] == row["gold"]]
    same = len(keys) == len(a) == len(b)
    overview = {"rows": len(keys), "only_a": len(a) - len(keys), "only_b": len(b) - len(keys), "same_rows": same}
    if not keys or (not same and len(keys) < FEWEST_COMMON):
        return {**overview, **_nothing()}
    names = sorted(_seen(a, b, keys))
    fixed = [k for k in keys if _right(b[k]) and not _right(a[k])]
    broken = [k for k in keys if _right(a[k]) and not _right(b[k])]
    accuracy = _accuracy(a, b, keys, mcnemar(len(fixed), len(broken)))
    macro, visible = _macro(*_joint(a, b, keys, names), len(names))
    flipped = len(fixed) + len(broken)
    return {
        **overview,
        "accuracy": accuracy,
        "macro_f1": macro,
        "fixed": [_plain_key(key) for key in fixed],
        "broken": [_plain_key(key) for key in broken],
        "verdict": _verdict(macro, flipped),
        "smallest_visible_difference": max(visible, FEWEST_FLIPS / len(keys)),
    }


def _nothing() -> dict[str, Any]:
    return {
        "accuracy": None,
        "macro_f1": None,
        "fixed": [],
        "broken": [],
        "verdict": "not_comparable",
        "smallest_visible_difference": None,
    }


def _by_key(rows: Iterable[Row]) -> dict[tuple[str, int], Row]:
    """Rows by key; the same text standing twice in a test file is its first, second … occurrence."""
    seen: Counter[str] = Counter()
    result: dict[tuple[str, int], Row] = {}
    for row in rows:
        result[row["key"], seen[row["key"]]] = row
        seen[row["key"]] += 1
    return result


def _plain_key(key: tuple[str, int]) -> str:
    return key[0]


def _right(row: Row) -> bool:
    return bool(row["gold"] == row["predicted"])


def _seen(a: Mapping[Any, Row], b: Mapping[Any, Row], keys: Iterable[Any]) -> set[str]:
    return {value for key in keys for value in (a[key]["gold"], a[key]["predicted"], b[key]["predicted"])}


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided exact McNemar p: how odd this split of the flipped rows is if either way is as likely."""
    flips = fixed + broken
    if not flips:
        return 1.0
    tail: int = sum(math.comb(flips, i) for i in range(min(fixed, broken) + 1))
    return min(1.0, 2 * tail / (1 << flips))


def _accuracy(a: Mapping[Any, Row], b: Mapping[Any, Row], keys: Sequence[Any], p: float) -> dict[str, float]:
    right_a, right_b = (sum(_right(side[key]) for key in keys) / len(keys) for side in (a, b))
    return {"a": right_a, "b": right_b, "difference": right_b - right_a, "p": p}


def _joint(a: Mapping[Any, Row], b: Mapping[Any, Row], keys: Sequence[Any], names: Sequence[str]) -> tuple[Any, Counts]:
    """The distinct (gold, A's, B's) triples, shape (cells, 3), and how many rows each stands for."""
    import numpy as np

    place = {name: index for index, name in enumerate(names)}
    triples = Counter((place[a[k]["gold"]], place[a[k]["predicted"]], place[b[k]["predicted"]]) for k in keys)
    cells = sorted(triples)
    return np.asarray(cells), np.asarray([triples[cell] for cell in cells], dtype=np.int64)


def _macro(cells: Any, counts: Counts, classes: int) -> tuple[dict[str, Any], float]:
    """Macro-F1 of both with the paired bootstrap of its difference, and the difference these rows could show."""
    a, b = (float(value) for value in _macro_pair(cells, counts[None], classes)[:, 0])
    drawn_a, drawn_b = _macro_pair(cells, metrics.resample(counts), classes)
    differences = drawn_b - drawn_a
    macro = {
        "a": a,
        "b": b,
        "difference": b - a,
        "interval": list(metrics.percentile_interval(differences)),
        "p": _two_sided(differences),
    }
    return macro, _DETECTABLE * float(differences.std())


def _macro_pair(cells: Any, weights: Counts, classes: int) -> Floats:
    """Macro-F1 of A and of B under each row of `weights` (resamples, cells); shape (2, resamples)."""
    import numpy as np

    one = np.eye(classes, dtype=np.int64)
    gold, *answers = (one[cells[:, column]] for column in range(3))
    support, present = weights @ gold, gold.sum(axis=0) > 0
    values = [
        metrics.figures_from_margins(weights @ (gold * answer), weights @ answer, support, present)["macro_f1"]
        for answer in answers
    ]
    return np.stack(values)


def _two_sided(differences: Floats) -> float:
    """Twice the smaller share of resamples on one side of no difference; never 0, for 10,000 is not for ever."""
    resamples = len(differences)
    side = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (resamples + 1))


def _verdict(macro: Mapping[str, Any], flipped: int) -> Code:
    if flipped < FEWEST_FLIPS or macro["p"] >= LEVEL:
        return "cannot_tell"
    return "better" if macro["difference"] > 0 else "worse"


def sentence(result: Mapping[str, Any], a: str, b: str) -> str:
    """The verdict as one sentence for a person; `a` and `b` are what the two sides are called."""
    if result.get("unevaluated"):
        version = result["unevaluated"][0]
        return _("{version} has not been evaluated: nlp-skills evaluate --version {version}", version=version)
    if result["verdict"] == "not_comparable":
        return _(
            "{b} cannot be compared with {a}: they share {rows} test rows, and at least {fewest} are needed.",
            a=a,
            b=b,
            rows=result["rows"],
            fewest=FEWEST_COMMON,
        )
    macro = result["macro_f1"]
    low, high = (points(value) for value in macro["interval"])
    values = {"a": a, "b": b, "difference": points(macro["difference"]), "low": low, "high": high}
    if result["verdict"] == "better":
        return _("{b} is better than {a}: macro-F1 {difference} points (interval at 95%: {low} to {high}).", **values)
    if result["verdict"] == "worse":
        return _("{b} is worse than {a}: macro-F1 {difference} points (interval at 95%: {low} to {high}).", **values)
    return _(
        "Whether {b} is better than {a} cannot be told from {rows} rows: macro-F1 {difference} points "
        "(interval at 95%: {low} to {high}); a difference would have to be about {visible} points to show.",
        rows=result["rows"],
        visible=f"{result['smallest_visible_difference'] * 100:.1f}",
        **values,
    )


def points(fraction: float) -> str:
    """A difference in percentage points, signed; what rounds to nothing has no sign."""
    text = f"{fraction * 100:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
