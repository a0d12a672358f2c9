"""The wrong rows as a file, for whoever reads or relabels them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from nlp_skills import files
from nlp_skills.evaluation.why.findings import Analysis


def write(found: Analysis, path: Path) -> None:
    """One JSON object a wrong row, what matters first; `suggested` is what a doubted label could be instead.

    Raises:
        Unavailable: the disk is full, or the folder cannot be written.
    """
    suggested = {doubt.line: doubt.suggested for doubt in found.doubts}
    with files.atomic_writer(path) as stream:
        for error in found.errors:
            row = {**asdict(error), "suggested": suggested.get(error.line)}
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
