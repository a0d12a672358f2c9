"""What is found, how much it weighs, and from which figure on: every threshold with its reason or measurement.

"Measured" figures are of `tests/diagnosis`: trainings of a tiny model with one fault planted in each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nlp_skills.diagnosis.finding import Severity
from nlp_skills.i18n import N_


@dataclass(frozen=True)
class Rule:
    """A finding's words and place. `tuning`: where the success criteria are met, it is worth a note only."""

    code: str
    title: str
    severity: Severity
    weight: float
    tuning: bool = False


# Heavier is nearer to the root: a run that failed before data, data before settings, settings before what follows
# from them. Within data, what makes figures untrue stands before what makes them low.
_ALL = (
    Rule("run_failed", N_("the training did not come to its end"), "critical", 1.0),
    Rule("leakage", N_("test rows were trained on"), "critical", 0.95),
    Rule("template_mismatch", N_("the prompt does not fit the model"), "warning", 0.92),
    Rule("learning_rate_too_high", N_("the learning rate is too high"), "warning", 0.9),
    Rule("truncation", N_("rows were cut to fit max_length"), "warning", 0.88),
    Rule("label_noise", N_("labels of training rows look wrong"), "warning", 0.86),
    Rule("learning_rate_too_low", N_("the learning rate is too low"), "warning", 0.84, tuning=True),
    Rule("too_few_epochs", N_("the training ended too early"), "warning", 0.82, tuning=True),
    Rule("class_imbalance", N_("rare classes are answered worse"), "warning", 0.8),
    Rule("format_errors", N_("answers do not keep to the format"), "warning", 0.79),
    Rule("too_little_data", N_("there are too few rows to learn from"), "warning", 0.78, tuning=True),
    Rule("overfitting", N_("the model learns rows by heart"), "warning", 0.77, tuning=True),
    Rule("rank_too_small", N_("the adapter is too small for what it should learn"), "warning", 0.75, tuning=True),
    Rule("underfitting", N_("the model does not even learn its training rows"), "warning", 0.74, tuning=True),
    Rule("worse_than_base", N_("the base model answers better than the version"), "warning", 0.6),
    Rule("test_too_small", N_("the test split is too small to tell"), "warning", 0.5),
    Rule("simple_baseline_wins", N_("a simple baseline is better"), "warning", 0.4),
    Rule("no_cause", N_("the success criteria are not met, and no known fault shows"), "warning", 0.35),
    Rule("test_labels", N_("labels of test rows look wrong"), "note", 0.3),
    Rule("too_many_epochs", N_("the last epochs brought nothing"), "note", 0.2),
    Rule("nothing", N_("nothing wrong was found"), "note", 0.0),
)
RULES = {rule.code: rule for rule in _ALL}

# Of two that contradict each other the heavier stays.
CONTRADICTIONS = (
    ("overfitting", "underfitting"),
    ("overfitting", "rank_too_small"),
    ("overfitting", "too_few_epochs"),
    ("overfitting", "too_many_epochs"),
    ("overfitting", "learning_rate_too_low"),
    ("learning_rate_too_high", "learning_rate_too_low"),
    ("learning_rate_too_high", "too_few_epochs"),
    ("too_few_epochs", "too_many_epochs"),
    ("learning_rate_too_low", "too_many_epochs"),
    ("learning_rate_too_low", "too_few_epochs"),
    ("underfitting", "rank_too_small"),
)
# What explains something else: the latter is then no finding of its own.
EXPLAINS = {
    "learning_rate_too_high": ("underfitting", "rank_too_small", "overfitting", "worse_than_base", "format_errors"),
    "learning_rate_too_low": ("underfitting", "rank_too_small", "format_errors"),
    "too_few_epochs": ("underfitting", "rank_too_small", "format_errors"),
    "label_noise": ("underfitting", "rank_too_small"),
    "truncation": ("underfitting", "rank_too_small"),
}

# What follows from something else, and tells no cause.
SYMPTOMS = frozenset({"simple_baseline_wins", "worse_than_base", "test_too_small"})

