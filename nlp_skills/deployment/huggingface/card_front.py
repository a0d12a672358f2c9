"""A card's front matter: what the Hub's own pages and searches read, as YAML made by its client."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nlp_skills.deployment.huggingface.base import KNOWN_LICENCES
from nlp_skills.evaluation import words
from nlp_skills.schema.version import Results

if TYPE_CHECKING:
    from nlp_skills.deployment.huggingface.card import Told

_TASKS = {
    "classification": "text-classification",
    "extraction": "token-classification",
    "generation": "text-generation",
}
# Metrics by the names that the Hub groups them by.
_METRICS = {"macro_f1": "f1", "micro_f1": "f1", "weighted_f1": "f1", "entity_f1": "f1", "field_f1": "f1",
            "relation_f1": "f1", "mcc": "matthews_correlation", "rougeL": "rouge", "rouge1": "rouge",
            "rouge2": "rouge"}  # fmt: skip
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_].*)?\Z", re.IGNORECASE)


def matter(told: Told) -> str:
    """The front matter, between its two lines of dashes."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        **_licence(told.base.licence),
        **_base(told),
        language=_language(told.going.task.language),
        library_name="transformers" if told.forms.whole else "peft",
        pipeline_tag="text-generation",
        tags=_tags(told),
        **_results(told),
    )
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n"


def _licence(licence: str | None) -> dict[str, Any]:
    if licence is None:
        return {}
    known = licence.lower()
    return {"license": known} if known in KNOWN_LICENCES else {"license": "other", "license_name": _slug(licence)}


def _base(told: Told) -> dict[str, Any]:
    if not told.base.on_hub:
        return {}
    return {"base_model": told.base.name, "base_model_relation": "finetune" if told.forms.whole else "adapter"}


def _language(language: str | None) -> str | None:
    found = _LANGUAGE.match(language or "")
    return found[1].lower() if found else None


def _tags(told: Told) -> list[str]:
    task, config = told.going.task, told.going.version.config()
    kept = ["nlp-skills", _TASKS[task.task_type], config.adapter, config.method, task.domain]
    found = [_slug(tag) for tag in kept if tag] + (["gguf"] if told.forms.ggufs else [])
    return list(dict.fromkeys(tag for tag in found if tag))


def _results(told: Told) -> dict[str, Any]:
    results = told.standing.results
    if results is None or not results.metrics:
        return {}
    return {"model_name": f"{told.going.task.task_name} {results.version}", "eval_results": _evaluated(told, results)}


def _evaluated(told: Told, results: Results) -> list[Any]:
    from huggingface_hub import EvalResult

    task = told.going.task
    return [
        EvalResult(
            task_type=_TASKS[task.task_type],
            dataset_type=_slug(task.task_name) or "private",
            dataset_name=task.task_name,
            dataset_split="test",
            metric_type=_METRICS.get(name, name),
            metric_name=words.metric(name),
            metric_value=round(value, 6),
        )
        for name, value in results.metrics.items()
    ]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")
