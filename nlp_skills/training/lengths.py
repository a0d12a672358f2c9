"""How long rows are, and how long they may be."""

from __future__ import annotations

from pathlib import Path

from nlp_skills import files
from nlp_skills.schema.training import Config

# Where a base model's configuration does not say how far it reads.
FAR = 1 << 20


def limit(config: Config, base_folder: str) -> int:
    """Tokens a row may have: `max_length`, or with `auto` as many as the base model reads."""
    return context(base_folder) if config.max_length == "auto" else config.max_length


def context(base_folder: str) -> int:
    """Tokens the base model in a folder reads."""
    settings = files.read_json(Path(base_folder) / "config.json")
    inner = settings.get("text_config") or settings
    return int(inner.get("max_position_embeddings") or FAR)
