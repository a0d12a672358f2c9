"""What a judge says of a version's texts beside the right ones, where task.yaml names a judge: judge.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Problem
from nlp_skills.evaluation import model
from nlp_skills.evaluation.asking import Given
from nlp_skills.evaluation.scores import judge
from nlp_skills.evaluation.scores.judge import Judged, Pair
from nlp_skills.evaluation.subject import Subject
from nlp_skills.schema.source import LlmSettings

FILE = "judge.json"


def judged(chosen: Subject, given: Given, folder: Path) -> Judged | None:
    """Have every text judged beside the right one, and keep the verdicts in `folder`; None where nobody is to judge.

    Raises:
        Invalid, Unavailable: as `judge.of`; what the judge said until then is kept.
    """
    settings = _judge(chosen)
    if settings is None:
        return None
    pairs = [
        Pair(chosen.renderer.messages(row)[-1]["content"], answer.predicted, right)
        for row, answer, right in zip(chosen.test, given.answers, chosen.gold, strict=True)
    ]
    found = judge.of(settings, pairs, chosen.folder, chosen.settings.judge_question)
    content = {"key": _key(chosen, settings), **found.as_dict(), "verdicts": found.verdicts}
    # What this run paid says nothing of the verdicts.
    files.write_json(folder / FILE, {name: value for name, value in content.items() if name != "cost"})
    return found


def settled(chosen: Subject, folder: Path) -> bool:
    """Whether nobody is to judge, or the very judge has judged by the very question."""
    settings = _judge(chosen)
    if settings is None:
        return True
    try:
        kept: Any = files.read_json(folder / FILE)
    except Problem:
        return False
    return isinstance(kept, dict) and kept.get("key") == _key(chosen, settings)


def _judge(chosen: Subject) -> LlmSettings | None:
    return chosen.settings.judge if chosen.kind == "text" else None


def _key(chosen: Subject, settings: LlmSettings) -> str:
    """What decides the verdicts beside the answers."""
    named = settings.model_dump(mode="json", include={"provider", "base_url", "model", "system_prompt", "max_cost"})
    return model.digest([chosen.fingerprint, named, chosen.settings.judge_question or judge.QUESTION])
