"""The pages people decide by: one version's report.html, and several side by side.

One file each, on screen, on paper and on a phone; `nlp_skills.pages` has what they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills import files, pages, progress
from nlp_skills.errors import Problem, Unavailable, Usage
from nlp_skills.evaluation import comparison_page, report_markdown, report_page, words
from nlp_skills.evaluation.comparison import Comparison
from nlp_skills.evaluation.report_page import Told
from nlp_skills.evaluation.why import analysis
from nlp_skills.evaluation.why.findings import Analysis
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# At the beginning of every page of ours; see templates/page.html.j2.
_OURS = (b'name="generator" content="nlp-skills', report_markdown.OURS.encode())


def write(
    folder: TaskFolder,
    version: str | None = None,
    *,
    against: str | None = None,
    out: Path | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a version's page, report.html among its records unless told otherwise, and return its path.

    `against` is the version it is judged beside, its parent when left out; `findings` are a diagnosis's.

    Raises:
        Invalid: the version was not evaluated.
        Usage: `out` is not a file, or a file that is not a page of ours.
        Unavailable: it cannot be written there.
    """
    chosen, context = _context(folder, version, against, out, findings)
    return put(out or chosen.report_path, render("report.html.j2", words.report(), context))


def write_markdown(
    folder: TaskFolder,
    version: str | None = None,
    *,
    against: str | None = None,
    out: Path | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """The same as Markdown, report.md among the version's records unless told otherwise."""
    chosen, context = _context(folder, version, against, out, findings)
    return put(out or chosen.markdown_path, report_markdown.render(words.report(), context))


def _context(
    folder: TaskFolder,
    version: str | None,
    against: str | None,
    out: Path | None,
    findings: Sequence[Mapping[str, Any]],
) -> tuple[VersionFolder, dict[str, Any]]:
    need("quality", "numpy")
    chosen = folder.existing_version(version)
    if out:
        check_place(out)
    told = Told(_analysis(folder, chosen.name), findings)
    return chosen, report_page.context(folder, chosen, against, told)


def _analysis(folder: TaskFolder, version: str) -> Analysis | None:
    """Why the version fails; None, and a word about it, where its splits or a package are not there to tell."""
    try:
        return analysis.of(folder, version)
    except Problem as problem:
        progress.notice(_("the report does not say why answers are wrong: {reason}", reason=problem.message))
        return None


def write_comparison(found: Comparison, out: Path | None = None) -> Path:
    """Write the page of a comparison, benchmarks/compare_A_B.html unless told otherwise, and return its path.

    Raises:
        Usage: `out` is not a file, or a file that is not a page of ours.
        Unavailable: it cannot be written there.
    """
    need("quality", "numpy")
    path = out or found.folder.root / "benchmarks" / f"compare_{'_'.join(found.names)}.html"
    check_place(path)
    return put(path, render("compare.html.j2", words.comparison(), comparison_page.context(found)))


def put(path: Path, page: str) -> Path:
    """Write a page and return its path.

    Raises:
        Unavailable: it cannot be written there.
    """
    try:
        files.write_text(path, page)
    except Unavailable as problem:
        problem.mend = _("write it elsewhere: --out PATH")
        raise
    return path


def check_place(path: Path) -> None:
    """Refuse to replace what somebody else wrote."""
    mend = _("name another file: --out PATH")
    if path.exists() and not path.is_file():
        raise Usage(_("this is not a file"), file=path, mend=mend)
    head = path.read_bytes()[:2000] if path.is_file() else _OURS[0]
    if not any(mark in head for mark in _OURS):
        raise Usage(_("there is a file that is not a page of nlp-skills"), file=path, mend=mend)


def render(template: str, texts: dict[str, str], context: dict[str, Any]) -> str:
    """A template of this room filled in; everything that is not the template's own text is escaped."""
    return pages.render(Path(__file__).parent / "templates", template, texts, context)
