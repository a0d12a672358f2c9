"""What the curves say of the settings: learning rate, epochs, capacity, and rows learnt by heart."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nlp_skills.diagnosis import proposals, rules
from nlp_skills.diagnosis.facts import Facts
from nlp_skills.diagnosis.finding import Change, Evidence, Finding
from nlp_skills.diagnosis.making import made
from nlp_skills.i18n import _
from nlp_skills.schema.training import PREFERENCE_METHODS
from nlp_skills.workspace import runs


def looks(facts: Facts) -> Iterator[Iterator[Finding]]:
    """Everything that status and curves are looked through for."""
    yield _ended(facts)
    yield _rate_too_high(facts)
    yield _overfitting(facts)
    # Losses of preferences have another scale, and how far a run comes is seen at its end.
    if facts.course.losses and not facts.going_on and facts.config.method not in PREFERENCE_METHODS:
        yield _too_little_of_it(facts)
        yield _capacity(facts)
        yield _too_long(facts)


def _ended(facts: Facts) -> Iterator[Finding]:
    """A run that failed for another reason than its losses, or was stopped."""
    from nlp_skills.training import health

    status = facts.status
    if status is None or status.reason in ("diverged", "nan_loss"):
        return
    state = runs.state(status)
    if state in ("completed", "running", "unknown"):
        return
    words = health.words(status)
    text = words[0] if words else status.message or _("it is {state}", state=state)
    evidence = Evidence(
        _("at step {step} of {total}: {text}", step=status.step, total=status.total_steps, text=text),
        facts.shown(facts.version.status_path),
        status.step,
    )
    mend = words[1] if words else _("look at run/train.log, then go on from the last checkpoint")
    again = ("nlp-skills", "train", facts.name, "--version", facts.version.name)
    yield made("run_failed", [evidence], change=Change(mend, [again]), effort=proposals.training(facts))


def _rate_too_high(facts: Facts) -> Iterator[Finding]:
    evidence = [*_diverged(facts), *_thrown(facts), *_rose_again(facts)]
    if not evidence:
        return
    config = facts.config
    lower = config.learning_rate / 10
    sentence = proposals.from_to("learning rate", proposals.rate(config.learning_rate), proposals.rate(lower))
    change = proposals.settings(facts, _("a tenth of the learning rate"), sentence, {"learning_rate": _round(lower)})
    failed = facts.status is not None and facts.status.reason in ("diverged", "nan_loss")
    evidence += _usual(facts)
    yield made(
        "learning_rate_too_high",
        evidence,
        severity="critical" if failed else None,
        change=change,
        effort=proposals.training(facts),
    )


def _diverged(facts: Facts) -> Iterator[Evidence]:
    from nlp_skills.training import health

    status = facts.status
    words = health.words(status) if status and status.reason in ("diverged", "nan_loss") else None
    if status and words:
        text = _("the run was ended at step {step}: {text}", step=status.step, text=words[0])
        yield Evidence(text, facts.shown(facts.version.status_path), status.step)


def _thrown(facts: Facts) -> Iterator[Evidence]:
    """Thrown far above the start, and not back below it."""
    course = facts.course
    start, end, highest = course.start, course.end, course.highest
    if start is None or end is None or highest is None:
        return
    far = max(rules.SHOT_UP * abs(start), start + rules.SHOT_UP_NATS)
    peak = max(course.losses, key=lambda point: point[1])
    above = peak[1] > far or highest[1] > start + rules.SHOT_UP_NATS
    if above and end > rules.NOT_BACK * start:
        yield Evidence(
            _("the loss began with {start:.2f}, was {peak:.2f} at step {step} and ended with {end:.2f}",
              start=start, peak=peak[1], step=peak[0], end=end),
            facts.shown(facts.version.metrics_path),
            peak[0],
            {"start": start, "highest": peak[1], "end": end},
        )  # fmt: skip


def _rose_again(facts: Facts) -> Iterator[Evidence]:
    """The loss on the training rows themselves went up again: nothing but steps that are too long does that."""
    course = facts.course
    lowest, end = course.lowest, course.end
    if lowest is None or end is None or len(course.losses) < rules.FEW_STEPS:
        return
    if end > rules.ROSE_AGAIN * lowest[1] and end > lowest[1] + rules.ROSE_NATS:
        yield Evidence(
            _("the training loss rose from {lowest:.2f} at step {step} to {end:.2f} at the end",
              lowest=lowest[1], step=lowest[0], end=end),
            facts.shown(facts.version.metrics_path),
            lowest[0],
            {"lowest": lowest[1], "end": end},
        )  # fmt: skip


def _too_little_of_it(facts: Facts) -> Iterator[Finding]:
    """The loss would go on falling: is a step too short, or are there too few of them?"""
    course = facts.course
    end, fell = course.end, course.fell
    if end is None or fell is None or learnt(facts):
        return
    ahead = _epochs_ahead(facts)
    few = course.steps < rules.FEW_STEPS
    falling = course.still is not None and course.still > rules.STILL_FALLING
    low = _is_low(facts)
    if fell < rules.HARDLY_FELL and ahead > rules.MOST_EPOCHS and low:
        yield _rate_too_low(facts, ahead)
    elif few or falling or (fell < rules.HARDLY_FELL and low):
        yield _too_short(facts, ahead, or_else=("learning_rate_too_low",) if low or few else ())


def _rate_too_low(facts: Facts, ahead: float) -> Finding:
    config = facts.config
    higher = config.learning_rate * 10
    sentence = proposals.from_to("learning rate", proposals.rate(config.learning_rate), proposals.rate(higher))
    change = proposals.settings(facts, _("ten times the learning rate"), sentence, {"learning_rate": _round(higher)})
    far = _("more than {most}", most=1000) if ahead > 1000 else f"{ahead:.0f}"
    pace = Evidence(
        _("at this pace the rest would take epochs: {epochs}; more epochs are therefore not the way", epochs=far),
        facts.shown(facts.version.metrics_path),
        figures={"epochs": min(ahead, 1e6)},
    )
    evidence = [*_fall(facts), *_open(facts), pace, *_usual(facts)]
    return made("learning_rate_too_low", evidence, change=change, effort=proposals.training(facts))


def _too_short(facts: Facts, ahead: float, or_else: tuple[str, ...]) -> Finding:
    config, course = facts.config, facts.course
    per_epoch = course.steps / course.epoch if course.epoch else course.steps
    wanted = max(2 * config.epochs, config.epochs + min(ahead, rules.MOST_EPOCHS), rules.FEW_STEPS / max(1, per_epoch))
    epochs = math.ceil(wanted)
    change = proposals.settings(
        facts, _("more epochs"), proposals.from_to("epochs", f"{config.epochs:g}", epochs), {"epochs": epochs}
    )
    evidence = [*_fall(facts), *_open(facts)]
    if course.still is not None:
        evidence.append(_still(facts, course.still))
    if course.steps < rules.FEW_STEPS:
        text = _("the whole training was {steps} steps", steps=course.steps)
        evidence.append(Evidence(text, facts.shown(facts.version.metrics_path), course.steps))
    effort = proposals.training(facts, epochs=epochs)
    return made("too_few_epochs", evidence, change=change, effort=effort, or_else=or_else)


def _capacity(facts: Facts) -> Iterator[Finding]:
    """The training rows themselves are not learnt, and the curve has come to its end."""
    course, config = facts.course, facts.config
    if course.end is None or learnt(facts) or course.steps < rules.FEW_STEPS:
        return
    if course.still is not None and course.still > rules.STILL_FALLING:
        return
    evidence = [*_fall(facts), *_open(facts)]
    if course.still is not None:
        evidence.append(_still(facts, course.still))
    small = list(_small_adapter(facts))
    if small and config.lora is not None:
        rank = max(16, 4 * config.lora.r)
        values = {"lora.r": rank, "lora.alpha": 2 * rank, "lora.target_modules": "all-linear"}
        change = proposals.settings(
            facts,
            _("a larger adapter, on all linear layers"),
            proposals.from_to("LoRA rank", config.lora.r, f"{rank}, on all linear layers"),
            values,
        )
        yield made(
            "rank_too_small",
            [*evidence, *small],
            change=change,
            effort=proposals.training(facts),
            or_else=("underfitting",),
        )
        return
    higher = config.learning_rate * 3
    change = proposals.settings(
        facts,
        _("three times the learning rate; if that changes nothing, a larger base model, or a prompt that says more"),
        proposals.from_to("learning rate", proposals.rate(config.learning_rate), proposals.rate(higher)),
        {"learning_rate": _round(higher)},
    )
    yield made("underfitting", evidence, change=change, effort=proposals.training(facts))


def _small_adapter(facts: Facts) -> Iterator[Evidence]:
    lora, info = facts.config.lora, facts.info
    if facts.config.adapter == "full" or lora is None:
        return
    partly = lora.target_modules != "all-linear"
    if lora.r > rules.SMALL_RANK:
        return
    where = facts.shown(facts.version.config_path)
    modules = lora.target_modules if isinstance(lora.target_modules, str) else ", ".join(lora.target_modules)
    yield Evidence(_("the adapter has rank {rank}, on {modules}", rank=lora.r, modules=modules), where)
    if info is not None and info.parameters:
        share = info.trainable_parameters / info.parameters
        text = _("weights that were trained: {count} of {all}, or {share:.2%}",
                 count=f"{info.trainable_parameters:,}", all=f"{info.parameters:,}", share=share)  # fmt: skip
        yield Evidence(text, facts.shown(facts.version.model_info_path), figures={"share": share})
    if partly:
        yield Evidence(_("the other linear layers are not trained at all"), where)


def _overfitting(facts: Facts) -> Iterator[Finding]:
    """The valid loss turned while the training loss went on."""
    course, config = facts.course, facts.config
    if course.best is None or course.end is None or len(course.after) < rules.VALID_AFTER:
        return
    step, best = course.best
    tail = [value for _at, value in course.after[-rules.VALID_AFTER :]]
    last = min(tail)
    if last < best * (1 + rules.VALID_ROSE) or course.end > rules.TRAIN_BELOW * best:
        return
    evidence = Evidence(
        _("the valid loss was lowest at step {step}, {best:.3f}, and rose to {last:.3f}, while the training loss fell "
          "to {train:.3f}", step=step, best=best, last=last, train=course.end),
        facts.shown(facts.version.metrics_path),
        step,
        {"lowest_valid": best, "last_valid": last, "last_train": course.end},
    )  # fmt: skip
    epochs = max(1, math.ceil(course.epoch * step / max(1, course.steps)))
    text = _("fewer epochs and some dropout")
    if facts.version.model is not None:
        text = _("fewer epochs and some dropout; the weights of the lowest valid loss were kept, so that fewer epochs "
                 "alone save time and change little")  # fmt: skip
    values: dict[str, object] = {"epochs": epochs}
    if config.lora is not None:
        values["lora.dropout"] = min(0.3, config.lora.dropout + 0.1)
    values["weight_decay"] = max(0.01, config.weight_decay)
    change = proposals.settings(facts, text, proposals.from_to("epochs", f"{config.epochs:g}", epochs), values)
    effort = proposals.training(facts, epochs=epochs)
    yield made("overfitting", [evidence], change=change, effort=effort, or_else=("too_little_data", "label_noise"))


def _too_long(facts: Facts) -> Iterator[Finding]:
    """More than half of the epochs brought the valid loss nothing."""
    course, config = facts.course, facts.config
    if course.best is None or not learnt(facts) or min(config.epochs, len(course.valid)) < rules.FEWEST_EPOCHS:
        return
    near = course.best[1] * (1 + rules.NO_GAIN)
    reached = next(step for step, value in course.valid if value <= near)
    if reached > course.steps / 2:
        return
    epochs = max(1, math.ceil(course.epoch * reached / max(1, course.steps)))
    evidence = Evidence(
        _("from step {step} of {steps} on the valid loss stayed as good as at its best, {best:.3f}",
          step=reached, steps=course.steps, best=course.best[1]),
        facts.shown(facts.version.metrics_path),
        reached,
    )  # fmt: skip
    change = proposals.settings(
        facts, _("fewer epochs"), proposals.from_to("epochs", f"{config.epochs:g}", epochs), {"epochs": epochs}
    )
    effect = _("the same valid loss in less time")
    yield made("too_many_epochs", [evidence], change=change, effect=effect,
               effort=proposals.training(facts, epochs=epochs))  # fmt: skip


def learnt(facts: Facts) -> bool:
    """Whether the training rows were learnt."""
    course = facts.course
    share = facts.open_share(course.end)
    if share is not None:
        return share < rules.LEARNT
    return course.fell is not None and course.fell >= rules.LEARNT_OF_START


def _epochs_ahead(facts: Facts) -> float:
    """Epochs that the rest of the fall would take at the run's own pace."""
    course = facts.course
    start, end = course.start or 0.0, course.end or 0.0
    target = rules.LEARNT * facts.scale if facts.scale else (1 - rules.LEARNT_OF_START) * start
    return math.inf if course.pace <= 0 else max(0.0, (end - target) / course.pace)


