"""How long rows are, and how long they may be."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.i18n import _
from nlp_skills.schema.training import Config

# Where a base model's configuration does not say how far it reads.
FAR = 1 << 20
# Memory is handed out in such steps; a limit in between saves nothing.
STEP = 64


def limit(config: Config, base_folder: str) -> int:
    """Tokens a row may have: `max_length`, and never more than the base model reads."""
    reads = context(base_folder)
    return reads if config.max_length == "auto" else min(config.max_length, reads)


def context(base_folder: str) -> int:
    """Tokens the base model in a folder reads."""
    settings = files.read_json(Path(base_folder) / "config.json")
    inner = settings.get("text_config") or settings
    return int(inner.get("max_position_embeddings") or FAR)


def holding(longest: int, most: int) -> int:
    """The smallest multiple of 64 that holds so many tokens, and at most `most`."""
    return min(-(-max(longest, 1) // STEP) * STEP, most)


def resolved(config: Config, base_folder: str, splits: Mapping[str, Sequence[Any]]) -> int:
    """The `max_length` of a run as a number: with `auto` the smallest that holds the rows of every split."""
    most = limit(config, base_folder)
    if config.max_length != "auto":
        return most
    longest = max((_whole(row) for rows in splits.values() for row in rows), default=1)
    return holding(longest, most)


def report(rows: Sequence[Any], most: int) -> dict[str, int]:
    """Token counts of a split's rows; `most` is how many a row may have.

    `rows`, and how many of them are `over` what a row may have; `tokens` and `loss_tokens` as they are trained; what
    a row has (`min`, `median`, `p90`, `p95`, `p99`, `max`) before anything is left out; and the smallest multiples of
    64 that hold all rows (`holds_all`) and 99 of a hundred (`holds_99`).
    """
    sizes = sorted(_whole(row) for row in rows)
    at = {f"p{share}": sizes[(len(sizes) - 1) * share // 100] for share in (90, 95, 99)}
    return {
        "rows": len(rows),
        "tokens": sum(len(row) for row in rows),
        "loss_tokens": sum(row.learnt for row in rows),
        "min": sizes[0],
        "median": round(statistics.median(sizes)),
        **at,
        "max": sizes[-1],
        "over": sum(size > most for size in sizes),
        "holds_all": holding(sizes[-1], FAR),
        "holds_99": holding(sizes[-(-len(sizes) * 99 // 100) - 1], FAR),
    }


def _whole(row: Any) -> int:
    """The tokens of a row before its middle was left out."""
    return len(row) + int(getattr(row, "left_out", 0))


def advice(counts: Mapping[str, Mapping[str, int]], most: int) -> str:
    """What `max_length` the rows of all splits want, in one line; `most` is what they have."""
    names = ("max", "holds_all", "holds_99")
    longest, whole, nearly = (max(split[name] for split in counts.values()) for name in names)
    return _(
        "max_length {limit}; the longest row has {longest} tokens: {whole} holds every row, {nearly} holds 99 of 100",
        limit=most,
        longest=longest,
        whole=whole,
        nearly=nearly,
    )
