"""The model card: what the model is for, how good it is and on what, what is not known of it, and how to ask it.

Every figure comes from the version's own files; text from people and data is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from nlp_skills import __version__
from nlp_skills.deployment.gate import Standing
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.huggingface import base as bases
from nlp_skills.deployment.huggingface import card_front, card_use
from nlp_skills.deployment.huggingface.base import Base
from nlp_skills.deployment.huggingface.cleaning import Cleaner
from nlp_skills.deployment.huggingface.contents import Forms
from nlp_skills.deployment.huggingface.names import Place
from nlp_skills.evaluation import judgement, words
from nlp_skills.evaluation.report_markdown import escaped, table
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import ParityCheck
from nlp_skills.schema.version import Lineage, Results

Interval = tuple[float, float] | None

# A class with fewer test rows than these has a figure that the next row may turn over.
_FEW = 10


@dataclass(frozen=True)
class Told:
    """What a card is written from."""

    going: Going
    standing: Standing
    place: Place
    forms: Forms
    clean: Cleaner

    @cached_property
    def base(self) -> Base:
        return bases.of(self.going.folder, self.going.info)

    @cached_property
    def lineage(self) -> Lineage | None:
        return self.going.version.lineage()

    def said(self, text: object) -> str:
        """A text of people's or of data, as it may be shown."""
        return escaped(self.clean.text(str(text)))


def text(told: Told) -> str:
    """The whole card, with its front matter."""
    parts = [
        f"# {escaped(told.going.task.task_name)} {escaped(told.going.version.name)}",
        *_verdict(told),
        *_purpose(told),
        *_figures(told),
        *_parity(told),
        *_limits(told),
        *card_use.sections(told),
        *_data(told),
        *_training(told),
        *_history(told),
        "---",
        _("Made with nlp-skills {version}.", version=__version__),
    ]
    return card_front.matter(told) + "\n" + "\n\n".join(parts) + "\n"


def _verdict(told: Told) -> Iterator[str]:
    results, standing = told.standing.results, told.standing
    if standing.refusals:
        said = escaped(_("Published although it was refused by the checks before a deployment:"))
        yield f"> **{said}** {told.said(standing.why)}"
    if results is None:
        unknown = _("It was not evaluated as it is: no figure here is known.")
        yield f"**{escaped(unknown)}**"
        return
    name, value = results.success.primary_metric, results.success.value
    interval = _interval(name, results.intervals.get(name))
    figure = f"{escaped(words.metric(name))} {words.figure(name, value)}"
    rows = _("on {rows} test rows", rows=results.test_rows)
    yield f"**{escaped(judgement.headline(results))}** – {figure} ({interval}), {rows}"


def _purpose(told: Told) -> Iterator[str]:
    task = told.going.task
    yield "## " + _("What it is for")
    if task.goal:
        yield told.said(task.goal)
    kinds = {
        "classification": _("It gives a text one of these answers: {labels}.", labels=_labels(told)),
        "extraction": _("It finds these properties in a text: {fields}.", fields=", ".join(task.output_fields)),
        "generation": _("It writes a text."),
    }
    if task.task_type == "classification" and task.multi_label:
        kinds["classification"] = _("It gives a text any of these labels: {labels}.", labels=_labels(told))
    yield told.said(kinds[task.task_type])
    known = [(_("Language"), task.language), (_("Domain"), task.domain)]
    facts = [f"- {name}: {told.said(value)}" for name, value in known if value]
    if facts:
        yield "\n".join(facts)


def _labels(told: Told) -> str:
    return ", ".join(map(str, told.going.info.output_format.labels))


