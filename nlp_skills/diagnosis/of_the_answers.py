"""What results and predictions say: the prompt, the format, the test split's size, and what is simpler and better."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data import rows as lines
from nlp_skills.diagnosis import proposals, rules
from nlp_skills.diagnosis.facts import Facts
from nlp_skills.diagnosis.finding import Change, Evidence, Finding
from nlp_skills.diagnosis.making import made
from nlp_skills.evaluation import words
from nlp_skills.i18n import _
from nlp_skills.schema.version import Check

_SHOWN = 5
# Baselines that are language models themselves, by the beginnings of their names.
_NOT_SIMPLE = ("base_", "endpoint")


def looks(facts: Facts) -> Iterator[Iterator[Finding]]:
    """Everything that the version's records and answers are looked through for."""
    for look in (_template, _format, _test_size, _baselines, _test_labels):
        yield look(facts)


def _template(facts: Facts) -> Iterator[Finding]:
    own = own_template(facts.base) if facts.base else None
    named = facts.config.chat_template
    if facts.base and named is None and own is None:
        text = _("the base model has no chat template, and config.yaml names none: nothing tells question and answer "
                 "apart, and the end of an answer may never be learnt")  # fmt: skip
        sentence = "chat template: plain"
        change = proposals.settings(facts, _("the plain chat template"), sentence, {"chat_template": "plain"})
    elif named is not None and own is not None and not facts.met:
        text = _("chat_template is {name}, and the base model was tuned with a template of its own ({file})",
                 name=named, file=own)  # fmt: skip
        sentence = "chat template: the base model's own"
        change = proposals.settings(facts, _("the base model's own chat template"), sentence, {"chat_template": None})
    else:
        text = ""
        told = _("train a version with the prompt as it is now, or put task.yaml back")
        change = Change(told, [proposals.new_version(facts, "prompt and answer format as task.yaml has them now")])
    evidence = [*_changed_prompt(facts)]
    if text:
        evidence.append(Evidence(text, facts.shown(facts.version.config_path)))
    if evidence:
        yield made("template_mismatch", evidence, change=change, effort=proposals.training(facts))


def _changed_prompt(facts: Facts) -> Iterator[Evidence]:
    """What the model was trained with, beside what task.yaml and config.yaml say today."""
    from nlp_skills.data.render import Renderer

    info = facts.info
    if info is None:
        return
    now, then = Renderer.of(facts.task, facts.config), Renderer.from_model_info(info)
    task, config = facts.shown(facts.folder.task_path), facts.shown(facts.version.config_path)
    parts = (
        ("input_template", task, then.input_template.strip(), now.input_template.strip()),
        ("output_format", task, then.output_format.model_dump(by_alias=True, exclude_none=True),
         now.output_format.model_dump(by_alias=True, exclude_none=True)),
        ("system_prompt", config, then.system_prompt, now.system_prompt),
        ("chat_template_kwargs", config, then.chat_template_kwargs, now.chat_template_kwargs),
        ("chat_template", config, info.chat_template, _template_text(facts)),
    )  # fmt: skip
    for name, file, before, after in parts:
        if before != after:
            text = _("{name}: the model was trained with {before}, {file} says {after}",
                     name=name, before=_cut(before), file=file, after=_cut(after))  # fmt: skip
            yield Evidence(text, facts.shown(facts.version.model_info_path))


def _template_text(facts: Facts) -> str | None:
    from nlp_skills.training import base_model

    return facts.read(
        _("the chat template"), lambda: base_model.template_text(facts.config.chat_template, facts.folder.root)
    )


def own_template(base: Path) -> str | None:
    """The name of the file in a base model's folder that holds a chat template; None where none does."""
    if (base / "chat_template.jinja").is_file():
        return "chat_template.jinja"
    path = base / "tokenizer_config.json"
    if path.is_file() and isinstance(found := files.read_json(path), dict) and found.get("chat_template"):
        return path.name
    return None


