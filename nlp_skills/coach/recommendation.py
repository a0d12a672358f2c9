"""The proposal: which model, how trained, on what, for how long, and why; or why something else comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills.coach import choosing, doubts, learnability, machines, performance, planning, reasons
from nlp_skills.coach import rules as rulebook
from nlp_skills.coach.choosing import Chosen, Plan
from nlp_skills.coach.doubts import Doubt
from nlp_skills.coach.learnability import Learnability
from nlp_skills.coach.performance import Performance
from nlp_skills.coach.reasons import Reason
from nlp_skills.coach.rules import Decision, Rules
from nlp_skills.coach.wish import Asked, Wish
from nlp_skills.coach.wish import of as wish_of
from nlp_skills.i18n import _
from nlp_skills.schema.task import Strategy
from nlp_skills.schema.training import Config


@dataclass(frozen=True)
class Recommendation:
    """What is proposed. `plan` is there also where something else comes first: it is what it would be then.

    `first` are the settings of the first version: the plan's, or those of SFT where the plan goes on from it.
    `advice` says in a sentence what to do; `learned` is None where word counts say nothing of the task.
    """

    wish: Wish
    decision: Decision
    advice: str
    doubts: Sequence[Doubt]
    chosen: Chosen
    plan: Plan | None
    first: Config | None
    alternatives: Sequence[Plan]
    learned: Learnability | None
    performance: Performance
    reasons: Sequence[Reason] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether fine-tuning is the advice."""
        return self.decision == "fine-tune"

    @property
    def strategy(self) -> Strategy:
        """How versions are named: as the summary says, else by the rule."""
        versioning = self.wish.summary.versioning if self.wish.summary else None
        stated = versioning is not None and "strategy" in versioning.model_fields_set
        return versioning.strategy if versioning is not None and stated else self.chosen.naming.strategy

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "task": self.wish.name,
            "decision": self.decision,
            "advice": self.advice,
            "problems": [doubt.as_dict() for doubt in self.doubts],
            "facts": self._facts(),
            "proposal": self._proposal(self.plan) if self.plan else None,
            "alternatives": [self._short(plan) for plan in self.alternatives],
            "reasons": [reason.as_dict() for reason in self.reasons],
            "test_rows": self._tested(),
        }

    def _facts(self) -> dict[str, Any]:
        wish = self.wish
        return {
            "task_type": wish.task_type,
            "language": wish.language,
            "labels": wish.labels,
            "rows": wish.rows,
            "metric": wish.metric,
            "threshold": wish.threshold,
            "baseline": wish.baseline,
            "deploy_target": wish.deploy_target,
            "data": wish.data.as_dict() if wish.data else None,
            "learnability": self.learned.as_dict() if self.learned else None,
        }

    def _proposal(self, plan: Plan) -> dict[str, Any]:
        retention = self.wish.summary.versioning.retention.keep_recent if self.wish.summary else 3
        return {
            **self._short(plan),
            "augment": self.chosen.size.augment,
            "versioning": {
                "strategy": self.strategy,
                "deploy_target": self.wish.deploy_target,
                "retention": retention,
            },
            "performance": self.performance.as_dict(),
        }

    @staticmethod
    def _short(plan: Plan) -> dict[str, Any]:
        config, estimate = plan.config, plan.estimate
        needed = estimate.as_dict() if estimate else {}
        return {
            "base_model": config.base_model,
            "parameters": plan.candidate.size,
            "method": config.method,
            "adapter": config.adapter,
            "lora": {"r": config.lora.r, "alpha": config.lora.alpha} if config.lora else None,
            "epochs": config.epochs,
            "learning_rate": config.learning_rate,
            "batch_size": config.batch_size,
            "gradient_accumulation": config.gradient_accumulation,
            "machine": needed.get("machine", {}).get("name"),
            "memory_gb": needed.get("peak_gb"),
            "verdict": needed.get("verdict", "unknown"),
            "seconds": needed.get("seconds_between"),
            "usd": needed.get("usd_between"),
        }

    def _tested(self) -> dict[str, Any]:
        planned, threshold = doubts.tested_rows(self.wish.rows), self.wish.threshold
        return {
            "planned": planned,
            "show_at_most": round(doubts.most_shown(planned), 4),
            "needed_without_mistake": doubts.rows_without_mistake(threshold) if threshold else None,
            "needed_5_points_above": doubts.rows_with_margin(threshold) if threshold else None,
        }


def recommend(asked: Asked, *, root: Path) -> Recommendation:
    """The recommendation; `root` is where this user's tasks are.

    Raises:
        Usage: nothing to go by, a GPU or model nobody knows.
        Invalid: a file is wrong.
        Unavailable: a package is missing.
    """
    table, wish = rulebook.load(asked.rules), wish_of(asked)
    ground, chosen = machines.of(wish), choosing.of(wish, table)
    found = [*doubts.of(wish, table), *ground.doubts, *_served(wish, chosen)]
    learned = _learned(wish, table)
    planned = planning.of(wish, table, chosen, ground.machine)
    plan = planned.plan
    found += [*planned.doubts, *_told_by_words(learned)]
    decision = decide(wish, chosen, found, learned)
    advised = performance.expected(wish, learned, root, plan.candidate.model if plan else None)
    return Recommendation(
        wish=wish,
        decision=decision,
        advice=reasons.advice(decision, wish, found, learned),
        doubts=sorted(found, key=lambda doubt: not doubt.stops),
        chosen=chosen,
        plan=plan,
        first=choosing.first_stage(wish, table, chosen, plan) if plan else None,
        alternatives=planned.others,
        learned=learned,
        performance=advised,
        reasons=reasons.of(wish, table, chosen, planned, learned),
    )


def decide(wish: Wish, chosen: Chosen, found: Sequence[Doubt], learned: Learnability | None) -> Decision:
    """What comes first: an answer that is missing, rows, a prompt, a classical model, or fine-tuning."""
    if doubts.stop(found):
        return "clarify"
    if chosen.size.decision != "fine-tune":
        return chosen.size.decision
    if learned and wish.threshold is not None and learned.interval[0] >= wish.threshold:
        return "classical"
    return "fine-tune"


def _learned(wish: Wish, table: Rules) -> Learnability | None:
    if wish.data is None or not wish.data.label_field or wish.kind != "label":
        return None
    folds, most = round(table.limit("folds")), round(table.limit("rows_to_learn_from"))
    return learnability.measure(wish.data, wish.metric, language=wish.language, folds=folds, most=most)


def _served(wish: Wish, chosen: Chosen) -> list[Doubt]:
    if chosen.candidates or not wish.language:
        return []
    return [
        Doubt(
            "language_unserved",
            _("no model of the catalogue names {language} among its languages", language=wish.language[:30]),
            _("check the tag (such as zh-TW, en, ja); else name a model with --base and measure it first: its score "
              "before training is among the baselines of nlp-skills evaluate"),
            stops=True,
        )
    ]  # fmt: skip


def _told_by_words(learned: Learnability | None) -> list[Doubt]:
    if learned is None or learned.tells:
        return []
    return [
        Doubt(
            "words_do_not_tell",
            _("word counts do no better than labels dealt out by lot: {value} (95 %: {low} to {high}) against {chance}",
              value=f"{learned.value:.3f}", low=f"{learned.interval[0]:.3f}", high=f"{learned.interval[1]:.3f}",
              chance=f"{learned.chance:.3f}"),
            _("have two people label the same 50 rows: where they disagree, no model can learn it; "
              "where they agree, the task asks for more than words"),
        )
    ]  # fmt: skip
