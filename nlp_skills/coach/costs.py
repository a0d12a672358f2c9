"""Memory, hours and money of a proposal, before there is a task: the estimate, fed with what the data or people say."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from nlp_skills.coach.rules import Rules
from nlp_skills.coach.wish import Wish
from nlp_skills.evaluation.baselines import similar
from nlp_skills.schema.data_source import Split
from nlp_skills.schema.training import Config
from nlp_skills.training.estimate import verdict
from nlp_skills.training.estimate.machine import Machine
from nlp_skills.training.estimate.shape import Shape
from nlp_skills.training.estimate.verdict import Estimate
from nlp_skills.training.estimate.work import Work
from nlp_skills.training.trainer import Plan

# Tokens of a chat template around a prompt and an answer; of an answer, by the kind of task.
_AROUND = 24
_ANSWER = {"classification": 16, "extraction": 64, "generation": 128}
# Rows that go through at once, tried from the most to the fewest; the step keeps its size by accumulation.
_TOGETHER = (8, 4, 2, 1)


@dataclass(frozen=True)
class Rows:
    """How many rows there are to train on, and how many tokens they have."""

    count: int
    usual: int
    longest: int
    answer: int


def rows_of(wish: Wish, rules: Rules) -> Rows:
    """Rows of the train split and their tokens, from their characters; assumed where there is no data."""
    count, answer = round((wish.rows or 0) * Split().train), _ANSWER[wish.task_type]
    if not wish.data or not wish.data.lengths:
        tokens = round(rules.limit("tokens_a_row"))
        return Rows(count, tokens, 2 * tokens, answer)
    unspaced = similar.unspaced(wish.language, wish.data.texts)
    each = rules.limit("tokens_a_chinese_character" if unspaced else "tokens_a_letter")
    template = len(wish.summary.input_template or "") if wish.summary else 0
    usual, longest = (
        round((characters + template) * each) + _AROUND + answer
        for characters in (statistics.mean(wish.data.lengths), wish.data.lengths[-1])
    )
    return Rows(count, usual, longest, answer)


def estimate(config: Config, shape: Shape, machine: Machine, rows: Rows) -> Estimate:
    """What the training needs, with the most rows at once that fit; `config` of the result has that batch."""
    found = None
    for together in _TOGETHER:
        divided = config.model_copy(
            update={"batch_size": together, "gradient_accumulation": max(1, config.effective_batch // together)}
        )
        found = verdict.of(divided, shape, machine, _work(divided, rows), micro_batch=together)
        if found.verdict in ("fits", "unknown"):
            break
    assert found is not None
    return found


def _work(config: Config, rows: Rows) -> Work:
    plan = Plan.of(config, max(1, rows.count))
    pairs = 2 if config.method in ("dpo", "orpo") else 1
    return Work(
        rows=rows.count,
        tokens=rows.count * rows.usual * pairs,
        learnt=rows.count * rows.answer * pairs,
        longest=rows.longest,
        p95=rows.longest,
        answer=rows.answer,
        spread=0,
        shared=0,
        valid_tokens=round(rows.count * rows.usual * Split().valid / Split().train),
        steps=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        known=rows.count > 0,
    )
