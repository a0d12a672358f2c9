"""A run to look at: its curves as one SVG, its figures as one summary."""

from __future__ import annotations

from nlp_skills.workspace.folder import VersionFolder


def draw(version: VersionFolder) -> None:
    """Write run/loss.svg from run/metrics.jsonl."""