def _cut(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return lines.shown(" ".join(text.split()))


def _format(facts: Facts) -> Iterator[Finding]:
    if facts.results is None:
        return
    evidence = [*_unreadable(facts, facts.results.metrics), *_no_end(facts)]
    if not evidence:
        return
    epochs = max(1, round(2 * facts.config.epochs))
    text = _("generate with the schema's constraint where the version serves; and learn the format for longer")
    sentence = proposals.from_to("epochs", f"{facts.config.epochs:g}", epochs)
    change = proposals.settings(facts, text, sentence, {"epochs": epochs})
    effort = proposals.training(facts, epochs=epochs)
    yield made("format_errors", evidence, change=change, effort=effort, or_else=("too_few_epochs",))


def _unreadable(facts: Facts, figures: Mapping[str, float]) -> Iterator[Evidence]:
    where = facts.shown(facts.version.results_path)
    for name, saying in (
        ("parse_rate_unconstrained", _("without constraint")),
        ("parse_rate", _("as they were asked for")),
    ):
        value = figures.get(name)
        if value is not None and value < rules.READABLE:
            text = _("answers {how} that the schema allows: {share:.1%}", how=saying, share=value)
            yield Evidence(text, where, figures={name: value})
    share = figures.get("valid_answer_probability")
    if share is not None and share < rules.VALID_PROBABILITY:
        text = _("the answers that the task allows have together a probability of {share:.1%}: asked freely, the model "
                 "would mostly say something else", share=share)  # fmt: skip
        yield Evidence(text, where, figures={"valid_answer_probability": share})


def _no_end(facts: Facts) -> Iterator[Evidence]:
    """Answers as long as they were let to be: the model does not know where to stop."""
    asked = facts.results.asked if facts.results else None
    most = asked.sampling.max_new_tokens if asked and asked.sampling else None
    rows = facts.predictions
    endless = [at for at, row in enumerate(rows, 1) if row.get("cut")]
    if not most or not rows or len(endless) <= (1 - rules.READABLE) * len(rows):
        return
    text = _("answers that went on up to the limit of {most} tokens: {count} of {rows}; the token that ends an answer "
             "did not come", most=most, count=len(endless), rows=len(rows))  # fmt: skip
    place = facts.shown(facts.version.predictions_path)
    yield Evidence(text, place, rows=endless[:_SHOWN], figures={"endless": len(endless) / len(rows)})


def _test_size(facts: Facts) -> Iterator[Finding]:
    success = facts.results.success if facts.results else None
    if facts.results is None or success is None or success.verdict != "cannot_tell":
        return
    unsure = [check for check in success.checks if check.verdict == "cannot_tell"]
    needed = max((check.rows_needed or 0 for check in unsure), default=0)
    evidence = [_check(facts, check) for check in unsure]
    have = facts.results.test_rows
    text = _("more test rows (split: test_rows: growing in data_source.yaml lets new rows into test)")
    effect = _("the success criteria can be judged; the model gets no better")
    if needed > have:
        text = _("test rows: {needed} instead of {have} (split: test_rows: growing in data_source.yaml lets new rows "
                 "into test)", needed=needed, have=have)  # fmt: skip
    change = proposals.other_rows(
        facts,
        text,
        f"{needed - have} more test rows" if needed > have else f"more test rows than {have}",
    )
    effort = proposals.labelling(facts, needed - have) if needed > have else None
    yield made("test_too_small", evidence, change=change, effect=effect, effort=effort)


def _check(facts: Facts, check: Check) -> Evidence:
    low, high = check.interval or (check.value, check.value)
    text = _("{metric} is {value:.1%} ({low:.1%} to {high:.1%}) on test rows: {rows}; wanted is {least:.1%}",
             metric=check.metric, value=check.value, low=low, high=high, least=check.least,
             rows=facts.results.test_rows if facts.results else 0)  # fmt: skip
    return Evidence(text, facts.shown(facts.version.results_path), figures={"value": check.value, "least": check.least})


def _baselines(facts: Facts) -> Iterator[Finding]:
    results = facts.results
    if results is None or results.success.value is None:
        return
    name, value = results.success.primary_metric, results.success.value
    better = {key: figures[name] for key, figures in results.baselines.items() if figures.get(name, -1.0) > value}
    simple = {key: figure for key, figure in better.items() if not key.startswith(_NOT_SIMPLE)}
    base = {key: figure for key, figure in better.items() if key.startswith("base_")}
    again = proposals.training(facts)
    if simple:
        best = max(simple, key=lambda key: simple[key])
        evidence, sure = _beaten(facts, best, simple[best])
        text = _("look at the findings before this one; where there is none, use the baseline: it costs nothing")
        yield made("simple_baseline_wins", [evidence], severity=None if sure else "note", change=Change(text))
    if base:
        best = max(base, key=lambda key: base[key])
        evidence, sure = _beaten(facts, best, base[best])
        lower = facts.config.learning_rate / 10
        sentence = proposals.from_to("learning rate", proposals.rate(facts.config.learning_rate), proposals.rate(lower))
        change = proposals.settings(
            facts, _("a tenth of the learning rate"), sentence, {"learning_rate": float(f"{lower:.3g}")}
        )
        yield made("worse_than_base", [evidence], severity=None if sure else "note", change=change, effort=again)


def _beaten(facts: Facts, baseline: str, figure: float) -> tuple[Evidence, bool]:
    """By how much, and whether the rows that only one of the two got right say that it is no chance."""
    results = facts.results
    assert results is not None
    metric = results.success.primary_metric
    ours, theirs = _alone(facts, baseline)
    chance = _sign_test(ours, theirs)
    text = _("{metric} of {baseline} is {theirs}, of {version} {ours}; right on rows where the other is wrong: "
             "{alone} and {own} (p = {chance:.2g})", metric=words.metric(metric), baseline=words.baseline(baseline),
             theirs=words.figure(metric, figure), version=facts.version.name,
             ours=words.figure(metric, results.success.value), alone=theirs, own=ours, chance=chance)  # fmt: skip
    figures = {"baseline": figure, "version": results.success.value or 0.0, "p": chance}
    # Where no row is right or wrong as a whole, the interval has to do.
    beyond = not ours + theirs and results.intervals.get(metric, (0.0, 1.0))[1] < figure
    return Evidence(text, facts.shown(facts.version.results_path), figures=figures), chance < rules.ALPHA or beyond


def _alone(facts: Facts, baseline: str) -> tuple[int, int]:
    """Rows that only the version, and only the baseline, answered rightly."""
    ours = theirs = 0
    for row in facts.predictions:
        answers = row.get("baselines") or {}
        if baseline in answers:
            own, other = row["predicted"] == row["gold"], answers[baseline] == row["gold"]
            ours, theirs = ours + (own and not other), theirs + (other and not own)
    return ours, theirs


def _sign_test(one: int, other: int) -> float:
    """The two-sided exact probability of such a difference where both are as good (McNemar's test)."""
    from math import comb

    count = one + other
    tail = sum(comb(count, k) for k in range(min(one, other) + 1))
    return min(1.0, float(2 * tail / 2**count))


def _test_labels(facts: Facts) -> Iterator[Finding]:
    """Test rows on which the version, sure of it, and a baseline agree with each other and not with the label."""
    if facts.results is None or facts.results.kind != "label":
        return
    name = next((key for key in facts.results.baselines if key.startswith("tfidf")), None)
    doubted = [at for at, row in enumerate(facts.predictions, 1) if _doubts(row, name)] if name else []
    rows = len(facts.predictions)
    if len(doubted) < max(rules.DOUBTED_ROWS, rules.DOUBTED_SHARE * rows):
        return
    evidence = Evidence(
        _("the version is surer than {sure:.0%} of another label, and {baseline} says the same: rows {count} of {rows}",
          sure=rules.SURE, baseline=str(name), count=len(doubted), rows=rows),
        facts.shown(facts.version.predictions_path),
        rows=doubted[:_SHOWN],
        figures={"share": len(doubted) / rows},
    )  # fmt: skip
    change = Change(
        _("look at these rows; what is wrong is put right at its source"),
        [("nlp-skills", "audit", facts.name), ("nlp-skills", "regenerate", facts.name)],
    )
    effect = _("truer figures: at most {share:.1%} more of the rows would count as right",
               share=len(doubted) / rows)  # fmt: skip
    effort = proposals.labelling(facts, len(doubted))
    yield made("test_labels", [evidence], change=change, effect=effect, effort=effort)


def _doubts(row: Mapping[str, Any], baseline: str | None) -> bool:
    given, sure = row["predicted"], row.get("probability")
    if sure is None and isinstance(row.get("probabilities"), dict):
        sure = row["probabilities"].get(given)
    theirs = (row.get("baselines") or {}).get(baseline)
    return given is not None and given != row["gold"] and theirs == given and (sure or 0.0) >= rules.SURE
