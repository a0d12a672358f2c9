"""Versions side by side, and whether the difference is real."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlp_skills.evaluation.comparison import Comparison, Pair
    from nlp_skills.evaluation.flips import Flip, Stray
    from nlp_skills.workspace.compare import Difference

EXAMPLES = 3


@frame.command(
    "compare",
    help=N_(
        "Compare versions, two to six: settings, figures, and whether the difference is real. Each is tested against "
        "the first on the test rows both answered. Exit 0 whatever the answer is. When a file cannot "
        "be read, the rest is shown all the same, and the exit code is not 0."
    ),
    examples=[
        "nlp-skills compare v1 v2",
        "nlp-skills compare reviews v1 v2 v3 --html",
        "nlp-skills compare reviews v1 v2 --out /tmp/page.html",
    ],
)
@click.argument("names", metavar="[TASK] A B [C]…", nargs=-1)
@frame.option("--html", is_flag=True, help=N_("Also write an HTML page: benchmarks/compare_A_B.html in the task."))
@frame.option("--out", type=click.Path(path_type=Path), help=N_("Write the HTML page there."))
@frame.json_option
def compare(names: tuple[str, ...], html: bool, out: Path | None, as_json: bool) -> int:
    from nlp_skills.evaluation import comparison, report

    folder, versions = frame.task_and_versions(names, most=comparison.MOST)
    if len(versions) < 2 or len(set(versions)) < len(versions):
        raise click.UsageError(_("name two versions or more, such as: nlp-skills compare v1 v2"))
    found = comparison.of(folder, versions)
    page = report.write_comparison(found, out) if html or out else None
    if as_json:
        frame.emit({**comparison.as_dict(found), "report": page})
    else:
        _show(found)
        if page:
            frame.say(_("report: {path}", path=frame.shown(page)))
        for problem in found.problems:
            frame.show_problem(problem)
    return max((problem.exit_code for problem in found.problems), default=0)


def _show(found: Comparison) -> None:
    from nlp_skills.evaluation import comparison

    frame.say(_("Compare: {task} {versions}", task=found.task.task_name, versions=" → ".join(found.names)))
    frame.say("\n" + _("Settings:"))
    if found.settings:
        _table(_("Setting"), found, [_setting_cells(row) for row in found.settings])
    else:
        frame.say(_("nothing differs"))
    frame.say("\n" + _("Figures:"))
    if found.figures:
        _table(_("Metric"), found, [_figure_cells(row) for row in found.figures])
    else:
        frame.say(_("there are none yet"))
    first, *more = comparison.conclusion(found)
    frame.say("\n" + _("Conclusion: {sentence}", sentence=first))
    for text in more:
        frame.say(text)
    for pair in found.pairs:
        _show_pair(found, pair)


def _table(title: str, found: Comparison, rows: Sequence[Sequence[str]]) -> None:
    frame.table([title, *found.names, found.change], rows, right=range(1, len(found.names) + 2))


def _setting_cells(row: Difference) -> list[str]:
    from nlp_skills.evaluation import words

    return [words.key(row.name), *(words.value(value) for value in row.values), words.relative(row.relative)]


def _figure_cells(row: Difference) -> list[str]:
    from nlp_skills.evaluation import words

    shown = [words.short_figure(row.name, value) for value in row.values]
    return [words.figure_name(row.name), *shown, words.short_change(row.name, row.absolute)]


def _show_pair(found: Comparison, pair: Pair) -> None:
    """What is behind a verdict; rows only where two versions are compared, for of more they would fill the screen."""
    from nlp_skills.evaluation import comparison, flips

    frame.say("\n" + f"{pair.a} → {pair.b}:")
    for text in comparison.details(found, pair):
        frame.say(f"  {text}")
    limit = EXAMPLES if len(found.names) == 2 else 0
    a, b = found.rows(pair.a), found.rows(pair.b)
    if pair.tested:
        frame.say("  " + _("Put right: {count}", count=len(pair.result["fixed"])))
        _show_flips(flips.fixed(a, b, limit, found.kind))
        frame.say("  " + _("Broken: {count}", count=len(pair.result["broken"])))
        _show_flips(flips.broken(a, b, limit, found.kind))
    if not pair.result["same_rows"]:
        found_rows = flips.strays(found.predictions[pair.a], found.predictions[pair.b], pair.result, limit, found.kind)
        _show_strays(_("Only in {version}:", version=pair.a), found_rows["only_a"])
        _show_strays(_("Only in {version}:", version=pair.b), found_rows["only_b"])
        _show_strays(_("In both with another label:"), found_rows["relabelled"])


def _show_flips(rows: Sequence[Flip]) -> None:
    from nlp_skills.evaluation import words

    for row in rows:
        answers = " → ".join(words.plain(label) for label in (row.before, row.after))
        frame.say(words.clipped(f"    {answers}  {words.plain(row.text)}", _width()))


def _width() -> int:
    """The terminal's columns; in a pipe, what is comfortable to read."""
    return shutil.get_terminal_size((110, 24)).columns


def _show_strays(title: str, rows: Sequence[Stray]) -> None:
    from nlp_skills.evaluation import words

    if rows:
        frame.say(f"  {title}")
    for row in rows:
        labels = " → ".join(words.plain(label) for label in (row.before, row.after) if label is not None)
        frame.say(words.clipped(f"    {labels}  {words.plain(row.text)}", _width()))
