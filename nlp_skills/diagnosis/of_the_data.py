"""What the rows say: leakage, labels that look wrong, rows that were cut, rare classes, and too few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from nlp_skills import extras
from nlp_skills.data import near
from nlp_skills.data.audit.reading import Entry
from nlp_skills.diagnosis import of_the_run, proposals, rules
from nlp_skills.diagnosis.facts import Facts
from nlp_skills.diagnosis.finding import Change, Evidence, Finding, Unseen
from nlp_skills.diagnosis.making import made
from nlp_skills.evaluation import metrics
from nlp_skills.i18n import _

_SHOWN = 5
# Where the task's own search for near-identical rows is turned off, what it is by default.
_NEAR = 0.9


def looks(facts: Facts) -> Iterator[Iterator[Finding]]:
    """Everything that the splits are looked through for."""
    for look in (_leakage, _noise, _truncation, _imbalance, _too_few):
        yield look(facts)


def _leakage(facts: Facts) -> Iterator[Finding]:
    train, test = facts.rows.get("train", []), facts.rows.get("test", [])
    if not train or not test:
        return
    known = {entry.key for entry in train}
    same = [entry for entry in test if entry.key in known]
    alike = _nearly(facts, train, [entry for entry in test if entry.key not in known])
    leaked = [*same, *alike]
    if not leaked:
        return
    lines = [entry.line for entry in leaked]
    evidence = [
        Evidence(
            _("test rows that stand in train as well: {same}, nearly so: {alike}, of {rows}; lines {lines}",
              same=len(same), alike=len(alike), rows=len(test), lines=_listed(lines)),
            "data/test.jsonl",
            rows=lines[:_SHOWN],
            figures={"same": len(same), "nearly": len(alike), "rows": len(test)},
        ),
        *_beside(facts, {entry.key for entry in leaked}, _("leaked rows"), _("the others")),
    ]  # fmt: skip
    text = _("split anew, near-identical rows searched for (dedup: near: {near:g} in data_source.yaml)", near=_NEAR)
    change = proposals.other_rows(facts, text, f"{len(leaked)} leaked rows out of train or test")
    effect = _("truer figures, likely lower ones; the model gets no better")
    yield made("leakage", evidence, change=change, effect=effect, effort=proposals.training(facts))


def _nearly(facts: Facts, train: Sequence[Entry], test: Sequence[Entry]) -> list[Entry]:
    """Test rows in one cluster with a training row."""
    what = _("near-identical rows in train and test")
    if len(train) + len(test) > rules.MOST_COMPARED:
        facts.unseen.append(Unseen(what, _("too many rows to compare here"), f"nlp-skills validate {facts.name}"))
        return []
    if not near.available():
        facts.unseen.append(Unseen(what, near.missing_words(), extras.install_command("data")))
        return []
    texts = [near.normalised(entry.row, facts.task.input_fields) for entry in (*train, *test)]
    leaders = near.clusters(texts, _NEAR)
    known = set(leaders[: len(train)])
    return [entry for entry, leader in zip(test, leaders[len(train) :], strict=True) if leader in known]


def _beside(facts: Facts, keys: set[str], these: str, others: str) -> Iterator[Evidence]:
    """How often the version is right on some test rows, and on the others."""
    marked = [(row["key"] in keys, bool(row.get("correct"))) for row in facts.predictions if "correct" in row]
    inside, outside = ([right for among, right in marked if among is wanted] for wanted in (True, False))
    if not inside or not outside:
        return
    yield Evidence(
        _("right on {these}: {one:.1%} of {count}, on {others}: {two:.1%} of {rest}", these=these, others=others,
          one=sum(inside) / len(inside), count=len(inside), two=sum(outside) / len(outside), rest=len(outside)),
        facts.shown(facts.version.predictions_path),
        figures={"these": sum(inside) / len(inside), "others": sum(outside) / len(outside)},
    )  # fmt: skip


def _noise(facts: Facts) -> Iterator[Finding]:
    """Labels that a judge doubts who never saw the row, where it knows the labels about as well as the version."""
    found = _judged(facts)
    if found is None:
        return
    doubted = _believable(facts, found)
    share, knows = len(doubted) / found["rows"], found["fold_accuracy"]
    undoubted = knows * found["rows"] / max(1, found["rows"] - found["count"])
    if share < rules.NOISE_SHARE or not found["reliable"] or undoubted < rules.JUDGE_KNOWS:
        return
    accuracy = facts.results.metrics.get("accuracy") if facts.results else None
    sure = accuracy is None or knows >= accuracy - rules.JUDGE_BEHIND
    lines = [entry["line"] for entry in doubted]
    evidence = [
        Evidence(
            _("training labels that look wrong: {count} of {rows}; lines {lines}",
              count=len(doubted), rows=found["rows"], lines=_listed(lines)),
            "data/train.jsonl",
            rows=lines[:_SHOWN],
            figures={"share": share},
        ),
        Evidence(
            _("judged by a linear model over characters that never saw the row; it agrees with {share:.1%} of labels",
              share=knows),
            figures={"agreement": knows},
        ),
        *_pairs(doubted),
    ]  # fmt: skip
    change = Change(
        _("look at these rows, correct the labels at their source, then make the splits anew"),
        [
            ("nlp-skills", "audit", facts.name),
            ("nlp-skills", "regenerate", facts.name),
            proposals.new_version(facts, f"{len(doubted)} labels of train reviewed"),
        ],
    )
    effort = proposals.labelling(facts, len(doubted))
    severity = None if sure else "note"
    yield made("label_noise", evidence, severity=severity, change=change, effort=effort)  # type: ignore[arg-type]


def _judged(facts: Facts) -> dict[str, Any] | None:
    """What `data.audit.label_errors` says of the training rows."""
    from nlp_skills.data.audit import label_errors

    what, train = _("labels that look wrong"), facts.rows.get("train", [])
    if facts.task.label_field is None or not train:
        return None
    if len(train) > rules.MOST_JUDGED:
        facts.unseen.append(Unseen(what, _("too many rows to judge here"), f"nlp-skills audit {facts.name}"))
        return None
    if not (extras.installed("sklearn") and extras.installed("cleanlab")):
        why = _("the packages for it are not installed")
        facts.unseen.append(Unseen(what, why, extras.install_command("quality")))
        return None
    found = label_errors.search(train, facts.task, facts.config.seed)
    if "skipped" in found:
        why = _("too few rows to judge them by each other: {rows}", rows=len(train))
        facts.unseen.append(Unseen(what, why))
        return None
    return found


def _believable(facts: Facts, found: dict[str, Any]) -> list[dict[str, Any]]:
    """The doubted rows that are about classes with rows enough for a judge to know them."""
    least = rules.RARE * max(facts.classes.values(), default=0)

    def known(label: Any) -> bool:
        return all(facts.classes[one] >= least for one in (label if isinstance(label, list) else [label]))

    return [entry for entry in found["found"] if known(entry["given"]) and known(entry["suggested"])]


def _pairs(doubted: Sequence[dict[str, Any]]) -> Iterator[Evidence]:
    pairs = Counter((entry["given"], entry["suggested"]) for entry in doubted if isinstance(entry["given"], str))
    for (given, suggested), count in pairs.most_common(2):
        text = _("labelled {given}, looks like {suggested}: {count}", given=given, suggested=suggested, count=count)
        yield Evidence(text, "data/train.jsonl", figures={"count": count})


def _truncation(facts: Facts) -> Iterator[Finding]:
    """Rows that did not fit and lost the middle of their prompt. What the template adds is not counted."""
    limit = facts.ran.max_length if facts.ran and facts.ran.max_length else facts.config.max_length
    if not facts.config.allow_truncation or limit == "auto" or facts.tokenizer is None:
        return
    train, test = (_cut(facts, facts.rows.get(split, []), int(limit)) for split in ("train", "test"))
    rows = len(facts.rows.get("train", []))
    if not rows or len(train) < rules.CUT_SHARE * rows:
        return
    lines = [entry.line for entry in train]
    evidence = [
        Evidence(
            _("training rows of more than {limit} tokens, at least: {count} of {rows}; lines {lines}",
              limit=limit, count=len(train), rows=rows, lines=_listed(lines)),
            "data/train.jsonl",
            rows=lines[:_SHOWN],
            figures={"share": len(train) / rows, "max_length": float(limit)},
        ),
        *_beside(facts, {entry.key for entry in test}, _("test rows that were cut"), _("the others")),
    ]  # fmt: skip
    text = _("a max_length that follows the longest row, and nothing cut")
    sentence = proposals.from_to("max_length", limit, "auto, nothing cut")
    change = proposals.settings(facts, text, sentence, {"max_length": "auto", "allow_truncation": False})
    yield made("truncation", evidence, change=change, effort=proposals.training(facts))


def _cut(facts: Facts, entries: Sequence[Entry], limit: int) -> list[Entry]:
    renderer = facts.renderer

    def size(entry: Entry) -> int:
        turns = "\n".join(turn["content"] for turn in renderer.messages(entry.row))
        return facts.tokens(turns) + facts.tokens(renderer.answer(entry.row)) + 1

    return [entry for entry in entries if size(entry) > limit]


def _imbalance(facts: Facts) -> Iterator[Finding]:
    """Classes with few rows that are answered worse than the others, by more than chance."""
    results, counts = facts.results, facts.classes
    if results is None or results.kind != "label" or len(counts) < 2:
        return
    most = max(counts.values())
    rare = [name for name, count in counts.items() if count < rules.RARE * most and name in results.per_class]
    worse = [entry for name in rare if (entry := _worse(facts, name, counts))]
    if not worse:
        return
    values: dict[str, Any] = {"class_balance": "sampling"}
    change = proposals.settings(
        facts, _("repeat the rows of rare classes while training"), "rows of rare classes repeated", values
    )
    names = [name for name in rare if _worse(facts, name, counts)]
    if facts.config.class_balance:
        missing = sum(max(0, round(rules.RARE * most) - counts[name]) for name in names)
        text = _("more rows of these classes: {names}", names=", ".join(names))
        change = proposals.other_rows(facts, text, f"more rows of: {', '.join(names)}")
        yield made("class_imbalance", worse, change=change, effort=proposals.labelling(facts, missing))
        return
    yield made("class_imbalance", worse, change=change, effort=proposals.training(facts))


def _worse(facts: Facts, name: str, counts: Counter[str]) -> Evidence | None:
    """What shows that a class is answered worse than the others, if anything does."""
    per_class = facts.results.per_class if facts.results else {}
    own, others = per_class[name], [entry for other, entry in per_class.items() if other != name and entry.support]
    support = own.support or 0
    rows = sum(entry.support or 0 for entry in others)
    if not support or not rows:
        return None
    f1 = sum(entry.f1 * (entry.support or 0) for entry in others) / rows
    recall = sum(entry.recall * (entry.support or 0) for entry in others) / rows
    high = metrics.wilson_interval(round(own.recall * support), support)[1]
    if own.f1 > f1 - rules.WORSE_F1 or high >= recall:
        return None
    return Evidence(
        _("{name}: training rows {count} of {all}, F1 {f1:.1%}; the other classes {others:.1%}",
          name=name, count=counts[name], all=counts.total(), f1=own.f1, others=f1),
        facts.shown(facts.version.results_path),
        figures={"rows": counts[name], "f1": own.f1, "others_f1": f1},
    )  # fmt: skip


def _too_few(facts: Facts) -> Iterator[Finding]:
    """By a learning curve where one was made, else by the gap between the train and the valid loss."""
    curve = facts.curve
    if curve is not None:
        if curve["verdict"] == "label_more" and curve.get("ahead"):
            yield _by_curve(facts, curve)
        return
    course = facts.course
    if course.best is None or course.end is None or facts.going_on or not of_the_run.learnt(facts):
        return
    train = course.training_at(course.best[0])
    share = facts.open_share(course.best[1])
    if train is None or share is None or share < rules.LEARNT or course.best[1] < rules.GAP * max(train, 1e-9):
        return
    evidence = Evidence(
        _("at step {step}, where the valid loss was lowest, it was {valid:.3f}, the training loss {train:.3f}: what is "
          "learnt from these rows does not hold for others", step=course.best[0], valid=course.best[1], train=train),
        facts.shown(facts.version.metrics_path),
        course.best[0],
        {"valid": course.best[1], "train": train},
    )  # fmt: skip
    change = Change(
        _("measure first what more rows would bring"),
        [
            ("nlp-skills", "learning-curve", facts.name, "--version", facts.version.name),
            proposals.new_version(facts, "twice the training rows"),
        ],
    )
    rows = facts.classes.total() or len(facts.rows.get("train", []))
    yield made("too_little_data", [evidence], change=change, effort=proposals.labelling(facts, rows),
               or_else=("overfitting",))  # fmt: skip


def _by_curve(facts: Facts, curve: dict[str, Any]) -> Finding:
    twice = curve["ahead"][0]
    low, high = twice["gain_interval"]
    more = int(twice["rows"] - curve["train_rows"])
    gain = _("{gain:+.1f} points of {metric} ({low:+.1f} to {high:+.1f}) with {rows} rows, by the learning curve",
             gain=100 * twice["gain"], metric=curve["metric"], low=100 * low, high=100 * high,
             rows=twice["rows"])  # fmt: skip
    points = "; ".join(f"{point['rows']}: {point['value']:.1%}" for point in curve["points"])
    evidence = Evidence(
        _("measured on valid with so many training rows: {points}", points=points),
        facts.shown(facts.version.root / "learning_curve.json"),
        figures={str(point["rows"]): point["value"] for point in curve["points"]},
    )
    change = proposals.other_rows(facts, _("label more rows"), f"{more} more training rows")
    return made("too_little_data", [evidence], change=change, effect=gain, effort=proposals.labelling(facts, more))


def _listed(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:_SHOWN])) + (", …" if len(lines) > _SHOWN else "")
