"""The rows of one source in a terminal, one at a time, decided by one key each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.data import review
from nlp_skills.data.review import Decision, Entry
from nlp_skills.data.row_form import Row, RowForm
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.panel import Panel

    from nlp_skills.schema.source import LlmGenerated
    from nlp_skills.workspace.folder import TaskFolder

# Beside these, whatever str.isprintable refuses could move the cursor or hide text.
_HARMLESS = "\n\u3000"


def look(folder: TaskFolder, source: LlmGenerated) -> tuple[int, bool]:
    """Show the rows to look at until they are decided, skipped or the person stops.

    Returns how many decisions stand that did not before, and whether the person asked to stop.
    """
    from rich.console import Console

    screen = _Screen(folder, source, Console(highlight=False))
    # Read anew each time: where too much of the sample was rejected, its last row brings up the others.
    while not screen.stopped and (left := screen.rows()):
        screen.one(left[0])
    return screen.decided, screen.stopped


class _Screen:
    """One sitting over one source."""

    def __init__(self, folder: TaskFolder, source: LlmGenerated, console: Console) -> None:
        self.folder, self.source, self.console = folder, source, console
        self.form = RowForm(folder.task())
        self.past: list[tuple[Entry, Decision | None]] = []
        self.skipped: set[str] = set()
        self.decided = 0
        self.stopped = False

    def rows(self) -> list[Entry]:
        """What is left to look at, without what was passed over."""
        self.state = review.state(self.folder, self.source)
        return [entry for entry in self.state.to_review if entry.key not in self.skipped]

    def one(self, entry: Entry) -> None:
        """Show a row and do what the next key says."""
        self.console.print(self._panel(entry))
        while True:
            key = self._key()
            if key in _KEYS:
                break
        getattr(self, f"_{_KEYS[key]}")(entry)

    def _key(self) -> str:
        try:
            # A held key arrives as several at once; rows that were not shown yet are not decided.
            return click.getchar()[:1].lower()
        except EOFError:
            return "q"

    def _accept(self, entry: Entry) -> None:
        self._put(entry, Decision("accept"))

    def _reject(self, entry: Entry) -> None:
        self._put(entry, Decision("reject"))

    def _edit(self, entry: Entry) -> None:
        row = self._edited(entry.row)
        if row is not None:
            self._put(entry, Decision("accept") if row == entry.row else Decision("edit", row))

    def _skip(self, entry: Entry) -> None:
        self.skipped.add(entry.key)

    def _quit(self, entry: Entry) -> None:
        self.stopped = True

    def _undo(self, entry: Entry) -> None:
        """Take back the last decision of this sitting; its row comes up again."""
        if not self.past:
            self.console.print(_("nothing to undo"), markup=False)
            return
        earlier, before = self.past.pop()
        review.decide(self.folder, self.source, earlier.key, before)
        self.decided -= 1

    def _put(self, entry: Entry, decision: Decision) -> None:
        review.decide(self.folder, self.source, entry.key, decision)
        self.past.append((entry, self.state.decisions.get(entry.key)))
        self.decided += 1

    def _edited(self, row: Row) -> Row | None:
        """The row as the person's editor left it, once it fits the task; None: given up."""
        from nlp_skills.schema import yaml

        text, fault = yaml.dumps(row), ""
        while True:
            remark = f"# {fault}\n" if fault else ""
            try:
                written = click.edit(remark + text, extension=".yaml")
            except click.ClickException as error:
                self.console.print(error.format_message(), markup=False)
                return None
            if written is None:
                return None
            text = "".join(line for line in written.splitlines(keepends=True) if not line.startswith("#"))
            found, fault = self._read(text)
            if found is not None:
                return found
            self.console.print(fault, markup=False)

    def _read(self, text: str) -> tuple[Row | None, str]:
        from nlp_skills.schema import yaml

        try:
            data = yaml.loads(text, self._path()).data
        except Invalid as problem:
            return None, _visible(" ".join(filter(None, [problem.message, problem.cause]))).replace("\n", " ")
        if not isinstance(data, dict):
            return None, _("write one field a line, such as text: …")
        row = self.form.clean(data)
        fault = self.form.fault(row)
        return (row, "") if fault is None else (None, _visible(fault[1]).replace("\n", " "))

    def _path(self) -> Path:
        return review.rows_path(self.folder, self.source)

    def _panel(self, entry: Entry) -> Panel:
        from rich.panel import Panel
        from rich.text import Text

        shown = Text()
        for name in self.form.names:
            shown.append(f"{_visible(name)}: ", style="bold")
            shown.append(f"{_visible(_plain(entry.row.get(name)))}\n")
        shown.rstrip()
        keys = _("a accept   e edit   r reject   s skip   u undo   q quit")
        return Panel(shown, title=Text(self._title()), subtitle=Text(keys), title_align="left", subtitle_align="left")

    def _title(self) -> str:
        counts = self.state.counts
        done = sum(counts.values())
        return _(
            "{name}: {number}/{total}, accepted {accepted}",
            name=str(self.source.name),
            number=done + 1,
            total=done + len(self.state.to_review),
            accepted=counts["accept"] + counts["edit"],
        )


_KEYS = {"a": "accept", "e": "edit", "r": "reject", "s": "skip", "u": "undo", "q": "quit"}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _visible(text: str) -> str:
    """A text from a model for a terminal: nothing in it can move the cursor, colour or hide anything."""
    safe = (mark if mark.isprintable() or mark in _HARMLESS else repr(mark)[1:-1] for mark in text)
    return "".join(safe)
