"""A version's report as Markdown, for a model card: the tables of the page, from the same values, without HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlp_skills import __version__
from nlp_skills.i18n import _
from nlp_skills.pages import harmless

# In the first line; whoever reads the rendered text does not see it.
OURS = "[//]: # (nlp-skills"

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&!$])")
_ERRORS = 5

Words = Mapping[str, str]
Context = Mapping[str, Any]


def render(w: Words, context: Context) -> str:
    """The whole document; `w` are the words and `context` the values of the page."""
    parts = [*_verdict(w, context), *_figures(w, context), *_reasons(w, context), *_making(w, context)]
    made = _("Made with nlp-skills {version}.", version=__version__)
    return "\n\n".join([f"{OURS} {__version__})", *parts, "---", made]) + "\n"


def escaped(text: object) -> str:
    """Text from data as Markdown that shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(harmless(str(text)).split()))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """A table whose cells are text; the columns in `right` hold numbers."""
    rule = ["---:" if place in right else "---" for place in range(len(columns))]
    lines = [[escaped(cell) for cell in row] for row in (columns, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _bars(title: str, bars: Sequence[Any], w: Words) -> str:
    return table(
        [title, w["value"], w["interval"]], [(bar.name, bar.value, bar.interval) for bar in bars], right=(1, 2)
    )


def _verdict(w: Words, context: Context) -> Iterator[str]:
    verdict = context["verdict"]
    yield f"# {escaped(context['task'].task_name)} {escaped(context['version'])}: {w['kind']}"
    if context["task"].goal:
        yield escaped(context["task"].goal)
    if verdict["first"]:
        yield f"**{escaped(verdict['first'])}**"
    interval = f" ({w['interval']} {verdict['interval']})" if verdict["interval"] else ""
    figure = f"{escaped(verdict['metric'])} {verdict['value']}{interval}, {verdict['rows']}"
    yield f"**{escaped(verdict['headline'])}** – {figure}"
    if verdict["checks"]:
        names = ("criterion", "value", "interval", "least", "verdict", "rows_needed")
        rows = [
            [check[key] for key in ("name", "value", "interval", "least", "verdict", "rows")]
            for check in verdict["checks"]
        ]
        yield table([w[name] for name in names], rows, right=(1, 2, 3, 5))
    texts = [*verdict["criteria"], *verdict["warnings"], *verdict["sentences"]]
    if texts:
        yield _list([escaped(text) for text in texts])


def _figures(w: Words, context: Context) -> Iterator[str]:
    yield f"## {w['beside']}"
    yield _bars(context["beside"]["metric"], context["beside"]["bars"], w)
    yield f"## {w['metrics']}"
    yield _bars(w["metric"], context["metrics"], w)
    yield f"{w['metrics_note']} {w['valid_note']}" if context["valid"] else w["metrics_note"]
    if context["classes"]:
        spans = context["kind"] == "spans"
        yield f"## {w['types'] if spans else w['classes']}"
        columns = [w["type"] if spans else w["class"], "F1", w["interval"], w["precision"], w["recall"], w["support"]]
        rows = [
            (row["bar"].name, row["bar"].value, row["bar"].interval, row["precision"], row["recall"], row["support"])
            for row in context["classes"]
        ]
        yield table(columns, rows, right=(1, 2, 3, 4, 5))
    if context["shares"]:
        yield f"## {w['shares']}"
        yield _list([f"{escaped(drawn.title)}: {escaped(drawn.says)}" for drawn in context["shares"]])
    if context["bins"]:
        yield table([w["bin_sure"], w["bin_right"], w["rows"]], context["bins"], right=(0, 1, 2))


def _reasons(w: Words, context: Context) -> Iterator[str]:
    why, confusion = context["why"], context["confusion"]
    if confusion or why["confusions"]:
        yield f"## {w['confusion']}"
    if confusion:
        columns = [f"{w['true']} ↓ {w['answered']} →", *confusion["labels"]]
        rows = [[row["label"], *(cell["count"] for cell in row["cells"])] for row in confusion["rows"]]
        yield table(columns, rows, right=range(1, len(columns)))
    if why["confusions"]:
        keys = ("gold", "predicted", "fault", "count", "share", "cost")
        columns = [w[name] for name in ("true", "answered", "fault", "times", "share", "cost")]
        yield table(columns, [[row[key] for key in keys] for row in why["confusions"]], right=(3, 4, 5))
    yield from _slices(w, why["slices"])
    yield from _errors(w, why["errors"])
    if why["doubts"]:
        yield f"## {w['doubts']}"
        yield f"{w['doubts_note']} {why['doubts']['count']}"
        rows = [[row[key] for key in ("text", "gold", "suggested", "doubt")] for row in why["doubts"]["rows"]]
        yield table([w[name] for name in ("text", "labelled", "rather", "doubt")], rows, right=(3,))
    yield from _findings(w, context["findings"])


def _slices(w: Words, slices: Mapping[str, Any] | None) -> Iterator[str]:
    if not slices:
        return
    yield f"## {w['slices']}"
    if slices["rows"]:
        columns = [w["slice"], slices["metric"], w["interval"], w["rows"], w["wrong"], w["holm_p"], ""]
        rows = [
            (row["name"], row["bar"]["value"], row["bar"]["interval"], row["rows"], row["wrong"], row["p"],
             w["worse"] if row["worse"] else "")
            for row in slices["rows"]
        ]  # fmt: skip
        yield table(columns, rows, right=(1, 2, 3, 4, 5))
    yield f"{w['slices_note']} {' '.join(slices['notes'])}".strip()


def _errors(w: Words, errors: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {w['errors']}"
    if not errors["shown"]:
        yield w["no_errors"]
        return
    rows = [
        (row["text"], row["gold"], row["raw"] or row["predicted"], row["sure"]) for row in errors["shown"][:_ERRORS]
    ]
    yield table([w["text"], w["true"], w["answered"], w["sure"]], rows, right=(3,))


def _findings(w: Words, findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not findings:
        return
    yield f"## {w['findings']}"
    for number, one in enumerate(findings, 1):
        yield f"{number}. **{escaped(one['title'])}** ({escaped(one['severity'])})"
        yield from (f"   {escaped(seen['text'])}" for seen in one["evidence"])
        if one["change"]:
            yield f"   {w['change']}: {escaped(one['change'])}"
        if one["commands"]:
            yield _code(one["commands"], "   ")


def _making(w: Words, context: Context) -> Iterator[str]:
    curve = context["curve"]
    if curve:
        yield f"## {w['loss']}"
        valid = f", {w['valid_loss']} {curve.best_valid:.3f}" if curve.best_valid is not None else ""
        yield f"{w['train_loss']} {curve.first:.3f} → {curve.last:.3f}{valid}"
    yield f"## {w['lineage']}"
    if context["changes"]:
        yield _list([escaped(text) for text in context["changes"]])
    if context["notes"]:
        yield escaped(context["notes"])
    yield table([w["setting"], w["value"]], [*context["lineage"], *context["environment"]])
    if context["data"]:
        columns = [w["split"], w["rows"], *context["data_labels"]]
        rows = [[split["name"], split["rows"], *split["counts"]] for split in context["data"]]
        yield table(columns, rows, right=range(1, len(columns)))
    yield f"## {w['again']}"
    yield w["again_note"]
    yield _code(context["commands"])


def _code(lines: Sequence[str], indent: str = "") -> str:
    """Commands as a block; a fence longer than any in them, so that none closes it."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join(f"{indent}{line}" for line in (f"{fence}sh", *lines, fence))
