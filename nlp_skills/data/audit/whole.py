"""The audit from its rows to its three files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_skills import files, progress
from nlp_skills.data.audit import agreement, card, conflicts, consistency, figures, label_errors, page, pii
from nlp_skills.data.audit.reading import entries
from nlp_skills.extras import need
from nlp_skills.i18n import _
from nlp_skills.workspace.folder import TaskFolder


@dataclass(frozen=True)
class Audit:
    """What was found, and the files that say it."""

    found: dict[str, Any]
    json: Path
    card: Path
    report: Path

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        paths = {"json": str(self.json), "card": str(self.card), "report": str(self.report)}
        return {"ok": True, **self.found, "files": paths}


def audit(folder: TaskFolder, *, annotator: str | None = None) -> Audit:
    """Look at the splits and the raw rows, and write docs/data_audit.json, data_card.md and data_report.html.

    `annotator`: the column of the raw rows that names who annotated; without it the usual names are looked for.
    What it finds, it reports; nothing of it is refused. The files are written at the end, each whole.

    Raises:
        Invalid: a split or a document is not there or cannot be read.
        Usage: no raw row has the column `annotator`.
        Unavailable: the extra `quality` is missing, or docs/ cannot be written.
    """
    need("quality", "sklearn", "cleanlab", "krippendorff")
    task, config = folder.task(), folder.sources()
    seed = config.split.seed
    found: dict[str, Any] = {"task": task.task_name, "task_type": task.task_type, "seed": seed}
    with progress.bar(_("audit"), 7) as bar:
        rows, bad = entries(folder, task)
        bar.advance(note=_("rows {rows}", rows=len(rows)))
        steps: tuple[tuple[str, str, Callable[[], Any]], ...] = (
            ("agreement", _("agreement"), lambda: agreement.measure(folder, task, config, annotator, seed)),
            ("pii", _("personal data"), lambda: pii.search(rows)),
            ("conflicts", _("contradictions"), lambda: conflicts.search(rows, task, config.dedup.near)),
            ("entities", _("entities"), lambda: consistency.search(rows, task)),
            ("label_errors", _("label errors"), lambda: label_errors.search(rows, task, seed)),
            ("figures", _("counts"), lambda: figures.all_of(rows, bad, folder, task)),
        )
        for name, words, look in steps:
            found[name] = look()
            bar.advance(note=words)
    return _written(folder, {**found, "created": files.now().isoformat()})


def _written(folder: TaskFolder, found: dict[str, Any]) -> Audit:
    docs = folder.root / "docs"
    done = Audit(found, docs / "data_audit.json", docs / "data_card.md", docs / "data_report.html")
    texts = card.text(folder, found), page.html(folder, found)
    files.write_json(done.json, found)
    files.write_text(done.card, texts[0])
    files.write_text(done.report, texts[1])
    return done