def _usual_rates(facts: Facts) -> tuple[float, float]:
    from nlp_skills.training import pitfalls

    config = facts.config
    return pitfalls.USUAL[config.method in PREFERENCE_METHODS, "full" if config.adapter == "full" else "adapter"]


def _is_low(facts: Facts) -> bool:
    """Whether the learning rate lies in the lower half of those that people use, by orders of magnitude."""
    low, high = _usual_rates(facts)
    return facts.config.learning_rate < math.sqrt(low * high)


def _usual(facts: Facts) -> Iterator[Evidence]:
    low, high = _usual_rates(facts)
    text = _("the learning rate is {rate}; usual is {low} to {high}", rate=proposals.rate(facts.config.learning_rate),
             low=proposals.rate(low), high=proposals.rate(high))  # fmt: skip
    yield Evidence(text, facts.shown(facts.version.config_path), figures={"learning_rate": facts.config.learning_rate})


def _fall(facts: Facts) -> Iterator[Evidence]:
    course, file = facts.course, facts.shown(facts.version.metrics_path)
    start, end = course.start or 0.0, course.end or 0.0
    text = _("the training loss went from {start:.3f} to {end:.3f} in {steps} steps",
             start=start, end=end, steps=course.steps)  # fmt: skip
    yield Evidence(text, file, course.steps, {"start": start, "end": end})
    if len(course.valid) > 1:
        (since, first), (step, last) = course.valid[0], course.valid[-1]
        text = _("the valid loss went from {first:.3f} at step {since} to {last:.3f}",
                 first=first, since=since, last=last)  # fmt: skip
        yield Evidence(text, file, step, {"first_valid": first, "last_valid": last})


def _open(facts: Facts) -> Iterator[Evidence]:
    share = facts.open_share(facts.course.end)
    if share is None or facts.scale is None:
        return
    yield Evidence(
        _("who knows how often each label comes, and nothing else, has a loss of {scale:.3f}; {most:.3f} would be "
          "labels told apart", scale=facts.scale, most=rules.LEARNT * facts.scale),
        facts.shown(facts.version.snapshot_path),
        figures={"loss_by_frequency": facts.scale, "open_share": share},
    )  # fmt: skip


def _still(facts: Facts, still: float) -> Evidence:
    text = _("in the last third of the run the valid loss fell by {share:.1%}", share=max(0.0, still))
    return Evidence(text, facts.shown(facts.version.metrics_path), facts.course.steps, {"fell": still})


def _round(rate: float) -> float:
    return float(f"{rate:.3g}")
