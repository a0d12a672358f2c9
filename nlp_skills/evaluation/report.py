"""The pages people decide by: one version's report.html, and two versions side by side.

One file each, on screen, on paper and on a phone; `nlp_skills.pages` has what they share.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlp_skills import files, pages
from nlp_skills.evaluation import comparison_page, report_page, words
from nlp_skills.extras import need
from nlp_skills.workspace.folder import TaskFolder


def write(folder: TaskFolder, version: str | None = None, *, against: str | None = None) -> Path:
    """Write a version's report.html and return its path.

    `against` is the version it is judged beside; its parent when left out.

    Raises:
        Invalid: the version was not evaluated.
    """
    need("quality", "numpy")
    chosen = folder.existing_version(version)
    context = report_page.context(folder, chosen, against)
    files.write_text(chosen.report_path, render("report.html.j2", words.report(), context))
    return chosen.report_path


def write_comparison(folder: TaskFolder, a: str, b: str) -> Path:
    """Write benchmarks/compare_A_B.html and return its path.

    Raises:
        Invalid: a version does not exist or was not evaluated.
    """
    before, after = folder.existing_version(a), folder.existing_version(b)
    path = folder.root / "benchmarks" / f"compare_{before.name}_{after.name}.html"
    context = comparison_page.context(folder, before, after)
    files.write_text(path, render("compare.html.j2", words.comparison(), context))
    return path


def render(template: str, texts: dict[str, str], context: dict[str, Any]) -> str:
    """A template of this room filled in; everything that is not the template's own text is escaped."""
    return pages.render(Path(__file__).parent / "templates", template, texts, context)
