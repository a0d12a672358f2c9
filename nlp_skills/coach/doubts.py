"""What is wrong with the answers, and what to do about it: contradictions, gaps, and goals that cannot be shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_skills.coach.rules import Rules
from nlp_skills.coach.wish import Wish
from nlp_skills.data import languages
from nlp_skills.i18n import _
from nlp_skills.schema.data_source import Split

# Wilson's bound, as `evaluation.metrics.wilson_interval` has it.
_Z2 = 1.959963984540054**2
_MARGIN = 0.05
_SHOWN = 8


@dataclass(frozen=True)
class Doubt:
    """One thing that is wrong or unknown. `stops`: a proposal would stand on sand before it is answered."""

    code: str
    says: str
    mend: str
    stops: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"code": self.code, "says": self.says, "mend": self.mend, "stops": self.stops}


def of(wish: Wish, rules: Rules) -> list[Doubt]:
    """Everything that is wrong with the answers themselves; what stops comes first."""
    found = [*_about_rows(wish, rules), *_about_labels(wish, rules), *_about_goal(wish), *_about_language(wish)]
    return sorted(found, key=lambda doubt: not doubt.stops)


def _about_rows(wish: Wish, rules: Rules) -> Iterator[Doubt]:
    if wish.rows is None:
        yield Doubt(
            "no_rows",
            _("nobody knows how many labelled rows there are"),
            _("count them: nlp-skills recommend --data FILE; or write it under constraints, such as data: 500 rows"),
            stops=True,
        )
    elif wish.rows == 0:
        yield Doubt(
            "no_data",
            _("there are no labelled rows"),
            _("label some first, a hundred is a start; /nlp-skills:data-source says where rows can come from"),
        )
    said = wish.said.rows
    if (
        wish.data
        and said is not None
        and abs(said - (wish.rows or 0)) > rules.limit("rows_differ_share") * max(said, 1)
    ):
        yield Doubt(
            "rows_differ",
            _("{said} rows were spoken of, and the files have {rows} labelled ones", said=said, rows=wish.rows),
            _("correct the constraint, or name the missing files with --data"),
        )
    if wish.data and wish.rows and wish.data.contradictory > rules.limit("contradictory_share") * wish.rows:
        share = wish.data.contradictory / len(wish.data.rows)
        yield Doubt(
            "contradictory_rows",
            _("{share} of the rows have a text that also stands there with another label", share=f"{share:.0%}"),
            _("agree on what the labels mean, then look at each: nlp-skills audit lists them"),
        )


def _about_labels(wish: Wish, rules: Rules) -> Iterator[Doubt]:
    if wish.task_type == "generation" and wish.given_labels:
        yield Doubt(
            "labels_of_a_generation",
            _("labels were named, and the task is to write texts: one of the two is meant"),
            _("set type: classification to choose among {labels}; or leave labels out",
              labels=", ".join(label[:30] for label in wish.given_labels[:_SHOWN])),
            stops=True,
        )  # fmt: skip
    if wish.task_type != "classification":
        return
    if len(wish.labels) < 2:
        yield Doubt(
            "no_labels",
            _("a classification needs at least two labels, and {count} are known", count=len(wish.labels)),
            _("give --labels A,B or their column: --label-field COLUMN; or say what it is: --type generation"),
            stops=True,
        )
    elif wish.data and wish.data.label_field:
        yield from _of_classes(wish, rules)


def _of_classes(wish: Wish, rules: Rules) -> Iterator[Doubt]:
    assert wish.data is not None
    strangers = [label for label in wish.data.classes if label not in wish.labels]
    if strangers:
        shown = ", ".join(label[:30] for label in strangers[:_SHOWN])
        yield Doubt(
            "labels_contradict",
            _("the column {field} has answers that are none of the labels: {shown}",
              field=str(wish.data.label_field), shown=shown),
            _("add them to labels:, correct the data, or name another column: --label-field COLUMN"),
            stops=True,
        )  # fmt: skip
    least = rules.limit("rows_a_class")
    few = [label for label in wish.labels if wish.data.classes.get(label, 0) < least]
    if few and not strangers:
        shown = ", ".join(f"{label[:30]} {wish.data.classes.get(label, 0)}" for label in few[:_SHOWN])
        yield Doubt(
            "class_too_small",
            _("classes with fewer than {least:.0f} rows: {shown}", least=least, shown=shown),
            _("label more of these first, merge them with another class, or see nlp-skills augment --help"),
        )


def _about_goal(wish: Wish) -> Iterator[Doubt]:
    yield from _about_metric(wish)
    threshold, baseline = wish.threshold, wish.baseline
    if threshold is None:
        yield Doubt(
            "no_threshold",
            _("nothing says when the model is good enough, so nothing can be shown"),
            _("agree on a figure: success_criteria: {{threshold: 0.80}} of {metric}", metric=wish.metric),
        )
        return
    if baseline is not None and threshold <= baseline:
        yield Doubt(
            "threshold_below_baseline",
            _("the goal of {threshold} is not above what there is today, {baseline}",
              threshold=f"{threshold:.2f}", baseline=f"{baseline:.2f}"),
            _("ask for more than today's {baseline}, or keep what there is", baseline=f"{baseline:.2f}"),
            stops=True,
        )  # fmt: skip
    tested = tested_rows(wish.rows)
    if wish.rows and (best := most_shown(tested)) < threshold:
        needed = rows_without_mistake(threshold)
        yield Doubt(
            "threshold_not_provable",
            _("{rows} test rows cannot show {threshold}: even without a mistake they show no more than {best}",
              rows=tested, threshold=f"{threshold:.2f}", best=f"{best:.2f}"),
            _("have at least {needed} test rows, which is {total} labelled rows at the usual split, or ask for less",
              needed=needed, total=math.ceil(needed / Split().test)),
        )  # fmt: skip


def _about_metric(wish: Wish) -> Iterator[Doubt]:
    from nlp_skills.evaluation import marks

    known = marks.NAMES[wish.kind]
    if wish.metric not in known:
        yield Doubt(
            "metric_unknown",
            _("{metric} cannot be computed for such answers", metric=wish.metric[:60]),
            _("take one of {names}, or write your own: see metrics/ in the documentation", names=", ".join(known[:6])),
            stops=True,
        )
    elif wish.task_type == "generation" and wish.summary:
        yield Doubt(
            "goal_by_likeness",
            _("{metric} says how like a reference a text is, not whether it serves", metric=wish.metric),
            _("set evaluation.judge in task.yaml, or have people read a sample of each version"),
        )


def _about_language(wish: Wish) -> Iterator[Doubt]:
    stated = wish.stated_language
    if stated and wish.data and wish.data.scripts:
        expected = languages.expected([stated])
        total = sum(wish.data.scripts.values())
        fitting = sum(count for name, count in wish.data.scripts.items() if name in expected)
        if fitting < total / 2:
            yield Doubt(
                "language_contradicts",
                _("{language} was named, and most texts are in {script}",
                  language=stated[:30], script=languages.words(next(iter(wish.data.scripts)))),
                _("correct language:, or name the right file"),
                stops=True,
            )  # fmt: skip


def tested_rows(rows: int | None) -> int:
    """Test rows that the usual split makes of so many."""
    return round((rows or 0) * Split().test)


def most_shown(rows: int) -> float:
    """The most that so many test rows can show: the lower 95 % bound when every answer is right."""
    return rows / (rows + _Z2)


def rows_without_mistake(threshold: float) -> int:
    """Fewest test rows that show a threshold when every answer is right."""
    return math.ceil(_Z2 * threshold / (1 - threshold) - 1e-9) if threshold < 1 else 10**6


def rows_with_margin(threshold: float, margin: float = _MARGIN) -> int | None:
    """Test rows that show a threshold when the true share is `margin` above it; None where that is over 1."""
    true = threshold + margin
    if true > 1:
        return None
    low, high = 1, 10**6
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _lower(true, middle) >= threshold else (middle + 1, high)
    return low


def _lower(share: float, rows: int) -> float:
    half = math.sqrt(_Z2 * (share * (1 - share) / rows + _Z2 / (4 * rows**2)))
    return (share + _Z2 / (2 * rows) - half) / (1 + _Z2 / rows)


def stop(doubts: Sequence[Doubt]) -> bool:
    """Whether any of them stops."""
    return any(doubt.stops for doubt in doubts)