# Losses. A run's start is the median of its first measurements, its end the mean of its last: `training.health` judges
# by as many of the first.
FIRST, LAST = 3, 10
# "Shot up", as `training.health` has it: above the start by the start again, and by one nat at least.
SHOT_UP, SHOT_UP_NATS = 2.0, 1.0
# And it has not come back: the end is no better than nine tenths of the start (also as `training.health`).
NOT_BACK = 0.9
# Or the training loss rose again from its lowest point to more than this many times it, and by so many nats. Learning
# by heart never does that, and single batches are levelled out. Measured: 1.2 at most in runs that went well.
ROSE_AGAIN, ROSE_NATS = 2.0, 0.3
# Share of what the labels tell that the loss leaves open. A calibrated model of three classes that is right on 85 rows
# of 100 leaves half. Measured: 0.25 or less in runs that went well, 1.0 or more where the settings were at fault.
LEARNT = 0.5
# Where an answer is no label, there is no such scale: the loss has then to come down by this share of its start.
LEARNT_OF_START = 0.3
# Less of a fall than this share of the start is hardly a fall. Measured: 0.06 with a hundredth of a good learning rate,
# 0.57 after twelve steps with a good one.
HARDLY_FELL = 0.15
# A fault of the learning rate, not of the epochs, where going on at this pace would take more epochs than these.
MOST_EPOCHS = 20
# With fewer steps, single batches decide how a curve looks, and any run ends too early. `training.pitfalls` warns
# below 10; measured: 72 steps do what 12 did not.
FEW_STEPS = 30
# Still falling: the valid loss fell by more than this share in the last third of the run. Measured: 0.03 where an
# adapter of rank 1 had come to its end.
STILL_FALLING = 0.1
# Overfitting: the valid loss, after its lowest point, rose by this share, in measurements enough to be no chance.
# Measured: 3.5 where rows were learnt by heart, 0.03 in runs that went well.
VALID_ROSE, VALID_AFTER = 0.2, 2
# … while the training loss went on to fall below this share of the lowest valid loss.
TRAIN_BELOW = 0.75
# A gap of this many times between the valid and the train loss, without a rise, is what few rows look like.
GAP = 3.0
# The last epochs brought nothing: in more than half of them the valid loss stayed within this share of its lowest.
NO_GAIN, FEWEST_EPOCHS = 0.02, 4
# An adapter is small from here down. The LoRA paper (2021, table 6) sees little below; "LoRA Without Regret" (2025)
# finds ranks too low, and adapters on attention alone, to fall behind where there is much to learn.
SMALL_RANK = 4

# Data. Labels that a judge of its own doubts: their share of the rows. Curated sets have 1 to 6 percent wrong
# (Northcutt et al., 2021, "Pervasive Label Errors in Test Sets"); it takes more to be the first thing to look at.
NOISE_SHARE = 0.1
# And the judge has to know the labels that it does not doubt, and all of them about as well as the version does: else
# it is the judge that errs. Measured: 0.89 with three labels of ten wrong, 0.73 where the judge cannot know.
JUDGE_KNOWS, JUDGE_BEHIND = 0.8, 0.05
# Judging so many rows takes some three seconds, nearly all of this command; `nlp-skills audit` takes more of them.
MOST_JUDGED = 5_000
# Rows of which this share is cut are no odd few.
CUT_SHARE = 0.05
# A class is rare with fewer than this share of the commonest class's rows, and answered worse where its F1 is so far
# below the others' and its recall's 95 % interval is below their recall.
RARE, WORSE_F1 = 0.2, 0.15
# `nlp-skills validate` searches larger data for near-identical rows, in little memory. Measured: 20,000 take 0.3 s.
MOST_COMPARED = 100_000

# Answers. Share that must be readable, and probability on answers that the task allows: below one half the model asked
# freely would more often say something else. Measured: 0.83 to 0.97 in runs that went well.
READABLE, VALID_PROBABILITY = 0.95, 0.5
# Sure of an answer (as `learning from mistakes` has it), and so many of the test rows, before labels are doubted.
SURE, DOUBTED_SHARE, DOUBTED_ROWS = 0.9, 0.02, 2
# Chance of a difference that is none.
ALPHA = 0.05


def contradicted(codes: Sequence[str]) -> set[str]:
    """Those of these findings, heaviest first, that one before them rules out or explains."""
    out: set[str] = set()
    for place, code in enumerate(codes):
        if code in out:
            continue
        against = {pair[pair.index(code) - 1] for pair in CONTRADICTIONS if code in pair}
        out |= {other for other in codes[place + 1 :] if other in against or other in EXPLAINS.get(code, ())}
    return out
