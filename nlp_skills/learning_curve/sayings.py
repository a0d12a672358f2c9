"""A curve in words: the answer to "should I label more?", and what to know before acting on it."""

from __future__ import annotations

from nlp_skills.evaluation import words
from nlp_skills.i18n import _
from nlp_skills.learning_curve.outlook import Caveat, Outlook


def sentence(found: Outlook) -> str:
    """The answer, gains in points of the metric."""
    name = words.metric(found.metric)
    if not found.ahead:
        return _(
            "Cannot tell: the points follow no power law. From the last share but one to all rows {metric} rose by "
            "{gain} points ({low} to {high}).",
            metric=name,
            **_gained(*found.rise),
        )
    about = {"metric": name, **_gained(found.ahead[0].gain, found.ahead[0].gain_interval)}
    return {
        "label_more": _("Label more: twice the rows would give {gain} points of {metric} ({low} to {high}).", **about),
        "flat": _("The curve is flat: twice the rows would give {gain} points of {metric} ({low} to {high}).", **about),
        "cannot_tell": _(
            "Cannot tell: twice the rows would give {gain} points of {metric}, but it may be {low} or {high}.", **about
        ),
    }[found.verdict]


def _gained(gain: float, interval: tuple[float, float]) -> dict[str, str]:
    return {"gain": _points(gain), "low": _points(interval[0]), "high": _points(interval[1])}


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}".replace("-0.0", "+0.0")


def caveats(found: Outlook, valid_rows: int) -> list[str]:
    """What makes the intervals too narrow, or wider than they need be."""
    return [_caveat(code, valid_rows) for code in found.caveats]


def _caveat(code: Caveat, rows: int) -> str:
    return {
        "no_law": _(
            "The smaller shares may be too few to learn from at all, or one training went wrong. Larger shares "
            "(--fractions 50,70,85,100) or --seeds 3 may show a law."
        ),
        "three_points": _(
            "Three points are just enough for a law of three parameters: the interval is wide, and nothing tests "
            "whether the law holds. More points: --fractions 10,25,50,75,100"
        ),
        "one_seed": _(
            "Each share was trained once: how far two trainings differ by chance is not in the intervals. "
            "Measure it with: --seeds 3"
        ),
        "few_valid_rows": _(
            "The valid split has few rows ({rows}): one answer more or less moves a point by {step} points.",
            rows=rows,
            step=f"{100 / rows:.1f}",
        ),
    }[code]
