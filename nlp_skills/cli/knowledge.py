"""knowledge: what is known of base models, methods and tasks, with sources and dates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from nlp_skills import i18n
from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.knowledge.refresh import Refreshed
    from nlp_skills.knowledge.search import Passage

_ROOM = "nlp_skills.cli.knowledge"


@click.group(
    "knowledge",
    cls=frame.LazyGroup,
    lazy={
        "search": f"{_ROOM}:search",
        "model": f"{_ROOM}:model",
        "models": f"{_ROOM}:models",
        "topic": f"{_ROOM}:topic",
    },
    help=N_("Look up base models, methods, tasks and troubles; each fact with its source and date. Needs no network."),
)
def knowledge() -> None:
    """The group; its text is in `help`, where it can be translated."""


@frame.command(
    "search",
    help=N_(
        "Find models and sections of the documents, in English and in Chinese, what fits best first. "
        "Exit 1: nothing was found; then near terms are named."
    ),
    examples=[
        "nlp-skills knowledge search overfitting",
        "nlp-skills knowledge search 過擬合",
        "nlp-skills knowledge search lora rank --json",
    ],
)
@click.argument("terms", metavar="TERM...", nargs=-1, required=True)
@frame.option("--limit", type=click.IntRange(min=1), default=8, show_default=True, help=N_("How many to show."))
@frame.json_option
def search(terms: tuple[str, ...], limit: int, as_json: bool) -> int:
    from nlp_skills.knowledge import search as room

    found = room.find(terms, limit=limit)
    near = [] if found else room.near(terms)
    if as_json:
        hits = [{**vars(hit.passage), "score": round(hit.score, 2), "excerpt": hit.excerpt} for hit in found]
        frame.emit({"ok": bool(found), "hits": hits, "near": near})
        return 0 if found else 1
    for hit in found:
        frame.say(f"{click.style(hit.passage.title, bold=True)}  {_where(hit.passage)}")
        frame.say(f"    {hit.excerpt}")
    if not found:
        frame.note(_("nothing is known of: {terms}", terms=" ".join(terms)[:100]))
        frame.note(_("near: {names}", names=", ".join(near)) if near else _("topics: nlp-skills knowledge topic"))
    return 0 if found else 1


def _where(passage: Passage) -> str:
    """The command that shows the whole of it."""
    name, _hash, number = passage.at.partition("#")
    if passage.kind == "model":
        return f"nlp-skills knowledge model {name}"
    other = "" if passage.language == i18n.language() else f" --lang {passage.language}"
    return f"nlp-skills knowledge topic {name} --section {number}{other}"


@frame.command(
    "model",
    help=N_(
        "Show every fact about a base model, with source and age. NAME is a Hub id, an alias, or a part that only "
        "one has. --refresh asks the Hub, compares, and writes what differs into your own models.yaml."
    ),
    examples=[
        "nlp-skills knowledge model Qwen/Qwen3-8B",
        "nlp-skills knowledge model r1-distill-qwen-7b --json",
        "nlp-skills knowledge model qwen3-4b --refresh",
    ],
)
@click.argument("name", metavar="NAME")
@frame.option("--refresh", is_flag=True, help=N_("Ask the Hub (HF_ENDPOINT is respected); needs the extra hub."))
@frame.json_option
def model(name: str, refresh: bool, as_json: bool) -> None:
    from nlp_skills.knowledge import catalogue, facts

    today = dt.datetime.now(tz=dt.UTC).date()
    fresh = _refreshed(name, today) if refresh else None
    found = fresh.model if fresh else catalogue.named(name)
    if as_json:
        more = {"refreshed": _plain(fresh)} if fresh else {}
        frame.emit({"ok": True, "model": facts.as_dict(found, today), **more})
        return
    frame.say(click.style(found.name, bold=True))
    for title, value in facts.lines(found):
        frame.say(f"  {title}: {value}")
    frame.say(f"  {facts.age(found, today)}")
    if fresh:
        _say_refreshed(fresh)
    elif found.is_stale(today):
        frame.warn([_("look it up anew: nlp-skills knowledge model {name} --refresh", name=found.name)])


def _refreshed(name: str, today: dt.date) -> Refreshed:
    from nlp_skills.knowledge import refresh

    return refresh.refresh(name, today)


def _plain(fresh: Refreshed) -> dict[str, Any]:
    changes = [vars(change) for change in fresh.changes]
    return {"revision": fresh.revision, "modified": fresh.modified, "changes": changes, "path": str(fresh.path)}


def _say_refreshed(fresh: Refreshed) -> None:
    from nlp_skills.schema.document import short

    day = fresh.modified.date().isoformat() if fresh.modified else "?"
    frame.say(_("on the Hub: {revision}, changed on {day}", revision=fresh.revision[:12], day=day))
    for change in fresh.changes:
        before, now = short(change.before), short(change.now)
        frame.say("  " + _("{field} was {before}, is {now}", field=change.field, before=before, now=now))
    if not fresh.changes:
        frame.say("  " + _("nothing differs"))
    frame.say(_("written to {path}", path=str(fresh.path)))


@frame.command(
    "models",
    help=N_("List the base models of the catalogue: weights, context, licence, thinking mode, languages."),
    examples=[
        "nlp-skills knowledge models",
        "nlp-skills knowledge models --need chinese --max-parameters 9e9",
        "nlp-skills knowledge models --language zh-TW --json",
    ],
)
@frame.option(
    "--need",
    "needs",
    multiple=True,
    type=click.Choice(["chinese", "reasoning", "light", "ecosystem", "multilingual"]),
    help=N_("Only what is good for this; repeatable."),
)
@frame.option("--language", metavar="CODE", help=N_("Only what serves this language, such as zh-TW."))
@frame.option("--max-parameters", type=click.FloatRange(min=1), metavar="N", help=N_("Only models of so many weights."))
@frame.json_option
def models(needs: tuple[str, ...], language: str | None, max_parameters: float | None, as_json: bool) -> int:
    from nlp_skills.knowledge import catalogue, facts, tables

    today = dt.datetime.now(tz=dt.UTC).date()
    found = catalogue.chosen(needs=needs, language=language, most=max_parameters)
    if as_json:
        frame.emit({"ok": bool(found), "models": [facts.as_dict(one, today) for one in found]})
        return 0 if found else 1
    if not found:
        frame.note(_("no model of the catalogue is so"))
        return 1
    rows = [
        [
            one.name,
            tables.short(one.parameters),
            tables.short(one.active) if one.active else "-",
            f"{one.context // 1024}k",
            one.licence,
            facts.thinking(one),
            _("yes") if one.serves("zh-TW") else "-",
            facts.stale_mark(one, today),
        ]
        for one in found
    ]
    columns = [
        _("model"),
        _("weights"),
        _("a token"),
        _("context"),
        _("licence"),
        _("thinking"),
        _("Chinese"),
        _("as of"),
    ]
    frame.table(columns, rows, right=[1, 2, 3])
    return 0


@frame.command(
    "topic",
    help=N_("Print a document, or a section of it; without NAME, say which there are."),
    examples=["nlp-skills knowledge topic", "nlp-skills knowledge topic troubleshooting --section 5"],
)
@click.argument("name", metavar="[NAME]", required=False)
@frame.option("--section", type=click.IntRange(min=0), metavar="N", help=N_("Only this section, counted from 1."))
@frame.json_option
def topic(name: str | None, section: int | None, as_json: bool) -> None:
    from nlp_skills.knowledge import reading

    if name is None:
        found = reading.contents()
        if as_json:
            frame.emit({"ok": True, "topics": found})
            return
        for at, titles in found.items():
            frame.say(f"{click.style(at, bold=True)}: {frame.listed(titles)}")
        return
    text = reading.text(name, section)
    if as_json:
        frame.emit({"ok": True, "topic": name, "section": section, "text": text})
    else:
        frame.say(text)