def _figures(told: Told) -> Iterator[str]:
    results = told.standing.results
    if results is None:
        return
    columns = [_("Value"), _("Interval (95%)")]
    yield "## " + _("How good it is")
    yield _("Every figure is of the same {rows} test rows, which it was not trained on.", rows=results.test_rows)
    rows = [(words.metric(name), *_pair(name, value, results.intervals.get(name)))
            for name, value in results.metrics.items()]  # fmt: skip
    yield table([_("Metric"), *columns], rows, right=(1, 2))
    yield from _criteria(results)
    yield from _baselines(results, columns)
    yield from _classes(results)


def _criteria(results: Results) -> Iterator[str]:
    criteria = judgement.criteria(results)
    if not criteria:
        return
    yield "### " + _("What it was to reach")
    yield f"**{escaped(judgement.headline(results))}** ({escaped('; '.join(criteria))})"
    yield _list([escaped(judgement.sentence(check, results.test_rows)) for check in results.success.checks])


def _baselines(results: Results, columns: Sequence[str]) -> Iterator[str]:
    name = results.success.primary_metric
    known = {key: figures[name] for key, figures in results.baselines.items() if name in figures}
    if not known:
        return
    yield "### " + _("Beside simpler means")
    shown = [(results.version, *_pair(name, results.success.value, results.intervals.get(name)))]
    shown += [(words.baseline(key), *_pair(name, value, results.baseline_intervals.get(key, {}).get(name)))
              for key, value in known.items()]  # fmt: skip
    yield table([words.metric(name), *columns], shown, right=(1, 2))


def _classes(results: Results) -> Iterator[str]:
    if not results.per_class:
        return
    yield "### " + _("By class")
    rows = [
        (label, *_pair("f1", one.f1, results.class_intervals.get(label)), words.percent(one.precision),
         words.percent(one.recall), "–" if one.support is None else one.support)
        for label, one in results.per_class.items()
    ]  # fmt: skip
    columns = [_("Class"), "F1", _("Interval (95%)"), _("Precision"), _("Recall"), _("Rows")]
    yield table(columns, rows, right=(1, 2, 3, 4, 5))


def _parity(told: Told) -> Iterator[str]:
    exports = [*filter(None, [told.forms.merged]), *told.forms.ggufs]
    sent = {export.sha256 for export in exports}
    checks = [check for check in told.going.version.parity() if check.sha256 in sent]
    if not checks:
        return
    yield "### " + _("The files here beside the model that was evaluated")
    columns = [_("File"), _("Engine"), _("Equal prompts"), _("Before"), _("After"), _("Verdict")]
    yield table(columns, [_checked(check) for check in checks], right=(2, 3, 4))


def _checked(check: ParityCheck) -> list[str]:
    prompts, answers = check.prompts, check.answers
    alike = "–" if prompts is None else f"{min(prompts.equal_text, prompts.equal_ids)} / {prompts.asked}"
    figures = ["–", "–"]
    if answers is not None:
        figures = [words.figure(answers.metric, answers.before), words.figure(answers.metric, answers.after)]
    verdicts = {"met": _("answers alike"), "not_met": _("does not answer alike")}
    return [check.subject, check.engine, alike, *figures, verdicts[check.verdict]]


def _limits(told: Told) -> Iterator[str]:
    yield "## " + _("What to know before using it")
    results = told.standing.results
    found = [told.said(one) for one in told.standing.remarks]
    if results is not None:
        found.append(escaped(_("It was measured on {rows} rows of the same sources as its training data. Other "
                               "languages, other kinds of text and texts made to mislead it were not tested.",
                               rows=results.test_rows)))  # fmt: skip
        few = [f"{label} ({one.support})" for label, one in results.per_class.items() if (one.support or _FEW) < _FEW]
        if few:
            found.append(told.said(_("So few test rows that the figure says little: {names}.", names=", ".join(few))))
        if results.asked is not None and results.asked.way == "likelihood":
            found.append(escaped(_("The figures were had by comparing how likely each label is, not by letting the "
                                   "model write; free text may now and then be something else.")))  # fmt: skip
    if told.base.licence is None:
        found.append(escaped(_("The licence of the base model is not known here; its own page says under which terms "
                               "this model may be used.")))  # fmt: skip
    else:
        found.append(escaped(_("The base model's licence, {licence}, holds for this model too.",
                               licence=told.base.licence)))  # fmt: skip
    yield _list(found)


