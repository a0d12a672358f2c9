"""A run on the screen while it goes on: drawn anew in a terminal, a line now and then in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame, run_words
from nlp_skills.i18n import _

if TYPE_CHECKING:
    from nlp_skills.workspace.runs import Run

LIVE_SECONDS, PLAIN_SECONDS = 1.0, 10.0
_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 40


def watch(run: Run, seconds: float | None, *, before: Callable[[], None], quiet: bool) -> Run:
    """Follow a run to its end and return it as it ended.

    `seconds`: between looks; `before` is called ahead of each; `quiet` shows nothing.

    Raises:
        KeyboardInterrupt: the watcher was ended; the run goes on.
    """
    from nlp_skills.execution import watching

    live = not quiet and sys.stdout.isatty()
    pause = seconds or (LIVE_SECONDS if live else PLAIN_SECONDS)
    looks = watching.looks(run, pause, before=before)
    if live:
        with screen() as draw:
            for run in looks:
                draw(run)
        return run
    shown = ""
    for run in looks:
        line = ", ".join([f"{run.folder.root.name} {run.version.name}", *run_words.facts(run)])
        if line != shown and not quiet:
            frame.say(line)
        shown = line
    return run


@contextlib.contextmanager
def screen() -> Iterator[Callable[[Run], None]]:
    """What draws a run in a terminal, in place of how it stood before."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:
        yield lambda run: live.update(_screen(run), refresh=True)


def _screen(run: Run) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from nlp_skills.execution import watching

    status = run.status
    title = Text(f"{run.folder.root.name} {run.version.name}", style="bold")
    title.append(f"  {run_words.state(run)} · {run_words.where(run)}", style="dim")
    losses = watching.losses(run)
    done = _("step {step} of {total}", step=status.step, total=status.total_steps or "…")
    rows = [
        (_("left"), run_words.span(status.eta_seconds)),
        (_("loss"), f"{run_words.figure(status.loss)}  {spark(losses)}"),
        (_("valid"), run_words.valid(status)),
        (_("speed"), run_words.speed(status)),
        (_("memory"), run_words.memory(status)),
        (_("checkpoint"), "-" if run.checkpoint is None else _("step {step}", step=run.checkpoint)),
    ]
    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), Text(value))
    bar = Table.grid(padding=(0, 2))
    bar.add_row(ProgressBar(total=max(1, status.total_steps), completed=status.step, width=_SPARK_WIDTH), Text(done))
    hints = [Text(hint, style="yellow") for hint in run_words.hints(run)]
    return Group(title, bar, grid, *hints, Text(_("Ctrl-C ends this view; the run goes on"), style="dim"))


def spark(values: Sequence[float], width: int = _SPARK_WIDTH) -> str:
    """A curve in one line of text: the values in at most `width` groups, from the lowest to the highest block."""
    if not values:
        return ""
    size = -(-len(values) // width)
    groups = [values[at : at + size] for at in range(0, len(values), size)]
    means = [sum(group) / len(group) for group in groups]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((mean - low) * scale)] for mean in means)
