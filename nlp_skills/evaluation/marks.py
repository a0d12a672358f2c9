"""What the answers of a task are measured by: the metrics of each kind of answer, and the one that decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from nlp_skills.errors import Invalid
from nlp_skills.evaluation import metrics, own_metrics
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.schema import kinds
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import SuccessCriteria, Task

EXACT = "exact_match"
PARSED = "parse_rate"
VALID = "valid_answer_probability"
UNCONSTRAINED = "parse_rate_unconstrained"
JUDGED = "judge_win_rate"

# Of each kind, first what a task that says nothing is judged by.
NAMES: dict[Kind, tuple[str, ...]] = {
    "label": (*metrics.NAMES, "ece", "brier", "roc_auc", "average_precision"),
    "labels": tuple(name for name in metrics.NAMES if name != "mcc"),
    "spans": (
        "entity_f1", "entity_precision", "entity_recall", "entity_f1_boundary", "entity_f1_type", "entity_f1_partial",
        "macro_f1", "relation_f1", "relation_precision", "relation_recall", EXACT,
    ),
    "fields": ("field_f1", EXACT),
    "text": ("chrf", "bleu", "rouge1", "rouge2", "rougeL", EXACT),
}  # fmt: skip
# Less of it is better, so it cannot be asked to reach anything.
_LESS_IS_BETTER = ("ece", "brier")
_PACKAGES: dict[Kind, tuple[str, ...]] = {"spans": ("nervaluate",), "text": ("sacrebleu", "rouge_score")}


def kind(task: Task) -> Kind:
    """What an answer of this task is."""
    return kinds.of(task.task_type, task.output_format)


def primary(task: Task, root: Path | None = None) -> str:
    """The metric that decides: success_criteria.primary_metric, or the kind's own where that was left as it comes.

    `root` is the task's folder, whose `metrics/` may have more; without it such a metric is none we compute.

    Raises:
        Invalid: it is none that we compute for such a task.
    """
    return _known(task.metric, "success_criteria.primary_metric", task, root)


def selecting(task: Task, root: Path) -> str:
    """The metric that chooses among the epochs of a training: the primary one, the kind's own where that is a person's.

    Raises:
        Invalid: as `primary`.
        Unavailable: what computes it is not installed.
    """
    packages = _PACKAGES.get(kind(task), ())
    need("quality", *packages)
    name = primary(task, root)
    return (
        name
        if name in NAMES[kind(task)] and name not in _probable(task)
        else kinds.usual_metric(task.task_type, task.output_format)
    )


def criteria(task: Task, root: Path | None = None) -> SuccessCriteria:
    """The success criteria with the metric that decides, and no other name that nobody computes.

    Raises:
        Invalid: one of the metrics is none that we compute for such a task, or none where more is better.
    """
    given = task.success_criteria
    more = (VALID, UNCONSTRAINED, PARSED, *((JUDGED,) if _has_a_judge(task) else ()))
    for name in given.metrics:
        _known(name, "success_criteria.metrics", task, root, more)
    if isinstance(given.max_regression, dict) and kind(task) in ("label", "labels"):
        for name in given.max_regression:
            _class(name, task, root)
    _baseline(given, root)
    return given.model_copy(update={"primary_metric": primary(task, root)})


def _has_a_judge(task: Task) -> bool:
    return kind(task) == "text" and task.evaluation is not None and task.evaluation.judge is not None


def _baseline(given: SuccessCriteria, root: Path | None) -> None:
    from nlp_skills.evaluation import baselines, judgement

    named = given.baseline
    if named is not None and judgement.baseline_value(named) is None and not baselines.rule_file(given):
        raise Invalid(
            _("the baseline {name} says no figure", name=named),
            file=root / "task.yaml" if root else None,
            mend=_("let success_criteria.baseline end in one, as in rule_based_0.65, or name a rule file: rules.yaml"),
        )


def _class(name: str, task: Task, root: Path | None) -> None:
    known = ["*", *task.labels]
    if name not in known:
        close = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise Invalid(
            _("the class {name} is none of the task", name=name),
            file=root / "task.yaml" if root else None,
            cause=_("its classes: {names}; * stands for the others", names=", ".join(task.labels)),
            mend=_("name one of them in success_criteria.max_regression, {name} perhaps", name=close),
        )


def _known(name: str, key: str, task: Task, root: Path | None, more: Sequence[str] = ()) -> str:
    own = own_metrics.names(root) if root else []
    known = [*(one for one in _possible(task) if one not in _LESS_IS_BETTER), *own, *more]
    if name in known:
        return name
    close = get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise Invalid(
        _("the metric {name} is not one we compute", name=name),
        file=root / "task.yaml" if root else None,
        cause=_("of such a task we compute: {names}", names=", ".join(known)),
        mend=_("set {key}, to {name} perhaps", key=key, name=close),
    )


def _possible(task: Task) -> list[str]:
    """The metrics of the kind that this task's schema lets be computed."""
    found = NAMES[kind(task)]
    if kind(task) == "label" and len(task.labels) != 2:
        return [name for name in found if name not in ("roc_auc", "average_precision")]
    if kind(task) != "spans":
        return list(found)
    parts = {name: part.model_dump() for name, part in task.output_format.schema_.items()}
    absent = tuple(_without(parts))
    return [name for name in found if not name.startswith(absent)]


def _without(parts: dict[str, dict[str, object]]) -> Iterable[str]:
    from nlp_skills.data import entities

    if not entities.field_of(parts):
        yield from ("entity_", "macro_f1")
    if not kinds.relation_field(parts):
        yield "relation_"


def _probable(task: Task) -> list[str]:
    """Metrics that need probabilities, which a model in training is not asked for."""
    return ["roc_auc", "average_precision"] if kind(task) == "label" else []
