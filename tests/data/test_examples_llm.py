"""The example of generated rows, from a real model behind a real server, and then without any server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Ran
from fixtures_llm import Door

EXAMPLE = ROOT / "examples" / "llm-generated"
# The one model that runs everywhere is the smallest there is and hardly knows Chinese: it is asked in English.
ENGLISH = "Write {count} short headlines about different companies. {tone}"
TONES = {
    "內容對投資人是好消息": "The news is good: record sales, more profit, a new factory.",
    "只陳述事實，看不出好壞": "The news is neither good nor bad: a meeting, a new office, a date.",
    "內容對投資人是壞消息": "The news is bad: losses, lawsuits, falling shares.",
}


def in_english(text: str) -> str:
    """The example's sources with another prompt and nothing else changed."""
    lines = text.splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if "prompt_template: |" in line)
    text = "".join([*lines[: at + 1], f"      {ENGLISH}\n", *lines[at + 2 :]])
    for chinese, english in TONES.items():
        assert chinese in text
        text = text.replace(f"tone: {chinese}", f'tone: "{english}"')
    return text


def written(folder: Path) -> dict[str, bytes]:
    paths = [folder / "data" / name for name in ("raw/generated.jsonl", "train.jsonl", "valid.jsonl", "test.jsonl")]
    return {path.name: path.read_bytes() for path in paths}


def test_the_example_regenerates_and_replays(
    project: Path, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, door: Door
) -> None:
    folder = project / "finance-sentiment"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", ".env", ".nlp-skills"))
    sample = (folder / ".env.example").read_text()
    assert "LLM_MODEL=smollm2\n" in sample
    (folder / ".env").write_text(sample.replace("http://127.0.0.1:8080", door.url))
    settings = folder / "data_source.yaml"
    settings.write_text(in_english(settings.read_text()))
    monkeypatch.chdir(folder)
    ran = cli("regenerate", "--json")
    assert ran.code == 0, ran.err
    asked, first = door.questions, written(folder)
    assert asked >= 3
    rows = [json.loads(line) for line in first["generated.jsonl"].splitlines()]
    assert {row["label"] for row in rows} == {"positive", "neutral", "negative"}
    assert sum(split["rows"] for split in ran.json["splits"].values()) <= len(rows)
    assert cli("validate", "--json").code == 0
    # The record is worth as much as the server: no server, no question, the same bytes.
    door.close()
    for path in [folder / "data" / "raw" / "generated.jsonl", *(folder / "data").glob("*.jsonl")]:
        path.unlink()
    again = cli("regenerate", "--all", "--json")
    assert again.code == 0, again.err
    assert written(folder) == first
    assert door.questions == asked
    assert cli("data-source", "check", "--json").code == 0