def _data(told: Told) -> Iterator[str]:
    taken = told.going.version.snapshot()
    if taken is None:
        return
    yield "## " + _("Data")
    labels = list(dict.fromkeys(label for split in taken.splits.values() for label in split.class_distribution))
    rows = [
        [name, split.rows, *(split.class_distribution.get(label, 0) for label in labels), _short(split.sha256)]
        for name, split in taken.splits.items()
    ]
    yield table([_("Split"), _("Rows"), *labels, "SHA-256"], rows, right=range(1, len(labels) + 2))
    kinds = sorted({source.type for source in taken.sources.values()})
    if kinds:
        yield told.said(_("Kinds of sources: {kinds}. The rows themselves are not part of this repository.",
                          kinds=", ".join(kinds)))  # fmt: skip
    else:
        yield _("The rows themselves are not part of this repository.")


def _training(told: Told) -> Iterator[str]:
    config, info = told.going.version.config(), told.going.info
    run = told.lineage.run if told.lineage else None
    rank = f"r {config.lora.r}, alpha {config.lora.alpha:g}" if config.lora else None
    title = f" ({told.base.title})" if told.base.title else ""
    facts: list[tuple[str, object]] = [
        (_("Base model"), f"{told.base.name}{title}"),
        (_("Base model revision"), info.base_model_revision),
        (_("Base model hash"), _short(info.base_model_hash)),
        (_("Method"), f"{config.method}, {config.adapter}"),
        ("LoRA", rank),
        (_("Trained parameters"), f"{info.trainable_parameters:,} / {info.parameters:,}"),
        (_("Precision"), f"{info.dtype}, {info.quantization}" if info.quantization else info.dtype),
        (_("Epochs"), f"{config.epochs:g}"),
        (_("Learning rate"), f"{config.learning_rate:g}"),
        (_("Batch size"), f"{config.batch_size} × {config.gradient_accumulation}"),
        (_("Seed"), config.seed),
        (_("Final training loss"), f"{run.final_loss:.3f}" if run and run.final_loss is not None else None),
        (_("Training time"), words.duration(run.seconds) if run else None),
        (_("Device"), run.device if run else None),
    ]
    packages = told.lineage.environment if told.lineage else {}
    facts += [(name, packages[name]) for name in ("torch", "transformers", "trl", "peft") if name in packages]
    yield "## " + _("Training")
    rows = [(name, told.clean.text(str(value))) for name, value in facts if value not in (None, "")]
    yield table([_("Setting"), _("Value")], rows)
    yield _("Everything else is in config.yaml and lineage.yaml beside this file.")


def _history(told: Told) -> Iterator[str]:
    made = told.lineage
    yield "## " + _("Versions")
    if told.place.tag:
        yield _("Each version is a git tag of this repository; this one is {tag}. The main branch is the version in "
                "use, which changes.", tag=f"`{told.place.tag}`")  # fmt: skip
    if made is None:
        return
    parent = _("made from")
    facts = [f"- {parent}: {told.said(made.parent)}"] if made.parent else []
    facts += [f"- {told.said(change)}" for change in made.changes]
    if facts:
        yield "\n".join(facts)
    if made.notes:
        yield told.said(made.notes)


def _pair(name: str, value: float | None, interval: Interval) -> tuple[str, str]:
    return words.figure(name, value), _interval(name, interval)


def _interval(name: str, interval: Interval) -> str:
    if interval is None:
        return "–"
    low, high = (words.figure(name, end) for end in interval)
    return f"{low}–{high}"


def _short(digest: str | None) -> str:
    return re.sub(r"^(sha256:)?(.{16}).*$", r"\2…", digest) if digest else ""


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
