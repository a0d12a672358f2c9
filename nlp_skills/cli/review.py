"""`nlp-skills review`: look at generated rows before they count."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.data.review import Entry, State
    from nlp_skills.schema.source import LlmGenerated
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "review",
    help=N_(
        "Look at generated rows, one at a time, and accept, edit or reject them. Every decision is kept at once; "
        "stop and go on whenever you like. Programs use the options."
    ),
    examples=[
        "nlp-skills review",
        "nlp-skills review sentiment --source generated --list",
        "nlp-skills review --accept 3f2a91 --reject 77b0 --json",
    ],
)
@frame.task_argument
@frame.option("--source", "name", help=N_("Only this source; all that ask for review, when left out."))
@frame.option("--list", "listed", is_flag=True, help=N_("List the rows to look at, with their keys."))
@frame.option("--accept", multiple=True, metavar="KEY", help=N_("Accept the row of this key; repeatable."))
@frame.option("--reject", multiple=True, metavar="KEY", help=N_("Reject the row of this key; repeatable."))
@frame.option("--accept-all", is_flag=True, help=N_("Accept every row that is to be looked at now."))
@frame.json_option
def review(
    folder: TaskFolder,
    name: str | None,
    listed: bool,
    accept: tuple[str, ...],
    reject: tuple[str, ...],
    accept_all: bool,
    as_json: bool,
) -> None:
    sources = _sources(folder, name)
    decided = 0
    if accept or reject or accept_all:
        decided = _decide(folder, sources, accept, reject, accept_all)
    elif not listed and not as_json:
        decided = _look(folder, sources)
    states = _states(folder, sources)
    if as_json:
        frame.emit({"ok": True, "decided": decided, "sources": [_summary(state, listed) for state in states]})
        return
    if listed:
        _show_list(states)
    _show_summary(states, decided)


def _sources(folder: TaskFolder, name: str | None) -> list[LlmGenerated]:
    """The sources whose rows wait for review.

    Raises:
        Usage: no source has that name, or it does not ask for review.
        Invalid: no source asks for review.
    """
    from nlp_skills.data import source_list
    from nlp_skills.errors import Invalid, Usage
    from nlp_skills.schema.source import LlmGenerated

    asked = [source_list.named(folder, name)] if name else folder.sources().sources
    found = [source for source in asked if isinstance(source, LlmGenerated) and source.validation.require_review]
    if not found:
        mend = _("to have generated rows reviewed, write validation: with require_review: true in data_source.yaml")
        if name:
            raise Usage(_("source {name} does not ask for review", name=name), file=folder.sources_path, mend=mend)
        raise Invalid(_("no source asks for review"), file=folder.sources_path, mend=mend)
    return found


def _states(folder: TaskFolder, sources: list[LlmGenerated]) -> list[State]:
    from nlp_skills.data import review

    return [review.state(folder, source) for source in sources]


def _decide(
    folder: TaskFolder, sources: list[LlmGenerated], accept: tuple[str, ...], reject: tuple[str, ...], everything: bool
) -> int:
    """Decide by key; nothing is decided where one key is wrong."""
    from nlp_skills.data import review

    states = _states(folder, sources)
    accepted = [_named(states, key) for key in accept]
    rejected = [_named(states, key) for key in reject]
    both = {entry.key for _source, entry in accepted} & {entry.key for _source, entry in rejected}
    if both:
        raise click.UsageError(_("{key} is accepted and rejected at once", key=min(both)))
    if everything:
        done = {entry.key for _source, entry in rejected}
        accepted += [(one.source, entry) for one in states for entry in one.to_review if entry.key not in done]
    for word, entries in (("accept", accepted), ("reject", rejected)):
        for source, entry in entries:
            review.decide(folder, source, entry.key, review.Decision(word))
    return len(accepted) + len(rejected)


def _named(states: list[State], key: str) -> tuple[LlmGenerated, Entry]:
    """The row whose key begins so.

    Raises:
        UsageError: there is none, or several.
    """
    found = [(one.source, entry) for one in states for entry in one.entries if key and entry.key.startswith(key)]
    if len(found) != 1:
        words = _("several rows have a key beginning with {key}", key=key) if found else _("no row {key}", key=key)
        raise click.UsageError(words)
    return found[0]


def _look(folder: TaskFolder, sources: list[LlmGenerated]) -> int:
    """The rows one at a time, in a terminal."""
    from nlp_skills.cli import review_screen

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            _("this is not a terminal; use {options}", options="--list, --accept KEY, --reject KEY, --accept-all")
        )
    decided = 0
    for source in sources:
        count, stopped = review_screen.look(folder, source)
        decided += count
        if stopped:
            break
    return decided


def _summary(state: State, rows: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": state.source.name,
        "rows": len(state.entries),
        "sampled": len(state.sampled),
        **state.counts,
        "to_review": len(state.to_review),
        "waiting": state.waiting,
        "counting": len(state.released()),
    }
    if rows:
        found["review"] = [{"key": entry.key, "row": entry.row} for entry in state.to_review]
    return found


def _show_list(states: list[State]) -> None:
    from nlp_skills.data.source_list import shown_row

    rows = [
        [str(one.source.name), entry.key, "; ".join(f"{key}: {value}" for key, value in shown_row(entry.row).items())]
        for one in states
        for entry in one.to_review
    ]
    if rows:
        frame.table((_("source"), _("key"), _("row")), rows)


def _show_summary(states: list[State], decided: int) -> None:
    for one in states:
        frame.say(
            _(
                "{name}: {rows} rows, {accepted} accepted, {edited} edited, {rejected} rejected, {left} to look at",
                name=str(one.source.name),
                rows=len(one.entries),
                accepted=one.counts["accept"],
                edited=one.counts["edit"],
                rejected=one.counts["reject"],
                left=len(one.to_review),
            )
        )
        if not one.good_enough and not any(key not in one.decisions for key in one.sampled):
            share = one.source.validation.accept_rate
            frame.say(
                _("less than {share:.0%} of the sample was accepted, so every row must be looked at", share=share)
            )
    if decided or not any(one.to_review for one in states):
        frame.say(_("next: {command}", command="nlp-skills regenerate"))
